//! Fidelity at equal L0: each variant's frontier, interpolated at the same numbers of features.

use sae_config::{Evaluation, RunResult, SweepResults};

/// How far beyond a frontier's ends a value is still taken, as a ratio of L0.
const REACH: f64 = 1.25;

/// What is compared: its name, and its value in a run.
type Measure = (&'static str, fn(&Evaluation) -> Option<f64>);

const MEASURES: [Measure; 2] = [
    ("R²", |e| Some(e.reconstruction.r2)),
    ("CE recovered", |e| Some(e.cross_entropy.as_ref()?.ce_recovered)),
];

/// (L0, value) of runs, by rising L0.
type Points = Vec<(f64, f64)>;

/// One variant at one width: a frontier for each seed.
struct Frontier {
    name: String,
    /// Each seed, and the points of its runs, one list a measure.
    seeds: Vec<(u64, Vec<Points>)>,
}

/// A table of each measure at each k of the sweep; none where no variant has two of them.
///
/// Between two runs a measure is linear in the logarithm of L0. A cell is the mean over seeds and
/// half the distance between the largest and the smallest.
pub(super) fn table(results: &SweepResults) -> Option<String> {
    let mut ks: Vec<f64> = results.runs.iter().filter_map(target).collect();
    ks.sort_by(f64::total_cmp);
    ks.dedup();
    let frontiers = frontiers(&results.runs);
    if ks.len() < 2 || !frontiers.iter().any(|f| f.seeds.iter().any(|s| s.1[0].len() > 1)) {
        return None;
    }
    let width = frontiers.iter().map(|f| f.name.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (m, (measure, _)) in MEASURES.iter().enumerate() {
        let cells: Vec<Vec<String>> = frontiers.iter().map(|f| f.cells(m, &ks)).collect();
        if cells.iter().flatten().all(String::is_empty) {
            continue;
        }
        let head = ks.iter().map(|k| format!("  {:>15}", format!("L0 = {k}")));
        lines.push(format!("{:<width$}{}", format!("{measure} at"), head.collect::<String>()));
        for (frontier, cells) in frontiers.iter().zip(cells) {
            let gap = " ".repeat(width - frontier.name.chars().count());
            let cells: String = cells.iter().map(|cell| format!("  {cell:>15}")).collect();
            lines.push(format!("{}{gap}{cells}", frontier.name));
        }
        lines.push(String::new());
    }
    Some(lines.join("\n").trim_end().to_owned())
}

fn target(run: &RunResult) -> Option<f64> {
    run.config.architecture.target_l0()
}

fn frontiers(runs: &[RunResult]) -> Vec<Frontier> {
    let mut widths: Vec<usize> = runs.iter().map(|run| run.config.sae.n_features).collect();
    widths.dedup();
    let mut all: Vec<Frontier> = Vec::new();
    for run in runs {
        let Some(evaluation) = run.evaluation.as_ref().filter(|_| target(run).is_some()) else {
            continue;
        };
        let architecture = run.config.architecture.name().to_owned();
        let mut name = run.variant.clone().unwrap_or(architecture);
        if widths.len() > 1 {
            name = format!("{name}, F = {}", run.config.sae.n_features);
        }
        let at = all.iter().position(|f| f.name == name).unwrap_or_else(|| {
            all.push(Frontier { name, seeds: Vec::new() });
            all.len() - 1
        });
        let (seeds, seed) = (&mut all[at].seeds, run.config.training.seed);
        let at = seeds.iter().position(|s| s.0 == seed).unwrap_or_else(|| {
            seeds.push((seed, vec![Vec::new(); MEASURES.len()]));
            seeds.len() - 1
        });
        for ((_, value), points) in MEASURES.iter().zip(&mut seeds[at].1) {
            points.extend(value(evaluation).map(|value| (evaluation.sparsity.l0_mean, value)));
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
    }
    all
}

impl Frontier {
    fn cells(&self, measure: usize, ks: &[f64]) -> Vec<String> {
        let cell = |&k: &f64| {
            let values: Vec<f64> =
                self.seeds.iter().filter_map(|(_, points)| at(&points[measure], k)).collect();
            let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            match values.len() {
                0 => String::new(),
                1 => format!("{mean:.4}"),
                _ => format!("{mean:.4} ± {:.4}", (largest - smallest) / 2.0),
            }
        };
        ks.iter().map(cell).collect()
    }
}

/// The value at L0 = k of a frontier that is linear in ln L0, from its two nearest runs.
fn at(points: &[(f64, f64)], k: f64) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    if points.len() < 2 || k * REACH < first.0 || k > last.0 * REACH {
        return None;
    }
    let right = points.iter().position(|p| p.0 >= k).unwrap_or(points.len() - 1).max(1);
    let ((x0, y0), (x1, y1)) = (points[right - 1], points[right]);
    let t = (k / x0).ln() / (x1 / x0).ln();
    t.is_finite().then_some(y0 + t * (y1 - y0))
}

#[cfg(test)]
mod tests {
    use super::at;

    #[test]
    fn values_are_linear_in_the_logarithm_of_l0() {
        let points = [(16.0, 0.5), (32.0, 0.6), (64.0, 0.9)];
        for (k, expected) in
            [(16.0, Some(0.5)), (32.0, Some(0.6)), (64.0, Some(0.9)), (80.1, None), (12.7, None)]
        {
            assert_eq!(at(&points, k), expected, "at {k}");
        }
        let middle = at(&points, 16.0 * 2f64.sqrt()).unwrap();
        assert!((middle - 0.55).abs() < 1e-12);
        let beyond = at(&points, 64.0 * 2f64.powf(0.25)).unwrap();
        assert!((beyond - 0.975).abs() < 1e-12);
        assert_eq!(at(&points[..1], 16.0), None);
        assert_eq!(at(&[], 16.0), None);
    }
}
