//! Groups of a dictionary whose prefixes are dictionaries too.

/// Sizes of the groups: ⌊fraction·F⌋ each, the last takes the rest.
///
/// A fraction that is within 1e-9 of a whole number of features counts as that number.
pub(crate) fn group_sizes(fractions: &[f64], n_features: usize) -> Vec<usize> {
    let floor = |fraction: &f64| (fraction * n_features as f64 + 1e-9).floor() as usize;
    let mut sizes: Vec<usize> = fractions.iter().map(floor).collect();
    if sizes.pop().is_some() {
        let taken: usize = sizes.iter().sum();
        sizes.push(n_features.saturating_sub(taken));
    }
    sizes
}

/// Where each prefix of the dictionary ends, and the weight of its reconstruction.
pub(crate) fn prefixes(
    fractions: &[f64],
    weights: Option<&[f64]>,
    n_features: usize,
) -> Vec<(usize, f64)> {
    let equal = equal_weights(fractions);
    let mut end = 0;
    let with_weight = |(size, weight): (usize, &f64)| {
        end += size;
        (end, *weight)
    };
    let weights = weights.unwrap_or(&equal);
    group_sizes(fractions, n_features).into_iter().zip(weights).map(with_weight).collect()
}

/// 1/G for each of G groups.
pub(crate) fn equal_weights(fractions: &[f64]) -> Vec<f64> {
    vec![1.0 / fractions.len() as f64; fractions.len()]
}

#[cfg(test)]
mod tests {
    use super::{group_sizes, prefixes};

    #[test]
    fn prefixes_end_where_their_groups_do() {
        assert_eq!(prefixes(&[0.25, 0.75], None, 8), [(2, 0.5), (8, 0.5)]);
        assert_eq!(prefixes(&[0.25, 0.75], Some(&[0.9, 0.2]), 8), [(2, 0.9), (8, 0.2)]);
        assert_eq!(prefixes(&[1.0], None, 8), [(8, 1.0)]);
    }

    #[test]
    fn the_last_group_takes_the_rest() {
        assert_eq!(group_sizes(&[0.125, 0.25, 0.625], 64), [8, 16, 40]);
        assert_eq!(group_sizes(&[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0], 64), [21, 21, 22]);
        assert_eq!(group_sizes(&[1.0], 7), [7]);
    }
}
