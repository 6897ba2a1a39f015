//! The work of one call on sixteen rows, to be counted by an instruction counter.
//!
//! `cost WHAT ROW N ALPHA K`: WHAT is `dense`, `sparse`, `backward`, `log` or `hard`; ROW is one of
//! the kinds below. Only `measured` is worth counting; see `docs/soft-topk.md` of the repository.

use ndarray::ArrayView2;
use soft_topk::{HardTopK, Saved, SparseTopK, log_soft_topk};

const ROWS: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, kind, n, alpha, k] = &arguments[..] else {
        return Err("usage: cost WHAT ROW N ALPHA K".into());
    };
    let n: usize = n.parse()?;
    let x = row(kind, n).ok_or("ROW: a kind of row, as in the source")?.repeat(ROWS);
    let (alpha, k): (f32, f32) = (alpha.parse()?, k.parse()?);
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    run(what, &x, n, alpha, k)
}

fn run(
    what: &str,
    x: &[f32],
    n: usize,
    alpha: f32,
    k: f32,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut saved, mut sparse) = (Saved::default(), SparseTopK::default());
    let mut out = vec![0.0; x.len()];
    let mut work: Box<dyn FnMut() -> soft_topk::Result<()>> = match what {
        "dense" => Box::new(move || saved.forward(x, n, &[k], alpha, &mut out)),
        "sparse" => Box::new(move || sparse.forward(x, n, &[k], alpha)),
        "backward" => {
            saved.forward(x, n, &[k], alpha, &mut out)?;
            let v = row("normal", x.len()).unwrap_or_default();
            let mut grad = vec![0.0; x.len()];
            Box::new(move || {
                saved.backward(x, &out, &v, &mut grad, &mut [0.0; ROWS], false).map(drop)
            })
        }
        "log" => Box::new(move || {
            let x = ArrayView2::from_shape((ROWS, n), x).expect("whole rows");
            log_soft_topk(x, &[k], alpha).map(drop)
        }),
        "hard" => Box::new(move || HardTopK::of(x, n, &[k as usize]).map(drop)),
        _ => return Err("WHAT: dense, sparse, backward, log or hard".into()),
    };
    // The first call pays for memory.
    work()?;
    measured(&mut *work)?;
    Ok(())
}

#[inline(never)]
fn measured(work: &mut dyn FnMut() -> soft_topk::Result<()>) -> soft_topk::Result<()> {
    work()
}

/// A row of `n` entries: easy, or made to be hard.
fn row(kind: &str, n: usize) -> Option<Vec<f32>> {
    let uniform = |i: usize, step: f64| ((i + 1) as f64 * step).fract();
    let normal = |i: usize| {
        let (u, v) = (uniform(i, 0.754_877_666_246_693), uniform(i, 0.569_840_290_998_053));
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    };
    let ramp = |i: usize| i as f32 / n as f32;
    let entry: Box<dyn Fn(usize) -> f32> = match kind {
        "normal" => Box::new(normal),
        "relu" => Box::new(|i| normal(i).max(0.0)),
        "equal" => Box::new(|_| 1.0),
        "two-values" => Box::new(|i| (i % 2) as f32),
        "ascending" => Box::new(ramp),
        "descending" => Box::new(|i| -ramp(i)),
        "giant" => Box::new(|i| if i == 7 { 3e38 } else { normal(i) }),
        "denormal" => Box::new(|i| normal(i) * 1e-40),
        "offset" => Box::new(|i| normal(i) + 1e6),
        "geometric" => Box::new(|i| (-(i as f32) * 1e-2).exp()),
        "spread" => Box::new(|i| normal(i).signum() * (8.0 * normal(i).abs()).exp()),
        "sawtooth" => Box::new(|i| (i % 128) as f32 + 1e-3 * normal(i)),
        "stairs" => Box::new(|i| ((i % 512) as f32).exp2().min(1e30) + 1e-3 * normal(i)),
        _ => return None,
    };
    Some((0..n).map(entry).collect())
}
