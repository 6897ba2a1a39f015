//! Layers in f32 on the CPU: each is one pass over rows that stay in cache, on the threads of the
//! dense products.
//!
//! Each function computes what its layer's operations of libtorch do, and is `None` where the tensor
//! is another device's or kind's, or lies in memory that it may not use; the layer then takes
//! libtorch. Results do not depend on the number of threads.

mod attention;
mod normal;
mod rows;

use pulp::Arch;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};
use tch_autograd::{matmul_into, view, view_mut};

pub(super) use attention::attention;

use self::normal::normal;
use self::rows::{ELEMENTS_PER_TASK, each_row, exp, sum};

/// x·Wᵀ + b into a tensor of its own.
///
/// # Shapes
/// x `[…, inputs]`, W `[outputs, inputs]`, b `[outputs]`; returns `[…, outputs]`.
pub(super) fn affine(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Option<Tensor> {
    if !is_ours(x) {
        return None;
    }
    let mut shape = x.size();
    let inputs = shape.pop()?;
    let rows = x.reshape([-1, inputs]);
    let outputs = weight.size()[0];
    shape.push(outputs);
    let mut out = Tensor::empty(&shape, (Kind::Float, Device::Cpu));
    if let Some(bias) = bias {
        let bias = view::<f32>(bias).ok()?;
        each_row(view_mut(&mut out).ok()?, bias.len(), |_, row| row.copy_from_slice(&bias));
    }
    // A view holds the tensor that it is of, which could not be changed in place then.
    matmul_into(&rows, &weight.tr(), &mut out.view([-1, outputs]), bias.is_some()).ok()?;
    Some(out)
}

/// x + y, in the memory of y where nothing else reads it.
pub(super) fn add(x: &Tensor, y: &mut Tensor) -> Option<()> {
    if x.size() != y.size() {
        return None;
    }
    let x = view::<f32>(x).ok()?;
    let y = view_mut::<f32>(y).ok()?;
    let tasks = y.par_chunks_mut(ELEMENTS_PER_TASK).zip(x.par_chunks(ELEMENTS_PER_TASK));
    tasks
        .for_each(|(y, x)| Arch::new().dispatch(|| y.iter_mut().zip(x).for_each(|(y, x)| *y += x)));
    Some(())
}

/// w·x / √(mean(x²) + ε) of each row.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Option<Tensor> {
    let (rows, weight) = (view::<f32>(x).ok()?, view::<f32>(weight).ok()?);
    let size = weight.len();
    let mut out = x.empty_like();
    each_row(view_mut(&mut out).ok()?, size, |i, out| {
        let row = &rows[i * size..][..size];
        let mean = sum(row, |x| x * x) / size as f32;
        let scale = (mean + eps as f32).sqrt().recip();
        for ((out, x), w) in out.iter_mut().zip(row).zip(&*weight) {
            *out = x * scale * w;
        }
    });
    Some(out)
}

/// w·(x − mean) / √(variance + ε) + b of each row.
pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Option<Tensor> {
    let (rows, weight) = (view::<f32>(x).ok()?, view::<f32>(weight).ok()?);
    let bias = view::<f32>(bias).ok()?;
    let size = weight.len();
    let mut out = x.empty_like();
    each_row(view_mut(&mut out).ok()?, size, |i, out| {
        let row = &rows[i * size..][..size];
        let mean = sum(row, |x| x) / size as f32;
        let variance = sum(row, |x| (x - mean) * (x - mean)) / size as f32;
        let scale = (variance + eps as f32).sqrt().recip();
        for (((out, x), w), b) in out.iter_mut().zip(row).zip(&*weight).zip(&*bias) {
            *out = (x - mean) * scale * w + b;
        }
    });
    Some(out)
}

/// Turns pairs of elements of the first heads of each position, in place.
///
/// # Shapes
/// Heads `[batch, positions, heads · head_dim]`; turns (cosine, sine) `[positions, 1, size/2, 2]`.
pub(super) fn turn(
    heads: &mut Tensor,
    head_dim: usize,
    n_turning: usize,
    turns: &Tensor,
) -> Option<()> {
    let &[_, positions, width] = heads.size().as_slice() else { return None };
    let [positions, width] = [positions, width].map(|n| n.unsigned_abs() as usize);
    let turns = view::<f32>(turns).ok()?;
    let size = turns.len() / positions.max(1);
    each_row(view_mut(heads).ok()?, width, |i, row| {
        let (turns, _) = turns[i % positions * size..][..size].as_chunks::<2>();
        for head in row.chunks_exact_mut(head_dim).take(n_turning) {
            let (pairs, _) = head[..size].as_chunks_mut::<2>();
            for ([x, y], [cos, sin]) in pairs.iter_mut().zip(turns) {
                (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
            }
        }
    });
    Some(())
}

/// x·σ(s(x)) of each element, in place, with s as `argument` gives it.
pub(super) fn sigmoid_unit(x: &mut Tensor, argument: impl Fn(f32) -> f32 + Sync) -> Option<()> {
    let x = view_mut::<f32>(x).ok()?;
    x.par_chunks_mut(ELEMENTS_PER_TASK).for_each(|x| {
        Arch::new().dispatch(|| x.iter_mut().for_each(|x| *x /= 1.0 + exp(-argument(*x))));
    });
    Some(())
}

/// x·Φ(x) of each element, in place.
pub(super) fn normal_unit(x: &mut Tensor) -> Option<()> {
    let x = view_mut::<f32>(x).ok()?;
    x.par_chunks_mut(ELEMENTS_PER_TASK).for_each(|x| {
        Arch::new().dispatch(|| x.iter_mut().for_each(|x| *x *= normal(*x)));
    });
    Some(())
}

/// Each row times w, element by element, in place.
pub(super) fn scale_rows(rows: &mut Tensor, weight: &Tensor) -> Option<()> {
    if rows.size().last() != Some(&(weight.numel() as i64)) {
        return None;
    }
    let weight = view::<f32>(weight).ok()?;
    let rows = view_mut::<f32>(rows).ok()?;
    each_row(rows, weight.len(), |_, row| {
        row.iter_mut().zip(&*weight).for_each(|(x, w)| *x *= w);
    });
    Some(())
}

/// The first half of each row becomes g·σ(s(g))·u, where g is that half and u the other.
pub(super) fn gated_unit(rows: &mut Tensor, argument: impl Fn(f32) -> f32 + Sync) -> Option<()> {
    let size = *rows.size().last()?;
    let rows = view_mut::<f32>(rows).ok()?;
    each_row(rows, size.unsigned_abs() as usize, |_, row| gate_row(row, &argument));
    Some(())
}

#[inline(always)]
fn gate_row(row: &mut [f32], argument: &impl Fn(f32) -> f32) {
    let (gate, up) = row.split_at_mut(row.len() / 2);
    for (gate, up) in gate.iter_mut().zip(&*up) {
        *gate = *gate / (1.0 + exp(-argument(*gate))) * up;
    }
}

/// Whether a tensor is computed with here.
pub(super) fn is_ours(x: &Tensor) -> bool {
    x.device() == Device::Cpu && x.kind() == Kind::Float
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Noise of a spread that grows from column to column, so that no two columns are alike.
    fn noise(shape: &[i64]) -> Tensor {
        let columns = *shape.last().unwrap();
        let spread = Tensor::arange(columns, (Kind::Float, Device::Cpu)) / columns as f64 + 0.5;
        Tensor::randn(shape, (Kind::Float, Device::Cpu)) * spread + 0.25
    }

    /// The largest difference, relative to the largest value.
    fn error(got: &Tensor, expected: &Tensor) -> f64 {
        assert_eq!(got.size(), expected.size());
        let difference = (got.to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
        difference / expected.abs().max().double_value(&[]).max(1e-30)
    }

    fn exact(x: &Tensor) -> Tensor {
        x.to_kind(Kind::Double)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn layers_are_those_of_libtorch_in_f64(
            batch in 1..4_i64,
            positions in 1..40_i64,
            size in 1..70_i64,
            outputs in 1..50_i64,
            seed: u32,
        ) {
            tch::manual_seed(i64::from(seed));
            let x = noise(&[batch, positions, size]);
            let (w, b) = (noise(&[size]), noise(&[size]));

            let weight = noise(&[outputs, size]);
            let bias = noise(&[outputs]);
            for bias in [None, Some(&bias)] {
                let got = affine(&x, &weight, bias).unwrap();
                let expected = exact(&x).linear(&exact(&weight), bias.map(exact).as_ref());
                prop_assert!(error(&got, &expected) < 1e-5);
            }
            let got = rms_norm(&x, &w, 1e-5).unwrap();
            let mean = exact(&x).square().mean_dim(Some(&[-1_i64][..]), true, Kind::Double);
            let expected = exact(&x) / (mean + 1e-5).sqrt() * exact(&w);
            prop_assert!(error(&got, &expected) < 1e-5);
            let got = layer_norm(&x, &w, &b, 1e-3).unwrap();
            let expected =
                exact(&x).layer_norm([size], Some(&exact(&w)), Some(&exact(&b)), 1e-3, false);
            prop_assert!(error(&got, &expected) < 1e-5);
            let mut scaled = x.copy();
            scale_rows(&mut scaled, &w).unwrap();
            prop_assert_eq!(&scaled, &(&x * &w));
            let mut sum = x.copy();
            let other = noise(&[batch, positions, size]);
            add(&other, &mut sum).unwrap();
            prop_assert_eq!(&sum, &(&x + &other));
        }

        #[test]
        fn a_row_does_not_depend_on_those_beside_it(
            rows in 70..300_i64,
            size in 1..200_i64,
            outputs in 65..200_i64,
            seed: u32,
        ) {
            tch::manual_seed(i64::from(seed));
            let x = noise(&[rows, size]);
            let (weight, w, b) = (noise(&[outputs, size]), noise(&[size]), noise(&[size]));
            let less = rows - 5;
            let part = x.narrow(0, 3, less).contiguous();
            let of = |x: &Tensor| {
                [
                    affine(x, &weight, None).unwrap(),
                    rms_norm(x, &w, 1e-5).unwrap(),
                    layer_norm(x, &w, &b, 1e-5).unwrap(),
                ]
            };
            for (whole, part) in of(&x).iter().zip(of(&part)) {
                prop_assert_eq!(&whole.narrow(0, 3, less), &part);
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        tch::manual_seed(3);
        let (x, weight) = (noise(&[300, 130]), noise(&[260, 130]));
        let w = noise(&[130]);
        let with = |n_threads: usize| {
            // A tensor is lent to one thread at a time.
            let (x, weight, w) = (x.copy(), weight.copy(), w.copy());
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(move || {
                let mut gated = affine(&rms_norm(&x, &w, 1e-5).unwrap(), &weight, None).unwrap();
                gated_unit(&mut gated, |x| x).unwrap();
                Vec::<f32>::try_from(gated.view([-1])).unwrap()
            })
        };
        assert_eq!(with(1), with(2));
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn other_kinds_and_memory_that_others_read_are_left_to_libtorch() {
        let x = noise(&[4, 6]);
        let w = noise(&[6]);
        assert!(affine(&exact(&x), &exact(&noise(&[3, 6])), None).is_none());
        assert!(rms_norm(&exact(&x), &exact(&w), 1e-5).is_none());
        assert!(rms_norm(&x.tr(), &noise(&[4]), 1e-5).is_none());
        let mut other = x.shallow_clone();
        assert!(add(&noise(&[4, 6]), &mut other).is_none());
        assert!(gated_unit(&mut other, |x| x).is_none());
        assert!(sigmoid_unit(&mut other, |x| x).is_none());
        assert!(normal_unit(&mut other).is_none());
        assert!(scale_rows(&mut other, &w).is_none());
        assert!(scale_rows(&mut x.copy(), &noise(&[4])).is_none());
    }
}
