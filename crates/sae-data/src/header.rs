//! What the header of a file of rows says, whichever format it is in.

use crate::Dtype;

/// Bytes of a file read to find its header.
pub(crate) const MAX_HEADER: usize = 1 << 16;

/// The header of one matrix of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlatHeader {
    /// Element type.
    pub dtype: Dtype,
    /// Rows.
    pub n_rows: u64,
    /// Columns.
    pub d_model: u64,
    /// Bytes before the data.
    pub data_offset: u64,
}

/// What a header should have held, and what it held.
#[derive(Debug, PartialEq, Eq)]
pub struct HeaderMismatch {
    /// What is wanted.
    pub expected: String,
    /// What is there.
    pub got: String,
}

pub(crate) fn mismatch(expected: impl Into<String>, got: impl Into<String>) -> HeaderMismatch {
    HeaderMismatch { expected: expected.into(), got: got.into() }
}

/// At most 40 bytes of what may be anything.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    format!("'{}'", bytes[..bytes.len().min(40)].escape_ascii())
}
