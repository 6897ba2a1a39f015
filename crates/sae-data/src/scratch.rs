//! Reading rows as bytes and handing them on as f32, with one reused buffer a thread.

use std::cell::RefCell;

use crate::{Dtype, Result};

/// Elements converted at a time, so that the bytes stay in the cache.
const ELEMENTS_AT_ONCE: usize = 1 << 16;

thread_local! {
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lets `read` fill the bytes of `out.len()` elements, converts them into `out`, and shows both to
/// `check`; f32, which is read in place, is not shown.
pub(crate) fn read_and_decode(
    dtype: Dtype,
    out: &mut [f32],
    read: impl FnOnce(&mut [u8]) -> Result<()>,
    check: impl FnOnce(&[u8], &[f32]) -> Result<()>,
) -> Result<()> {
    if dtype == Dtype::F32 {
        return read(bytemuck::cast_slice_mut(out));
    }
    BYTES.with_borrow_mut(|buffer| {
        let n_bytes = out.len() * dtype.size();
        if buffer.len() < n_bytes {
            buffer.resize(n_bytes, 0);
        }
        let bytes = &mut buffer[..n_bytes];
        read(bytes)?;
        let chunks = bytes.chunks(ELEMENTS_AT_ONCE * dtype.size());
        for (part, values) in chunks.zip(out.chunks_mut(ELEMENTS_AT_ONCE)) {
            dtype.decode(part, values);
        }
        check(bytes, out)
    })
}
