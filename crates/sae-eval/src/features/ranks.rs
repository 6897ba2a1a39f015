//! The activations of a feature by magnitude: histogram, fifths and samples of them.

use sae_config::Histogram;

/// Fifths of the activations.
pub(super) const N_QUANTILES: usize = 5;

/// Bins of a histogram.
const N_BINS: usize = 50;

/// Counts of values in bins of equal width, from the least value or 0 to the largest or 0; for values
/// that are not all 0.
pub(super) fn histogram(values: &[f32]) -> Histogram {
    let fold = |pick: fn(f32, f32) -> f32| values.iter().copied().fold(0.0, pick);
    let (from, to) = (fold(f32::min), fold(f32::max));
    if from >= to {
        return Histogram::default();
    }
    let (low, width) = (f64::from(from), (f64::from(to) - f64::from(from)) / N_BINS as f64);
    let mut counts = vec![0; N_BINS];
    for &value in values {
        let bin = ((f64::from(value) - low) / width) as usize;
        counts[bin.min(N_BINS - 1)] += 1;
    }
    Histogram { from, to, counts }
}

/// Where the values lie in the order of their magnitude, the largest first; of equal ones the first
/// comes first.
pub(super) fn by_magnitude(values: &[f32]) -> Vec<u32> {
    // The bits of magnitudes are in the order of the magnitudes.
    let key = |(at, value): (usize, &f32)| u64::from(!value.abs().to_bits()) << 32 | at as u64;
    let mut keys: Vec<u64> = values.iter().enumerate().map(key).collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| key as u32).collect()
}

/// Where fifth `number`, the smallest magnitudes first, lies in the order of [`by_magnitude`].
pub(super) fn quantile(n: usize, number: usize) -> std::ops::Range<usize> {
    let end = |number: usize| n - n * number / N_QUANTILES;
    end(number + 1)..end(number)
}

/// A uniform sample of at most `most` rows, the same for the same seed and feature.
pub(super) fn sample(
    rows: impl Iterator<Item = u32>,
    feature: u32,
    seed: u64,
    most: usize,
) -> Vec<u32> {
    let mut keys: Vec<(u64, u32)> = rows.map(|row| (hash(seed, feature, row), row)).collect();
    if keys.len() > most {
        keys.select_nth_unstable(most);
        keys.truncate(most);
    }
    keys.sort_unstable();
    keys.into_iter().map(|key| key.1).collect()
}

/// A hash of three numbers by the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
pub(super) fn hash(seed: u64, feature: u32, row: u32) -> u64 {
    mix(mix(seed) ^ (u64::from(feature) << 32 | u64::from(row)))
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![0.01f32..3.0, -1.0f32..-0.01, (1u8..4).prop_map(f32::from)];
        prop::collection::vec(value, 0..60)
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_a_stable_sort_by_magnitude(values in values()) {
            let mut expected: Vec<u32> = (0..values.len() as u32).collect();
            let magnitude = |at: &u32| values[*at as usize].abs();
            expected.sort_by(|a, b| magnitude(b).total_cmp(&magnitude(a)));
            prop_assert_eq!(by_magnitude(&values), expected);
        }

        #[test]
        fn quantiles_are_disjoint_whole_and_equal(n in 0usize..200) {
            let parts: Vec<_> = (0..N_QUANTILES).map(|number| quantile(n, number)).collect();
            prop_assert_eq!((parts[N_QUANTILES - 1].start, parts[0].end), (0, n));
            for pair in parts.windows(2) {
                prop_assert_eq!(pair[1].end, pair[0].start);
            }
            let (least, most) = (n / N_QUANTILES, n.div_ceil(N_QUANTILES));
            prop_assert!(parts.iter().all(|part| (least..=most).contains(&part.len())));
        }

        #[test]
        fn every_value_is_in_the_bin_of_its_size(values in values()) {
            let Histogram { from, to, counts } = histogram(&values);
            if values.is_empty() {
                prop_assert!(counts.is_empty());
                return Ok(());
            }
            prop_assert_eq!(counts.iter().sum::<u64>() as usize, values.len());
            let edge = |bin: usize| from + (to - from) * bin as f32 / counts.len() as f32;
            let slack = 1e-4 * (to - from);
            for (bin, count) in counts.iter().enumerate() {
                let n = |slack: f32| {
                    let (low, high) = (edge(bin) - slack, edge(bin + 1) + slack);
                    values.iter().filter(|value| (low..high).contains(value)).count() as u64
                };
                prop_assert!((n(-slack)..=n(slack)).contains(count), "bin {}", bin);
            }
        }

        #[test]
        fn a_sample_is_of_the_rows_and_does_not_repeat(
            rows in prop::collection::btree_set(0u32..100, 0..40), seed: u64, feature: u32,
        ) {
            let all = || rows.iter().copied();
            let mut got = sample(all(), feature, seed, 5);
            prop_assert_eq!(got.len(), rows.len().min(5));
            // Whatever order they come in.
            prop_assert_eq!(&got, &sample(all().rev(), feature, seed, 5));
            prop_assert!(got.iter().all(|row| rows.contains(row)));
            got.sort_unstable();
            got.dedup();
            prop_assert_eq!(got.len(), rows.len().min(5));
        }
    }

    #[test]
    fn every_row_is_as_likely_in_a_sample() {
        let mut counts = [0u32; 20];
        for feature in 0..4000 {
            for row in sample(0..20, feature, 7, 5) {
                counts[row as usize] += 1;
            }
        }
        // 1000 each, with a standard deviation of 27.
        assert!(counts.iter().all(|count| (880..1120).contains(count)), "{counts:?}");
    }
}
