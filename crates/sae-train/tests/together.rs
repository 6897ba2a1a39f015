//! Runs that read one stream: each ends in the bits of the run alone.

mod faults;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use sae_config::{ArchitectureConfig, CheckedRun, RunConfig};
use sae_data::{BatchSource, Port, Ports, Statistics, StreamPosition};
use sae_train::{Error, Opened, RunOptions, RunSummary, open_stores, train_runs};

use crate::support::{config, files, log, states, train, write_store};

/// Every architecture, and what differs between runs that may read one stream.
const RUNS: [(&str, &str); 14] = [
    ("name = 'topk', k = 3, k_anneal_steps = 6, auxk = { dead_after_rows = 32 }", ""),
    ("name = 'topk', k = 2", "engine = 'reference'"),
    ("name = 'topk', k = 2", "micro_batch = 5\nlr = 3e-3"),
    ("name = 'abs_topk', k = 3", "log_every = 1"),
    ("name = 'batch_topk', k = 3", "checkpoint_every = 2"),
    ("name = 'matryoshka_batch_topk', k = 2, group_fractions = [0.25, 0.75]", ""),
    ("name = 'soft', k = 3, alpha = 0.05, alpha_anneal_steps = 5, hard_steps = 6", ""),
    ("name = 'soft', k = 2, alpha = 0.05", "engine = 'reference'\nmicro_batch = 16"),
    ("name = 'jumprelu', target_l0 = 3.0, sparsity_warmup_steps = 5, bandwidth = 0.1", ""),
    ("name = 'jumprelu', target_l0 = 3.0", "micro_batch = 7\ncheckpoint_every = 3"),
    ("name = 'gated', l1_penalty = 0.1", ""),
    ("name = 'standard', l1_penalty = 0.1, resample_steps = 4", ""),
    ("name = 'standard_april', l1_penalty = 0.1", "warmup_steps = 3"),
    (
        "name = 'p_anneal', initial_sparsity_penalty = 0.1, anneal_start = 4, n_sparsity_updates = 5",
        "",
    ),
];

/// A run of `steps` steps.
fn run(store: &Path, index: usize, steps: u64) -> RunConfig {
    let (architecture, more) = RUNS[index];
    let mut run = config(store, architecture, "");
    let more: toml::Table = more.parse().unwrap();
    let mut table = toml::Table::try_from(&run).unwrap();
    table["training"].as_table_mut().unwrap().extend(more);
    run = table.try_into().unwrap();
    run.training.steps = steps;
    run
}

/// Trains until the stream has given `stop_after` batches.
fn together(
    runs: &[(RunConfig, PathBuf)],
    resume: bool,
    stop_after: usize,
) -> Vec<Result<RunSummary, Error>> {
    let stop = AtomicBool::new(false);
    let options = RunOptions { open: &open_stores, resume, stop: &stop };
    let mut last = (usize::MAX, 0);
    let mut n_batches = 0;
    let runs: Vec<_> = runs.iter().map(|(config, out)| (config, out.as_path())).collect();
    let ended = train_runs(&runs, &options, &mut |run, now| {
        // The runs of a batch come in their order.
        if run <= last.0 {
            n_batches += 1;
        }
        last = (run, now.step);
        stop.store(n_batches >= stop_after, Ordering::Relaxed);
    });
    ended.unwrap()
}

/// Fails unless the files of two models and their logs are the same.
fn same(one: &Path, other: &Path) {
    assert!(files(&one.join("checkpoint")) == files(&other.join("checkpoint")), "{one:?}");
    assert_eq!(log(one), log(other), "{one:?}");
    let left = |out: &Path| states(out).into_iter().map(|(step, _)| step).collect::<Vec<_>>();
    assert_eq!(left(one), left(other), "{one:?}: states to go on from");
}

#[test]
fn each_of_all_architectures_ends_as_alone() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    write_store(&store, 7);
    let runs: Vec<_> = (0..RUNS.len())
        .map(|i| (run(&store, i, 20), dir.path().join(format!("shared-{i}"))))
        .collect();
    let names: Vec<_> = runs.iter().map(|(run, _)| run.architecture.name()).collect();
    assert!(ArchitectureConfig::NAMES.iter().all(|name| names.contains(name)), "{names:?}");
    let summaries = together(&runs, false, usize::MAX);
    for (i, ((run, out), summary)) in runs.iter().zip(summaries).enumerate() {
        let alone = dir.path().join(format!("alone-{i}"));
        let expected = train(run, &alone, false, u64::MAX).unwrap();
        same(out, &alone);
        let summary = summary.unwrap();
        assert_eq!((summary.steps, summary.resumed_at), (20, None));
        assert_eq!(summary.last, expected.last);
        assert!(summary.seconds > 0.0);
    }
    // What has ended is not run again, alone or together.
    for (run, out) in &runs {
        assert!(train(run, out, true, u64::MAX).unwrap().last.is_none());
    }
    let again = together(&runs, true, usize::MAX);
    assert!(again.into_iter().all(|summary| summary.unwrap().last.is_none()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Runs of several lengths, some of them begun alone, stopped and killed together.
    #[test]
    fn stopped_and_killed_they_end_as_alone(
        chosen in proptest::sample::subsequence((0..RUNS.len()).collect::<Vec<_>>(), 2..4),
        lengths in proptest::collection::vec(12_u64..24, 4),
        begun in 0_u64..6,
        stops in proptest::collection::vec(1_usize..12, 0..3),
        kills in any::<bool>(),
    ) {
        tch::set_num_threads(1);
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        write_store(&store, 9);
        let at = |name: &str, i: usize| dir.path().join(format!("{name}-{i}"));
        let with_states = |i: usize, steps: u64| {
            let mut run = run(&store, i, steps);
            run.training.checkpoint_every = 2;
            run.training.keep_checkpoints = 50;
            run
        };
        let runs: Vec<_> = chosen
            .iter()
            .zip(&lengths)
            .map(|(i, steps)| (with_states(*i, *steps), at("shared", *i)))
            .collect();
        // The first of them is ahead of the others.
        if begun > 0 {
            prop_assert!(train(&runs[0].0, &runs[0].1, false, begun).is_err());
        }
        for stop in stops {
            for ((_, out), ended) in runs.iter().zip(together(&runs, true, stop)) {
                let stopped = matches!(ended, Ok(_) | Err(Error::Interrupted { .. }));
                prop_assert!(stopped, "{ended:?}");
                if let (true, Some((_, newest))) = (kills && ended.is_err(), states(out).last()) {
                    // As a kill would leave it: without the newest state, each of another step.
                    std::fs::remove_dir_all(newest).unwrap();
                }
            }
        }
        for ended in together(&runs, true, usize::MAX) {
            prop_assert!(ended.is_ok(), "{ended:?}");
        }
        for ((run, out), i) in runs.iter().zip(&chosen) {
            let alone = at("alone", *i);
            train(run, &alone, false, u64::MAX).unwrap();
            prop_assert_eq!(files(&out.join("checkpoint")), files(&alone.join("checkpoint")));
            prop_assert_eq!(log(out), log(&alone));
        }
    }
}

#[test]
fn a_run_that_fails_stops_no_other() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    write_store(&store, 7);
    let at = |name: &str| dir.path().join(name);
    let mut wild = run(&store, 0, 20);
    wild.training.lr = Some(1e30);
    let calm = run(&store, 5, 20);
    let runs = [(wild, at("wild")), (calm.clone(), at("calm"))];
    let ended = together(&runs, false, usize::MAX);
    assert!(matches!(ended[0], Err(Error::LossNotFinite { step: 1.., .. })), "{:?}", ended[0]);
    assert!(ended[1].is_ok() && !at("wild/checkpoint").exists());
    train(&calm, &at("alone"), false, u64::MAX).unwrap();
    same(&at("calm"), &at("alone"));
}

#[test]
fn runs_of_several_streams_are_refused_by_key_before_any_begins() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    write_store(&store, 7);
    let base = run(&store, 0, 20);
    let changed = |change: &dyn Fn(&mut RunConfig)| {
        let mut other = base.clone();
        change(&mut other);
        let outs = ["a", "b"].map(|name| dir.path().join(name));
        let stop = AtomicBool::new(false);
        let options = RunOptions { open: &open_stores, resume: false, stop: &stop };
        let runs = [(&base, outs[0].as_path()), (&other, outs[1].as_path())];
        let error = train_runs(&runs, &options, &mut |_, _| ()).unwrap_err();
        assert!(!outs[0].join("run.toml").exists());
        error.to_string()
    };
    let seed = changed(&|run| run.training.seed = 3);
    assert!(seed.starts_with("`training.seed`: expected 0, as in the first of the runs"), "{seed}");
    let batch = changed(&|run| run.training.batch_size = 8);
    assert!(batch.starts_with("`training.batch_size`: expected 16"), "{batch}");
    let rows = changed(&|run| run.data.min_position = Some(1));
    assert!(rows.starts_with("`data.min_position`: expected nothing"), "{rows}");
}

/// A source that counts the batches that were read of it.
#[derive(Debug)]
struct Counted<'a>(Box<dyn BatchSource>, &'a AtomicUsize, &'a Mutex<Vec<StreamPosition>>);

impl BatchSource for Counted<'static> {
    fn ports(&self) -> &Ports<Port> {
        self.0.ports()
    }

    fn batch_size(&self) -> usize {
        self.0.batch_size()
    }

    fn next_batch(&mut self, batch: Ports<&mut [f32]>) -> sae_data::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.next_batch(batch)
    }

    fn position(&self) -> StreamPosition {
        self.0.position()
    }

    fn resume(&mut self, position: &StreamPosition) -> sae_data::Result<()> {
        self.2.lock().unwrap().push(position.clone());
        self.0.resume(position)
    }

    fn identity(&self) -> sae_data::Result<String> {
        self.0.identity()
    }

    fn statistics(&mut self) -> sae_data::Result<Ports<Statistics>> {
        self.0.statistics()
    }
}

/// Each batch is read once for all runs, and after a stop from where the slowest run stood.
#[test]
fn a_stream_is_read_once() {
    static BATCHES: AtomicUsize = AtomicUsize::new(0);
    static RESUMED: Mutex<Vec<StreamPosition>> = Mutex::new(Vec::new());
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    write_store(&store, 7);
    let runs: Vec<_> =
        [0, 5, 11].map(|i| (run(&store, i, 20), dir.path().join(i.to_string()))).into();
    let open = |config: &CheckedRun| -> sae_train::Result<Opened> {
        let Opened { source, filtered, stores } = open_stores(config)?;
        Ok(Opened { source: Box::new(Counted(source, &BATCHES, &RESUMED)), filtered, stores })
    };
    // One of them is ahead by five steps.
    train(&runs[1].0, &runs[1].1, false, 5).unwrap_err();
    let all: Vec<_> = runs.iter().map(|(config, out)| (config, out.as_path())).collect();
    let stop = AtomicBool::new(false);
    let options = RunOptions { open: &open, resume: true, stop: &stop };
    let ended = train_runs(&all, &options, &mut |run, now| {
        assert!(run != 1 || now.step > 5, "what it has done is not done again");
        stop.store(run == 2 && now.step == 8, Ordering::Relaxed);
    });
    assert!(
        ended.unwrap().iter().all(|ended| matches!(ended, Err(Error::Interrupted { step: 8, .. })))
    );
    assert_eq!((BATCHES.load(Ordering::Relaxed), RESUMED.lock().unwrap().len()), (8, 0));
    stop.store(false, Ordering::Relaxed);
    let ended = train_runs(&all, &options, &mut |_, _| ()).unwrap();
    assert!(ended.iter().all(|ended| ended.as_ref().unwrap().resumed_at == Some(8)));
    assert_eq!((BATCHES.load(Ordering::Relaxed), RESUMED.lock().unwrap().len()), (20, 1));
}
