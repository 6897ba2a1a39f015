//! Comparison of two dictionaries: known ones, definitions, what changes nothing.

use proptest::prelude::*;
use sae_config::{Fate, Fates};
use sae_eval::compare;
use tch::{Kind, Tensor};
use tch_autograd::test_device;

fn rows(values: &[f64], d: i64) -> Tensor {
    Tensor::from_slice(values).reshape([-1, d]).to_device(test_device())
}

fn all(decoder: &Tensor) -> Vec<usize> {
    (0..decoder.size()[0] as usize).collect()
}

fn of(a: &Tensor, b: &Tensor) -> sae_config::Comparison {
    compare([a, b], [&all(a), &all(b)]).unwrap()
}

/// The greatest mean cosine over all one-to-one matchings, by trying them all.
fn best_matching(cosines: &[Vec<f64>]) -> f64 {
    fn total(cosines: &[Vec<f64>], taken: &mut Vec<usize>) -> f64 {
        let Some(row) = cosines.get(taken.len()) else { return 0.0 };
        let mut best = f64::NEG_INFINITY;
        for (column, cosine) in row.iter().enumerate() {
            if !taken.contains(&column) {
                taken.push(column);
                best = best.max(cosine + total(cosines, taken));
                taken.pop();
            }
        }
        best
    }
    total(cosines, &mut vec![]) / cosines.len() as f64
}

#[test]
fn features_of_a_larger_dictionary_are_kept_split_changed_or_lost() {
    // In a plane each: kept, split in two at 50 degrees to both sides, turned by 60 degrees, gone.
    let narrow = rows(
        &[
            [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        ]
        .concat(),
        8,
    );
    let (cos, sin) = (50f64.to_radians().cos(), 50f64.to_radians().sin());
    let turned = (60f64.to_radians().cos(), 60f64.to_radians().sin());
    let wide = rows(
        &[
            [0.0, 0.0, cos, sin, 0.0, 0.0, 0.0, 0.0],
            [-3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, cos, -sin, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, turned.0, turned.1, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0],
        ]
        .concat(),
        8,
    );
    let fates = [Fate::Kept, Fate::Split, Fate::Changed, Fate::Lost];
    for (comparison, is_swapped) in [(of(&narrow, &wide), false), (of(&wide, &narrow), true)] {
        let got: Vec<Fate> = comparison.features.iter().map(|feature| feature.fate).collect();
        assert_eq!(got, fates);
        assert_eq!(comparison.fates, Fates { kept: 1, split: 1, changed: 1, lost: 1 });
        let nearest_of: Vec<usize> = comparison.features.iter().map(|f| f.nearest_of).collect();
        assert_eq!(nearest_of, [1, 2, 1, 0]);
        assert_eq!(comparison.features[0].nearest, 1);
        assert_eq!(comparison.features[2].pair, 3);
        let mean = (1.0 + cos + turned.0) / 4.0;
        assert!((comparison.scores.pw_mcc - mean).abs() < 1e-12);
        assert_eq!(comparison.scores.shared, 0.25);
        let mut max = [mean, (1.0 + 2.0 * cos + turned.0) / 5.0];
        let mut n = [4, 5];
        if is_swapped {
            max.reverse();
            n.reverse();
        }
        assert_eq!(comparison.n_features, n);
        for (got, expected) in comparison.scores.mean_max_cosine.iter().zip(max) {
            assert!((got - expected).abs() < 1e-12);
        }
    }
}

#[test]
fn features_that_are_not_kept_do_not_count() {
    let a = rows(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], 2);
    let b = rows(&[1.0, 1.0, 0.0, 5.0], 2);
    let comparison = compare([&a, &b], [&[1, 2], &[0, 1]]).unwrap();
    assert!((comparison.scores.pw_mcc - 1.0).abs() < 1e-12);
    let pairs: Vec<_> = comparison.features.iter().map(|f| (f.feature, f.pair)).collect();
    assert_eq!(pairs, [(1, 1), (2, 0)]);
    let error = compare([&a, &b], [&[0], &[]]).unwrap_err().to_string();
    assert_eq!(error, "active features of the second: expected at least one, got none");
    let other = rows(&[1.0, 0.0, 0.0], 3);
    let error = compare([&a, &other], [&[0], &[0]]).unwrap_err().to_string();
    assert!(error.starts_with("second decoder: expected shape [1, 2], got [1, 3]"), "{error}");
}

#[test]
fn random_directions_are_far_from_the_score_of_equal_ones() {
    tch::manual_seed(3);
    let a = Tensor::randn([40, 64], (Kind::Double, test_device()));
    let comparison = of(&a, &a);
    assert!((comparison.scores.pw_mcc - 1.0).abs() < 1e-12);
    assert_eq!(comparison.fates.kept, 40);
    let other = Tensor::randn([40, 64], (Kind::Double, test_device()));
    let random = of(&a, &other);
    // The floor is one draw of what these two are another of.
    assert!((random.scores.pw_mcc - random.floor.pw_mcc).abs() < 0.03, "{random:?}");
    assert!(comparison.floor.pw_mcc < 0.35);
}

#[test]
fn the_floor_is_no_decoder_that_a_model_starts_from() {
    for seed in 0..3 {
        let start = sae_models::InitRng::new(seed).directions(40, 64, 1.0).to_device(test_device());
        for comparison in [of(&start, &start), of(&start, &(&start * 2.0))] {
            assert!(comparison.floor.pw_mcc < 0.35, "seed {seed}: {comparison:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn scores_are_their_definitions_and_order_scale_and_sign_change_nothing(
        seed in 0u32..1_000_000,
        n in 1i64..5,
        more in 0i64..3,
        d in 1i64..6,
    ) {
        tch::manual_seed(i64::from(seed));
        let options = (Kind::Double, test_device());
        let (a, b) = (Tensor::randn([n, d], options), Tensor::randn([n + more, d], options));
        let got = of(&a, &b);
        let unit = |x: &Tensor| x / x.norm_scalaropt_dim(2.0, 1i64, true);
        let cosines = unit(&a).matmul(&unit(&b).tr()).abs();
        let table = Vec::<Vec<f64>>::try_from(cosines).unwrap();
        prop_assert!((got.scores.pw_mcc - best_matching(&table)).abs() < 1e-12);
        let max = |values: &[f64]| values.iter().fold(0.0, |a: f64, b| a.max(*b));
        let of_a = table.iter().map(|row| max(row)).sum::<f64>() / n as f64;
        prop_assert!((got.scores.mean_max_cosine[0] - of_a).abs() < 1e-12);

        let order = Tensor::randperm(n + more, (Kind::Int64, test_device()));
        let scale = Tensor::randn([n + more, 1], options) * 3.0 + 0.01;
        let changed = of(&a, &(b.index_select(0, &order) * scale));
        prop_assert!((changed.scores.pw_mcc - got.scores.pw_mcc).abs() < 1e-12);
        prop_assert_eq!(changed.fates, got.fates);
        let turned = of(&b, &a);
        prop_assert!((turned.scores.pw_mcc - got.scores.pw_mcc).abs() < 1e-12);
        if more > 0 {
            prop_assert_eq!(turned.fates, got.fates);
        }
    }
}
