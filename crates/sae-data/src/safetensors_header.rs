//! The header of a safetensors file that holds one matrix of activations.
//!
//! The crate `safetensors` keeps the last of two tensors of one name; here the second is refused.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::Dtype;
use crate::header::{FlatHeader, HeaderMismatch, mismatch};

/// The key of the free text that a writer may leave; it says nothing of the tensors.
const METADATA: &str = "__metadata__";

/// Bytes before the header's text: its length.
const LENGTH_BYTES: usize = 8;

/// Tensors named in a message at most.
const NAMES_SHOWN: usize = 8;

/// The tensors of a header in order, no name twice.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub(crate) tensors: Vec<(String, Entry)>,
    /// Whether there is free text beside them.
    pub(crate) has_metadata: bool,
}

/// Where a tensor is and what it is made of.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) data_offsets: [u64; 2],
}

impl FlatHeader {
    /// Parses the start of a safetensors file of `len` bytes: any bytes, of which only the header
    /// is looked at.
    ///
    /// # Errors
    /// What was expected and what came, where this is not one 2-d tensor of floats.
    pub fn parse_safetensors(bytes: &[u8], len: u64) -> Result<Self, HeaderMismatch> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(mismatch("a safetensors header", "the end of the file"));
        };
        let length = u64::from_le_bytes(*length);
        let data_offset = length.saturating_add(LENGTH_BYTES as u64);
        if data_offset > len {
            let got = format!("one of {length} bytes in a file of {len}");
            return Err(mismatch("a safetensors header that ends in the file", got));
        }
        let text = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let Some(text) = text else {
            let got = format!("a header of {length} bytes");
            return Err(mismatch("one tensor, whose header is at most 64 KiB", got));
        };
        let header: Header = serde_json::from_slice(text)
            .map_err(|e| mismatch("a safetensors header", e.to_string()))?;
        let [(name, entry)] = &header.tensors[..] else {
            let names: Vec<&str> = header.tensors.iter().map(|(name, _)| name.as_str()).collect();
            let more = if names.len() > NAMES_SHOWN { ", …" } else { "" };
            let shown = names[..names.len().min(NAMES_SHOWN)].join(", ");
            let expected = "one tensor, as of safetensors.numpy.save_file({'activations': x}, …)";
            return Err(mismatch(expected, format!("{}: {shown}{more}", names.len())));
        };
        let in_tensor =
            |expected: &str, got: String| mismatch(format!("tensor {name}: {expected}"), got);
        let dtype = Dtype::ALL.into_iter().find(|d| d.to_string().to_uppercase() == entry.dtype);
        let dtype =
            dtype.ok_or_else(|| in_tensor("dtype F16, BF16, F32 or F64", entry.dtype.clone()))?;
        let [n_rows, d_model] = entry.shape[..] else {
            let expected = "shape [rows, d_model], as of x.reshape(-1, d_model)";
            return Err(in_tensor(expected, format!("{:?}", entry.shape)));
        };
        let n_bytes = n_rows.checked_mul(d_model).and_then(|n| n.checked_mul(dtype.size() as u64));
        if n_bytes.is_none_or(|n| entry.data_offsets != [0, n]) {
            let expected =
                format!("data_offsets 0 to the size of {:?} {}", entry.shape, entry.dtype);
            return Err(in_tensor(&expected, format!("{:?}", entry.data_offsets)));
        }
        Ok(Self { dtype, n_rows, d_model, data_offset })
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let (mut header, mut names) = (Header::default(), HashSet::new());
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("{name} twice")));
            }
            if name == METADATA {
                map.next_value::<BTreeMap<String, String>>()?;
                header.has_metadata = true;
            } else {
                let entry = map.next_value();
                let entry = entry.map_err(|e| A::Error::custom(format!("tensor {name}: {e}")))?;
                header.tensors.push((name, entry));
            }
        }
        Ok(header)
    }
}
