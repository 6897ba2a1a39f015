//! Where the rows of a batch come from: one port, or an input and a target.

use std::path::PathBuf;

use crate::{ActivationStore, Dtype, Provenance};

/// Where activations come from.
#[derive(Debug, Clone)]
pub struct Port {
    /// The file, folder or host that gives the rows.
    pub place: PathBuf,
    /// Dimension of a row.
    pub dimension: usize,
    /// Element type of the rows where they are kept.
    pub dtype: Dtype,
    /// Host and hook point of each of its parts that knows them.
    pub provenances: Vec<Provenance>,
}

impl Port {
    /// The port whose rows a store holds.
    #[must_use]
    pub fn of_store(store: &dyn ActivationStore) -> Self {
        Self {
            place: store.locate(0).0,
            dimension: store.d_model(),
            dtype: store.dtype(),
            provenances: store.provenances().into_iter().cloned().collect(),
        }
    }
}

/// One thing of the input and, where the target is another port, one of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports<T> {
    /// Of what is encoded.
    pub input: T,
    /// Of what is rebuilt, where that is not the input.
    pub target: Option<T>,
}

impl<T> From<T> for Ports<T> {
    /// The input, which is the target too.
    fn from(input: T) -> Self {
        Self { input, target: None }
    }
}

impl<T> Ports<T> {
    /// That of what is rebuilt.
    pub fn output(&self) -> &T {
        self.target.as_ref().unwrap_or(&self.input)
    }

    /// The input, then the target where it is another.
    pub fn each(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.input).chain(&self.target)
    }

    /// A reference to each.
    pub const fn as_ref(&self) -> Ports<&T> {
        Ports { input: &self.input, target: self.target.as_ref() }
    }

    /// A mutable reference to each.
    pub const fn as_mut(&mut self) -> Ports<&mut T> {
        Ports { input: &mut self.input, target: self.target.as_mut() }
    }

    /// What `f` makes of each.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Ports<U> {
        Ports { input: f(self.input), target: self.target.map(f) }
    }

    /// What `f` makes of each.
    ///
    /// # Errors
    /// The first one of `f`.
    pub fn try_map<U, E>(self, mut f: impl FnMut(T) -> Result<U, E>) -> Result<Ports<U>, E> {
        Ok(Ports { input: f(self.input)?, target: self.target.map(f).transpose()? })
    }
}
