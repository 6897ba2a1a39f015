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
        assert_eq!(*view::<T>(&tensor).unwrap(), [one, one, two]);
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
    assert_eq!(*view::<f32>(&row).unwrap(), [3.0, 4.0, 5.0]);
    let place = row.data_ptr().cast_const();
    assert_eq!(view::<f32>(&row).unwrap().as_ptr().cast(), place);
}

#[test]
fn empty_and_scalar_tensors_have_views() {
    let mut empty = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
    assert!(view::<f32>(&empty).unwrap().is_empty());
    assert!(view_mut::<f32>(&mut empty).unwrap().is_empty());
    assert_eq!(*view::<f64>(&Tensor::from(2.5)).unwrap(), [2.5]);
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
    let base = Tensor::arange(24, (Kind::Float, Device::Cpu)).reshape([2, 3, 4]);
    let ways: [fn(&Tensor) -> Tensor; 7] = [
        |t| t.transpose(0, 1),
        |t| t.permute([2, 0, 1]),
        |t| t.narrow(1, 0, 2),
        |t| t.select(2, 1),
        |t| t.slice(2, 0, 4, 2),
        |t| t.get(0).get(0).unsqueeze(0).expand([3, 4], false),
        |t| t.as_strided([3, 3], [1, 1], 0),
    ];
    for (i, way) in ways.into_iter().enumerate() {
        let mut tensor = way(&base);
        assert!(matches!(view::<f32>(&tensor), Err(Error::NotContiguous { .. })), "{i}");
        assert!(matches!(view_mut::<f32>(&mut tensor), Err(Error::NotContiguous { .. })), "{i}");
        let expected: Vec<f32> = (&tensor + 0.0).contiguous().view(-1).try_into().unwrap();
        assert_eq!(*view::<f32>(&tensor.contiguous()).unwrap(), expected, "{i}");
    }
    let tensor = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).tr();
    let error = view::<f32>(&tensor).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a view needs a contiguous tensor, got shape [3, 2] with strides [1, 3]"
    );
}

#[test]
fn parts_in_one_piece_have_views() {
    let base = Tensor::arange(24, (Kind::Float, Device::Cpu)).reshape([4, 6]);
    type Part = fn(&Tensor) -> Tensor;
    let ways: [(Part, std::ops::Range<u8>); 6] = [
        (|t| t.narrow(0, 1, 2), 6..18),
        (|t| t.get(3), 18..24),
        (|t| t.get(2).narrow(0, 1, 3), 13..16),
        // Strides along dimensions of one element say nothing.
        (|t| t.narrow(0, 1, 1).tr(), 6..12),
        (|t| t.as_strided([1, 3], [1000, 1], 2), 2..5),
        (|t| t.get(1).get(5).expand([1, 1], false), 11..12),
    ];
    for (way, range) in ways {
        let expected: Vec<f32> = range.map(f32::from).collect();
        assert_eq!(*view::<f32>(&way(&base)).unwrap(), expected);
    }
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

const N: i64 = 1 << 20;

fn numbers() -> Tensor {
    Tensor::arange(N, (Kind::Float, Device::Cpu))
}

/// Each way in which safe code writes to a tensor, or takes its memory away, by another handle.
type Change = fn(&mut Tensor, &mut Tensor);
const CHANGES: [(&str, Change); 7] = [
    ("fill_", |_, u| drop(u.fill_(-1.0))),
    ("smaller", |_, u| drop(u.resize_([1]).fill_(-1.0))),
    ("set_data", |_, u| u.set_data(&Tensor::zeros([N], (Kind::Float, Device::Cpu)))),
    ("set_", |_, u| drop(u.set_())),
    ("a part", |t, _| drop(t.narrow(0, 5, 100).fill_(-1.0))),
    ("copy_", |t, _| t.copy_(&Tensor::zeros([N], (Kind::Float, Device::Cpu)))),
    ("an optimiser's step", |t, u| {
        *t = t.set_requires_grad(true);
        (&*t * 2.0).sum(Kind::Float).backward();
        tch::no_grad(|| drop(u.g_sub_(&t.grad())));
    }),
];

#[test]
fn a_view_shows_on_what_it_showed() {
    for (name, change) in CHANGES {
        let mut tensor = numbers();
        let mut other = tensor.shallow_clone();
        let seen = view::<f32>(&tensor).unwrap();
        change(&mut tensor, &mut other);
        // What is freed here is overwritten by what is allocated next.
        let next: Vec<Tensor> = (0..8).map(|_| numbers().fill_(-2.0)).collect();
        assert!(seen.iter().zip(0..N).all(|(x, i)| *x == i as f32), "{name}");
        drop((next, tensor, other));
        assert!(seen.iter().zip(0..N).all(|(x, i)| *x == i as f32), "{name}");
    }
}

#[test]
fn tensors_are_of_use_after_a_view() {
    for (name, change) in CHANGES {
        let (mut plain, mut seen) = (numbers(), numbers());
        let mut others = [plain.shallow_clone(), seen.shallow_clone()];
        change(&mut plain, &mut others[0]);
        let shown = view::<f32>(&seen).unwrap();
        change(&mut seen, &mut others[1]);
        drop(shown);
        for (got, expected) in [(&seen, &plain), (&others[1], &others[0])] {
            let sum = |t: &Tensor| t.detach().sum(Kind::Double).double_value(&[]);
            assert_eq!((got.size(), sum(got)), (expected.size(), sum(expected)), "{name}");
        }
        for (t, u) in [(&seen, &others[1]), (&others[1], &seen)] {
            drop(t.detach().fill_(3.0));
            assert_eq!(t.sum(Kind::Double).double_value(&[]), 3.0 * t.numel() as f64, "{name}");
            drop(u.detach().resize_([2 * N]).fill_(4.0));
        }
    }
}

#[test]
fn a_tensor_may_grow_under_a_view() {
    let tensor = numbers();
    let mut other = tensor.shallow_clone();
    let views = [view::<f32>(&tensor).unwrap(), view::<f32>(&other).unwrap()];
    let _ = other.resize_([16 * N]);
    for seen in views {
        // Some versions of libtorch refuse this until the last view is dropped.
        let _ = other.f_zero_();
        assert_eq!(seen[12_345], 12_345.0);
        assert_eq!(seen.len() as i64, N);
    }
    let _ = other.fill_(1.0);
    assert_eq!(*view::<f32>(&tensor).unwrap(), vec![1.0; 16 << 20]);
}

#[test]
fn views_leave_the_memory_where_it_is() {
    let mut tensor = numbers();
    let place = tensor.data_ptr();
    let views: Vec<_> = (0..3).map(|_| view::<f32>(&tensor).unwrap()).collect();
    assert!(views.iter().all(|view| view.as_ptr().cast() == place.cast_const()));
    drop(views);
    assert_eq!(view_mut::<f32>(&mut tensor).unwrap().as_mut_ptr().cast(), place);
    assert_eq!(tensor.data_ptr(), place);
}

#[test]
fn views_are_made_and_dropped_on_any_thread() {
    let tensor = numbers();
    let handles: Vec<Tensor> = (0..8).map(|_| tensor.shallow_clone()).collect();
    std::thread::scope(|scope| {
        for handle in handles {
            scope.spawn(move || {
                for _ in 0..1000 {
                    assert_eq!(view::<f32>(&handle).unwrap()[77], 77.0);
                }
            });
        }
    });
    assert_eq!(tensor.sum(Kind::Double).double_value(&[]), (N * (N - 1) / 2) as f64);
}

#[test]
fn a_mapped_file_is_read_but_not_lent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("numbers");
    std::fs::write(&path, [7_u8; 64]).unwrap();
    let map = || Tensor::from_file(path.to_str().unwrap(), true, 64, (Kind::Uint8, Device::Cpu));
    let (mut one, mut other) = (map(), map());
    let seen = view::<u8>(&one).unwrap();
    assert!(matches!(view_mut::<u8>(&mut one), Err(Error::Shared)));
    drop(other.fill_(9));
    assert_eq!(*seen, [7; 64]);
    assert_eq!(*view::<u8>(&one).unwrap(), [9; 64]);
}

#[test]
fn a_change_by_a_mutable_view_is_seen_by_autograd() {
    let mut tensor = numbers();
    let versions = |t: &Tensor| t.internal_version();
    let before = versions(&tensor);
    view_mut::<f32>(&mut tensor).unwrap()[0] = 1.0;
    assert!(versions(&tensor) > before);
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
        prop_assert_eq!(&*view::<f64>(&tensor).unwrap(), &expected);
    }
}
