//! Absorption on one word (Chanin et al. 2024, arXiv:2409.14507; the fraction as SAEBench measures it):
//! what of a probe's reading comes from the features that stand for its concept, and what from others
//! that do their work.

/// Least cosine of a direction with the probe's for a feature that may absorb a part.
const LEAST_COSINE: f64 = 0.1;

/// The same for one that absorbs all.
const LEAST_COSINE_FULL: f64 = 0.025;

/// Features that may absorb together.
const MOST_ABSORBING: usize = 3;

/// Least share of the probe's reading that absorbing features give.
const LEAST_SHARE: f64 = 0.4;

/// How far a word's concept is absorbed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Absorbed {
    /// From 0 to 1: the part that others give of what they and the main features give.
    pub(super) fraction: f64,
    /// Whether no main feature is active and one other gives enough alone.
    pub(super) is_full: bool,
}

/// An active feature on a word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    /// Whether it is one of the main features.
    pub(super) is_main: bool,
    /// What it adds to the reconstruction, projected on the probe's unit direction.
    pub(super) projection: f64,
    /// The cosine of its direction with the probe's.
    pub(super) cosine: f64,
}

/// With P the activation's projection on the probe's direction, M the sum of the main features'
/// projections, A that of the three greatest positive ones of others with a cosine of 0.1 at least:
/// 0 if M ≥ P or A/P < 0.4, 1 if M ≤ 0, else m/(m + M) with m = min(A, P − M).
pub(super) fn absorbed(parts: &[Part], projection: f64) -> Absorbed {
    let main: f64 = parts.iter().filter(|part| part.is_main).map(|part| part.projection).sum();
    let may_absorb =
        |part: &&Part| !part.is_main && part.cosine >= LEAST_COSINE && part.projection > 0.0;
    let mut others: Vec<f64> =
        parts.iter().filter(may_absorb).map(|part| part.projection).collect();
    others.sort_by(|a, b| b.total_cmp(a));
    let absorbing: f64 = others.iter().take(MOST_ABSORBING).sum();
    let fraction =
        if main >= projection || projection <= 0.0 || absorbing < LEAST_SHARE * projection {
            0.0
        } else if main <= 0.0 {
            1.0
        } else {
            let taken = absorbing.min(projection - main);
            taken / (taken + main)
        };
    Absorbed { fraction, is_full: is_full(parts, projection) }
}

fn is_full(parts: &[Part], projection: f64) -> bool {
    if projection <= 0.0 || parts.iter().any(|part| part.is_main) {
        return false;
    }
    let first = parts.iter().max_by(|a, b| a.projection.total_cmp(&b.projection));
    first.is_some_and(|first| {
        first.cosine >= LEAST_COSINE_FULL && first.projection >= LEAST_SHARE * projection
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition over every choice of at most three others.
    fn by_choice(parts: &[Part], p: f64) -> f64 {
        let m: f64 =
            parts.iter().map(|part| if part.is_main { part.projection } else { 0.0 }).sum();
        let n = parts.len();
        let mut a: f64 = 0.0;
        for choice in 0_u32..1 << n {
            let chosen: Vec<&Part> =
                (0..n).filter(|i| choice >> i & 1 == 1).map(|i| &parts[i]).collect();
            let allowed = chosen.iter().all(|part| !part.is_main && part.cosine >= 0.1);
            if chosen.len() <= 3 && allowed {
                a = a.max(chosen.iter().map(|part| part.projection).sum());
            }
        }
        if m >= p || a / p < 0.4 {
            return 0.0;
        }
        if m <= 0.0 {
            return 1.0;
        }
        a.min(p - m) / (a.min(p - m) + m)
    }

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let part = (any::<bool>(), -1.0..2.0f64, -0.5..0.5f64);
        prop::collection::vec(part, 0..9).prop_map(|all| {
            let part = |(is_main, projection, cosine)| Part { is_main, projection, cosine };
            all.into_iter().map(part).collect()
        })
    }

    proptest! {
        #[test]
        fn it_is_that_of_the_best_choice_of_others(parts in parts(), p in 0.01..4.0f64) {
            let got = absorbed(&parts, p).fraction;
            let expected = by_choice(&parts, p);
            prop_assert!((got - expected).abs() < 1e-9, "{got} {expected}");
            prop_assert!((0.0..=1.0).contains(&got));
        }

        #[test]
        fn order_and_scale_change_nothing(parts in parts(), p in -1.0..4.0f64, power in -3..4i32) {
            let scale = 2f64.powi(power);
            let mut other: Vec<Part> = parts
                .iter()
                .map(|part| Part { projection: part.projection * scale, ..*part })
                .collect();
            let expected = absorbed(&other, p * scale);
            other.reverse();
            // Sums in another order round otherwise.
            let got = absorbed(&other, p * scale);
            prop_assert!((got.fraction - expected.fraction).abs() < 1e-9);
            prop_assert_eq!(got.is_full, expected.is_full);
            prop_assert_eq!(expected, absorbed(&parts, p));
        }
    }

    #[test]
    fn one_feature_absorbs_all_where_no_main_one_is_active() {
        let part = |is_main, projection, cosine| Part { is_main, projection, cosine };
        let full = |parts: &[Part], p| absorbed(parts, p).is_full;
        assert!(full(&[part(false, 0.5, 0.03), part(false, 0.1, 0.9)], 1.0));
        assert!(
            !full(&[part(false, 0.5, 0.02), part(false, 0.1, 0.9)], 1.0),
            "not of the direction"
        );
        assert!(!full(&[part(false, 0.39, 0.5)], 1.0), "too little");
        assert!(
            !full(&[part(false, 0.5, 0.5), part(true, 0.01, 0.9)], 1.0),
            "a main one is active"
        );
        assert!(!full(&[part(false, 0.5, 0.5)], -1.0) && !full(&[], 1.0));
        assert_eq!(absorbed(&[part(false, 0.9, 0.5)], 1.0).fraction, 1.0);
        assert_eq!(absorbed(&[part(true, 0.5, 0.9), part(false, 0.5, 0.5)], 1.0).fraction, 0.5);
    }
}
