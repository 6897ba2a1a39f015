//! Assignment of greatest total weight, by shortest augmenting paths.

/// For each row, the column assigned to it, such that the sum of `weights` is greatest.
///
/// Each column goes to at most one row, and each row has one. Paths and potentials after R. Jonker
/// and A. Volgenant, A shortest augmenting path algorithm for dense and sparse linear assignment
/// problems, Computing 38 (1987); n_rows²·n_columns operations.
///
/// # Shapes
/// weights `[n_rows, n_columns]`, finite, with n_rows at most n_columns.
pub(crate) fn assign(weights: &[f64], n_rows: usize, n_columns: usize) -> Vec<usize> {
    debug_assert!(n_rows <= n_columns && weights.len() == n_rows * n_columns);
    // An extra column, the last, stands for the row that is being assigned.
    let root = n_columns;
    let mut row_of: Vec<Option<usize>> = vec![None; n_columns + 1];
    let (mut of_rows, mut of_columns) = (vec![0.0; n_rows], vec![0.0; n_columns + 1]);
    for new in 0..n_rows {
        row_of[root] = Some(new);
        let mut distance = vec![f64::INFINITY; n_columns];
        let mut before = vec![root; n_columns];
        let mut is_done = vec![false; n_columns + 1];
        let mut column = root;
        while let Some(row) = row_of[column] {
            is_done[column] = true;
            let (mut nearest, mut step) = (root, f64::INFINITY);
            for other in (0..n_columns).filter(|&other| !is_done[other]) {
                let cost = -weights[row * n_columns + other] - of_rows[row] - of_columns[other];
                if cost < distance[other] {
                    (distance[other], before[other]) = (cost, column);
                }
                if distance[other] < step {
                    (nearest, step) = (other, distance[other]);
                }
            }
            for other in 0..=n_columns {
                if is_done[other] {
                    of_columns[other] -= step;
                    if let Some(row) = row_of[other] {
                        of_rows[row] += step;
                    }
                } else {
                    distance[other] -= step;
                }
            }
            column = nearest;
        }
        while column != root {
            row_of[column] = row_of[before[column]];
            column = before[column];
        }
    }
    let mut columns = vec![0; n_rows];
    for (column, row) in row_of[..n_columns].iter().enumerate() {
        if let Some(row) = row {
            columns[*row] = column;
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The greatest total, by trying all assignments.
    fn greatest(weights: &[f64], n_columns: usize, taken: &mut Vec<usize>) -> f64 {
        let row = taken.len();
        if row * n_columns == weights.len() {
            return 0.0;
        }
        let mut best = f64::NEG_INFINITY;
        for column in 0..n_columns {
            if !taken.contains(&column) {
                taken.push(column);
                let rest = greatest(weights, n_columns, taken);
                taken.pop();
                best = best.max(weights[row * n_columns + column] + rest);
            }
        }
        best
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_assignment_is_better(
            n_rows in 0..=5usize,
            more in 0..=2usize,
            values in prop::collection::vec(prop_oneof![-1.0..1.0f64, Just(0.5)], 35),
        ) {
            let n_columns = n_rows + more;
            let weights = &values[..n_rows * n_columns];
            let columns = assign(weights, n_rows, n_columns);
            let mut distinct = columns.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), n_rows);
            let total: f64 = (0..n_rows).map(|row| weights[row * n_columns + columns[row]]).sum();
            let best = greatest(weights, n_columns, &mut vec![]);
            prop_assert!((total - best).abs() < 1e-12, "{} is not {}", total, best);
        }
    }
}
