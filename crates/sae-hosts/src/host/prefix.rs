//! A host's state at a hook point.

use tch::Tensor;

use crate::HookPoint;

/// A host's state at a hook point, from which it can go on more than once.
///
/// [`HostModel::prefix`](crate::HostModel::prefix) makes it and
/// [`HostModel::logits_from`](crate::HostModel::logits_from) goes on, so that comparing several
/// replacements costs the layers before the hook only once.
#[derive(Debug)]
pub struct Prefix {
    pub(super) hook: HookPoint,
    /// The residual stream before the hook's layer; of `embed`, what the host reads.
    pub(super) before: Tensor,
    pub(super) activations: Tensor,
}

impl Prefix {
    /// The activations at the hook point, `[batch, positions, d_model]`.
    pub fn activations(&self) -> &Tensor {
        &self.activations
    }

    /// That of one of its texts, counted from 0.
    ///
    /// # Panics
    /// If it has fewer texts.
    #[must_use]
    pub fn of_text(&self, text: usize) -> Self {
        let of = |x: &Tensor| x.narrow(0, text as i64, 1);
        Self { hook: self.hook, before: of(&self.before), activations: of(&self.activations) }
    }

    /// The last `n` positions, of so many equal texts.
    ///
    /// # Panics
    /// If it has fewer positions, or is of more than one text.
    #[must_use]
    pub fn last(&self, n: usize, n_texts: usize) -> Self {
        let last = |x: &Tensor| {
            let mut size = x.size();
            assert_eq!(size[0], 1, "one text");
            let first = size[1] - n as i64;
            (size[0], size[1]) = (n_texts as i64, n as i64);
            x.narrow(1, first, n as i64).expand(size, false)
        };
        Self { hook: self.hook, before: last(&self.before), activations: last(&self.activations) }
    }
}
