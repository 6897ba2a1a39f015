//! The point with the least sum of distances to the rows of a batch.

use tch::{Kind, Tensor};
use tch_autograd::read;

/// Weiszfeld's iteration from the mean, at most 100 times, until the step is below 1e-5. Where an
/// iterate coincides with rows, the step of Vardi and Zhang (PNAS 2000) takes its place: there
/// plain Weiszfeld divides by zero.
///
/// # Shapes
/// rows `[batch, d_model]` with batch ≥ 1; returns `[d_model]`.
pub(crate) fn geometric_median(rows: &Tensor) -> Tensor {
    let _guard = tch::no_grad_guard();
    let mut guess = rows.mean_dim([0i64].as_slice(), false, None);
    for _ in 0..100 {
        let offsets = rows - &guess;
        let distances = offsets.norm_scalaropt_dim(2.0, [1i64].as_slice(), false);
        let coincides = distances.eq(0.0);
        let inverse = distances.reciprocal().masked_fill(&coincides, 0.0);
        let total = inverse.sum(rows.kind());
        if read::number(&total) == 0.0 {
            return guess;
        }
        let pull =
            inverse.unsqueeze(1).multiply(rows).sum_dim_intlist([0i64].as_slice(), false, None);
        let mut next = pull / &total;
        let n_coinciding = read::whole_number(&coincides.sum(Kind::Int64));
        if n_coinciding > 0 {
            let force = inverse.unsqueeze(1).multiply(&offsets);
            let force = force.sum_dim_intlist([0i64].as_slice(), false, None).norm();
            let stay = (n_coinciding as f64 / read::number(&force)).min(1.0);
            next = next * (1.0 - stay) + &guess * stay;
        }
        let moved = read::number(&(&next - &guess).norm());
        guess = next;
        if moved < 1e-5 {
            break;
        }
    }
    guess
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::geometric_median;

    fn close(rows: &[f64], width: i64, expected: &[f64]) {
        let median = geometric_median(&Tensor::from_slice(rows).reshape([-1, width]));
        let error = (&median - Tensor::from_slice(expected)).abs().max().double_value(&[]);
        assert!(error < 1e-4, "{median:?} is not {expected:?}");
    }

    #[test]
    fn of_a_square_is_its_centre_and_of_an_odd_line_its_middle() {
        close(&[0.0, 0.0, 2.0, 0.0, 0.0, 2.0, 2.0, 2.0], 2, &[1.0, 1.0]);
        close(&[-1.0, 0.0, 10.0, 0.0, 0.0, 0.0], 2, &[0.0, 0.0]);
    }

    #[test]
    fn of_coinciding_rows_is_that_row() {
        close(&[3.0, 4.0, 3.0, 4.0], 2, &[3.0, 4.0]);
        close(&[3.0, 4.0], 2, &[3.0, 4.0]);
        close(&[1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 0.5, 0.2, -1.0, 1.0], 1, &[1.0]);
    }

    #[test]
    fn leaves_a_row_that_it_starts_on_when_others_pull_harder() {
        // The mean of these is the row (0, 0); the median lies with the cluster.
        let rows = [0.0, 0.0, 1.0, 0.0, 1.0, 0.1, 1.0, -0.1, -3.0, 0.0];
        let median = geometric_median(&Tensor::from_slice(&rows).reshape([-1, 2]));
        assert!(median.double_value(&[0]) > 0.5, "{median:?}");
    }
}
