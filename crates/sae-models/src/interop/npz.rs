//! NumPy's `.npz`: a zip archive, stored or deflated, of one `.npy` an array.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use tch::{Kind, Tensor};
use zip::ZipArchive;

use crate::tensors::io;
use crate::{Error, Result};

/// The most arrays of a file.
const MAX_ARRAYS: usize = 64;

/// An array may be inflated to this many bytes, whatever its bytes in the archive.
const SMALL: u64 = 1 << 26;

/// A larger one to this many times its bytes in the archive; weights barely deflate.
const MAX_RATIO: u64 = 64;

/// Element types, by NumPy's names.
const TYPES: [(&str, Kind); 3] = [("<f4", Kind::Float), ("<f2", Kind::Half), ("<f8", Kind::Double)];

/// Reads all arrays, by name.
///
/// # Errors
/// A file that is not such an archive, or an array that is not of floats; by name.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bad = |got: String| Error::Format {
        path: path.into(),
        expected: "a .npz archive of arrays of floats".into(),
        got,
    };
    let file = File::open(path).map_err(|e| io(path, e))?;
    let mut archive = ZipArchive::new(file).map_err(|e| bad(e.to_string()))?;
    if archive.len() > MAX_ARRAYS {
        return Err(bad(format!("{} arrays, more than {MAX_ARRAYS}", archive.len())));
    }
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let (name, bytes) = entry(&mut archive, i).map_err(bad)?;
        let Some(array) = name.strip_suffix(".npy") else {
            return Err(bad(format!("the file `{name}`, which is no array")));
        };
        let tensor = parse(&bytes).map_err(|e| bad(format!("array `{array}` with {e}")))?;
        arrays.insert(array.to_owned(), tensor);
    }
    Ok(arrays)
}

/// Name and bytes of a file of the archive.
fn entry(archive: &mut ZipArchive<File>, i: usize) -> Result<(String, Vec<u8>), String> {
    let file = archive.by_index(i).map_err(|e| e.to_string())?;
    let (name, size) = (file.name().to_owned(), file.size());
    if size > SMALL.max(file.compressed_size().saturating_mul(MAX_RATIO)) {
        let got = file.compressed_size();
        return Err(format!("`{name}` of {size} bytes deflated to {got}, which weights are not"));
    }
    let mut bytes = Vec::new();
    file.take(size + 1).read_to_end(&mut bytes).map_err(|e| format!("`{name}`: {e}"))?;
    if bytes.len() as u64 != size {
        return Err(format!("`{name}` of another size than the archive says"));
    }
    Ok((name, bytes))
}

/// What stands before the elements of an array.
#[derive(Debug, PartialEq)]
struct Header {
    kind: Kind,
    is_fortran: bool,
    shape: Vec<i64>,
}

/// The array of a `.npy` file.
fn parse(bytes: &[u8]) -> Result<Tensor, String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("no magic number")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or("an end in its header")?;
    let (n, rest) = match version[0] {
        1 => rest.split_first_chunk().map(|(n, rest)| (u16::from_le_bytes(*n).into(), rest)),
        2 | 3 => rest.split_first_chunk().map(|(n, rest)| (u32::from_le_bytes(*n), rest)),
        other => return Err(format!("version {other} of the format")),
    }
    .ok_or("an end in its header")?;
    let (text, data) = rest.split_at_checked(n as usize).ok_or("an end in its header")?;
    let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
    let Header { kind, is_fortran, shape } = header(text)?;
    let numel = shape.iter().try_fold(1_i64, |numel, n| numel.checked_mul(*n));
    let size = numel.and_then(|n| n.checked_mul(kind.elt_size_in_bytes() as i64));
    if size != Some(data.len() as i64) {
        return Err(format!("shape {shape:?} in {} bytes", data.len()));
    }
    if is_fortran {
        let reversed: Vec<i64> = shape.iter().rev().copied().collect();
        let axes: Vec<i64> = (0..shape.len() as i64).rev().collect();
        let tensor = Tensor::f_from_data_size(data, &reversed, kind).map_err(|e| e.to_string())?;
        return Ok(tensor.permute(axes).contiguous());
    }
    Tensor::f_from_data_size(data, &shape, kind).map_err(|e| e.to_string())
}

/// The header's dictionary, `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn header(text: &str) -> Result<Header, String> {
    let odd = || format!("the header {:?}", text.trim().chars().take(80).collect::<String>());
    let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let mut rest = inner.ok_or_else(odd)?.trim();
    let (mut kind, mut is_fortran, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, value, next) = field(rest).ok_or_else(odd)?;
        match (key, value) {
            ("descr", name) if kind.is_none() => {
                let known = TYPES.iter().find(|(known, _)| *known == name);
                let (_, found) = known.ok_or_else(|| format!("elements of type {name}"))?;
                kind = Some(*found);
            }
            ("fortran_order", "False") if is_fortran.is_none() => is_fortran = Some(false),
            ("fortran_order", "True") if is_fortran.is_none() => is_fortran = Some(true),
            ("shape", list) if shape.is_none() => {
                let sizes = list.split(',').map(str::trim).filter(|n| !n.is_empty());
                let sizes: Result<Vec<u32>, _> = sizes.map(str::parse).collect();
                shape = Some(sizes.map_err(|_| odd())?.into_iter().map(i64::from).collect());
            }
            _ => return Err(odd()),
        }
        rest = next;
    }
    match (kind, is_fortran, shape) {
        (Some(kind), Some(is_fortran), Some(shape)) => Ok(Header { kind, is_fortran, shape }),
        _ => Err(odd()),
    }
}

/// Key and value at the start of the inside of a dictionary, and what follows.
fn field(text: &str) -> Option<(&str, &str, &str)> {
    let (key, rest) = text.strip_prefix('\'')?.split_once('\'')?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let (value, rest) = if let Some(rest) = rest.strip_prefix('\'') {
        rest.split_once('\'')?
    } else if let Some(rest) = rest.strip_prefix('(') {
        rest.split_once(')')?
    } else {
        rest.split_at(rest.find(',').unwrap_or(rest.len()))
    };
    let rest = rest.trim_start();
    let next = if rest.is_empty() { rest } else { rest.strip_prefix(',')?.trim_start() };
    Some((key, value.trim(), next))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::Kind;

    use super::{Header, header, parse};

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let n = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &n[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn headers_are_read_in_any_order_and_in_full() {
        let read = |text: &str| header(text);
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n";
        let expected = Header { kind: Kind::Float, is_fortran: false, shape: vec![3, 4] };
        assert_eq!(read(text), Ok(expected));
        let scalar = "{'shape': (), 'fortran_order': True, 'descr': '<f8'}";
        let expected = Header { kind: Kind::Double, is_fortran: true, shape: vec![] };
        assert_eq!(read(scalar), Ok(expected));
        for (odd, what) in [
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (3,), }", "type >f4"),
            ("{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", "type <i8"),
            ("{'descr': '<f4', 'fortran_order': 0, 'shape': (3,), }", "header"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", "header"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'mask': 1}", "header"),
            ("{'descr': '<f4', 'fortran_order': False}", "header"),
            ("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", "header"),
        ] {
            assert!(read(odd).unwrap_err().contains(what), "{odd}");
        }
    }

    #[test]
    fn columns_come_first_in_fortran_order() {
        let data: Vec<u8> =
            [0.0_f32, 3.0, 1.0, 4.0, 2.0, 5.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let text = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }";
        let tensor = parse(&npy(text, &data)).unwrap();
        assert_eq!(tensor.size(), [2, 3]);
        assert_eq!(
            Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap(),
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        );
        assert!(parse(&npy(text, &data[1..])).unwrap_err().contains("in 23 bytes"));
        let many =
            "{'descr': '<f4', 'fortran_order': True, 'shape': (4294967295, 4294967295, 9), }";
        assert!(parse(&npy(many, &data)).unwrap_err().contains("in 24 bytes"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_array_or_an_error(
            head in "\\PC{0,60}",
            data in prop::collection::vec(any::<u8>(), 0..40),
            cut in 0usize..100,
        ) {
            let bytes = npy(&head, &data);
            let _ = parse(&bytes[..cut.min(bytes.len())]);
            let _ = parse(&bytes);
        }
    }
}
