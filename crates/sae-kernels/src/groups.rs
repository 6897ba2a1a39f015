//! Groups of features that reconstruct together: the prefixes of a Matryoshka dictionary.

use crate::error::check_len;
use crate::{Error, Result};

/// Prefixes of the dictionary, each of which reconstructs by itself (Matryoshka).
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    ends: Vec<usize>,
    factors: Vec<f32>,
}

impl Groups {
    /// The whole dictionary as the only group; its residual is multiplied by `factor`.
    #[must_use]
    pub fn one(n_features: usize, factor: f32) -> Self {
        Self { ends: vec![n_features], factors: vec![factor] }
    }

    /// Prefixes that end at `ends`, the last at the size of the dictionary.
    ///
    /// The gradient of prefix g's reconstruction is `factors[g]` times its residual.
    ///
    /// # Errors
    /// If there is no group, the ends do not ascend, or there are not as many factors.
    pub fn new(ends: Vec<usize>, factors: Vec<f32>) -> Result<Self> {
        check_len("factors", ends.len().max(1), factors.len())?;
        if let Some(i) = ends.windows(2).position(|w| w[0] >= w[1]) {
            return Err(Error::Order { name: "ends", position: i + 1 });
        }
        Ok(Self { ends, factors })
    }

    /// The number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where each prefix ends.
    pub(crate) fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// What the residual of group `g` is multiplied by in the gradient.
    ///
    /// # Panics
    /// If there is no such group.
    #[must_use]
    pub fn factor(&self, g: usize) -> f32 {
        self.factors[g]
    }

    /// The group that a feature belongs to: the first prefix that holds it.
    #[inline]
    #[must_use]
    pub fn of_feature(&self, feature: usize) -> usize {
        self.ends.partition_point(|&end| end <= feature)
    }

    pub(crate) fn check(&self, n_features: usize) -> Result<()> {
        check_len("groups (the end of the last)", n_features, *self.ends.last().unwrap_or(&0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_belong_to_the_first_prefix_that_holds_them() {
        let groups = Groups::new(vec![2, 5], vec![0.5, 1.0]).unwrap();
        assert_eq!([0, 1, 2, 4].map(|f| groups.of_feature(f)), [0, 0, 1, 1]);
        assert!(groups.check(6).is_err());
        assert!(Groups::new(vec![5, 2], vec![0.5, 1.0]).is_err());
        assert!(Groups::new(vec![], vec![]).is_err());
    }
}
