//! Contexts to judge the description of a feature by, and what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::FeatureContext;

/// Contexts that are shown nowhere: none overlaps one that is, or has the same text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Some where the feature is active, each with the fifth of its activation, the smallest first.
    pub active: Vec<(usize, FeatureContext)>,
    /// Windows of the pool, by number, in which it is active on no token.
    pub inactive: Vec<u32>,
}

/// Answers whether a feature is active in a context, by whether it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    /// It is, and the answer is yes.
    pub true_positives: u32,
    /// It is, and the answer is no.
    pub false_negatives: u32,
    /// It is not, and the answer is yes.
    pub false_positives: u32,
    /// It is not, and the answer is no.
    pub true_negatives: u32,
    /// Answers that could not be read.
    pub unanswered: u32,
}

impl Confusion {
    /// Adds an answer; none where it could not be read.
    pub fn add(&mut self, is_active: bool, answer: Option<bool>) {
        *match (is_active, answer) {
            (true, Some(true)) => &mut self.true_positives,
            (true, Some(false)) => &mut self.false_negatives,
            (false, Some(true)) => &mut self.false_positives,
            (false, Some(false)) => &mut self.true_negatives,
            (_, None) => &mut self.unanswered,
        } += 1;
    }

    /// The mean of the share of active contexts that were found and the share of others that were
    /// not taken for them: 0.5 by chance. None without answers on both kinds.
    #[must_use]
    pub fn balanced_accuracy(&self) -> Option<f64> {
        let share = |right: u32, wrong: u32| {
            let n = right + wrong;
            (n > 0).then(|| f64::from(right) / f64::from(n))
        };
        let active = share(self.true_positives, self.false_negatives)?;
        Some(0.5 * (active + share(self.true_negatives, self.false_positives)?))
    }
}

/// What a judge says of a feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// The judge's name.
    pub model: String,
    /// What the feature is active on; none where no answer could be read.
    pub label: Option<String>,
    /// Whether it is active somewhere in a text, told from the label.
    pub detection: Option<Confusion>,
    /// Whether it is active on the tokens that are marked, told from the label.
    pub fuzzing: Option<Confusion>,
}

/// Features that a judge has seen, by number.
pub type FeatureLabels = BTreeMap<u32, Judged>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_counts_both_kinds_alike() {
        let mut found = Confusion::default();
        assert_eq!(found.balanced_accuracy(), None);
        for (is_active, answer, n) in [
            (true, Some(true), 3),
            (true, Some(false), 1),
            (false, Some(true), 8),
            (false, Some(false), 2),
            (true, None, 5),
        ] {
            (0..n).for_each(|_| found.add(is_active, answer));
        }
        let expected = Confusion {
            true_positives: 3,
            false_negatives: 1,
            false_positives: 8,
            true_negatives: 2,
            unanswered: 5,
        };
        assert_eq!(found, expected);
        assert_eq!(found.balanced_accuracy(), Some(0.5 * (0.75 + 0.2)));
    }
}
