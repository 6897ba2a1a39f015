//! The loader: an endless stream of shuffled rows in batches, whose place can be saved.

mod source;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::plan::{Order, rows_of};
use crate::prefetch::{Prefetcher, Row, Stores};
use crate::store::to_usize;
use crate::{ActivationStore, BatchSource, Error, Port, Ports, Result};

/// Settings of a [`Loader`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoaderConfig {
    /// Rows a batch.
    pub batch_size: usize,
    /// Seed of the order.
    pub seed: u64,
    /// Processes that share each epoch.
    pub world_size: u64,
    /// Which of them this is, from 0.
    pub rank: u64,
    /// Bytes of f32 read in one go.
    pub block_bytes: usize,
    /// Bytes of f32 shuffled in memory at a time.
    pub window_bytes: usize,
    /// Threads that read ahead; they change nothing but the speed.
    pub threads: usize,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch_size: 1024,
            seed: 0,
            world_size: 1,
            rank: 0,
            block_bytes: 128 << 10,
            window_bytes: 128 << 20,
            threads: 1,
        }
    }
}

/// A place in a loader's stream, with all that decides what comes after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderPosition {
    /// Epochs behind, from 0.
    pub epoch: u64,
    /// Rows behind in this epoch's share of the rank.
    pub row: u64,
    /// Seed of the order.
    pub seed: u64,
    /// Processes that share each epoch.
    pub world_size: u64,
    /// Which of them this is.
    pub rank: u64,
    /// Rows read in one go.
    pub block_rows: u64,
    /// Most rows shuffled in memory at a time.
    pub window_rows: u64,
    /// Rows of the store.
    pub n_rows: u64,
    /// Dimension of a row.
    pub d_model: usize,
}

/// Batches of shuffled rows, epoch after epoch.
///
/// The stream of rows is the concatenation of the epochs' shuffles, cut into batches: a batch may
/// hold the end of one epoch and the start of the next, and no row is left out or padded. Over the
/// ranks together, each row comes exactly once an epoch.
///
/// The order depends on the seed, the epoch, `world_size`, `rank`, `block_bytes`, `window_bytes`
/// and the store's shape; neither on `batch_size` nor on `threads`.
///
/// # Mixing
/// Blocks of consecutive rows (`block_bytes`) are shuffled over the whole store and rows uniformly
/// within a window (`window_bytes`). A store that fits one window is shuffled uniformly. In a
/// larger one, a row shares its batch with (batch_size − 1)·(block − 1)/(window − 1) rows of its
/// own block on average: with the default sizes, d_model 768 and batches of 2048, with two.
///
/// # Memory
/// `window_bytes`, a batch, and `threads` + 1 blocks; about 60 bytes a row of a window, and 8 bytes a
/// block. The next window is read into what the batches leave of the present one.
/// With a target, `window_bytes` are those of the input, and the memory of a row is that of both.
#[derive(Debug)]
pub struct Loader {
    stores: Stores,
    ports: Ports<Port>,
    config: LoaderConfig,
    order: Order,
    epoch: u64,
    row: u64,
    /// Absent until rows are asked for.
    prefetcher: Option<Prefetcher>,
    window: Vec<Row>,
    /// Rows of the window that were handed out.
    used: usize,
    failed: bool,
}

impl Loader {
    /// Starts at the first row of epoch 0.
    ///
    /// # Errors
    /// A setting out of range, named; fewer rows than ranks; rows that cannot be read.
    pub fn new(store: Arc<dyn ActivationStore>, config: LoaderConfig) -> Result<Self> {
        let mut this = Self::open(store, config)?;
        this.start()?;
        Ok(this)
    }

    /// Goes on at a position as if the stream had never stopped: bit for bit the same rows.
    ///
    /// # Errors
    /// As [`Loader::new`]; a position that belongs to another store or other settings, naming the
    /// difference.
    pub fn resume(
        store: Arc<dyn ActivationStore>,
        config: LoaderConfig,
        position: &LoaderPosition,
    ) -> Result<Self> {
        let mut this = Self::open(store, config)?;
        this.go_to(position)?;
        this.start()?;
        Ok(this)
    }

    /// A loader of one store, or of an input and a target as [`zip`](fn@crate::zip) gives them, that
    /// reads no row before the first batch is asked for. The order of the rows is that of the input
    /// alone.
    ///
    /// # Errors
    /// A setting out of range, named; fewer rows than ranks; a target of another number of rows.
    pub fn open(
        stores: impl Into<Ports<Arc<dyn ActivationStore>>>,
        config: LoaderConfig,
    ) -> Result<Self> {
        let stores = stores.into();
        let order = order(&*stores.input, &config)?;
        if let Some(target) = stores.target.as_ref().filter(|t| t.n_rows() != order.n_rows) {
            let expected = format!("{} rows, as the input has", order.n_rows);
            return Err(Error::value("target", expected, target.n_rows()));
        }
        Ok(Self {
            ports: stores.as_ref().map(|store| Port::of_store(&**store)),
            stores,
            config,
            order,
            epoch: 0,
            row: 0,
            prefetcher: None,
            window: Vec::new(),
            used: 0,
            failed: false,
        })
    }

    /// Goes to a position, where nothing is read until it is asked for.
    fn go_to(&mut self, position: &LoaderPosition) -> Result<()> {
        let &LoaderPosition { epoch, row, .. } = position;
        position.check(&position_of(&self.order, self.d_model(), epoch, row))?;
        if row >= self.order.share_rows() {
            let expected = format!("below {}", self.order.share_rows());
            return Err(Error::value("loader position: row", expected, row));
        }
        (self.epoch, self.row) = (epoch, row);
        (self.prefetcher, self.used, self.failed) = (None, 0, false);
        self.window.clear();
        Ok(())
    }

    /// Starts to read at the present position.
    fn start(&mut self) -> Result<()> {
        let Self { order, epoch, row, config, .. } = self;
        let window = order.window_of(*row);
        let blocks = to_usize(order.block_rows).saturating_mul(config.threads.saturating_add(1));
        let ahead = config.batch_size.saturating_add(blocks);
        let stores = self.stores.clone();
        let prefetcher = Prefetcher::start(stores, *order, *epoch, window, ahead, config.threads)?;
        let skipped = to_usize(*row - order.window_start(window));
        self.prefetcher = Some(prefetcher);
        self.next_window()?;
        self.use_rows(skipped);
        Ok(())
    }

    /// Writes the next batch of a store without a target.
    ///
    /// # Shapes
    /// `batch` is `[batch_size, d_model]`, row-major.
    ///
    /// # Errors
    /// Those of [`BatchSource::next_batch`].
    pub fn next_batch(&mut self, batch: &mut [f32]) -> Result<()> {
        BatchSource::next_batch(self, batch.into())
    }

    /// Where the next batch begins.
    #[must_use]
    pub fn position(&self) -> LoaderPosition {
        position_of(&self.order, self.d_model(), self.epoch, self.row)
    }

    /// Rows a batch.
    #[must_use]
    pub const fn batch_size(&self) -> usize {
        self.config.batch_size
    }

    /// Dimension of a row of the input.
    #[must_use]
    pub const fn d_model(&self) -> usize {
        self.ports.input.dimension
    }

    fn next_window(&mut self) -> Result<()> {
        self.failed = true;
        self.window = self.prefetcher.as_mut().ok_or(Error::Stopped)?.next()?;
        (self.used, self.failed) = (0, false);
        Ok(())
    }

    /// Gives back the memory of the next `n` rows of the window.
    fn use_rows(&mut self, n: usize) {
        let rows = self.window[self.used..][..n].iter_mut().map(std::mem::take);
        if let Some(prefetcher) = &self.prefetcher {
            prefetcher.give_back(rows);
        }
        self.used += n;
    }

    fn advance(&mut self, n: u64) {
        let row = self.row + n;
        self.epoch += row / self.order.share_rows();
        self.row = row % self.order.share_rows();
    }
}

impl LoaderPosition {
    fn check(&self, expected: &Self) -> Result<()> {
        let fields = |p: &Self| {
            [
                ("n_rows", p.n_rows),
                ("d_model", p.d_model as u64),
                ("seed", p.seed),
                ("world_size", p.world_size),
                ("rank", p.rank),
                ("block_rows", p.block_rows),
                ("window_rows", p.window_rows),
            ]
        };
        for ((field, got), (_, expected)) in fields(self).into_iter().zip(fields(expected)) {
            if got != expected {
                return Err(Error::value(format!("loader position: {field}"), expected, got));
            }
        }
        Ok(())
    }
}

fn position_of(order: &Order, d_model: usize, epoch: u64, row: u64) -> LoaderPosition {
    let &Order { seed, n_rows, block_rows, window_rows, world_size, rank } = order;
    LoaderPosition { epoch, row, seed, world_size, rank, block_rows, window_rows, n_rows, d_model }
}

/// Checks the settings and turns bytes into rows.
fn order(store: &dyn ActivationStore, config: &LoaderConfig) -> Result<Order> {
    let &LoaderConfig { seed, world_size, rank, .. } = config;
    for (field, value) in [
        ("batch_size", config.batch_size),
        ("block_bytes", config.block_bytes),
        ("window_bytes", config.window_bytes),
        ("threads", config.threads),
    ] {
        if value == 0 {
            return Err(Error::value(field, "at least 1", 0));
        }
    }
    if world_size == 0 || world_size > store.n_rows() {
        let expected = format!("1 to {}, the rows of the store", store.n_rows());
        return Err(Error::value("world_size", expected, world_size));
    }
    if rank >= world_size {
        return Err(Error::value("rank", format!("below world_size {world_size}"), rank));
    }
    let window_rows = rows_of(config.window_bytes, store.d_model()).min(u64::from(u32::MAX));
    let block_rows = rows_of(config.block_bytes, store.d_model());
    Ok(Order { seed, n_rows: store.n_rows(), block_rows, window_rows, world_size, rank })
}
