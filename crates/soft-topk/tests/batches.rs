//! Batches: each row as if it were alone, on any number of threads, and in half precision.

use half::{bf16, f16};
use ndarray::{Array2, ArrayView2, Axis};
use proptest::prelude::*;
use soft_topk::{
    Entry, Gradients, hard_topk, log_soft_topk, soft_bottomk, soft_topk, soft_topk_sparse,
};

use crate::properties::problem;

/// The bits of everything that the crate computes for a batch, each output a list.
fn everything<E: Entry<Real = f32>>(x: ArrayView2<'_, E>, k: &[f32], alpha: f32) -> Vec<Vec<u32>> {
    let bits = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(f32::to_bits).collect();
    let v = Array2::from_shape_fn(x.dim(), |(row, i)| ((row * 7 + i * 13) % 17) as f32 - 8.0);
    let mut all: Vec<Vec<u32>> = Vec::new();
    let mut add = |output: &Array2<f32>, gradients: &Gradients<f32>| {
        all.push(bits(&mut output.iter().copied()));
        all.push(bits(&mut gradients.x.iter().copied()));
        all.push(bits(&mut gradients.k.iter().copied()));
        all.push(vec![gradients.alpha.to_bits()]);
    };
    let soft = soft_topk(x, k, alpha).unwrap();
    add(soft.weights(), &soft.backward(x, v.view()).unwrap());
    let bottom = soft_bottomk(x, k, alpha).unwrap();
    add(bottom.weights(), &bottom.backward(x, v.view()).unwrap());
    let log = log_soft_topk(x, k, alpha).unwrap();
    add(log.values(), &log.backward(x, v.view()).unwrap());
    let sparse = soft_topk_sparse(x, k, alpha).unwrap();
    let listed: Vec<f32> = sparse.indices().iter().map(|i| (i % 5) as f32 - 2.0).collect();
    let gradients = sparse.backward(&listed).unwrap();
    all.push(bits(&mut sparse.to_dense().iter().copied()));
    all.push(sparse.indices().to_vec());
    all.push(bits(&mut gradients.x.iter().copied()));
    all.push(bits(&mut gradients.k.iter().copied()));
    all.push(vec![gradients.alpha.to_bits()]);
    let whole: Vec<usize> = k.iter().map(|k| *k as usize).collect();
    all.push(hard_topk(x, &whole).unwrap().indices().to_vec());
    all
}

/// A batch whose rows differ in entries, scale and budget.
fn batch(x: &[f64], k: f64, rows: usize) -> (Array2<f32>, Vec<f32>) {
    let n = x.len();
    let entry = |(row, i): (usize, usize)| (x[(i + row) % n] * (row + 1) as f64) as f32;
    let k = (0..rows).map(|row| (k * (row + 1) as f64 / rows as f64) as f32).collect();
    (Array2::from_shape_fn((rows, n), entry), k)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_batch_is_its_rows((x, k, alpha) in problem(), rows in 2..40_usize) {
        let (x, k) = batch(&x, k, rows);
        let alpha = alpha as f32;
        let v = x.mapv(|x| x.sin());
        let soft = soft_topk(x.view(), &k, alpha).unwrap();
        let soft_grad = soft.backward(x.view(), v.view()).unwrap();
        let log = log_soft_topk(x.view(), &k, alpha).unwrap();
        let log_grad = log.backward(x.view(), v.view()).unwrap();
        let sparse = soft_topk_sparse(x.view(), &k, alpha).unwrap();
        let whole: Vec<usize> = k.iter().map(|k| *k as usize).collect();
        let hard = hard_topk(x.view(), &whole).unwrap();
        for row in 0..rows {
            let (k, whole) = (&k[row..=row], &whole[row..=row]);
            let [x, v] = [&x, &v].map(|m| m.index_axis(Axis(0), row).insert_axis(Axis(0)));
            let one = soft_topk(x, k, alpha).unwrap();
            let grad = one.backward(x, v).unwrap();
            prop_assert_eq!(one.weights().row(0), soft.weights().row(row));
            prop_assert_eq!(grad.x.row(0), soft_grad.x.row(row));
            prop_assert_eq!(grad.k[0], soft_grad.k[row]);
            let one = log_soft_topk(x, k, alpha).unwrap();
            let grad = one.backward(x, v).unwrap();
            prop_assert_eq!(one.values().row(0), log.values().row(row));
            prop_assert_eq!(grad.x.row(0), log_grad.x.row(row));
            prop_assert_eq!(grad.k[0], log_grad.k[row]);
            let one = soft_topk_sparse(x, k, alpha).unwrap();
            prop_assert_eq!(one.row(0), sparse.row(row));
            let one = hard_topk(x, whole).unwrap();
            prop_assert_eq!(one.row(0), hard.row(row));
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit((x, k, alpha) in problem(), rows in 2..40_usize) {
        let (x, k) = batch(&x, k, rows);
        let here = everything(x.view(), &k, alpha as f32);
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let there = pool.install(|| everything(x.view(), &k, alpha as f32));
            prop_assert_eq!(&there, &here, "{} threads", threads);
        }
    }

    #[test]
    fn half_precisions_are_their_rows_in_f32((x, k, alpha) in problem(), rows in 1..5_usize) {
        let (x, k) = batch(&x, k, rows);
        let alpha = alpha as f32;
        // What overflows in f16 is no input.
        let x = x.mapv(|x| x.clamp(-6e4, 6e4));
        let half = x.mapv(f16::from_f32);
        let wide = half.mapv(f32::from);
        prop_assert_eq!(everything(half.view(), &k, alpha), everything(wide.view(), &k, alpha));
        let half = x.mapv(bf16::from_f32);
        let wide = half.mapv(f32::from);
        prop_assert_eq!(everything(half.view(), &k, alpha), everything(wide.view(), &k, alpha));
    }
}
