//! Which documents train and which test, and the penalty of a regression.

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::Result;
use crate::probing::{TOLERANCE, Weights, auc, fit_logistic};

/// One in so many documents tests.
const TEST_ONE_IN: usize = 5;

/// Documents held back at most to choose a penalty by.
const MAX_HELD_BACK: usize = 100;

/// Training documents below which all of them are held back in turn.
const FEW: usize = 128;

/// Parts of few training documents.
const N_FOLDS: usize = 6;

/// Norm of the gradient, by the number of rows, at which a regression ends that only chooses a penalty.
const ROUGH: f64 = 1e-8;

/// The documents of a task, in an order drawn at random.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) train: Vec<usize>,
    pub(super) test: Vec<usize>,
}

/// Takes one in five documents of each answer for the test, always the same ones.
pub(super) fn split(labels: &[bool]) -> Split {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut split = Split { train: Vec::new(), test: Vec::new() };
    for answer in [false, true] {
        let mut rows: Vec<usize> = (0..labels.len()).filter(|row| labels[*row] == answer).collect();
        rows.shuffle(&mut rng);
        let train = rows.split_off(rows.len() / TEST_ONE_IN);
        split.test.extend(rows);
        split.train.extend(train);
    }
    split.train.shuffle(&mut rng);
    split.test.shuffle(&mut rng);
    split
}

/// The inverses of penalties that are tried, as sae-probes has them: ten from 10⁵ to 10⁻⁵.
fn inverses() -> [f64; 10] {
    std::array::from_fn(|i| 10f64.powf(5.0 - 10.0 * i as f64 / 9.0))
}

/// Fits a regression whose penalty is chosen by the area under the curve of rows that are held back:
/// the last 100 or the last fifth, or of fewer than 128 rows each sixth in turn. Gives its weights and
/// the inverse of the penalty.
///
/// # Shapes
/// x `[rows, n + 1]` with a last column of ones.
pub(super) fn fit(x: &Tensor, labels: &[bool]) -> Result<(Tensor, f64)> {
    let n = labels.len();
    let folds: Vec<(usize, usize)> = if n < FEW {
        (0..N_FOLDS).map(|i| (i * n / N_FOLDS, (i + 1) * n / N_FOLDS)).collect()
    } else {
        vec![(n - (n / 5).min(MAX_HELD_BACK), n)]
    };
    let mut sums = [0.0; 10];
    for (start, end) in folds {
        add_areas(x, labels, (start, end), &mut sums)?;
    }
    // Of equal ones the first, the one with the least penalty.
    let best = (1..10).fold(0, |best, i| if sums[i] > sums[best] { i } else { best });
    let c = inverses()[best];
    Ok((fit_logistic(x, labels, Weights::Equal, c, None, TOLERANCE)?, c))
}

/// Adds the area under the curve of the rows from `start` to `end` by each penalty, as regressions on
/// the other rows have it; nothing where either part has one answer alone.
fn add_areas(
    x: &Tensor,
    labels: &[bool],
    (start, end): (usize, usize),
    sums: &mut [f64; 10],
) -> Result<()> {
    let n = labels.len();
    let rest: Vec<bool> = labels[..start].iter().chain(&labels[end..]).copied().collect();
    let held_back = &labels[start..end];
    let is_mixed = |of: &[bool]| of.contains(&true) && of.contains(&false);
    if !is_mixed(&rest) || !is_mixed(held_back) {
        return Ok(());
    }
    let part = |from: usize, to: usize| x.f_narrow(0, from as i64, (to - from) as i64);
    let of_rest = Tensor::f_cat(&[part(0, start)?, part(end, n)?], 0)?;
    let of_held_back = part(start, end)?;
    let mut w: Option<Tensor> = None;
    // The stronger the penalty the nearer to 0: each begins where the one before it ended.
    for (i, c) in inverses().into_iter().enumerate().rev() {
        let next = fit_logistic(&of_rest, &rest, Weights::Equal, c, w.as_ref(), ROUGH)?;
        let said = Vec::<f64>::try_from(of_held_back.f_mv(&next)?.f_to_kind(Kind::Double)?)?;
        sums[i] += auc(&said, held_back).unwrap_or(0.5);
        w = Some(next);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sae_models::InitRng;

    use super::*;
    use crate::probing::with_ones;

    #[test]
    fn penalties_are_a_ladder_of_ten() {
        let all = inverses();
        assert!((all[0] / 1e5 - 1.0).abs() < 1e-12 && (all[9] / 1e-5 - 1.0).abs() < 1e-12);
        assert!(
            all.windows(2)
                .all(|pair| (pair[0] / pair[1] / 10f64.powf(10.0 / 9.0) - 1.0).abs() < 1e-12)
        );
    }

    #[test]
    fn noise_gets_a_strong_penalty_and_a_rule_a_weak_one() {
        let mut rng = InitRng::new(7);
        let x = with_ones(&rng.uniform(&[600, 30], 1.0)).unwrap();
        let rule: Vec<bool> =
            Vec::<f64>::try_from(x.select(1, 3)).unwrap().iter().map(|v| *v > 0.1).collect();
        let noise: Vec<f64> = rng.uniform(&[600], 1.0).try_into().unwrap();
        let noise: Vec<bool> = noise.iter().map(|v| *v > 0.0).collect();
        let (_, of_rule) = fit(&x, &rule).unwrap();
        let (_, of_noise) = fit(&x, &noise).unwrap();
        assert!(of_rule > of_noise, "{of_rule} {of_noise}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn a_split_has_each_document_once_and_a_fifth_of_each_answer_tests(
            labels in prop::collection::vec(any::<bool>(), 1..200),
        ) {
            let Split { train, test } = split(&labels);
            let mut all: Vec<usize> = train.iter().chain(&test).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            for answer in [false, true] {
                let count = |rows: &[usize]| rows.iter().filter(|row| labels[**row] == answer).count();
                prop_assert_eq!(count(&test), (count(&train) + count(&test)) / 5);
            }
        }

        /// With a penalty that is chosen, the weights are at the minimum of that penalty.
        #[test]
        fn what_is_fitted_is_at_the_minimum_of_its_penalty(seed in 0u64..500, n in 40i64..90, d in 1i64..6) {
            let mut rng = InitRng::new(seed);
            let x = with_ones(&rng.uniform(&[n, d], 2.0)).unwrap();
            let noise = Vec::<f64>::try_from(rng.uniform(&[n], 1.0)).unwrap();
            let mut labels: Vec<bool> = noise.iter().map(|v| *v > 0.2).collect();
            (labels[0], labels[1]) = (true, false);
            let (w, c) = fit(&x, &labels).unwrap();
            let y = Tensor::from_slice(&labels).to_kind(Kind::Double);
            let penalty = Tensor::full([d + 1], 1.0 / c, (Kind::Double, tch::Device::Cpu));
            let _ = penalty.get(d).fill_(0.0);
            let gradient = x.tr().mv(&(x.mv(&w).sigmoid() - y)) + penalty * &w;
            let largest = gradient.abs().max().double_value(&[]);
            prop_assert!(largest < 1e-7 * n as f64, "{}", largest);
        }
    }
}
