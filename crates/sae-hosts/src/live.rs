//! Activations straight from a host, as batches to train on: no store in between.

mod place;
mod source;
mod window;

use std::path::PathBuf;

use sae_config::{DataConfig, LiveConfig};
use sae_data::{Dtype, Port, Ports, Provenance};
use tch::Device;

use crate::corpus;
use crate::harvest::{ContextBatch, ContextBatches, check_options, provenance};
use crate::{ContextPosition, Cut, Error, HarvestOptions, HookPoint, HostModel, Result};
use place::Place;
use window::Window;

/// Batches of shuffled rows of a host that reads a corpus again and again.
///
/// A window of rows is harvested, shuffled and given out in batches; then the next one is harvested,
/// from where the first ended in the corpus. Windows do not reach across the end of the corpus: the
/// last before it may be short. A batch may hold rows of two windows.
///
/// The rows are those of a store that is harvested of the same corpus in f32, to the bit, and
/// where all of them fit one window the batches are those that [`sae_data::Loader`] gives of it, in
/// every epoch.
///
/// # Mixing
/// Rows are shuffled uniformly within a window, and windows come in the order of the corpus. A row
/// shares its batch with (batch_size − 1)·(context − 1)/(window − 1) rows of its own context on
/// average, where a context and a window are counted in rows. What lies further apart in the corpus
/// than a window never meets: a corpus that is sorted has to be shuffled by its own setting.
///
/// # Memory
/// The host, `window_bytes` of rows of the input and as many rows of the target, 4 bytes a row for
/// the order, and what the host computes for one batch of contexts.
#[derive(Debug)]
pub struct Live {
    host: HostModel,
    hooks: Ports<HookPoint>,
    ports: Ports<Port>,
    identity: String,
    settings: Settings,
    batches: ContextBatches<'static>,
    /// A batch of contexts that was read and did not fit the window in hand, and where it begins.
    ahead: Option<(ContextPosition, ContextBatch)>,
    /// The window in hand, or the next one.
    place: Place,
    /// Rows of it that were given.
    row: usize,
    window: Option<Window>,
    failed: bool,
}

/// What decides the order of the rows.
#[derive(Debug, Clone, Copy)]
struct Settings {
    batch_size: usize,
    seed: u64,
    /// Most rows of a window.
    window_rows: usize,
    /// Rows at the start of the corpus that statistics are taken of.
    statistics_rows: Option<usize>,
}

impl Live {
    /// Opens the host and the corpus of `data`, to give batches of `batch_size` rows in the order of
    /// `seed`; computes on `device`.
    ///
    /// # Errors
    /// A host or corpus that cannot be opened; [`Error::Input`] with the key of a setting that does
    /// not fit them.
    ///
    /// # Panics
    /// If the data are not live.
    pub fn open(data: &DataConfig, batch_size: usize, seed: u64, device: Device) -> Result<Self> {
        let live = data.live.as_ref().expect("live data");
        let hook = |text: &String| text.parse::<HookPoint>();
        let hooks = Ports {
            input: hook(&live.hook)?,
            target: live.target_hook.as_ref().map(hook).transpose()?,
        };
        let host = HostModel::load(&live.host, device)?;
        hooks.each().try_for_each(|hook| hook.check(host.info()))?;
        let options = options(live);
        let tokenizer = host.tokenizer()?;
        let prepend = options.bos.resolve(tokenizer)?;
        check_options(&host, &options, prepend)?;
        let cut = Cut::of_corpus(live.context_length, prepend, &live.corpus, tokenizer)?;
        let settings = settings(live, &options, host.info().d_model, batch_size, seed)?;
        let documents = corpus::open(&live.corpus, tokenizer)?;
        let ports = hooks.try_map(|hook| {
            let of_port = provenance(&host, &*documents, &cut, hook, &options)?;
            Ok::<_, Error>(port(live.host.clone(), host.info().d_model, of_port))
        })?;
        let wanted = data.min_position.unwrap_or(0)..=data.max_position.unwrap_or(u32::MAX);
        let identity = identity(&ports, &wanted);
        let wanted = *wanted.start() as usize..=*wanted.end() as usize;
        let batches = ContextBatches::new(&host, documents, cut, &options)?.only(wanted);
        Ok(Self {
            host,
            hooks,
            ports,
            identity,
            settings,
            batches,
            ahead: None,
            place: Place::default(),
            row: 0,
            window: None,
            failed: false,
        })
    }

    /// The host.
    pub fn host(&self) -> &HostModel {
        &self.host
    }
}

fn options(live: &LiveConfig) -> HarvestOptions {
    HarvestOptions {
        context_length: live.context_length,
        skip_positions: live.skip_positions,
        bos: live.bos.into(),
        special_tokens: live.special_tokens.into(),
        ..HarvestOptions::default()
    }
}

/// Turns bytes into rows, and checks that a batch of contexts fits a window.
fn settings(
    live: &LiveConfig,
    options: &HarvestOptions,
    d_model: usize,
    batch_size: usize,
    seed: u64,
) -> Result<Settings> {
    let row_bytes = 4 * d_model as u64;
    let window_rows = (live.window_bytes / row_bytes).min(u64::from(u32::MAX)) as usize;
    let least = options.batch_size * (live.context_length - live.skip_positions);
    if window_rows < least {
        let expected = format!(
            "at least {}, the rows of {} contexts that the host reads at once",
            least as u64 * row_bytes,
            options.batch_size
        );
        return Err(Error::input("data.window_bytes", expected, live.window_bytes));
    }
    let statistics_rows = live.statistics_rows.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if let Some(n) = statistics_rows.filter(|n| *n > window_rows) {
        let expected = format!("at most {window_rows}, the rows of a window");
        return Err(Error::input("data.statistics_rows", expected, n));
    }
    Ok(Settings { batch_size, seed, window_rows, statistics_rows })
}

fn port(place: PathBuf, dimension: usize, provenance: Provenance) -> Port {
    Port { place, dimension, dtype: Dtype::F32, provenances: vec![provenance] }
}

/// A hash of all that decides the rows; not of the names of host and corpus, which are those of their
/// places.
fn identity(ports: &Ports<Port>, wanted: &std::ops::RangeInclusive<u32>) -> String {
    let mut hasher = blake3::Hasher::new();
    for provenance in ports.each().flat_map(|port| &port.provenances) {
        let mut nameless = Provenance { host: String::new(), ..provenance.clone() };
        nameless.settings.remove("corpus");
        let json = serde_json::to_vec(&nameless).expect("a provenance is always valid JSON");
        hasher.update(&json);
        hasher.update(b"\n");
    }
    hasher.update(format!("positions {wanted:?}\n").as_bytes());
    hasher.finalize().to_string()
}
