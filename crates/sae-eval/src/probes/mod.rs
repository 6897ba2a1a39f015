//! Sparse probing over labelled documents: what k features of an SAE tell of each task.
//!
//! As sae-probes does it (Kantamneni et al. 2025, arXiv:2502.16681): features are ranked on the training
//! documents alone, a logistic regression with an L2 penalty chosen on held-back training documents is
//! fitted to the first k of them, and scored on test documents.

mod intervals;
mod pooled;
mod select;

use sae_config::{LabelTask, ProbeResult, Score, Scores, TaskProbes};
use tch::{Kind, Tensor};

use self::intervals::{Told, intervals};
use self::select::{Split, fit, split};
use crate::probing::{Probe, ProbeScores, with_ones};
use crate::{Error, Result};

pub use pooled::{PooledFeatures, PoolingObserver};

/// Numbers of features of sparse probes.
pub const PROBED: [usize; 4] = [1, 2, 5, 16];

/// Documents of each of the two answers of a task at least.
pub const LEAST_DOCUMENTS: usize = 25;

/// What probing gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Probed {
    /// The scores of the suite `probing`.
    pub scores: Scores,
    /// Each task's probes.
    pub tasks: Vec<TaskProbes>,
}

/// Probes on the features of documents, over all tasks.
///
/// `dense` is what probes on all dimensions found of each task in an earlier call, which does not
/// depend on the SAE; none to fit them. `progress` is told the tasks done.
///
/// # Errors
/// [`Error::Empty`] of no tasks; [`Error::Setting`] for another number of `dense` or a task of too few
/// documents; [`Error::NotFinite`], [`Error::Torch`].
pub fn probe_tasks(
    data: &[(&PooledFeatures, LabelTask<'_>, &[u32])],
    dense: Option<&[ProbeResult]>,
    progress: &mut dyn FnMut(u64),
) -> Result<Probed> {
    if data.is_empty() {
        return Err(Error::Empty { what: "tasks" });
    }
    if let Some(got) = dense.map(<[_]>::len).filter(|got| *got != data.len()) {
        let expected = format!("{}, one a task", data.len());
        return Err(Error::Setting { name: "dense", expected, got: got.to_string() });
    }
    let _guard = tch::no_grad_guard();
    let (mut tasks, mut told) = (Vec::new(), Vec::new());
    for (i, (pooled, task, of_documents)) in data.iter().enumerate() {
        let known = dense.map(|dense| dense[i].clone());
        let (probes, of_task) = probe(pooled, *task, of_documents, known)?;
        tasks.push(probes);
        told.push(of_task);
        progress(i as u64 + 1);
    }
    Ok(Probed { scores: scores(&tasks, &told), tasks })
}

/// The probes of a task, and what they say of its test documents.
fn probe(
    pooled: &PooledFeatures,
    task: LabelTask<'_>,
    of_documents: &[u32],
    dense: Option<ProbeResult>,
) -> Result<(TaskProbes, Vec<Told>)> {
    let labels = pooled.documents().iter().map(|document| {
        let label = of_documents.get(*document as usize);
        label.map(|label| *label == task.number)
    });
    let labels = labels.collect::<Option<Vec<bool>>>().ok_or_else(|| Error::Setting {
        name: "of_documents",
        expected: "a label of every document of the store".into(),
        got: format!("{} labels of {}", of_documents.len(), task.name),
    })?;
    let n_positive = labels.iter().filter(|label| **label).count();
    if n_positive.min(labels.len() - n_positive) < LEAST_DOCUMENTS {
        let other = labels.len() - n_positive;
        return Err(Error::Setting {
            name: "documents of a task",
            expected: format!("{LEAST_DOCUMENTS} or more with and without the label"),
            got: format!("{n_positive} and {other} of {} {}", task.name, task.label),
        });
    }
    let split = split(&labels);
    let of = |rows: &[usize]| -> Vec<bool> { rows.iter().map(|row| labels[*row]).collect() };
    let (train, test) = (of(&split.train), of(&split.test));
    let dense = match dense {
        Some(dense) => dense,
        None => {
            let x = pooled.scaled_activations(&split.train)?;
            measure(&x, &split, &train, &test)?.0
        }
    };
    let ranked = pooled.ranked(&split.train, &train)?;
    let (mut sparse, mut told) = (Vec::new(), Vec::new());
    for k in PROBED {
        let chosen = &ranked[..k.min(ranked.len())];
        let x = pooled.columns(chosen)?;
        let (mut result, of_k) = measure(&x, &split, &train, &test)?;
        result.features = chosen.iter().map(|(feature, _)| *feature).collect();
        sparse.push(result);
        told.push(of_k);
    }
    let probes = TaskProbes {
        task: task.name.into(),
        label: task.label.into(),
        n_train: train.len() as u64,
        n_test: test.len() as u64,
        share: n_positive as f64 / labels.len() as f64,
        dense,
        sparse,
    };
    Ok((probes, told))
}

/// Fits a probe to the training rows of x and scores it on the test rows.
fn measure(
    x: &Tensor,
    split: &Split,
    train: &[bool],
    test: &[bool],
) -> Result<(ProbeResult, Told)> {
    let rows = |rows: &[usize]| -> Result<Tensor> {
        let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
        Ok(x.f_index_select(0, &Tensor::f_from_slice(&rows)?)?)
    };
    let (w, c) = fit(&with_ones(&rows(&split.train)?)?, train)?;
    let probe = Probe::of(&w)?;
    let said = rows(&split.test)?.f_mv(&Tensor::f_from_slice(&probe.weights)?)?;
    let said = Vec::<f64>::try_from(said.f_add_scalar(probe.bias)?.f_to_kind(Kind::Double)?)?;
    let ProbeScores { accuracy, f1, auc } = ProbeScores::of(&said, test);
    let auc = auc.ok_or(Error::Empty { what: "test documents of each answer" })?;
    Ok((ProbeResult { features: Vec::new(), c, auc, f1, accuracy }, Told::new(&said, test)))
}

/// Means over tasks, with what dense probes reach as their ceiling.
fn scores(tasks: &[TaskProbes], told: &[Vec<Told>]) -> Scores {
    let n = tasks.len() as f64;
    let mut scores = Scores::new();
    for ((place, k), intervals) in PROBED.into_iter().enumerate().zip(intervals(told)) {
        for (name, of, interval) in [
            ("auc", (|result| result.auc) as fn(&ProbeResult) -> f64, intervals[0]),
            ("f1", |result| result.f1, intervals[1]),
            ("accuracy", |result| result.accuracy, intervals[2]),
        ] {
            let value = tasks.iter().map(|task| of(&task.sparse[place])).sum::<f64>() / n;
            let ceiling = tasks.iter().map(|task| of(&task.dense)).sum::<f64>() / n;
            let score = Score { interval, ..Score::new(value, tasks.len() as u64) };
            scores.insert(format!("probing.{name}_k{k}"), score.with_ceiling(ceiling));
        }
    }
    scores
}
