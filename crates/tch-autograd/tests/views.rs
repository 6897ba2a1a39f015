//! Slices of tensors: what they show, and what is refused.

use half::{bf16, f16};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use tch_autograd::{Element, Error, view, view_mut};

#[test]
fn every_element_type_reads_and_writes() {
    fn check<T: Element + PartialEq + std::fmt::Debug>(one: T, two: T) {
        let mut tensor = Tensor::from_slice(&[1i64, 1, 2]).to_kind(T::KIND).reshape([3, 1]);
        tensor = tensor.copy();
        assert_eq!(view::<T>(&tensor).unwrap(), [one, one, two]);
        view_mut::<T>(&mut tensor).unwrap()[1] = two;
        assert_eq!(
            Vec::<i64>::try_from(tensor.to_kind(Kind::Int64).flatten(0, -1)).unwrap(),
            [1, 2, 2]
        );
    }
    check::<f32>(1.0, 2.0);
    check::<f64>(1.0, 2.0);
    check::<f16>(f16::from_f32(1.0), f16::from_f32(2.0));
    check::<bf16>(bf16::from_f32(1.0), bf16::from_f32(2.0));
    check::<i64>(1, 2);
    check::<i32>(1, 2);
    check::<i16>(1, 2);
    check::<i8>(1, 2);
    check::<u8>(1, 2);
}

#[test]
fn views_are_in_place() {
    let tensor = Tensor::arange(6, (Kind::Float, Device::Cpu)).reshape([2, 3]);
    let row = tensor.get(1);
    assert_eq!(view::<f32>(&row).unwrap(), [3.0, 4.0, 5.0]);
    assert_eq!(view::<f32>(&row).unwrap().as_ptr().cast(), row.data_ptr().cast_const());
}

#[test]
fn empty_and_scalar_tensors_have_views() {
    let mut empty = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
    assert!(view::<f32>(&empty).unwrap().is_empty());
    assert!(view_mut::<f32>(&mut empty).unwrap().is_empty());
    assert_eq!(view::<f64>(&Tensor::from(2.5)).unwrap(), [2.5]);
}

#[test]
fn another_kind_is_refused() {
    let error = view::<f32>(&Tensor::from_slice(&[1.0f64])).unwrap_err();
    assert_eq!(error.to_string(), "a view needs a tensor of kind Float, got Double");
    assert!(view::<i32>(&Tensor::from_slice(&[1.0f32])).is_err());
    assert!(view::<u8>(&Tensor::from_slice(&[true])).is_err());
}

#[test]
fn strided_tensors_are_refused() {
    let tensor = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).tr();
    let error = view::<f32>(&tensor).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a view needs a contiguous tensor, got shape [3, 2] with strides [1, 3]"
    );
}

#[test]
fn tensors_that_are_not_plain_memory_are_refused() {
    let dense = Tensor::eye(3, (Kind::Float, Device::Cpu));
    let lazily_negated = dense.internal_neg_view();
    let lazily_zero = Tensor::internal_efficientzerotensor([3], (Kind::Float, Device::Cpu));
    for tensor in [Tensor::new(), dense.to_sparse_sparse_dim(2), lazily_negated, lazily_zero] {
        assert!(matches!(view::<f32>(&tensor), Err(Error::NotPlain)));
    }
}

#[test]
fn a_mutable_view_wants_the_only_handle() {
    let mut tensor = Tensor::zeros([4], (Kind::Float, Device::Cpu));
    let ways: [fn(&Tensor) -> Tensor; 4] =
        [Tensor::shallow_clone, |t| t.view([2, 2]), Tensor::detach, |t| t.get(0)];
    for way in ways {
        let other = way(&tensor);
        assert!(matches!(view_mut::<f32>(&mut tensor), Err(Error::Shared)));
        drop(other);
        assert!(view_mut::<f32>(&mut tensor).is_ok());
    }
    let mut base = Tensor::zeros([4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let saved_by_graph = &base * &base;
    assert!(matches!(view_mut::<f32>(&mut base), Err(Error::Shared)));
    drop(saved_by_graph);
    assert!(view_mut::<f32>(&mut base).is_ok());
}

proptest! {
    #[test]
    fn a_view_is_the_tensor_in_c_order(
        shape in prop::collection::vec(1..5i64, 1..4),
        scale in -10.0..10.0f64,
    ) {
        let n: i64 = shape.iter().product();
        let tensor = (Tensor::arange(n, (Kind::Double, Device::Cpu)) * scale).reshape(&shape);
        let expected: Vec<f64> = (0..n).map(|i| i as f64 * scale).collect();
        prop_assert_eq!(view::<f64>(&tensor).unwrap(), expected);
    }
}
