//! Values that pickles of state dicts are made of.

use std::rc::Rc;

/// What a pickle holds.
#[derive(Debug, Clone)]
pub(in crate::interop) enum Value {
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    Tuple(Rc<Vec<Value>>, usize),
    Dict(Rc<Vec<(Value, Value)>>, usize),
    /// A class or function, `module.name`.
    Global(Rc<str>),
    Storage(Storage),
    Tensor(Rc<StoredTensor>),
    None,
    /// Booleans, lists, and results of calls that are not understood.
    Opaque,
}

/// A block of elements in another file of the archive.
#[derive(Debug, Clone)]
pub(in crate::interop) struct Storage {
    /// `torch.FloatStorage` and the like.
    pub(in crate::interop) class: Rc<str>,
    /// Name of the file.
    pub(in crate::interop) key: Rc<str>,
}

/// A view of a storage.
#[derive(Debug)]
pub(in crate::interop) struct StoredTensor {
    pub(in crate::interop) storage: Storage,
    pub(in crate::interop) offset: i64,
    pub(in crate::interop) size: Vec<i64>,
    pub(in crate::interop) stride: Vec<i64>,
}

impl Value {
    /// The entries of a dictionary.
    pub(in crate::interop) fn entries(&self) -> Option<&[(Value, Value)]> {
        match self {
            Self::Dict(entries, _) => Some(entries),
            _ => None,
        }
    }

    /// The value of a text key in a dictionary.
    pub(in crate::interop) fn get(&self, key: &str) -> Option<&Value> {
        let is_key = |k: &Value| matches!(k, Self::Text(text) if &**text == key);
        // The last of a key holds.
        self.entries()?.iter().rev().find(|(k, _)| is_key(k)).map(|(_, value)| value)
    }

    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Tuple(_, depth) | Self::Dict(_, depth) => *depth,
            _ => 0,
        }
    }

    pub(super) fn tuple(values: Vec<Self>) -> Self {
        let depth = 1 + values.iter().map(Self::depth).max().unwrap_or(0);
        Self::Tuple(Rc::new(values), depth)
    }

    pub(super) fn as_tuple(&self) -> Option<&[Self]> {
        match self {
            Self::Tuple(values, _) => Some(values),
            _ => None,
        }
    }

    pub(super) fn as_ints(&self) -> Option<Vec<i64>> {
        let int = |value: &Self| match value {
            Self::Int(n) => Some(*n),
            _ => None,
        };
        self.as_tuple()?.iter().map(int).collect()
    }
}
