//! Asks a judge of features, and keeps what it says.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use sae_config::{Confusion, FeatureLabels, Judged};
use sae_report::{FeatureTasks, Item};

use crate::budget::Spent;
use crate::endpoint::shortened;
use crate::journal::{Entry, Journal};
use crate::prompts::Message;
use crate::{Budget, Endpoint, Error, Result, answers, prompts};

/// Texts that are judged in one request, as Delphi does by default.
const TEXTS_AT_ONCE: usize = 5;

/// Answers in a row that cannot be read, after which nothing more is asked.
const MAX_UNREADABLE: u32 = 10;

/// A judge of features.
#[derive(Debug)]
pub struct Judge {
    endpoint: Endpoint,
    journal: Journal,
    spent: Spent,
    /// Answers in a row that cannot be read.
    unreadable: AtomicU32,
}

/// What came of asking.
#[derive(Debug)]
pub struct Outcome {
    /// The features that were judged.
    pub labels: FeatureLabels,
    /// Why others were not.
    pub stopped: Option<Error>,
}

impl Judge {
    /// A judge whose answers are kept in the file `answers`, where those of earlier calls are found.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Journal`] for that file.
    pub fn open(endpoint: Endpoint, answers: &Path, budget: Budget) -> Result<Self> {
        let (journal, requests, tokens) = Journal::open(answers)?;
        let spent = Spent::new(budget, requests, tokens);
        Ok(Self { endpoint, journal, spent, unreadable: AtomicU32::new(0) })
    }

    /// Requests and tokens so far, those of earlier calls included.
    #[must_use]
    pub fn spent(&self) -> [u64; 2] {
        self.spent.total()
    }

    /// Judges features, `at_once` of them at the same time, and tells `done` how many are done. What
    /// it says does not depend on their order. The first failure ends it, after what is being asked.
    ///
    /// # Panics
    /// If `done` or the iterator panics.
    pub fn run<I>(&self, tasks: &Mutex<I>, at_once: usize, done: &(dyn Fn(usize) + Sync)) -> Outcome
    where
        I: Iterator<Item = sae_report::Result<FeatureTasks>> + Send,
    {
        let (n_done, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (labels, stopped) = (Mutex::new(FeatureLabels::new()), Mutex::new(None));
        let one = || -> Result<bool> {
            let next = tasks.lock().expect("no holder panics").next();
            let Some(task) = next.transpose()? else { return Ok(false) };
            let judged = self.judge(&task, &is_over)?;
            labels.lock().expect("no holder panics").insert(task.feature, judged);
            done(n_done.fetch_add(1, Ordering::SeqCst) + 1);
            Ok(true)
        };
        std::thread::scope(|scope| {
            for _ in 0..at_once.max(1) {
                scope.spawn(|| {
                    while !is_over.load(Ordering::SeqCst) {
                        match one() {
                            Ok(true) => {}
                            Ok(false) => break,
                            Err(error) => {
                                // Those that end for its sake come later.
                                stopped.lock().expect("no holder panics").get_or_insert(error);
                                is_over.store(true, Ordering::SeqCst);
                            }
                        }
                    }
                });
            }
        });
        Outcome {
            labels: labels.into_inner().expect("no holder panics"),
            stopped: stopped.into_inner().expect("no holder panics"),
        }
    }

    fn judge(&self, tasks: &FeatureTasks, is_over: &AtomicBool) -> Result<Judged> {
        let feature = tasks.feature;
        let asked = prompts::describe(tasks);
        let label = self.ask(feature, &asked, is_over, answers::label)?;
        let score = |items: &[Item], prompt: Prompt| -> Result<Option<Confusion>> {
            let Some(label) = &label else { return Ok(None) };
            let mut found = Confusion::default();
            for items in items.chunks(TEXTS_AT_ONCE) {
                let read = |answer: &str| answers::list(answer, items.len());
                let list = self.ask(feature, &prompt(tasks, label, items), is_over, read)?;
                for (at, item) in items.iter().enumerate() {
                    found.add(item.active, list.as_ref().map(|list| list[at]));
                }
            }
            Ok(Some(found))
        };
        let detection = score(&tasks.detection, prompts::detect)?;
        let fuzzing = score(&tasks.fuzzing, prompts::fuzz)?;
        Ok(Judged { model: self.endpoint.model().to_owned(), label, detection, fuzzing })
    }

    /// What an answer says to `read`: one that is kept, else a new one. None where it says nothing.
    fn ask<T>(
        &self,
        feature: u32,
        asked: &[Message],
        is_over: &AtomicBool,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let model = self.endpoint.model();
        let text = serde_json::to_vec(&(model, asked)).expect("strings are valid JSON");
        let key = blake3::hash(&text).to_string();
        if let Some(found) = self.journal.find(&key).and_then(|answer| read(&answer)) {
            return Ok(Some(found));
        }
        if is_over.load(Ordering::SeqCst) {
            return Err(Error::Stopped);
        }
        let reply = self.endpoint.ask(asked, &self.spent)?;
        let found = if reply.is_cut_off { None } else { read(&reply.text) };
        self.journal.add(Entry {
            key,
            model: model.to_owned(),
            feature,
            readable: found.is_some(),
            tokens: reply.tokens,
            answer: reply.text.clone(),
        })?;
        if found.is_some() {
            self.unreadable.store(0, Ordering::SeqCst);
            return Ok(found);
        }
        let n = self.unreadable.fetch_add(1, Ordering::SeqCst) + 1;
        if n < MAX_UNREADABLE {
            return Ok(None);
        }
        let (model, last) = (model.to_owned(), shortened(&reply.text));
        Err(Error::Unreadable { model, n, last, is_cut_off: reply.is_cut_off })
    }
}

type Prompt = fn(&FeatureTasks, &str, &[Item]) -> Vec<Message>;
