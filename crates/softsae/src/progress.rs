//! Progress of a long job: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Progress of one job, in one unit.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    unit: &'static str,
    total: u64,
    first: Option<(Instant, u64)>,
    last_line: Option<Instant>,
}

impl Progress {
    /// A job of `total` units; 0 where the total is not known.
    pub(crate) fn new(what: &'static str, unit: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = if total == 0 {
                format!("{what} {{pos}} {unit} {{per_sec}} {{msg}}")
            } else {
                format!(
                    "{what} {{wide_bar}} {{pos}}/{{len}} {unit} {{per_sec}} ETA {{eta}} {{msg}}"
                )
            };
            let style = ProgressStyle::with_template(&template).expect("a fixed, valid template");
            ProgressBar::new(total).with_style(style)
        });
        Self { bar, what, unit, total, first: None, last_line: None }
    }

    /// The total turns out to be so many units.
    pub(crate) fn set_total(&mut self, total: u64) {
        if self.total != total {
            let (first, last_line) = (self.first, self.last_line);
            *self = Self::new(self.what, self.unit, total);
            (self.first, self.last_line) = (first, last_line);
        }
    }

    /// `done` units are done; `message` says how it goes.
    pub(crate) fn at(&mut self, done: u64, message: impl FnOnce() -> String) {
        let now = Instant::now();
        let (start, done_at_start) = *self.first.get_or_insert((now, done));
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message());
            return;
        }
        let is_last = self.total > 0 && done >= self.total;
        if !is_last && self.last_line.is_some_and(|last| now - last < LINE_INTERVAL) {
            return;
        }
        self.last_line = Some(now);
        let seconds = (now - start).as_secs_f64();
        let rate = if seconds > 0.0 { (done - done_at_start) as f64 / seconds } else { 0.0 };
        let (what, unit, total) = (self.what, self.unit, self.total);
        let message = message();
        let line = if total == 0 {
            format!("{what}: {done} {unit}, {rate:.0}/s {message}")
        } else if rate > 0.0 {
            let eta = (total.saturating_sub(done)) as f64 / rate;
            format!("{what}: {done}/{total} {unit}, {rate:.0}/s, ETA {eta:.0} s {message}")
        } else {
            format!("{what}: {done}/{total} {unit} {message}")
        };
        // The job goes on when nobody listens any more.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}
