//! Whether a code holds together: that of a file may not.

use super::{Code, SoftCode};
use crate::{Error, Result};

impl Code {
    /// Checks that a dictionary of this size can be coded so.
    ///
    /// # Errors
    /// [`Error::Value`] for a number of features that there is not, groups of another number, or
    /// bounds of k̂ that hold nothing.
    pub fn check(&self, n_features: usize) -> Result<()> {
        match self {
            Self::TopK { k } | Self::AbsTopK { k } | Self::BatchTopK { k } => {
                check_k(*k, n_features)
            }
            Self::MatryoshkaBatchTopK { k, group_sizes } => {
                check_k(*k, n_features)?;
                if !group_sizes.contains(&0) && group_sizes.iter().sum::<usize>() == n_features {
                    return Ok(());
                }
                let expected = format!("groups of {n_features} features in all, none of 0");
                Err(Error::value("group_sizes", expected, format!("{group_sizes:?}")))
            }
            Self::Soft(code) => code.check(n_features),
            Self::JumpRelu { .. }
            | Self::Gated {}
            | Self::Standard {}
            | Self::StandardApril {}
            | Self::PAnneal {} => Ok(()),
        }
    }
}

fn check_k(k: usize, n_features: usize) -> Result<()> {
    if (1..=n_features).contains(&k) {
        return Ok(());
    }
    Err(Error::value("k", format!("from 1 to the {n_features} features"), k))
}

impl SoftCode {
    fn check(&self, n_features: usize) -> Result<()> {
        check_k(self.k, n_features)?;
        let Self { k_max, k_min, alpha, .. } = *self;
        for (key, is_fine, expected, got) in [
            ("k_max", k_max.is_finite() && k_max > 0.0, "a positive number".to_owned(), k_max),
            ("k_min", k_min > 0.0 && k_min <= k_max, format!("above 0, at most {k_max}"), k_min),
            ("alpha", alpha.is_finite() && alpha > 0.0, "a positive number".to_owned(), alpha),
        ] {
            if !is_fine {
                return Err(Error::value(key, expected, got));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EstimatorNetwork, Parity, Rounding, tests::architectures};

    #[test]
    fn what_no_model_can_compute_is_named() {
        for architecture in architectures() {
            let code = architecture.code(16, 64, Parity::None);
            assert!(code.check(64).is_ok(), "{}", code.name());
        }
        let groups = |k, group_sizes| Code::MatryoshkaBatchTopK { k, group_sizes };
        let soft = |change: fn(&mut SoftCode)| {
            let (rounding, k_estimator) = (Rounding::Nearest, EstimatorNetwork::Shared);
            let mut code =
                SoftCode { k: 4, k_max: 16.0, k_min: 1.0, alpha: 1e-4, rounding, k_estimator };
            change(&mut code);
            Code::Soft(code)
        };
        for (code, key) in [
            (Code::TopK { k: 0 }, "k"),
            (Code::TopK { k: 65 }, "k"),
            (Code::AbsTopK { k: 0 }, "k"),
            (Code::BatchTopK { k: 65 }, "k"),
            (groups(0, vec![32, 32]), "k"),
            (groups(2, vec![0, 64]), "group_sizes"),
            (groups(2, vec![32, 31]), "group_sizes"),
            (soft(|code| code.k = 0), "k"),
            (soft(|code| code.k = 65), "k"),
            (soft(|code| code.k_max = 0.0), "k_max"),
            (soft(|code| code.k_max = f64::INFINITY), "k_max"),
            (soft(|code| code.k_min = 0.0), "k_min"),
            (soft(|code| code.k_min = 17.0), "k_min"),
            (soft(|code| code.alpha = -1.0), "alpha"),
        ] {
            let message = code.check(64).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{key}`: expected")), "{code:?}: {message}");
        }
    }
}
