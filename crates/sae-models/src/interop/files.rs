//! Tensors of another tool's file, taken by name until none is left.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use tch::{Device, Kind, Tensor};

use crate::tensors::io;
use crate::{Error, Result, Tensors};

/// The tensors of a file: floats, brought to f32, and whole numbers.
pub(super) fn floats(path: &Path, map: BTreeMap<String, Tensor>) -> FileTensors {
    let (floats, whole): (BTreeMap<_, _>, _) =
        map.into_iter().partition(|(_, tensor)| tensor.is_floating_point());
    let mut rounded = Vec::new();
    let brought = floats.into_iter().map(|(name, tensor)| {
        let brought = tensor.to_kind(Kind::Float);
        // A single number is a threshold, which the tools compare with f32 too.
        let is_wide = tensor.kind() == Kind::Double && tensor.dim() > 0;
        if is_wide && brought.to_kind(Kind::Double) != tensor {
            rounded.push(name.clone());
        }
        (name, brought)
    });
    let floats = Tensors::new(brought.collect(), Kind::Float, Device::Cpu);
    FileTensors { path: path.into(), floats, whole, rounded }
}

/// Tensors of a file, which errors name.
pub(super) struct FileTensors {
    pub(super) path: PathBuf,
    floats: Tensors,
    whole: BTreeMap<String, Tensor>,
    /// Arrays of f64 that f32 does not hold.
    rounded: Vec<String>,
}

impl FileTensors {
    pub(super) fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.floats.take(name, shape).map_err(|e| e.in_file(&self.path))
    }

    /// The first of these tensors that the file has.
    pub(super) fn take_either(&mut self, names: &[&str], shape: &[i64]) -> Result<Option<Tensor>> {
        let found = names.iter().find(|name| self.floats.contains(name));
        found.map(|name| self.take(name, shape)).transpose()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.floats.contains(name) || self.whole.contains_key(name)
    }

    /// A list of whole numbers above 0.
    pub(super) fn sizes(&mut self, name: &str) -> Result<Vec<usize>> {
        let missing = || Error::MissingTensor { name: name.into(), expected: vec![] };
        let tensor = self.whole.remove(name).ok_or_else(|| missing().in_file(&self.path))?;
        let numbers: Vec<i64> = tensor.to_kind(Kind::Int64).flatten(0, -1).try_into()?;
        let size = |n: &i64| usize::try_from(*n).ok().filter(|n| *n > 0);
        numbers.iter().map(size).collect::<Option<_>>().ok_or_else(|| Error::Format {
            path: self.path.clone(),
            expected: format!("whole numbers above 0 in tensor `{name}`"),
            got: format!("{numbers:?}"),
        })
    }

    /// A whole number above 0.
    pub(super) fn size(&mut self, name: &str) -> Result<usize> {
        match self.sizes(name)?[..] {
            [size] => Ok(size),
            ref sizes => Err(Error::Format {
                path: self.path.clone(),
                expected: format!("one number in tensor `{name}`"),
                got: format!("{}", sizes.len()),
            }),
        }
    }

    /// Refuses tensors that are left; what rounding has to be told of.
    pub(super) fn finish(self, architecture: &'static str) -> Result<Vec<String>> {
        if let Some(name) = self.whole.into_keys().next() {
            return Err(Error::UnexpectedTensor { name, architecture }.in_file(self.path));
        }
        self.floats.finish(architecture).map_err(|e| e.in_file(self.path))?;
        let note = |name: String| format!("tensor `{name}` is of f64 and was rounded to f32");
        Ok(self.rounded.into_iter().map(note).collect())
    }
}

/// Refuses tensors that came to values that f32 does not hold.
pub(super) fn check_finite<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<()> {
    for (name, tensor) in tensors {
        let count = tensor.isfinite().logical_not().sum(Kind::Int64).int64_value(&[]);
        if count > 0 {
            return Err(Error::NotFinite { name: name.into(), count });
        }
    }
    Ok(())
}

/// Writes a file: to a temporary one, synced, then renamed.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicWriteFile::open(path).map_err(|e| io(path, e))?;
    file.write_all(bytes).map_err(|e| io(path, e))?;
    file.commit().map_err(|e| io(path, e))
}
