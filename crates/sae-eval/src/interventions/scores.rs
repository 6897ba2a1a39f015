//! The scores of the suites `interventions` and `vision`, each with its interval.

use sae_config::{
    AgainstChance, ImageScores, Interval, IntervalKind, Interventions, LetterScores, Score, Scores,
    VisionScores,
};

use crate::splice::{Prediction, Replacement};

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The scores of losses: ratios of sums over predictions, whose intervals are those of a jackknife that
/// leaves out one context after another.
pub(super) fn loss_scores(all: &[Prediction], by: &[Replacement]) -> Scores {
    let place = |wanted: Replacement| by.iter().position(|by| *by == wanted);
    let mut scores = Scores::new();
    let (Some(rebuilt), Some(zero)) = (place(Replacement::Rebuilt), place(Replacement::Zero))
    else {
        return scores;
    };
    let mut add = |name: &str, of: &dyn Fn(&Prediction) -> [f64; 2]| {
        if let Some(score) = ratio(all, of) {
            scores.insert(format!("interventions.{name}"), score);
        }
    };
    let recovered = |at: usize| {
        move |of: &Prediction| {
            let lost = of.replaced[zero].ce;
            [lost - of.replaced[at].ce, lost - of.clean]
        }
    };
    add("ce_recovered", &recovered(rebuilt));
    add("kl_recovered", &|of| {
        [of.replaced[zero].kl - of.replaced[rebuilt].kl, of.replaced[zero].kl]
    });
    if let Some(random) = place(Replacement::Random) {
        add("kl_over_random", &|of| [of.replaced[rebuilt].kl, of.replaced[random].kl]);
    }
    for (at, by) in by.iter().enumerate() {
        if let Replacement::Largest(n) = by {
            add(&format!("ce_recovered_n{n}"), &recovered(at));
        }
    }
    scores
}

/// Σ a/Σ b over predictions; none where the second sum is not positive: zeros that hurt nothing leave
/// nothing to recover.
fn ratio(all: &[Prediction], of: &dyn Fn(&Prediction) -> [f64; 2]) -> Option<Score> {
    let sums = |part: &[Prediction]| {
        let add = |sum: [f64; 2], of: [f64; 2]| [sum[0] + of[0], sum[1] + of[1]];
        part.iter().map(of).fold([0.0; 2], add)
    };
    let contexts: Vec<[f64; 2]> = all.chunk_by(|a, b| a.context == b.context).map(sums).collect();
    let total = sums(all);
    if total[1].is_nan() || total[1] <= 0.0 {
        return None;
    }
    let mut score = Score::new(total[0] / total[1], all.len() as u64);
    let without: Vec<f64> =
        contexts.iter().map(|of| (total[0] - of[0]) / (total[1] - of[1])).collect();
    let n = without.len() as f64;
    let mean = without.iter().sum::<f64>() / n;
    let squares: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
    let half = Z * ((n - 1.0) / n * squares).sqrt();
    if without.len() > 1 && half.is_finite() {
        let (low, high) = (score.value - half, score.value + half);
        score.interval = Some(Interval { low, high, by: IntervalKind::Normal });
    }
    Some(score)
}

/// The scores of first letters and attributes, as far as they were measured.
#[must_use]
pub fn intervention_scores(of: &Interventions) -> Scores {
    let mut scores = Scores::new();
    let mut add = |name: &str, score| scores.insert(format!("interventions.{name}"), score);
    if let Some(letters) = &of.first_letter {
        let counted: Vec<&LetterScores> =
            letters.letters.iter().filter(|letter| letter.absorption.is_some()).collect();
        let mean = |of: &dyn Fn(&LetterScores) -> f64| {
            let values: Vec<f64> = counted.iter().map(|letter| of(letter)).collect();
            Score::mean(&values)
        };
        add("absorption", mean(&|letter| letter.absorption.unwrap_or_default()));
        add("full_absorption", mean(&|letter| letter.full_absorption.unwrap_or_default()));
        add("features_per_letter", mean(&|letter| letter.features.len() as f64));
        let one = mean(&|letter| letter.f1_one_feature);
        add("f1_one_feature", one.with_ceiling(letters.f1_dense));
    }
    for (name, attributes) in
        [("disentanglement", &of.attributes), ("disentanglement_countries", &of.countries)]
    {
        if let Some(of) = attributes {
            add(name, with_error(of.disentanglement, of.standard_error, of.n_told));
        }
    }
    scores
}

/// A score with the interval of its standard error, where that is known.
fn with_error(value: f64, error: Option<f64>, n: u64) -> Score {
    let interval = error.map(|error| {
        let (low, high) = (value - Z * error, value + Z * error);
        Interval { low, high, by: IntervalKind::Normal }
    });
    Score { interval, ..Score::new(value, n) }
}

/// The scores of images, as far as they were measured.
#[must_use]
pub fn image_scores(images: &ImageScores, of: &VisionScores) -> Scores {
    let mut scores = Scores::new();
    let mut add = |name: &str, score| scores.insert(format!("vision.{name}"), score);
    let recovered = images.embedding_recovered;
    add("embedding_recovered", with_error(recovered, images.standard_error, images.n_images));
    let measured = [
        ("monosemanticity", of.monosemanticity),
        ("label_purity", of.label_purity),
        ("part_purity", of.part_purity),
    ];
    for (name, found) in measured {
        if let Some(AgainstChance { value, standard_error, n, .. }) = found {
            add(name, with_error(value, Some(standard_error), n));
        }
    }
    if let Some(probing) = &of.label_probing {
        for at in &probing.auc {
            let score = with_error(at.auc, at.standard_error, probing.n_labels);
            add(&format!("label_auc_k{}", at.k), score.with_ceiling(probing.auc_dense));
        }
    }
    if let Some(spent) = of.spent {
        let difference = spent.object - spent.background;
        let error = Some(spent.standard_error);
        add("object_over_background", with_error(difference, error, of.n_images));
    }
    scores
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sae_config::Suite;

    use super::*;
    use crate::splice::Loss;

    fn predictions(values: &[(usize, [f64; 4])]) -> Vec<Prediction> {
        let of = |(context, [clean, rebuilt, zero, random]): &(usize, [f64; 4])| Prediction {
            context: *context,
            source: 0,
            position: 1,
            l0: [1.0, 1.0],
            clean: *clean,
            replaced: [rebuilt, zero, random].map(|x| Loss { ce: clean + x, kl: *x }).to_vec(),
        };
        values.iter().map(of).collect()
    }

    proptest! {
        #[test]
        fn ratios_and_their_jackknife_are_those_of_leaving_out(
            mut values in prop::collection::vec((0..5usize, prop::array::uniform4(0.1..2.0f64)), 2..40),
        ) {
            values.sort_by_key(|(context, _)| *context);
            let by = [Replacement::Rebuilt, Replacement::Zero, Replacement::Random];
            let scores = loss_scores(&predictions(&values), &by);
            let recovered = |left_out: Option<usize>| {
                let kept = values.iter().filter(|(context, _)| Some(*context) != left_out);
                let (zero, own) = kept.fold((0.0, 0.0), |(zero, own), (_, of)| (zero + of[2], own + of[2] - of[1]));
                own / zero
            };
            let mut contexts: Vec<usize> = values.iter().map(|(context, _)| *context).collect();
            contexts.dedup();
            for name in ["interventions.ce_recovered", "interventions.kl_recovered"] {
                let score = &scores[name];
                prop_assert!((score.value - recovered(None)).abs() < 1e-9);
                let n = contexts.len() as f64;
                if contexts.len() < 2 {
                    prop_assert_eq!(score.interval, None);
                    continue;
                }
                let without: Vec<f64> = contexts.iter().map(|c| recovered(Some(*c))).collect();
                let mean = without.iter().sum::<f64>() / n;
                let variance = without.iter().map(|v| (v - mean).powi(2)).sum::<f64>() * (n - 1.0) / n;
                let half = (score.interval.unwrap().high - score.interval.unwrap().low) / 2.0;
                prop_assert!((half - 1.959_963_984_540_054 * variance.sqrt()).abs() < 1e-9);
            }
            let random: f64 = values.iter().map(|(_, of)| of[3]).sum();
            let rebuilt: f64 = values.iter().map(|(_, of)| of[1]).sum();
            prop_assert!((scores["interventions.kl_over_random"].value - rebuilt / random).abs() < 1e-9);
        }
    }

    #[test]
    fn every_score_is_one_of_its_suite() {
        let all = predictions(&[(0, [1.0, 0.5, 2.0, 0.25]), (1, [1.0, 0.25, 1.5, 0.5])]);
        let mut by = vec![Replacement::Rebuilt, Replacement::Zero, Replacement::Random];
        let mut all_by = all.clone();
        for n in super::super::LossOptions::default().largest {
            by.push(Replacement::Largest(n));
            all_by.iter_mut().for_each(|of| of.replaced.push(Loss { ce: 1.5, kl: 0.5 }));
        }
        let names: Vec<&str> = Suite::Interventions.scores().iter().map(|info| info.name).collect();
        let scores = loss_scores(&all_by, &by);
        assert_eq!(scores.len(), 7);
        assert!(scores.keys().all(|name| names.contains(&name.as_str())), "{:?}", scores.keys());
    }
}
