//! The header of NumPy's `.npy` format, versions 1 to 3, as numpy.lib.format describes it.

use crate::Dtype;
use crate::header::{FlatHeader, HeaderMismatch, lossy, mismatch};

/// The first bytes of every `.npy` file.
pub(crate) const MAGIC: &[u8; 6] = b"\x93NUMPY";

const KEYS: &str = "keys descr, fortran_order, shape";

/// The header of an array of any type and number of dimensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NpyHeader {
    /// The type of its elements as NumPy writes it (`<f4`, `<u2`, …), or the start of a structured
    /// one.
    pub descr: String,
    /// Its sizes.
    pub shape: Vec<u64>,
    /// Bytes before the data.
    pub data_offset: u64,
}

impl NpyHeader {
    /// Parses the start of a `.npy` file: any bytes, of which only the header is looked at.
    ///
    /// # Errors
    /// What was expected and what came, where this is no array in C order.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderMismatch> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err(mismatch("a .npy magic", "other bytes"));
        };
        let (header_len, text_offset) = match rest {
            [1, 0, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 10),
            [2 | 3, 0, a, b, c, d, ..] => {
                let len = u32::from_le_bytes([*a, *b, *c, *d]);
                (usize::try_from(len).unwrap_or(usize::MAX), 12)
            }
            [major, minor, _, _, ..] if *minor != 0 || !(1..=3).contains(major) => {
                let got = format!("version {major}.{minor}");
                return Err(mismatch(".npy version 1.0, 2.0 or 3.0", got));
            }
            _ => return Err(mismatch("a whole .npy header", "the end of the file")),
        };
        let data_offset = header_len.saturating_add(text_offset);
        let Some(text) = bytes.get(text_offset..data_offset) else {
            return Err(mismatch(
                "a whole .npy header of at most 64 KiB",
                format!("one that ends at byte {data_offset}"),
            ));
        };
        let (descr, shape) = Dictionary { rest: text }.parse()?;
        Ok(Self { descr, shape, data_offset: data_offset as u64 })
    }
}

impl FlatHeader {
    /// Parses the start of a `.npy` file: any bytes, of which only the header is looked at.
    ///
    /// # Errors
    /// What was expected and what came, where this is no 2-d float array in C order.
    pub fn parse_npy(bytes: &[u8]) -> Result<Self, HeaderMismatch> {
        let NpyHeader { descr, shape, data_offset } = NpyHeader::parse(bytes)?;
        let dtype = match descr.as_str() {
            "<f2" => Dtype::F16,
            "<f4" => Dtype::F32,
            "<f8" => Dtype::F64,
            other => {
                let got = match other.starts_with('[') {
                    true => format!("a structured type {}", lossy(other.as_bytes())),
                    false => lossy(other.as_bytes()),
                };
                return Err(mismatch("descr '<f2', '<f4' or '<f8', as of x.astype('<f4')", got));
            }
        };
        match shape[..] {
            [n_rows, d_model] => Ok(Self { dtype, n_rows, d_model, data_offset }),
            _ => {
                let expected = "shape (rows, d_model), as of x.reshape(-1, d_model)";
                Err(mismatch(expected, format!("{} dimensions: {shape:?}", shape.len())))
            }
        }
    }

    /// The bytes of a version 1 header that make the data start at a multiple of 64.
    pub(crate) fn encode_npy(dtype: Dtype, n_rows: u64, d_model: u64) -> Option<Vec<u8>> {
        let descr = match dtype {
            Dtype::F16 => "<f2",
            Dtype::F32 => "<f4",
            Dtype::F64 => "<f8",
            Dtype::Int8 | Dtype::BF16 => return None,
        };
        let mut text = format!(
            "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({n_rows}, {d_model}), }}"
        );
        let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
        text.push_str(&" ".repeat(padded - 1 - text.len()));
        text.push('\n');
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[1, 0]);
        bytes.extend_from_slice(&u16::try_from(padded).ok()?.to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        Some(bytes)
    }
}

/// The Python dictionary literal of the header, consumed from the left.
struct Dictionary<'a> {
    rest: &'a [u8],
}

impl<'a> Dictionary<'a> {
    fn parse(mut self) -> Result<(String, Vec<u64>), HeaderMismatch> {
        let (mut descr, mut shape, mut c_order) = (None, None, false);
        self.expect(b'{')?;
        while !self.skip(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            match key {
                b"descr" if descr.is_none() => {
                    descr = Some(self.descr()?);
                    if descr.as_ref().is_some_and(|descr| descr.starts_with('[')) {
                        return Ok((descr.unwrap_or_default(), Vec::new()));
                    }
                }
                b"fortran_order" if !c_order => {
                    let order = self.word();
                    if order != b"False" {
                        let expected = "fortran_order False, as of numpy.ascontiguousarray(x)";
                        return Err(mismatch(expected, lossy(order)));
                    }
                    c_order = true;
                }
                b"shape" if shape.is_none() => shape = Some(self.shape()?),
                other => return Err(mismatch(format!("{KEYS}, each once"), lossy(other))),
            }
            if !self.skip(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        let rest = self.rest.trim_ascii();
        if !rest.is_empty() {
            return Err(mismatch("nothing after the .npy header's dictionary", lossy(rest)));
        }
        match (descr, shape, c_order) {
            (Some(descr), Some(shape), true) => Ok((descr, shape)),
            _ => Err(mismatch(KEYS, "a header without one of them")),
        }
    }

    fn descr(&mut self) -> Result<String, HeaderMismatch> {
        self.rest = self.rest.trim_ascii_start();
        let descr = match self.rest.first() {
            // A structured type is no string; nobody reads it.
            Some(b'[') => self.rest,
            _ => self.string()?,
        };
        Ok(String::from_utf8_lossy(descr).into_owned())
    }

    fn shape(&mut self) -> Result<Vec<u64>, HeaderMismatch> {
        self.expect(b'(')?;
        let mut sizes = Vec::new();
        while !self.skip(b')') {
            let word = self.word();
            let size = std::str::from_utf8(word).ok().and_then(|w| w.parse::<u64>().ok());
            sizes.push(size.ok_or_else(|| mismatch("a whole number in shape", lossy(word)))?);
            if !self.skip(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(sizes)
    }

    fn string(&mut self) -> Result<&'a [u8], HeaderMismatch> {
        let quote = if self.skip(b'"') {
            b'"'
        } else {
            self.expect(b'\'')?;
            b'\''
        };
        let Some(end) = self.rest.iter().position(|&b| b == quote) else {
            return Err(mismatch("a closed string in the .npy header", lossy(self.rest)));
        };
        let (string, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Ok(string)
    }

    fn word(&mut self) -> &'a [u8] {
        self.rest = self.rest.trim_ascii_start();
        let end = self.rest.iter().position(|b| !b.is_ascii_alphanumeric());
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn skip(&mut self, byte: u8) -> bool {
        self.rest = self.rest.trim_ascii_start();
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), HeaderMismatch> {
        if self.skip(byte) {
            return Ok(());
        }
        Err(mismatch("a Python dictionary in the .npy header", lossy(self.rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(text: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[1, 0]);
        bytes.extend_from_slice(&u16::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    #[test]
    fn reads_what_numpy_writes() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }      \n";
        let parsed = FlatHeader::parse_npy(&header(text)).unwrap();
        let data_offset = 10 + text.len() as u64;
        assert_eq!(parsed, FlatHeader { dtype: Dtype::F32, n_rows: 3, d_model: 4, data_offset });
    }

    #[test]
    fn names_what_it_does_not_take() {
        for (text, expected) in [
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (3, 4)}", "descr"),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (3, 4)}", "fortran_order"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "shape"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 2)}", "whole number"),
            ("{'descr': '<f4', 'shape': (3, 2)}", "keys"),
            ("['descr']", "dictionary"),
            ("{'descr': '<f4', 'descr': '<f4'}", "each once"),
            ("{'fortran_order': False, 'shape': (3, 4), 'more': 1}", "each once"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)} + 1", "nothing after"),
        ] {
            let e = FlatHeader::parse_npy(&header(text)).unwrap_err();
            assert!(e.expected.contains(expected), "{text}: {e:?}");
        }
        let cut = FlatHeader::parse_npy(&header("{'descr': '<f4'")[..20]).unwrap_err();
        assert!(cut.expected.contains("whole"), "{cut:?}");
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(n_rows: u64, d_model: u64, which in 0..3_usize) {
            let dtype = [Dtype::F16, Dtype::F32, Dtype::F64][which];
            let bytes = FlatHeader::encode_npy(dtype, n_rows, d_model).unwrap();
            prop_assert_eq!(bytes.len() % 64, 0);
            let parsed = FlatHeader::parse_npy(&bytes).unwrap();
            let data_offset = bytes.len() as u64;
            prop_assert_eq!(parsed, FlatHeader { dtype, n_rows, d_model, data_offset });
        }

        #[test]
        fn never_panics(tail: Vec<u8>, text in "[{}(),:'a-z<f0-9 ]{0,60}") {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&tail);
            let _ = FlatHeader::parse_npy(&bytes);
            let _ = FlatHeader::parse_npy(&header(&text));
        }
    }
}
