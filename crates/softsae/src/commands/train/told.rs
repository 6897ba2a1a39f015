//! What is told while runs train.

use std::io::Write as _;

use sae_config::RunConfig;
use sae_train::Filtered;

use crate::progress::Progress;

/// Tells what each filter of the data kept, each time that a corpus is read to its end, and the
/// progress.
pub(super) struct Told {
    progress: Progress,
    message: String,
    n_runs: usize,
    is_live: bool,
    is_first: bool,
    /// Steps of the run that has done the most.
    step: u64,
    epochs: u64,
    skipped: u64,
}

impl Told {
    /// Of runs that read one stream.
    pub(super) fn new(runs: &[&RunConfig]) -> Self {
        let steps = runs.iter().map(|run| run.training.steps).max().unwrap_or(0);
        Self {
            progress: Progress::new("train", "steps", steps),
            message: String::new(),
            n_runs: runs.len(),
            is_live: runs.iter().any(|run| run.data.live.is_some()),
            is_first: true,
            step: 0,
            epochs: 0,
            skipped: 0,
        }
    }

    /// Run number `run` has taken a step.
    pub(super) fn at(&mut self, run: usize, now: &sae_train::Progress<'_>) {
        for Filtered { key, before, kept } in now.filtered.iter().filter(|_| self.is_first) {
            tell(format!("data.{key}: kept {kept} of {before} rows"));
        }
        self.is_first = false;
        if let Some(line) = now.logged {
            let report = &line.report;
            self.message = match self.n_runs {
                1 => format!("loss {:.4} L0 {:.1}", report.loss, report.l0),
                n => format!("run {} of {n}: loss {:.4} L0 {:.1}", run + 1, report.loss, report.l0),
            };
            if let Some(epoch) = line.epoch.filter(|epoch| self.is_live && *epoch > self.epochs) {
                tell(format!("data.corpus: read to its end, {epoch} times so far"));
                (self.epochs, self.skipped) = (epoch, 0);
            }
            if let Some(n) = line.skipped.filter(|n| *n > self.skipped) {
                tell(format!("data.corpus: {n} damaged files and documents left out so far"));
                self.skipped = n;
            }
        }
        self.step = self.step.max(now.step);
        let Self { progress, message, step, .. } = self;
        progress.at(*step, || message.clone());
    }
}

/// The run goes on when nobody listens any more.
fn tell(line: String) {
    drop(writeln!(std::io::stderr(), "{line}"));
}
