//! Progress of a sweep: bars on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::exit::note;

/// Time between two plain lines of the same thing.
const LINE_INTERVAL: Duration = Duration::from_secs(15);

/// Progress of one job of unknown length.
pub(super) struct Spinner {
    what: String,
    bar: Option<ProgressBar>,
    start: Instant,
    last_line: Instant,
}

impl Spinner {
    pub(super) fn new(what: String) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}");
            ProgressBar::new_spinner()
                .with_style(style.expect("a fixed, valid template"))
                .with_prefix(what.clone())
        });
        if bar.is_none() {
            note(&what);
        }
        let now = Instant::now();
        Self { what, bar, start: now, last_line: now }
    }

    pub(super) fn tick(&mut self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(message.to_owned());
            bar.tick();
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            note(&format!("{}: {message}", self.what));
        }
    }

    pub(super) fn done(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        note(&format!("{}: done in {:.0} s", self.what, self.start.elapsed().as_secs_f64()));
    }
}

/// Progress of the runs of a sweep, in steps over all of them.
pub(super) struct Runs {
    bars: Option<(MultiProgress, ProgressBar)>,
    /// Bars of the runs at work.
    active: BTreeMap<String, ProgressBar>,
    /// Steps done, by run.
    steps: BTreeMap<String, u64>,
    /// Steps that earlier attempts had done when this one first saw the run.
    steps_before: BTreeMap<String, u64>,
    n_steps: u64,
    n_runs: usize,
    n_done: usize,
    start: Instant,
    last_line: Instant,
}

impl Runs {
    pub(super) fn new(n_runs: usize, n_steps: u64) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let bars = MultiProgress::new();
            let style = ProgressStyle::with_template("{msg} {wide_bar} {elapsed}");
            let total = ProgressBar::new(n_steps)
                .with_style(style.expect("a fixed, valid template"))
                .with_message(format!("0/{n_runs} runs"));
            let total = bars.add(total);
            (bars, total)
        });
        let now = Instant::now();
        Self {
            bars,
            active: BTreeMap::new(),
            steps: BTreeMap::new(),
            steps_before: BTreeMap::new(),
            n_steps,
            n_runs,
            n_done: 0,
            start: now,
            last_line: now,
        }
    }

    /// A run has started; it may have done some steps before.
    pub(super) fn started(&mut self, id: &str, name: &str, n_steps: u64) {
        if let Some((bars, total)) = &self.bars {
            let style = ProgressStyle::with_template("  {prefix} {bar:24} {pos}/{len} {wide_msg}");
            let bar = ProgressBar::new(n_steps)
                .with_style(style.expect("a fixed, valid template"))
                .with_prefix(name.to_owned());
            self.active.insert(id.into(), bars.insert_before(total, bar));
        } else {
            note(&format!("run {id} ({name}) starts"));
        }
    }

    /// A run has done so many steps; `message` says how it goes.
    pub(super) fn at(&mut self, id: &str, step: u64, message: &str) {
        self.steps_before.entry(id.into()).or_insert(step);
        self.steps.insert(id.into(), step);
        if let Some(bar) = self.active.get(id) {
            bar.set_position(step);
            bar.set_message(message.to_owned());
        }
        if let Some((_, total)) = &self.bars {
            total.set_position(self.steps.values().sum());
            total.set_message(self.summary());
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            note(&format!("{}; {id} at step {step}: {message}", self.summary()));
        }
    }

    /// A run has ended.
    pub(super) fn ended(&mut self, id: &str, n_steps: u64, line: &str) {
        self.n_done += 1;
        self.steps.insert(id.into(), n_steps);
        if let Some(bar) = self.active.remove(id) {
            bar.finish_and_clear();
        }
        self.say(line);
    }

    /// A line above the bars.
    pub(super) fn say(&self, line: &str) {
        match &self.bars {
            // A closed terminal is no reason to stop.
            Some((bars, _)) => drop(bars.println(line)),
            None => note(line),
        }
    }

    /// Runs done and the time left, at the rate so far.
    fn summary(&self) -> String {
        let done: u64 = self.steps.values().sum();
        let new = done.saturating_sub(self.steps_before.values().sum());
        let (n_done, n_runs) = (self.n_done, self.n_runs);
        if new == 0 {
            return format!("{n_done}/{n_runs} runs");
        }
        let rate = new as f64 / self.start.elapsed().as_secs_f64();
        let eta = Duration::from_secs_f64(self.n_steps.saturating_sub(done) as f64 / rate);
        let (minutes, seconds) = (eta.as_secs() / 60, eta.as_secs() % 60);
        format!("{n_done}/{n_runs} runs, {rate:.1} steps/s, {minutes}:{seconds:02} left")
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        if let Some((_, total)) = &self.bars {
            total.finish_and_clear();
        }
    }
}
