//! The messages of ONNX: a model, its graph, the graph's nodes and tensors.
//!
//! Every field is used, known to change nothing, or refused by its number.

use std::collections::BTreeMap;

use super::wire::{Fields, Value};

/// A model of one graph.
#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    /// Version of ONNX's own operators.
    pub(super) opset: i64,
    /// In an order in which they can be computed.
    pub(super) nodes: Vec<Node<'a>>,
    /// The weights and other constants.
    pub(super) tensors: BTreeMap<&'a str, Tensor<'a>>,
    pub(super) inputs: Vec<&'a str>,
}

/// An operation.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) op: &'a str,
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) attributes: BTreeMap<&'a str, Attribute<'a>>,
}

/// A setting of an operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attribute<'a> {
    Float(f32),
    Integer(i64),
    Text(&'a str),
    Tensor(Tensor<'a>),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
}

/// A constant, whose values stay in the file's bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tensor<'a> {
    pub(super) shape: Vec<u64>,
    pub(super) kind: i64,
    /// Little-endian, row by row.
    pub(super) raw: &'a [u8],
}

/// Element types, by their numbers.
pub(super) const FLOAT: i64 = 1;
pub(super) const INT64: i64 = 7;

impl<'a> Model<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (mut model, mut graph) = (Self::default(), None);
        for field in Fields::new(bytes) {
            match field? {
                // Version of the format, who wrote the file, notes.
                (1..=6 | 14, _) => {}
                (7, value) => graph = Some(value.bytes()?),
                (8, value) => {
                    let (domain, version) = opset(value.bytes()?)?;
                    if !domain.is_empty() {
                        return Err(format!("operators of {domain:?}"));
                    }
                    model.opset = version;
                }
                (number, _) => return Err(format!("field {number} of the model")),
            }
        }
        model.read_graph(graph.ok_or("no graph")?)?;
        Ok(model)
    }

    fn read_graph(&mut self, graph: &'a [u8]) -> Result<(), String> {
        for field in Fields::new(graph) {
            match field? {
                (1, value) => self.nodes.push(Node::read(value.bytes()?)?),
                (5, value) => {
                    let (name, tensor) = Tensor::read(value.bytes()?)?;
                    if self.tensors.insert(name, tensor).is_some() {
                        return Err(format!("two tensors `{name}`"));
                    }
                }
                (11, value) => self.inputs.push(first_text(value.bytes()?)?),
                // Its name, notes, outputs, and shapes between nodes, which follow from the rest.
                (2 | 10 | 12 | 13 | 16, _) => {}
                (number, _) => return Err(format!("field {number} of the graph")),
            }
        }
        // Files of the first versions list constants as inputs too.
        self.inputs.retain(|input| !self.tensors.contains_key(input));
        Ok(())
    }
}

/// The domain of operators, and their version.
fn opset(message: &[u8]) -> Result<(&str, i64), String> {
    let (mut domain, mut version) = ("", 0);
    for field in Fields::new(message) {
        match field? {
            (1, value) => domain = value.text()?,
            (2, value) => version = value.integer()?,
            (number, _) => return Err(format!("field {number} of a set of operators")),
        }
    }
    Ok((domain, version))
}

/// The name of an input or output.
fn first_text(message: &[u8]) -> Result<&str, String> {
    for field in Fields::new(message) {
        if let (1, value) = field? {
            return value.text();
        }
    }
    Err("an input without a name".to_owned())
}

impl<'a> Node<'a> {
    fn read(message: &'a [u8]) -> Result<Self, String> {
        let mut node = Self::default();
        for field in Fields::new(message) {
            match field? {
                (1, value) => node.inputs.push(value.text()?),
                (2, value) => node.outputs.push(value.text()?),
                (3, value) => node.name = value.text()?,
                (4, value) => node.op = value.text()?,
                (5, value) => {
                    let (name, attribute) = Attribute::read(value.bytes()?)?;
                    node.attributes.insert(name, attribute);
                }
                // Notes.
                (6 | 9, _) => {}
                (7, value) if value.bytes()?.is_empty() => {}
                (number, _) => return Err(format!("field {number} of node `{}`", node.name)),
            }
        }
        Ok(node)
    }
}

impl<'a> Attribute<'a> {
    fn read(message: &'a [u8]) -> Result<(&'a str, Self), String> {
        let (mut name, mut read, mut integers, mut floats) = ("", None, Vec::new(), Vec::new());
        for field in Fields::new(message) {
            match field? {
                (1, value) => name = value.text()?,
                (2, value) => read = Some(Self::Float(value.float()?)),
                (3, value) => read = Some(Self::Integer(value.integer()?)),
                (4, value) => read = Some(Self::Text(value.text()?)),
                (5, value) => read = Some(Self::Tensor(Tensor::read(value.bytes()?)?.1)),
                (7, value) => value.floats(&mut floats)?,
                (8, value) => value.integers(&mut integers)?,
                // Notes; which of the others there is.
                (13 | 20, _) => {}
                (number, _) => return Err(format!("field {number} of attribute `{name}`")),
            }
        }
        let attribute = match read {
            Some(one) => one,
            None if !floats.is_empty() => Self::Floats(floats),
            None => Self::Integers(integers),
        };
        Ok((name, attribute))
    }
}

impl<'a> Tensor<'a> {
    fn read(message: &'a [u8]) -> Result<(&'a str, Self), String> {
        let (mut name, mut tensor, mut shape) = ("", Self::default(), Vec::new());
        for field in Fields::new(message) {
            match field? {
                (1, value) => value.integers(&mut shape)?,
                (2, value) => tensor.kind = value.integer()?,
                (8, value) => name = value.text()?,
                (9, value) => tensor.raw = value.bytes()?,
                // Notes.
                (12 | 16, _) => {}
                (14, Value::Varint(0)) => {}
                (4 | 5 | 7 | 10 | 11, _) => {
                    return Err(format!("the values of `{name}` one by one, not as raw data"));
                }
                (13 | 14, _) => return Err(format!("the values of `{name}` in another file")),
                (number, _) => return Err(format!("field {number} of tensor `{name}`")),
            }
        }
        let size = |size: i64| u64::try_from(size).map_err(|_| format!("size {size} of `{name}`"));
        tensor.shape = shape.into_iter().map(size).collect::<Result<_, _>>()?;
        let width = match tensor.kind {
            FLOAT => 4,
            INT64 => 8,
            _ => return Ok((name, tensor)),
        };
        let sizes = tensor.shape.iter().copied();
        let expected = sizes.chain([width]).try_fold(1_u64, u64::checked_mul);
        if expected != Some(tensor.raw.len() as u64) {
            let (shape, got) = (&tensor.shape, tensor.raw.len());
            return Err(format!("{got} bytes of `{name}`, whose shape is {shape:?}"));
        }
        Ok((name, tensor))
    }

    /// The values of a tensor of f32.
    pub(super) fn floats(&self) -> Option<Vec<f32>> {
        let values = self.raw.as_chunks::<4>().0.iter();
        (self.kind == FLOAT).then(|| values.map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    /// The values of a tensor of i64.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        let values = self.raw.as_chunks::<8>().0.iter();
        (self.kind == INT64).then(|| values.map(|bytes| i64::from_le_bytes(*bytes)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::writing::{bytes, integer};
    use super::*;

    /// A tensor with these fields, and raw data of so many bytes.
    fn tensor(shape: &[i64], kind: i64, n_bytes: usize, more: &[(u32, i64)]) -> Vec<u8> {
        let mut message = Vec::new();
        shape.iter().for_each(|size| integer(1, *size, &mut message));
        integer(2, kind, &mut message);
        bytes(8, b"w", &mut message);
        bytes(9, &vec![0; n_bytes], &mut message);
        more.iter().for_each(|(number, value)| integer(*number, *value, &mut message));
        message
    }

    #[test]
    fn tensors_are_raw_and_whole_or_refused() {
        let whole = tensor(&[2, 3], FLOAT, 24, &[(14, 0)]);
        let (name, read) = Tensor::read(&whole).unwrap();
        assert_eq!((name, read.shape.as_slice()), ("w", &[2, 3][..]));
        assert_eq!((read.floats(), read.integers()), (Some(vec![0.0; 6]), None));
        for (message, part) in [
            (tensor(&[2, 3], FLOAT, 20, &[]), "20 bytes of `w`, whose shape is [2, 3]"),
            (tensor(&[i64::MAX, i64::MAX], FLOAT, 0, &[]), "0 bytes of `w`"),
            (tensor(&[-1], INT64, 8, &[]), "size -1 of `w`"),
            (tensor(&[2], FLOAT, 8, &[(14, 1)]), "in another file"),
            (tensor(&[2], FLOAT, 8, &[(4, 1)]), "one by one"),
            (tensor(&[2], FLOAT, 8, &[(99, 1)]), "field 99 of tensor `w`"),
        ] {
            let error = Tensor::read(&message).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_model_or_an_error(content in any::<Vec<u8>>(), number in 0_u32..30) {
            let _ = Model::read(&content);
            // In each of the fields of a graph, and of a node in it.
            for of in [1, 5] {
                let (mut part, mut graph, mut model) = (Vec::new(), Vec::new(), Vec::new());
                bytes(number, &content, &mut part);
                bytes(of, &part, &mut graph);
                bytes(7, &graph, &mut model);
                let _ = Model::read(&model);
            }
        }
    }
}
