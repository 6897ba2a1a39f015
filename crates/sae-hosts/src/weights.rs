//! Named weights of a host, from whatever file holds them, checked for shape and put on a device.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use tch::{Device, Kind, Tensor};
use tch_autograd::DeviceMemory;

use crate::{Error, Result};

/// A file or folder of named tensors, named and laid out as Hugging Face has them.
pub(crate) trait TensorSource {
    /// The file or folder.
    fn path(&self) -> &Path;
    /// The names of all tensors, as the file itself has them.
    fn stored_names(&self) -> Vec<String>;
    /// The shape of a tensor by the name that the file itself has for it.
    fn stored_shape(&self, stored_name: &str) -> Option<Vec<u64>> {
        self.shape(stored_name)
    }
    /// What the file itself calls a tensor.
    fn stored_name(&self, name: &str) -> String {
        name.to_owned()
    }
    /// The shape of a tensor, or `None` if there is no such tensor.
    fn shape(&self, name: &str) -> Option<Vec<u64>>;
    /// The values of a tensor in row-major order.
    fn read_f32(&self, name: &str) -> Result<Vec<f32>>;
}

/// Takes tensors out of a source.
pub(crate) struct Weights {
    source: Box<dyn TensorSource>,
    device: Device,
    kind: Kind,
    /// Stored names of the tensors that were taken.
    taken: RefCell<BTreeSet<String>>,
}

impl Weights {
    pub(crate) fn new(source: Box<dyn TensorSource>, device: Device, kind: Kind) -> Self {
        Self { source, device, kind, taken: RefCell::default() }
    }

    /// Refuses weights that do not fit into the memory that is free on their device; those that
    /// `is_unused` names are not read.
    pub(crate) fn check_memory(&self, is_unused: impl Fn(&str) -> bool) -> Result<()> {
        // A device that does not tell its memory says by itself what it lacks.
        match DeviceMemory::of(self.device).ok().flatten() {
            Some(DeviceMemory { free, .. }) => self.check_fits(free, is_unused),
            None => Ok(()),
        }
    }

    fn check_fits(&self, free: u64, is_unused: impl Fn(&str) -> bool) -> Result<()> {
        let names = self.source.stored_names().into_iter().filter(|name| !is_unused(name));
        let n_values: u64 = names
            .filter_map(|name| self.source.stored_shape(&name))
            .map(|shape| shape.iter().product::<u64>())
            .sum();
        let needed = n_values.saturating_mul(self.kind.elt_size_in_bytes() as u64);
        if needed <= free {
            return Ok(());
        }
        let mega = |bytes: u64| bytes.div_ceil(1_000_000);
        let expected = format!("less than the {} MB free on {:?}", free / 1_000_000, self.device);
        let got = format!("{} MB in {:?}", mega(needed), self.kind);
        Err(Error::file(self.source.path(), "size of the weights", expected, got))
    }

    /// Bytes of the tensors that were taken.
    pub(crate) fn n_bytes(&self) -> u64 {
        let taken = self.taken.borrow();
        let shapes = taken.iter().filter_map(|name| self.source.stored_shape(name));
        let n_values: u64 = shapes.map(|shape| shape.iter().product::<u64>()).sum();
        n_values.saturating_mul(self.kind.elt_size_in_bytes() as u64)
    }

    pub(crate) fn device(&self) -> Device {
        self.device
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.source.shape(name).is_some()
    }

    /// The first of `prefixes` under which there is a tensor `name`: files saved from a bare model
    /// and from one with a head differ in it.
    pub(crate) fn prefix<'a>(&self, prefixes: &[&'a str], name: &str) -> Result<&'a str> {
        let found = prefixes.iter().find(|prefix| self.contains(&format!("{prefix}{name}")));
        found.copied().ok_or_else(|| self.missing(&format!("{}{name}", prefixes[0])))
    }

    /// The size of dimension 0 of a tensor.
    pub(crate) fn rows(&self, name: &str) -> Result<i64> {
        let shape = self.source.shape(name).ok_or_else(|| self.missing(name))?;
        shape
            .first()
            .and_then(|rows| i64::try_from(*rows).ok())
            .ok_or_else(|| self.wrong(name, "rows", "a scalar"))
    }

    /// A tensor of exactly this shape.
    pub(crate) fn take(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let found = self.source.shape(name).ok_or_else(|| self.missing(name))?;
        if !found.iter().copied().eq(shape.iter().map(|size| size.cast_unsigned())) {
            let (expected, got) = (format!("shape {shape:?}"), format!("{found:?}"));
            return Err(self.wrong(name, &expected, &got));
        }
        let values = self.source.read_f32(name)?;
        self.taken.borrow_mut().insert(self.source.stored_name(name));
        Ok(Tensor::from_slice(&values).view(shape).to_device(self.device).to_kind(self.kind))
    }

    /// Refuses a source with a tensor that was not taken and that `is_unused` does not name: it
    /// would change what the model computes.
    pub(crate) fn finish(&self, is_unused: impl Fn(&str) -> bool) -> Result<()> {
        let taken = self.taken.borrow();
        let left = self.source.stored_names().into_iter();
        match left.filter(|name| !taken.contains(name)).find(|name| !is_unused(name)) {
            None => Ok(()),
            Some(name) => {
                let (field, expected) =
                    (format!("tensor `{name}`"), "no such tensor in this model");
                Err(Error::file(self.source.path(), field, expected, "it in the file"))
            }
        }
    }

    fn missing(&self, name: &str) -> Error {
        self.wrong(name, "it in the file", "none")
    }

    /// An error about a tensor.
    pub(crate) fn wrong(&self, name: &str, expected: &str, got: &str) -> Error {
        let field = format!("tensor `{}`", self.source.stored_name(name));
        Error::file(self.source.path(), field, expected, got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tensors of zeros.
    struct Zeros(Vec<(&'static str, Vec<u64>)>);

    impl TensorSource for Zeros {
        fn path(&self) -> &Path {
            Path::new("model.safetensors")
        }

        fn stored_names(&self) -> Vec<String> {
            self.0.iter().map(|(name, _)| (*name).to_owned()).collect()
        }

        fn shape(&self, name: &str) -> Option<Vec<u64>> {
            self.0.iter().find(|(known, _)| *known == name).map(|(_, shape)| shape.clone())
        }

        fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
            Ok(vec![0.0; self.shape(name).unwrap_or_default().iter().product::<u64>() as usize])
        }
    }

    #[test]
    fn weights_that_do_not_fit_are_refused_before_they_are_read() {
        let source = || {
            Box::new(Zeros(vec![
                ("a", vec![1000, 2000]),
                ("b", vec![500_000]),
                ("text.c", vec![9]),
            ]))
        };
        let is_unused = |name: &str| name.starts_with("text.");
        for (kind, needed) in [(Kind::Float, 10_000_000), (Kind::BFloat16, 5_000_000)] {
            let weights = Weights::new(source(), Device::Cpu, kind);
            assert!(weights.check_fits(needed, is_unused).is_ok());
            let error = weights.check_fits(needed - 1, is_unused).unwrap_err().to_string();
            let got = format!("got {} MB in {kind:?}", needed / 1_000_000);
            assert!(error.starts_with("model.safetensors: size of the weights: "), "{error}");
            assert!(error.ends_with(&got), "{error}");
            assert!(weights.check_fits(needed, |_| false).is_err(), "all of them are counted");
            assert_eq!(weights.n_bytes(), 0);
            let _taken = weights.take("b", &[500_000]).unwrap();
            assert_eq!(weights.n_bytes(), needed / 5);
        }
        // Far more than any machine has.
        let huge = Box::new(Zeros(vec![("a", vec![1 << 50])]));
        assert!(Weights::new(huge, Device::Cpu, Kind::Float).check_memory(|_| false).is_err());
    }
}
