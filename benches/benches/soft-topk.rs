//! Soft top-k against `torch.topk` and `torch.sort` of the same tensor in the same process.
//!
//! Rows are relu'd normals from a fixed seed, k = 64 and a bit, differing by row. Outputs of the
//! engine are reused, as a training loop does. On a GPU (`SOFTSAE_BENCH_DEVICE`) it is the functions
//! of tensors that are measured, whose backward runs through autograd. The copy of the tensor is the floor that memory
//! sets: one read, one write.

use std::time::Duration;

use benches::{Table, device, id_suffix};
use criterion::Criterion;
use rayon::prelude::*;
use soft_topk::tensor::soft_topk;
use soft_topk::{Saved, SparseTopK};
use tch::{Device, Kind, Tensor};
use tch_autograd::view;

const SHAPES: [(i64, i64); 4] = [(256, 4096), (256, 16_384), (256, 65_536), (2048, 16_384)];
const ALPHAS: [(&str, f32); 3] = [("1e-4", 1e-4), ("1e-2", 1e-2), ("1", 1.0)];
const K: i64 = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1000))
        .configure_from_args();
    let mut table = Table::new("soft-topk");
    let device = device();
    for (batch, n) in SHAPES {
        match device {
            Device::Cpu => measure(&mut criterion, &mut table, batch, n)?,
            _ => measure_tensors(&mut criterion, &mut table, device, batch, n)?,
        }
    }
    criterion.final_summary();
    table.finish()?;
    if device != Device::Cpu {
        return Ok(());
    }
    println!("\ndense forward + backward over LapSum's stand-in, 2.8 × torch-sort (claim: 0.05)");
    for (batch, n) in SHAPES {
        for (alpha, _) in ALPHAS {
            let median = |what| table.median_ns(&format!("soft-topk/{what}/{batch}x{n}/{alpha}"));
            if let (Some(forward), Some(backward), Some(sort)) =
                (median("dense-forward"), median("backward"), median("torch-sort"))
            {
                println!("{batch}x{n}/{alpha}  {:.4}", (forward + backward) / (2.8 * sort));
            }
        }
    }
    Ok(())
}

fn measure(
    criterion: &mut Criterion,
    table: &mut Table,
    batch: i64,
    n: i64,
) -> Result<(), Box<dyn std::error::Error>> {
    tch::manual_seed(7);
    let options = (Kind::Float, Device::Cpu);
    let tensor = Tensor::randn([batch, n], options).relu();
    let gradient = Tensor::randn([batch, n], options);
    let k: Vec<f32> = (0..batch).map(|row| K as f32 + (row % 16) as f32 / 16.0).collect();
    let (elements, gradients) = (view::<f32>(&tensor)?, view::<f32>(&gradient)?);
    let (x, v, width) = (&elements[..], &gradients[..], n as usize);
    let (mut out, mut grad) = (vec![0.0_f32; x.len()], vec![0.0_f32; x.len()]);
    let mut grad_k = vec![0.0_f32; k.len()];
    for (name, alpha) in ALPHAS {
        let id = |what: &str| format!("soft-topk/{what}/{batch}x{n}/{name}");
        let mut run = |what: &str, ratio_to: Option<&str>, work: &mut dyn FnMut()| {
            criterion.bench_function(&id(what), |bencher| bencher.iter(&mut *work));
            table.add(id(what), ratio_to.map(id).as_deref());
        };
        run("copy", Some("torch-topk"), &mut || {
            out.par_chunks_mut(1 << 16)
                .zip(x.par_chunks(1 << 16))
                .for_each(|(out, x)| out.copy_from_slice(x));
        });
        run("torch-topk", None, &mut || drop(tensor.topk(K, -1, true, true)));
        let mut sparse = SparseTopK::default();
        run("sparse-forward", Some("torch-topk"), &mut || {
            sparse.forward(x, width, &k, alpha).expect("inside the domain");
        });
        drop(sparse);
        let mut saved = Saved::default();
        run("dense-forward", Some("torch-topk"), &mut || {
            saved.forward(x, width, &k, alpha, &mut out).expect("inside the domain");
        });
        saved.forward(x, width, &k, alpha, &mut out)?;
        run("backward", Some("dense-forward"), &mut || {
            saved.backward(x, &out, v, &mut grad, &mut grad_k, false).expect("the same shapes");
        });
        run("torch-sort", None, &mut || drop(tensor.sort(-1, true)));
    }
    Ok(())
}

/// The functions of tensors on a device.
fn measure_tensors(
    criterion: &mut Criterion,
    table: &mut Table,
    device: Device,
    batch: i64,
    n: i64,
) -> Result<(), Box<dyn std::error::Error>> {
    tch::manual_seed(7);
    let options = (Kind::Float, device);
    let x = Tensor::randn([batch, n], options).relu();
    let v = Tensor::randn([batch, n], options);
    let k = Tensor::arange(batch, options).remainder(16.0) / 16.0 + K as f64;
    let out = x.zeros_like();
    for (name, alpha) in ALPHAS {
        let suffix = id_suffix(device);
        let id = |what: &str| format!("soft-topk/{what}/{batch}x{n}/{name}{suffix}");
        let mut run = |what: &str, ratio_to: Option<&str>, work: &mut dyn FnMut()| {
            benches::measure(criterion, &id(what), device, work);
            table.add(id(what), ratio_to.map(id).as_deref());
        };
        run("copy", Some("torch-topk"), &mut || out.shallow_clone().copy_(&x));
        run("torch-topk", None, &mut || drop(x.topk(K, -1, true, true)));
        let alpha = f64::from(alpha);
        run("dense-forward", Some("torch-topk"), &mut || {
            tch::no_grad(|| drop(soft_topk(&x, &k, alpha).expect("inside the domain")));
        });
        let leaves = [&x, &k].map(|t| t.copy().set_requires_grad(true));
        let p = soft_topk(&leaves[0], &leaves[1], alpha)?;
        let loss = (p * &v).sum(Kind::Float);
        run("backward", Some("dense-forward"), &mut || {
            drop(Tensor::run_backward(&[&loss], &leaves, true, false));
        });
        run("torch-sort", None, &mut || drop(x.sort(-1, true)));
    }
    Ok(())
}
