//! The header of NumPy's `.npy` format, versions 1 to 3, as numpy.lib.format describes it.

use crate::Dtype;

/// The first bytes of every `.npy` file.
pub(crate) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Bytes read to find the header; longer ones belong to structured arrays.
pub(crate) const MAX_HEADER: usize = 1 << 16;

/// What the header of a 2-d float array in C order says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NpyHeader {
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
pub struct NpyMismatch {
    /// What is wanted.
    pub expected: &'static str,
    /// What is there.
    pub got: String,
}

impl NpyHeader {
    /// Parses the start of a file: any bytes, of which only the header is looked at.
    ///
    /// # Errors
    /// What was expected and what came, where this is no 2-d float array in C order.
    pub fn parse(bytes: &[u8]) -> Result<Self, NpyMismatch> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err(mismatch("a .npy magic", "other bytes"));
        };
        let (header_len, text_offset) = match rest {
            [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 10),
            [2 | 3, _, a, b, c, d, ..] => {
                let len = u32::from_le_bytes([*a, *b, *c, *d]);
                (usize::try_from(len).unwrap_or(usize::MAX), 12)
            }
            [version, _, _, _, ..] => {
                return Err(mismatch(".npy version 1, 2 or 3", format!("version {version}")));
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
        let (dtype, n_rows, d_model) = Dictionary { rest: text }.parse()?;
        Ok(Self { dtype, n_rows, d_model, data_offset: data_offset as u64 })
    }

    /// The bytes of a version 1 header that make the data start at a multiple of 64.
    pub(crate) fn encode(dtype: Dtype, n_rows: u64, d_model: u64) -> Option<Vec<u8>> {
        let descr = match dtype {
            Dtype::F16 => "<f2",
            Dtype::F32 => "<f4",
            Dtype::F64 => "<f8",
            Dtype::BF16 => return None,
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
    fn parse(mut self) -> Result<(Dtype, u64, u64), NpyMismatch> {
        let (mut dtype, mut shape, mut c_order) = (None, None, false);
        self.expect(b'{')?;
        while !self.skip(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            match key {
                b"descr" => dtype = Some(dtype_of(self.string()?)?),
                b"fortran_order" => {
                    if self.word() != b"False" {
                        return Err(mismatch("fortran_order False (C order)", "another order"));
                    }
                    c_order = true;
                }
                b"shape" => shape = Some(self.shape()?),
                other => return Err(mismatch("keys descr, fortran_order, shape", lossy(other))),
            }
            if !self.skip(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        match (dtype, shape, c_order) {
            (Some(dtype), Some((n_rows, d_model)), true) => Ok((dtype, n_rows, d_model)),
            _ => Err(mismatch("keys descr, fortran_order, shape", "a header without one of them")),
        }
    }

    fn shape(&mut self) -> Result<(u64, u64), NpyMismatch> {
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
        match sizes[..] {
            [n_rows, d_model] => Ok((n_rows, d_model)),
            _ => Err(mismatch("shape (rows, d_model)", format!("{} dimensions", sizes.len()))),
        }
    }

    fn string(&mut self) -> Result<&'a [u8], NpyMismatch> {
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

    fn expect(&mut self, byte: u8) -> Result<(), NpyMismatch> {
        if self.skip(byte) {
            return Ok(());
        }
        Err(mismatch("a Python dictionary in the .npy header", lossy(self.rest)))
    }
}

fn dtype_of(descr: &[u8]) -> Result<Dtype, NpyMismatch> {
    match descr {
        b"<f2" => Ok(Dtype::F16),
        b"<f4" => Ok(Dtype::F32),
        b"<f8" => Ok(Dtype::F64),
        other => Err(mismatch("descr '<f2', '<f4' or '<f8'", lossy(other))),
    }
}

fn mismatch(expected: &'static str, got: impl Into<String>) -> NpyMismatch {
    NpyMismatch { expected, got: got.into() }
}

/// At most 40 characters of what may be anything.
fn lossy(bytes: &[u8]) -> String {
    format!("'{}'", bytes[..bytes.len().min(40)].escape_ascii())
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
        let parsed = NpyHeader::parse(&header(text)).unwrap();
        let data_offset = 10 + text.len() as u64;
        assert_eq!(parsed, NpyHeader { dtype: Dtype::F32, n_rows: 3, d_model: 4, data_offset });
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
        ] {
            let e = NpyHeader::parse(&header(text)).unwrap_err();
            assert!(e.expected.contains(expected), "{text}: {e:?}");
        }
        let cut = NpyHeader::parse(&header("{'descr': '<f4'")[..20]).unwrap_err();
        assert!(cut.expected.contains("whole"), "{cut:?}");
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(n_rows: u64, d_model: u64, which in 0..3_usize) {
            let dtype = [Dtype::F16, Dtype::F32, Dtype::F64][which];
            let bytes = NpyHeader::encode(dtype, n_rows, d_model).unwrap();
            prop_assert_eq!(bytes.len() % 64, 0);
            let parsed = NpyHeader::parse(&bytes).unwrap();
            let data_offset = bytes.len() as u64;
            prop_assert_eq!(parsed, NpyHeader { dtype, n_rows, d_model, data_offset });
        }

        #[test]
        fn never_panics(tail: Vec<u8>, text in "[{}(),:'a-z<f0-9 ]{0,60}") {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&tail);
            let _ = NpyHeader::parse(&bytes);
            let _ = NpyHeader::parse(&header(&text));
        }
    }
}
