//! What helps against what a store shows.

use std::fmt;

use super::{MASSIVE, Signs};

/// γ from which on a mean that is left in costs features.
const HIGH_GAMMA: f64 = 1.0;

/// Share of dead directions from which on the same is said whatever γ is.
const MANY_DEAD: f64 = 0.01;

/// Share of Σ‖x‖² from which on massive rows decide the scale.
const DECIDES: f64 = 0.05;

/// Share of duplicate rows that is worth a word.
const MANY_DUPLICATES: f64 = 0.01;

/// What is advised, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What helps.
    pub remedy: Remedy,
    /// Why, with the numbers.
    pub because: String,
}

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// Subtract the mean.
    Centre,
    /// Leave out massive rows.
    LimitNorms,
    /// Leave out rows of zeros.
    DropZeros,
    /// Train on other rows than copies.
    DropDuplicates,
}

impl Remedy {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Centre, Self::LimitNorms, Self::DropZeros, Self::DropDuplicates];
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Centre => f.write_str("sae.normalization = \"shift_scale\""),
            Self::LimitNorms => write!(f, "data.max_norm_ratio = {MASSIVE}"),
            Self::DropZeros => f.write_str("leave out rows of zeros (data.rows)"),
            Self::DropDuplicates => f.write_str("other texts, or each once"),
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.remedy, self.because)
    }
}

impl Signs {
    /// What helps, what matters most first; nothing for data that are as they should be.
    #[must_use]
    pub fn advice(&self) -> Vec<Advice> {
        let mut all = Vec::new();
        let mut add = |is_so: bool, remedy, because: String| {
            if is_so {
                all.push(Advice { remedy, because });
            }
        };
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let of_rows = |n: u64| n as f64 / self.n_rows.max(1) as f64;
        add(
            self.massive_share > DECIDES,
            Remedy::LimitNorms,
            format!(
                "{} rows above {MASSIVE} times the median norm (up to {:.0} times) hold {} of all \
                 squares, and would decide scale and mean",
                self.n_massive_rows,
                self.largest_ratio,
                percent(self.massive_share)
            ),
        );
        let gamma = self.gamma_without_massive.unwrap_or_default();
        add(
            gamma >= HIGH_GAMMA || self.dead_directions >= MANY_DEAD,
            Remedy::Centre,
            format!(
                "the mean is {gamma:.2} times as long as rows vary, so that {} of features that start \
                 in random directions would never fire",
                percent(self.dead_directions)
            ),
        );
        add(
            self.n_zero_rows > 0,
            Remedy::DropZeros,
            format!("{} rows of zeros ({})", self.n_zero_rows, percent(of_rows(self.n_zero_rows))),
        );
        let other_duplicates =
            self.n_duplicate_rows.saturating_sub(self.n_zero_rows.saturating_sub(1));
        add(
            of_rows(other_duplicates) > MANY_DUPLICATES,
            Remedy::DropDuplicates,
            format!(
                "{} rows equal an earlier one ({}), and count more often than others",
                self.n_duplicate_rows,
                percent(of_rows(self.n_duplicate_rows))
            ),
        );
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Signs {
        Signs {
            n_rows: 1000,
            n_zero_rows: 0,
            n_duplicate_rows: 0,
            n_massive_rows: 0,
            massive_share: 0.0,
            largest_ratio: 3.0,
            gamma: Some(0.3),
            gamma_without_massive: Some(0.3),
            outlier_dimensions: vec![],
            dead_directions: 0.0,
        }
    }

    #[test]
    fn each_remedy_has_its_sign_and_quiet_data_none() {
        assert_eq!(quiet().advice(), []);
        let signs: Vec<Signs> = Remedy::ALL
            .iter()
            .map(|remedy| match remedy {
                Remedy::Centre => Signs { gamma_without_massive: Some(2.0), ..quiet() },
                Remedy::LimitNorms => Signs { n_massive_rows: 2, massive_share: 0.5, ..quiet() },
                Remedy::DropZeros => Signs { n_zero_rows: 40, n_duplicate_rows: 39, ..quiet() },
                Remedy::DropDuplicates => Signs { n_duplicate_rows: 11, ..quiet() },
            })
            .collect();
        for (remedy, signs) in Remedy::ALL.into_iter().zip(&signs) {
            let all: Vec<Remedy> = signs.advice().into_iter().map(|of| of.remedy).collect();
            assert_eq!(all, [remedy]);
        }
        let dead = Signs { dead_directions: 0.25, ..quiet() };
        let expected = "sae.normalization = \"shift_scale\": the mean is 0.30 times as long as rows \
                        vary, so that 25.0 % of features that start in random directions would never fire";
        assert_eq!(dead.advice()[0].to_string(), expected);
    }
}
