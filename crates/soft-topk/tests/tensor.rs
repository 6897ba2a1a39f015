//! The tensor functions: autograd, shapes and kinds, against golden numbers and the engine.
//!
//! `SOFTSAE_TEST_DEVICE` names the device that they are tested on (`cpu`).

use tch::{Device, Kind, Tensor};

use soft_topk::Error;
use soft_topk::tensor::{
    hard_topk, hard_topk_dim, hard_topk_mask, hard_topk_mask_dim, log_soft_topk_dim,
    soft_bottomk_dim, soft_topk, soft_topk_dim,
};
use tch_autograd::{GradcheckOptions, test_device as device};

use crate::golden::{assert_close, cases};

/// A tensor of numbers on the device under test.
fn on_device<T: tch::kind::Element>(numbers: &[T]) -> Tensor {
    Tensor::from_slice(numbers).to_device(device())
}

/// A number on the device under test.
fn number<T: tch::kind::Element>(number: T) -> Tensor {
    on_device(&[number]).squeeze()
}

/// A matrix as a tensor.
fn tensor(matrix: &ndarray::Array2<f64>) -> Tensor {
    let shape: Vec<i64> = matrix.shape().iter().map(|n| *n as i64).collect();
    on_device(matrix.as_slice().unwrap()).reshape(&shape)
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.flatten(0, -1).to_kind(Kind::Double).to_device(Device::Cpu))
        .unwrap()
}

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Double, device()))
}

/// Checks the derivatives of `f` on the device under test.
#[track_caller]
fn gradcheck(f: impl Fn(&[Tensor]) -> Result<Tensor, Error>, inputs: &[Tensor]) {
    // Central differences are taken between tensors of the CPU.
    let inputs: Vec<Tensor> = inputs
        .iter()
        .map(|x| x.detach().to_device(Device::Cpu).set_requires_grad(x.requires_grad()))
        .collect();
    let there_and_back = |inputs: &[Tensor]| {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_device(device())).collect();
        f(&inputs).map(|p| vec![p.to_device(Device::Cpu)])
    };
    tch_autograd::gradcheck(there_and_back, &inputs, GradcheckOptions::default()).unwrap();
}

#[test]
fn golden_weights_and_gradients_through_autograd() {
    for case in cases() {
        let x = tensor(&case.x).set_requires_grad(true);
        let k = on_device(&case.k).set_requires_grad(true);
        let alpha = number(case.alpha).set_requires_grad(true);
        let p = soft_topk(&x, &k, &alpha).unwrap();
        (&p * tensor(&case.v)).sum(Kind::Double).backward();
        let name = |what: &str| format!("{}.{what}", case.name);
        assert_close(&name("p"), numbers(&p), &case.p, 1e-10);
        assert_close(&name("grad_x"), numbers(&x.grad()), &case.grad_x, 1e-10);
        assert_close(&name("grad_k"), numbers(&k.grad()), &case.grad_k, 1e-10);
        assert_close(&name("grad_alpha"), numbers(&alpha.grad()), &[case.grad_alpha], 1e-10);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    tch::manual_seed(1);
    let x = random(&[3, 4, 5]).set_requires_grad(true);
    let k = (Tensor::rand([3, 5], (Kind::Double, device())) * 2 + 1).set_requires_grad(true);
    let alpha = number(0.7).set_requires_grad(true);
    let inputs = [x, k, alpha];
    gradcheck(|i| soft_topk_dim(&i[0], &i[1], &i[2], 1), &inputs);
}

#[test]
fn gradients_of_the_variants_agree_with_finite_differences() {
    tch::manual_seed(2);
    let x = random(&[3, 8]).set_requires_grad(true);
    let k = (Tensor::rand([3], (Kind::Double, device())) * 4 + 1).set_requires_grad(true);
    let alpha = number(0.6).set_requires_grad(true);
    let inputs = [x, k, alpha];
    gradcheck(|i| soft_bottomk_dim(&i[0], &i[1], &i[2], -1), &inputs);
    gradcheck(|i| log_soft_topk_dim(&i[0], &i[1], &i[2], -1), &inputs);
    let shared = number(2.5).set_requires_grad(true);
    let inputs = [inputs[0].shallow_clone(), shared, inputs[2].shallow_clone()];
    gradcheck(|i| soft_topk(&i[0], &i[1], &i[2]), &inputs);
    let k = on_device(&[1_i64, 3, 8]);
    gradcheck(|i| hard_topk(&i[0], &k), &inputs[..1]);
}

#[test]
fn any_dimension_of_any_rank_is_the_last_one_moved() {
    let x = random(&[3, 6, 2, 5]);
    let k = Tensor::rand([3, 2, 5], (Kind::Double, device())) * 4 + 0.5;
    let p = soft_topk_dim(&x, &k, 0.3, 1).unwrap();
    let moved = soft_topk(&x.movedim_int(1, -1), &k, 0.3).unwrap().movedim_int(-1, 1);
    assert_eq!(p.size(), x.size());
    assert_eq!(p, moved);
    let low = soft_bottomk_dim(&x, &k, 0.3, 1).unwrap();
    let rest = soft_topk_dim(&x, &(6.0 - &k), 0.3, 1).unwrap();
    assert!((low + rest - 1.0).abs().max().double_value(&[]) < 1e-12);
    let log = log_soft_topk_dim(&x, &k, 0.3, 1).unwrap();
    assert!((log.exp() - &p).abs().max().double_value(&[]) < 1e-12);
    let whole = k.floor().to_kind(Kind::Int64);
    let counts = hard_topk_mask_dim(&x, &whole, 1).unwrap();
    assert_eq!(counts.sum_dim_intlist(1, false, Kind::Int64), whole);
    let kept = hard_topk_dim(&x, &whole, 1).unwrap();
    assert_eq!(kept, hard_topk(&x.movedim_int(1, -1), &whole).unwrap().movedim_int(-1, 1));
    let vector = soft_topk(&random(&[9]), 2.5, 0.3).unwrap();
    assert_eq!(vector.size(), [9]);
    assert!((vector.sum(Kind::Double).double_value(&[]) - 2.5).abs() < 1e-12);
}

#[test]
fn budgets_may_keep_the_dimension_of_the_entries() {
    let x = random(&[3, 6, 2]);
    for dim in [-3_i64, -2, -1, 0, 1, 2] {
        let mut shape = vec![3, 6, 2];
        shape.remove(dim.rem_euclid(3) as usize);
        let k = Tensor::rand(&shape, (Kind::Double, device())) * 1.5 + 0.2;
        let k = k.set_requires_grad(true);
        let kept = k.detach().unsqueeze(dim).set_requires_grad(true);
        let (one, other) = [&k, &kept].map(|k| soft_topk_dim(&x, k, 0.3, dim).unwrap()).into();
        assert_eq!(one, other);
        (&one * &x).sum(Kind::Double).backward();
        (&other * &x).sum(Kind::Double).backward();
        assert_eq!(kept.grad(), k.grad().unsqueeze(dim));
        let whole = k.detach().ceil().to_kind(Kind::Int64);
        let mask = hard_topk_mask_dim(&x, &whole, dim).unwrap();
        assert_eq!(mask, hard_topk_mask_dim(&x, &whole.unsqueeze(dim), dim).unwrap());
    }
    let square = random(&[3, 3]);
    let error = soft_topk(&square, &Tensor::ones([1, 3], (Kind::Double, device())), 0.1);
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "shape of k: expected [3], [3, 1] or [], got [1, 3]");
}

#[test]
fn one_budget_for_all_gets_the_sum_of_the_gradients() {
    let x = random(&[4, 10]);
    let v = random(&[4, 10]);
    let one = number(3.0).set_requires_grad(true);
    let each = Tensor::full([4], 3.0, (Kind::Double, device())).set_requires_grad(true);
    for k in [&one, &each] {
        (soft_topk(&x, k, 0.5).unwrap() * &v).sum(Kind::Double).backward();
    }
    let sum = each.grad().sum(Kind::Double).double_value(&[]);
    assert!((one.grad().double_value(&[]) - sum).abs() < 1e-12);
}

#[test]
fn half_precision_is_computed_in_f32() {
    for kind in [Kind::BFloat16, Kind::Half] {
        let x = random(&[3, 700]).to_kind(kind).set_requires_grad(true);
        let p = soft_topk(&x, 7.5, 0.1).unwrap();
        let exact = soft_topk(&x.detach().to_kind(Kind::Float), 7.5, 0.1).unwrap();
        assert_eq!(p.kind(), kind);
        assert_eq!(p, exact.to_kind(kind));
        p.sum(Kind::Float).backward();
        assert_eq!(x.grad().kind(), kind);
    }
}

#[test]
fn hard_topk_passes_the_gradient_through_the_chosen() {
    let x = Tensor::from_slice2(&[[3.0, 1.0, 2.0, 2.0], [5.0, 6.0, 7.0, 8.0]]).to_device(device());
    let x = x.set_requires_grad(true);
    let k = on_device(&[2_i64, 1]);
    let kept = hard_topk(&x, &k).unwrap();
    assert_eq!(numbers(&kept), [3.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 8.0]);
    (kept * 3.0).sum(Kind::Double).backward();
    assert_eq!(numbers(&x.grad()), [3.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 3.0]);
    assert_eq!(hard_topk_mask(&x, &k).unwrap().kind(), Kind::Bool);
}

#[test]
fn empty_batches_are_empty() {
    let x = random(&[0, 5]).set_requires_grad(true);
    let p = soft_topk(&x, &Tensor::zeros([0], (Kind::Double, device())), 0.1).unwrap();
    assert_eq!(p.size(), [0, 5]);
    p.sum(Kind::Double).backward();
    assert_eq!(x.grad().size(), [0, 5]);
    assert_eq!(hard_topk(&x, &number(3_i64)).unwrap().size(), [0, 5]);
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let x = random(&[2, 5]);
    let refused = |result: Result<Tensor, Error>| result.unwrap_err().to_string();
    let whole = Tensor::ones([2, 5], (Kind::Int64, device()));
    assert_eq!(
        refused(soft_topk(&whole, 1.0, 0.1)),
        "kind of x: expected Float, Double, Half or BFloat16, got Int64"
    );
    assert_eq!(refused(soft_topk_dim(&x, 1.0, 0.1, 2)), "dim: expected -2 <= dim < 2, got 2");
    assert_eq!(
        refused(soft_topk(&number(1.0), 1.0, 0.1)),
        "shape of x: expected at least one dimension, got []"
    );
    assert_eq!(
        refused(soft_topk(&x, &on_device(&[1.0, 2.0, 3.0]), 0.1)),
        "shape of k: expected [2], [2, 1] or [], got [3]"
    );
    assert_eq!(
        refused(soft_topk(&x, 1.0, &on_device(&[0.1, 0.2]))),
        "shape of alpha: expected [], got [2]"
    );
    assert_eq!(
        refused(soft_topk(&x, &on_device(&[1.0, 5.0]), 0.1)),
        "k of row 1: expected 0 < k < 5, got 5"
    );
    assert_eq!(
        refused(hard_topk(&x, &on_device(&[1_i64, 6]))),
        "k of row 1: expected 0 <= k <= 5, got 6"
    );
    assert_eq!(
        refused(hard_topk(&x, &number(1.0))),
        "kind of k: expected whole numbers, got Double"
    );
    let nan = x.shallow_clone();
    let _ = nan.get(1).get(3).fill_(f64::NAN);
    assert_eq!(
        refused(soft_topk(&nan, 1.0, 0.1)),
        "x of row 1, entry 3: expected a finite number, got NaN"
    );
}
