//! The tensor functions on the device under test against the engine of the CPU, on rows of all
//! kinds. On a GPU they are other code: ATen operations.

use ndarray::Array2;
use proptest::prelude::*;
use soft_topk::tensor::{hard_topk_mask, log_soft_topk_dim, soft_bottomk_dim, soft_topk};
use soft_topk::{Gradients, log_soft_topk, soft_bottomk};
use tch::{Device, Kind, Tensor};
use tch_autograd::test_device;

use crate::oracle;
use crate::properties::{matrix, problem, single, worst};

fn tensor<T: tch::kind::Element>(numbers: &[T]) -> Tensor {
    Tensor::from_slice(numbers).to_device(test_device())
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double);
    Vec::try_from(tensor.flatten(0, -1)).unwrap()
}

/// Incoming gradients that differ from entry to entry.
fn incoming(n: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 7) % 17) as f64 / 4.0 - 2.0).collect()
}

/// The worst |a − b|/(1 + |b|); infinities and zeros that are the same are no distance apart.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let off = |(a, b): (&f64, &f64)| if a == b { 0.0 } else { (a - b).abs() / (1.0 + b.abs()) };
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(off).fold(0.0, |worst, off| if off <= worst { worst } else { off })
}

/// Output and gradients of a function of x, k and alpha.
fn differentiated(
    f: impl Fn(&Tensor, &Tensor, &Tensor) -> soft_topk::Result<Tensor>,
    (x, k, alpha): (&[f64], f64, f64),
) -> [Vec<f64>; 4] {
    let x = tensor(x).unsqueeze(0).set_requires_grad(true);
    let k = tensor(&[k]).set_requires_grad(true);
    let alpha = tensor(&[alpha]).squeeze().set_requires_grad(true);
    let p = f(&x, &k, &alpha).unwrap();
    (&p * tensor(&incoming(x.numel())).unsqueeze(0)).sum(Kind::Double).backward();
    [&p, &x.grad(), &k.grad(), &alpha.grad()].map(numbers)
}

/// The same numbers from the engine.
fn of_engine(output: &Array2<f64>, gradients: &Gradients<f64>) -> [Vec<f64>; 4] {
    let flat = |a: &Array2<f64>| a.iter().copied().collect();
    [flat(output), flat(&gradients.x), gradients.k.to_vec(), vec![gradients.alpha]]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn weights_and_gradients_are_those_of_the_engine((x, k, alpha) in problem()) {
        let (rows, v) = (matrix(&x), incoming(x.len()));
        let at = (x.as_slice(), k, alpha);
        let top = soft_topk::soft_topk(rows, &[k], alpha).unwrap();
        let bottom = soft_bottomk(rows, &[k], alpha).unwrap();
        let (of_top, of_bottom) =
            (top.backward(rows, matrix(&v)).unwrap(), bottom.backward(rows, matrix(&v)).unwrap());
        for (what, got, want) in [
            ("top", differentiated(|x, k, a| soft_topk(x, k, a), at),
                of_engine(top.weights(), &of_top)),
            ("bottom", differentiated(|x, k, a| soft_bottomk_dim(x, k, a, -1), at),
                of_engine(bottom.weights(), &of_bottom)),
        ] {
            for (place, (got, want)) in got.iter().zip(&want).enumerate() {
                let off = distance(got, want);
                prop_assert!(off < 1e-8, "{what}, output {place}: off by {off:e}");
            }
        }
    }

    #[test]
    fn logarithms_are_those_of_the_engine((x, k, alpha) in problem()) {
        let got = log_soft_topk_dim(&tensor(&x).unsqueeze(0), k, alpha, -1).unwrap();
        let want = log_soft_topk(matrix(&x), &[k], alpha).unwrap();
        let want: Vec<f64> = want.values().iter().copied().collect();
        let off = distance(&numbers(&got), &want);
        prop_assert!(off < 1e-8, "off by {off:e}");
    }

    #[test]
    fn weights_in_f32_are_those_of_bisection((x, k, alpha) in problem()) {
        let x = single(&x);
        let (k, alpha) = ((k as f32).min(x.len() as f32 * 0.999), alpha as f32);
        let p = soft_topk(&tensor(&x).unsqueeze(0), f64::from(k), f64::from(alpha)).unwrap();
        prop_assert_eq!(p.kind(), Kind::Float);
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let off = worst(&numbers(&p), &oracle::weights(&wide, k.into(), alpha.into()));
        prop_assert!(off < 2e-5, "off by {off:e}");
    }

    #[test]
    fn hard_choices_are_those_of_the_engine((x, k, _) in problem()) {
        let k = k.round() as usize;
        let mask = hard_topk_mask(&tensor(&x).unsqueeze(0), &tensor(&[k as i64])).unwrap();
        let chosen = soft_topk::hard_topk(matrix(&x), &[k]).unwrap();
        let mut want = vec![0.0; x.len()];
        chosen.row(0).iter().for_each(|i| want[*i as usize] = 1.0);
        prop_assert_eq!(numbers(&mask), want, "equal entries: the first of them");
    }
}
