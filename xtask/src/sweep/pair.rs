//! The two stores of a sweep: opened, told apart by their content, and checked row by row before
//! any run starts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sae_config::{Normalization, Parity};
use sae_data::{ActivationStore, PlantedTruth, Statistics, open_store};

use super::content::Contents;
use super::progress::Spinner;
use crate::exit::usage;

/// Activations to train on and to judge by.
pub(super) struct Pair {
    train: Store,
    held_out: Store,
}

struct Store {
    /// What names it in errors.
    key: String,
    path: PathBuf,
    rows: Arc<dyn ActivationStore>,
}

impl Store {
    fn open(key: &str, path: &Path) -> Result<Self> {
        let rows = open_store(path).map_err(|e| usage(format!("{key}: {e}")))?;
        Ok(Self { key: key.into(), path: path.to_owned(), rows })
    }

    /// An error of the store.
    fn refuse(&self, expected: &str, got: impl std::fmt::Display) -> anyhow::Error {
        let (key, path) = (&self.key, self.path.display());
        usage(format!("{key}: {path}: expected {expected}, got {got}"))
    }

    fn hash(&self) -> Result<String> {
        let hash = || self.rows.content_hash();
        patiently(&format!("reading {}", self.key), hash)
            .map_err(|e| usage(format!("{}: {e}", self.key)))
    }

    /// The hashes of the stores that it is made of.
    fn parts(&self) -> Result<BTreeSet<String>> {
        let hashes = self.rows.content_hashes();
        Ok(hashes.map_err(|e| usage(format!("{}: {e}", self.key)))?.into_iter().collect())
    }

    /// Reads every row, unless that was done before: all must be finite and match their checksums.
    fn scan(&self) -> Result<Statistics> {
        let scan = || Statistics::cached(&*self.rows);
        patiently(&format!("checking {}", self.key), scan)
            .map_err(|e| usage(format!("{}: {e}", self.key)))
    }
}

impl Pair {
    /// Opens two stores, each with what names it in errors.
    pub(super) fn open(train: (&str, &Path), held_out: (&str, &Path)) -> Result<Self> {
        let (train, held_out) =
            (Store::open(train.0, train.1)?, Store::open(held_out.0, held_out.1)?);
        let (d_model, got) = (train.rows.d_model(), held_out.rows.d_model());
        if got != d_model {
            let expected = format!("d_model {d_model}, as in {}", train.path.display());
            bail!(held_out.refuse(&expected, got));
        }
        Ok(Self { train, held_out })
    }

    pub(super) fn paths(&self) -> [&Path; 2] {
        [&self.train, &self.held_out].map(|store| store.path.as_path())
    }

    /// The stores, with the hashes of their content.
    pub(super) fn hashes(&self) -> Result<[(&Path, String); 2]> {
        let [train, held_out] = self.paths();
        Ok([(train, self.train.hash()?), (held_out, self.held_out.hash()?)])
    }

    pub(super) fn d_model(&self) -> usize {
        self.train.rows.d_model()
    }

    /// What stands for the stores in the ids of runs: the rows of both, and the truth of the planted
    /// features that runs are judged by.
    pub(super) fn content(&self, contents: &Contents) -> Result<String> {
        let (train, held_out) = (self.train.hash()?, self.held_out.hash()?);
        let truth = match PlantedTruth::file(&self.held_out.path) {
            Some(file) => format!(", truth {}", contents.file(&self.held_out.key, &file)?),
            None => String::new(),
        };
        Ok(format!("train {train}, held out {held_out}{truth}"))
    }

    /// Refuses stores that hold the same rows or share a file of them; rows to judge by that are not
    /// finite, and rows to train on where some run reads all of them (`is_whole`); a truth that
    /// cannot be read.
    pub(super) fn check(&self, is_whole: bool) -> Result<()> {
        let same = || {
            let got = format!("those of {}", self.train.path.display());
            self.held_out.refuse("activations that are not trained on", got)
        };
        if self.train.hash()? == self.held_out.hash()? {
            bail!(same());
        }
        let (train, held_out) = (self.train.parts()?, self.held_out.parts()?);
        match held_out.intersection(&train).count() {
            0 => {}
            n => {
                let (all, train) = (held_out.len(), self.train.path.display());
                let got = format!("{n} of its {all} files or stores in {train} as well");
                bail!(self.held_out.refuse("activations that are not trained on", got));
            }
        }
        let held_out = self.held_out.scan()?;
        // Sums over rows in their order: the same to the bit only of the same rows.
        if is_whole && self.train.scan()? == held_out {
            bail!(same());
        }
        if held_out.mean_squared_centred_norm <= 0.0 {
            bail!(self.held_out.refuse("rows that differ", "one row, again and again"));
        }
        let truth = PlantedTruth::find(&self.held_out.path);
        truth.map_err(|e| usage(format!("{}: {e}", self.held_out.key)))?;
        Ok(())
    }

    /// Checks that positions of the rows to train on are known; `key` asks for them.
    pub(super) fn check_positions(&self, key: &str) -> Result<()> {
        let meta = self.train.rows.read_meta(0, &mut [sae_data::RowMeta::default()]);
        meta.map_err(|e| usage(format!("{key}: {e}")))
    }

    /// Checks that the rows to train on can be divided by the norm that a run's normalization asks for.
    pub(super) fn check_scale(&self, scale: (Normalization, Parity)) -> Result<()> {
        let scan = || self.train.scan();
        let (what, norm) = match scale {
            (Normalization::Scale, _) | (Normalization::ShiftScale, Parity::Official) => {
                ("rows that are not all zeros", scan()?.mean_squared_norm)
            }
            (Normalization::ShiftScale, Parity::None) => {
                ("rows that differ", scan()?.mean_squared_centred_norm)
            }
            (Normalization::None | Normalization::UnitNorm | Normalization::LayerNorm, _) => {
                return Ok(());
            }
        };
        if norm > 0.0 {
            return Ok(());
        }
        let got = format!("a mean squared norm of {norm} to divide by (`sae.normalization`)");
        bail!(self.train.refuse(what, got))
    }

    /// Rows to train on, before filters.
    pub(super) fn n_rows(&self) -> u64 {
        self.train.rows.n_rows()
    }
}

/// Refuses a store to judge by with rows that are not finite, or that differ in nothing.
pub(super) fn check_held_out((key, path): (&str, &Path)) -> Result<()> {
    let store = Store::open(key, path)?;
    if store.scan()?.mean_squared_centred_norm <= 0.0 {
        bail!(store.refuse("rows that differ", "one row, again and again"));
    }
    Ok(())
}

/// The hash of a store to judge by, and the hook point that it is of, where it knows it.
pub(super) fn held_out((key, path): (&str, &Path)) -> Result<(String, Option<String>)> {
    let store = Store::open(key, path)?;
    let hook = store.rows.provenance().map(|of| of.hook_point.clone());
    Ok((store.hash()?, hook.filter(|hook| !hook.is_empty())))
}

/// Does what may take long, which is said if it does.
fn patiently<T: Send>(what: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let (start, mut spinner) = (Instant::now(), None);
        let work = scope.spawn(work);
        while !work.is_finished() {
            if start.elapsed() > Duration::from_secs(2) {
                spinner.get_or_insert_with(|| Spinner::new(what.to_owned())).tick("");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(spinner) = spinner {
            spinner.done();
        }
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
