//! How far other runs find the same features.

use sae_config::{Comparison, Score, Scores, SharedFeatures, Worthless};

/// Cosine from which on two features count as the same, as in [`SharedFeatures::shared`].
const SAME: f64 = 0.7;

/// The scores of the suite `stability`, of an SAE's comparisons with others: means over the pairs of
/// all of them, beside those of random directions in the place of the others.
///
/// Intervals are over pairs of features, as if those of different comparisons had nothing in common.
/// None of no comparisons.
#[must_use]
pub fn stability_scores(comparisons: &[Comparison]) -> Scores {
    let pairs = || comparisons.iter().flat_map(|comparison| &comparison.features);
    let cosines: Vec<f64> = pairs().map(|pair| pair.pair_cosine).collect();
    if cosines.is_empty() {
        return Scores::new();
    }
    let n_same = cosines.iter().filter(|cosine| **cosine >= SAME).count() as u64;
    let floor = |of: fn(&SharedFeatures) -> f64| {
        let weighted = comparisons.iter().map(|c| of(&c.floor) * c.features.len() as f64);
        weighted.sum::<f64>() / cosines.len() as f64
    };
    let with_floor = |mut score: Score, floor: f64| {
        score.floors.insert(Worthless::RandomDirections, floor);
        score.with_ceiling(1.0)
    };
    let (mcc, shared) = (Score::mean(&cosines), Score::share(n_same, cosines.len() as u64));
    Scores::from([
        ("stability.pw_mcc".into(), with_floor(mcc, floor(|s| s.pw_mcc))),
        ("stability.shared".into(), with_floor(shared, floor(|s| s.shared))),
    ])
}

#[cfg(test)]
mod tests {
    use sae_models::InitRng;

    use super::*;
    use crate::compare;

    #[test]
    fn scores_of_one_comparison_are_its_own_and_of_itself_one() {
        let mut rng = InitRng::new(4);
        let [first, second] = [(); 2].map(|()| rng.directions(12, 6, 1.0));
        let all: Vec<usize> = (0..12).collect();
        let other = compare([&first, &second], [&all, &all]).unwrap();
        let scores = stability_scores(std::slice::from_ref(&other));
        let mcc = &scores["stability.pw_mcc"];
        assert!((mcc.value - other.scores.pw_mcc).abs() < 1e-12);
        assert!((scores["stability.shared"].value - other.scores.shared).abs() < 1e-12);
        assert!((mcc.floors[&Worthless::RandomDirections] - other.floor.pw_mcc).abs() < 1e-12);
        let itself = compare([&first, &first], [&all, &all]).unwrap();
        let both = stability_scores(&[itself, other.clone()]);
        let mean = (1.0 + other.scores.pw_mcc) / 2.0;
        assert!((both["stability.pw_mcc"].value - mean).abs() < 1e-9);
        assert!(stability_scores(&[]).is_empty());
    }
}
