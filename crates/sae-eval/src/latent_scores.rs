//! Features of an SAE as detectors of the known features that they are closest to.

use sae_config::LatentScores;

/// Counts of a detector and of what it detects.
#[derive(Debug)]
pub(crate) struct Detectors {
    /// Of each feature of the SAE, the known feature of greatest absolute cosine.
    closest: Vec<u32>,
    /// Inputs in which a feature of the SAE is active.
    n_active: Vec<u64>,
    /// Inputs in which the known feature is active too.
    n_both: Vec<u64>,
    /// Inputs in which a known feature is active.
    n_truly_active: Vec<u64>,
    n_inputs: u64,
}

impl Detectors {
    /// Takes the absolute cosines `[n_features, n_true]`; of equal ones the first counts.
    pub(crate) fn new(cosines: impl Iterator<Item = Vec<f64>>, n_true: usize) -> Self {
        let first_largest = |row: Vec<f64>| {
            let better = |best: (usize, f64), (i, v)| if v > best.1 { (i, v) } else { best };
            row.into_iter().enumerate().fold((0, f64::NEG_INFINITY), better).0 as u32
        };
        let closest: Vec<u32> = cosines.map(first_largest).collect();
        let n = closest.len();
        Self {
            closest,
            n_active: vec![0; n],
            n_both: vec![0; n],
            n_truly_active: vec![0; n_true],
            n_inputs: 0,
        }
    }

    /// Adds inputs by the known features that are active in each.
    pub(crate) fn add_truth(&mut self, truth: &[&[u32]]) {
        self.n_inputs += truth.len() as u64;
        for &feature in truth.iter().copied().flatten() {
            self.n_truly_active[feature as usize] += 1;
        }
    }

    /// Adds a feature of the SAE that is active in an input in which the known features are active
    /// for which `is_truly_active` holds.
    pub(crate) fn add_active(&mut self, feature: usize, is_truly_active: impl Fn(usize) -> bool) {
        self.n_active[feature] += 1;
        self.n_both[feature] += u64::from(is_truly_active(self.closest[feature] as usize));
    }

    /// The scores over all inputs; `mcc` is that of the dictionaries.
    pub(crate) fn finish(&self, mcc: f64) -> LatentScores {
        let n = self.closest.len() as f64;
        let share = |n: f64, of: f64| if of > 0.0 { n / of } else { 0.0 };
        let mut scores = LatentScores {
            precision: 0.0,
            recall: 0.0,
            f1: 0.0,
            accuracy: 0.0,
            mcc,
            uniqueness: share(self.n_closest() as f64, n),
            true_l0: share(self.n_truly_active.iter().sum::<u64>() as f64, self.n_inputs as f64),
        };
        for [precision, recall, f1, accuracy] in self.of_features() {
            scores.precision += precision / n;
            scores.recall += recall / n;
            scores.f1 += f1 / n;
            scores.accuracy += accuracy / n;
        }
        scores
    }

    /// Precision, recall, F1 and accuracy of each feature of the SAE.
    pub(crate) fn of_features(&self) -> impl Iterator<Item = [f64; 4]> {
        let share = |n: f64, of: f64| if of > 0.0 { n / of } else { 0.0 };
        self.closest.iter().enumerate().map(move |(feature, &closest)| {
            let both = self.n_both[feature] as f64;
            let (active, truly) =
                (self.n_active[feature] as f64, self.n_truly_active[closest as usize] as f64);
            let (precision, recall) = (share(both, active), share(both, truly));
            let wrong = active + truly - 2.0 * both;
            let f1 = share(2.0 * precision * recall, precision + recall);
            let accuracy = share(self.n_inputs as f64 - wrong, self.n_inputs as f64);
            [precision, recall, f1, accuracy]
        })
    }

    /// Known features that some feature is closest to.
    fn n_closest(&self) -> usize {
        let mut closest = self.closest.clone();
        closest.sort_unstable();
        closest.dedup();
        closest.len()
    }
}
