//! How one number follows another: rank correlation and slope.

/// Spearman's rank correlation: Pearson's of the ranks, equal values sharing their mean rank.
///
/// None where one of the two does not vary.
pub(crate) fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    let (x, y) = (ranks(x), ranks(y));
    let (xx, yy, xy) = (covariance(&x, &x), covariance(&y, &y), covariance(&x, &y));
    (xx > 0.0 && yy > 0.0).then(|| (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0))
}

/// Slope of y on x by least squares; none where x does not vary.
pub(crate) fn slope(x: &[f64], y: &[f64]) -> Option<f64> {
    let xx = covariance(x, x);
    (xx > 0.0).then(|| covariance(x, y) / xx)
}

/// Ranks from 0, equal values sharing their mean rank.
pub(crate) fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean = before as f64 + (equal.len() as f64 - 1.0) / 2.0;
        for &i in equal {
            ranks[i] = mean;
        }
        before += equal.len();
    }
    ranks
}

fn covariance(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_their_mean_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [3.0, 0.0, 3.0, 1.0, 3.0]);
    }

    #[test]
    fn rank_correlation_sees_order_and_slope_sees_size() {
        let x = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(spearman(&x, &[1.0, 10.0, 11.0, 500.0]), Some(1.0));
        assert_eq!(spearman(&x, &[3.0, 2.0, 1.0, 0.0]), Some(-1.0));
        assert_eq!(slope(&x, &[3.0, 5.0, 7.0, 9.0]), Some(2.0));
        // Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: covariances 4.5 of 4.5 and 5.
        let tied = spearman(&[1.0, 2.0, 2.0, 3.0], &x).unwrap();
        assert!((tied - 4.5 / (4.5f64 * 5.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn what_does_not_vary_correlates_with_nothing() {
        let (x, same) = ([1.0, 2.0], [5.0, 5.0]);
        assert_eq!((spearman(&x, &same), spearman(&same, &x)), (None, None));
        assert_eq!((slope(&x, &same), slope(&same, &x)), (Some(0.0), None));
        assert_eq!((spearman(&[], &[]), slope(&[], &[])), (None, None));
    }
}
