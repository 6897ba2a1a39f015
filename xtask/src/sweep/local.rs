//! Runs on this machine: some at a time on each device, the longest first, as memory allows. Runs of
//! one stream count as one where they train together.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Sender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::job::{self, Job, Place};
use super::memory::{self, Forecast};
use super::plan::{Plan, PlannedRun};
use super::progress::{Runs, Spinner};
use super::results::Refresher;
use super::{stop, together};
use crate::exit::{self, note, usage};

/// Time between two looks at a run's metrics, and at the memory that is free.
const LOOK: Duration = Duration::from_millis(500);

/// News from a run at work.
enum Event<'a> {
    Started(&'a PlannedRun),
    At(&'a PlannedRun, u64, String),
    Ended(&'a PlannedRun, Result<String>),
}

/// Carries out runs, `jobs` at once on each device; runs that fail do not stop the others.
pub(super) fn run(plan: &Plan, job: &Job, runs: &[&PlannedRun], jobs: u16) -> Result<()> {
    let queue = Queue::new(job, runs, plan)?;
    let mut progress = Runs::new(runs.len(), runs.iter().map(|run| steps(run)).sum());
    let mut refresher = Refresher::default();
    let (sender, events) = mpsc::channel();
    std::thread::scope(|scope| {
        for device in &plan.devices {
            let threads = (jobs > 1 && device == "cpu").then(|| threads(jobs));
            for _ in 0..jobs {
                let (queue, sender) = (&queue, sender.clone());
                let place = Place { device: device.clone(), threads };
                scope.spawn(move || work(job, queue, &place, &sender));
            }
        }
        drop(sender);
        let mut first_error = Ok(());
        for event in events {
            match event {
                Event::Started(run) => {
                    progress.started(&run.id, &run.point.to_string(), steps(run))
                }
                Event::At(run, step, message) => progress.at(&run.id, step, &message),
                Event::Ended(run, Ok(line)) => {
                    progress.ended(&run.id, steps(run), &line);
                    refresher.refresh(plan, job);
                }
                Event::Ended(run, Err(error)) => {
                    if !error.is::<exit::Interrupted>() {
                        let line = format!("run {}: {}", run.id, exit::message(&error));
                        progress.ended(&run.id, steps(run), &line);
                    }
                    first_error = first_error.and(Err(error));
                }
            }
        }
        first_error
    })
}

/// Runs that wait, and what those at work take.
struct Queue<'a> {
    state: Mutex<State<'a>>,
    /// Bytes that were free on GPUs before the first run.
    of_gpus: BTreeMap<String, u64>,
    /// Told when a run has ended.
    changed: Condvar,
}

struct State<'a> {
    waiting: Vec<Waiting<'a>>,
    /// By device and run: bytes that it will take, and those that it holds.
    at_work: BTreeMap<(String, String), (u64, u64)>,
}

struct Waiting<'a> {
    /// A run, or several that train together.
    runs: Vec<&'a PlannedRun>,
    /// Bytes that it will take, by device.
    needs: BTreeMap<String, u64>,
}

impl<'a> Queue<'a> {
    /// The longest run first; one that fits no device is refused by name, and runs that do not fit
    /// together train in parts.
    fn new(job: &Job, runs: &[&'a PlannedRun], plan: &Plan) -> Result<Self> {
        let mut spinner = Spinner::new("planning memory".into());
        together::wait_for_earlier(job, || spinner.tick("waiting for an earlier sweep"))?;
        let mut left = match plan.config.share {
            true => together::streams(runs)?,
            false => runs.iter().map(|run| vec![*run]).collect(),
        };
        let known = |device: &String| Some((device.clone(), memory::free(device)?));
        let mut free: BTreeMap<String, u64> = plan.devices.iter().filter_map(known).collect();
        let (mut forecast, mut waiting) = (Forecast::new(job)?, Vec::new());
        left.reverse();
        while let Some(runs) = left.pop() {
            let mut needs = BTreeMap::new();
            for device in &plan.devices {
                spinner.tick(device);
                needs.insert(device.clone(), forecast.of(&runs, device)?);
            }
            let unit = Waiting { runs, needs };
            if unit.runs.len() > 1 && !unit.fits(&free) {
                let (first, second) = unit.runs.split_at(unit.runs.len() / 2);
                let (n, m) = (first.len(), second.len());
                note(&format!(
                    "memory: {n} and {m} runs that read the same train one after another"
                ));
                left.extend([second.to_vec(), first.to_vec()]);
            } else {
                waiting.push(unit);
            }
        }
        spinner.done();
        refuse_too_large(&waiting, &free)?;
        waiting.sort_by_key(|unit| {
            std::cmp::Reverse(unit.runs.iter().map(work_of).fold(0, u64::saturating_add))
        });
        let state = Mutex::new(State { waiting, at_work: BTreeMap::new() });
        free.remove("cpu");
        Ok(Self { state, of_gpus: free, changed: Condvar::new() })
    }

    /// Nothing panics while it holds the state.
    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next runs that fit beside those at work on a device; none once all are taken.
    fn next(&self, device: &str) -> Option<Vec<&'a PlannedRun>> {
        let mut state = self.state();
        loop {
            if stop::requested() || state.waiting.is_empty() {
                return None;
            }
            // What runs hold of a GPU is not seen: there, what was free is shared out.
            let free = match device {
                "cpu" => memory::available(),
                gpu => self.of_gpus.get(gpu).copied(),
            };
            if let Some(runs) = state.take(device, free) {
                return Some(runs);
            }
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes what the process of runs holds, the first of which is named.
    fn holds(&self, device: &str, id: &str, bytes: u64) {
        if let Some(entry) = self.state().at_work.get_mut(&(device.into(), id.into())) {
            entry.1 = bytes;
        }
    }

    fn ended(&self, device: &str, id: &str) {
        self.state().at_work.remove(&(device.into(), id.into()));
        self.changed.notify_all();
    }
}

impl<'a> State<'a> {
    /// Takes the first runs that fit into what is free.
    fn take(&mut self, device: &str, free: Option<u64>) -> Option<Vec<&'a PlannedRun>> {
        let here = self.at_work.iter().filter(|((on, _), _)| on == device);
        let at_work: Vec<_> = here.map(|(_, bytes)| *bytes).collect();
        let fits = |w: &Waiting<'_>| memory::fits(w.needs[device], &at_work, free);
        let index = self.waiting.iter().position(fits)?;
        let Waiting { runs, needs } = self.waiting.remove(index);
        self.at_work.insert((device.into(), runs[0].id.clone()), (needs[device], 0));
        Some(runs)
    }
}

impl Waiting<'_> {
    /// Whether they fit into what is free on some device.
    fn fits(&self, free: &BTreeMap<String, u64>) -> bool {
        let mut needs = self.needs.iter();
        needs.any(|(device, need)| free.get(device).is_none_or(|free| need <= free))
    }
}

/// Refuses runs that take more than is free on every device.
fn refuse_too_large(waiting: &[Waiting<'_>], free: &BTreeMap<String, u64>) -> Result<()> {
    let mega = |bytes: u64| bytes / 1_000_000;
    let large: Vec<_> = waiting.iter().filter(|unit| !unit.fits(free)).collect();
    let Some(first) = large.first() else { return Ok(()) };
    let needs: Vec<_> = first
        .needs
        .iter()
        .map(|(device, need)| {
            let free = free.get(device).copied().unwrap_or(0);
            format!("{} MB on {device}, where {} MB are free", mega(*need), mega(free))
        })
        .collect();
    let (id, point, needs) = (&first.runs[0].id, &first.runs[0].point, needs.join(", or "));
    let others = match large.len() {
        1 => String::new(),
        n => format!(", and {} runs like it", n - 1),
    };
    bail!(usage(format!(
        "memory: run {id} ({point}) needs {needs}{others}; make it smaller, or leave it out (--filter)"
    )))
}

/// Takes runs from the queue until it is empty.
fn work<'a>(job: &Job, queue: &Queue<'a>, place: &Place, events: &Sender<Event<'a>>) {
    // The receiver outlives the workers.
    let send = |event| drop(events.send(event));
    while let Some(runs) = queue.next(&place.device) {
        let unit = &runs[0].id;
        let mut last = Instant::now();
        let mut tick = |at_work: &[&'a PlannedRun], resident: u64| {
            if last.elapsed() < LOOK {
                return;
            }
            last = Instant::now();
            if place.device == "cpu" {
                queue.holds(&place.device, unit, resident);
            }
            for run in at_work {
                let (step, message) = job::progress(&job.folder(&run.id), steps(run));
                send(Event::At(run, step, message));
            }
        };
        runs.iter().for_each(|run| send(Event::Started(run)));
        let late = match runs.len() {
            1 => Ok(vec![]),
            _ => job.train_together(&runs, place, |resident| tick(&runs, resident)),
        };
        let late = match late {
            Ok(late) => late,
            Err(error) => {
                queue.ended(&place.device, unit);
                // The error is that of all of them, and told once.
                send(Event::Ended(runs[0], Err(error)));
                continue;
            }
        };
        for run in &runs {
            let result = match late.iter().find(|result| result.run_id == run.id) {
                Some(result) => Ok(result.clone()),
                None => job.carry_out(&run.id, &run.point.config, place, |resident| {
                    tick(&[*run], resident);
                }),
            };
            send(Event::Ended(run, result.map(|result| job::describe(run, &result))));
        }
        queue.ended(&place.device, unit);
    }
}

fn steps(run: &PlannedRun) -> u64 {
    run.point.config.training.steps
}

/// What the length of a run goes with: rows trained on, times the size of the dictionary.
fn work_of(run: &&PlannedRun) -> u64 {
    let config = &run.point.config;
    let rows = config.training.steps.saturating_mul(config.training.batch_size as u64);
    rows.saturating_mul(config.sae.n_features as u64)
}

/// Threads for each of `jobs` runs that share the CPU.
fn threads(jobs: u16) -> usize {
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    (n_cores / usize::from(jobs)).max(1)
}

#[cfg(test)]
mod tests;
