//! The threads that read rows ahead of the consumer.
//!
//! The memory of a row goes round: from the pool to a thread that reads into it, to its window,
//! and back to the pool when the consumer has copied it. So the next window is read into what the
//! present one leaves, and the size of the pool bounds the memory.
//!
//! Blocks are claimed in the order of the windows, each together with rows from the pool, under
//! one lock. The pool has more rows than a window, and a consumer that waits for a window has
//! given back all that came before it: there are always rows for what it waits for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::plan::{Epoch, Order, Window};
use crate::store::to_usize;
use crate::{ActivationStore, Error, Ports, Result};

/// The stores that rows come from.
pub(crate) type Stores = Ports<Arc<dyn ActivationStore>>;

/// The memory of one row: that of the input, then that of the target.
pub(crate) type Row = Box<[f32]>;

#[derive(Debug)]
pub(crate) struct Prefetcher {
    shared: Arc<Shared>,
    filled: Receiver<Result<Block>>,
    /// Windows whose rows are coming in, by number.
    windows: BTreeMap<u64, Filling>,
    next: u64,
    threads: Vec<JoinHandle<()>>,
}

/// A window and how many of its rows are missing.
#[derive(Debug)]
struct Filling {
    rows: Vec<Row>,
    missing: usize,
}

#[derive(Debug)]
struct Shared {
    stores: Stores,
    /// Elements of a row.
    width: usize,
    order: Order,
    claims: Mutex<Claims>,
    /// Rows came back to the pool, or the threads are to stop.
    changed: Condvar,
}

/// What the next thread gets to do.
#[derive(Debug)]
struct Claims {
    pool: Vec<Row>,
    /// Rows that the pool may still allocate.
    unallocated: usize,
    epoch: Epoch,
    epoch_number: u64,
    /// The window's place in the epoch, and its number since the start.
    place: u64,
    number: u64,
    window: Arc<Window>,
    /// Stretches and rows of the window that are claimed.
    stretches: usize,
    rows: usize,
    stop: bool,
}

/// Consecutive rows of the store, to be read or read.
#[derive(Debug)]
struct Block {
    /// Number of the window.
    number: u64,
    window: Arc<Window>,
    first_row: u64,
    /// Which of the window's places are theirs.
    places: Range<usize>,
    rows: Vec<Row>,
}

impl Prefetcher {
    /// Starts `n_threads` threads that read from `window` of `epoch_number` on, `ahead` rows
    /// beyond the largest window.
    pub(crate) fn start(
        stores: Stores,
        order: Order,
        epoch_number: u64,
        window: u64,
        ahead: usize,
        n_threads: usize,
    ) -> Result<Self> {
        let (sender, filled) = channel();
        let epoch = order.epoch(epoch_number);
        let claims = Claims {
            pool: Vec::new(),
            unallocated: to_usize(order.max_window_rows()).saturating_add(ahead),
            window: Arc::new(epoch.window(window)),
            epoch,
            epoch_number,
            place: window,
            number: 0,
            stretches: 0,
            rows: 0,
            stop: false,
        };
        let (claims, changed) = (Mutex::new(claims), Condvar::new());
        let mut this = Self {
            shared: Arc::new(Shared { width: width(&stores), stores, order, claims, changed }),
            filled,
            windows: BTreeMap::new(),
            next: 0,
            threads: Vec::new(),
        };
        for i in 0..n_threads {
            let (shared, filled) = (Arc::clone(&this.shared), sender.clone());
            let thread = std::thread::Builder::new()
                .name(format!("loader-{i}"))
                .spawn(move || shared.work(&filled))
                .map_err(|e| Error::value("threads", "threads that can be started", e))?;
            this.threads.push(thread);
        }
        Ok(this)
    }

    /// Gives rows back to be filled again.
    pub(crate) fn give_back(&self, rows: impl Iterator<Item = Row>) {
        self.shared.claims().pool.extend(rows);
        self.shared.changed.notify_all();
    }

    /// The next window's rows in the order of the stream.
    pub(crate) fn next(&mut self) -> Result<Vec<Row>> {
        while self.windows.get(&self.next).is_none_or(|window| window.missing > 0) {
            let block = match self.filled.recv() {
                Ok(Ok(block)) => block,
                Ok(Err(e)) => {
                    self.shared.stop();
                    return Err(e);
                }
                Err(_) => return Err(Error::Stopped),
            };
            let places = &block.window.places;
            let window = self.windows.entry(block.number).or_insert_with(|| Filling {
                rows: places.iter().map(|_| Row::default()).collect(),
                missing: places.len(),
            });
            window.missing -= block.rows.len();
            for (row, &place) in block.rows.into_iter().zip(&places[block.places]) {
                window.rows[place as usize] = row;
            }
        }
        let window = self.windows.remove(&self.next);
        self.next += 1;
        window.map(|window| window.rows).ok_or(Error::Stopped)
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has printed why; there is nothing to add while dropping.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.claims().stop = true;
        self.changed.notify_all();
    }

    fn work(&self, filled: &Sender<Result<Block>>) {
        let mut scratch = Vec::new();
        while let Some(mut block) = self.claim() {
            let result = self.read(&mut block, &mut scratch);
            let failed = result.is_err();
            if filled.send(result.map(|()| block)).is_err() || failed {
                break;
            }
        }
    }

    /// Waits for rows and takes the next block; none when the threads are to stop.
    fn claim(&self) -> Option<Block> {
        let mut claims = self.claims();
        loop {
            if claims.stop {
                return None;
            }
            if let Some(block) = claims.next(&self.order, self.width) {
                return Some(block);
            }
            claims = self.changed.wait(claims).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn read(&self, block: &mut Block, scratch: &mut Vec<f32>) -> Result<()> {
        let mut start = 0;
        for store in self.stores.each() {
            let d_model = store.d_model();
            scratch.resize(block.rows.len() * d_model, 0.0);
            store.read_rows(block.first_row, scratch)?;
            for (row, values) in block.rows.iter_mut().zip(scratch.chunks_exact(d_model)) {
                row[start..start + d_model].copy_from_slice(values);
            }
            start += d_model;
        }
        Ok(())
    }
}

/// Elements of a row of these stores.
fn width(stores: &Stores) -> usize {
    stores.each().map(|store| store.d_model()).sum()
}

impl Claims {
    /// The next block, if the pool has rows for it.
    fn next(&mut self, order: &Order, width: usize) -> Option<Block> {
        if self.stretches == self.window.stretches.len() {
            self.next_window(order);
        }
        let (first_row, n) = self.window.stretches[self.stretches];
        let n = to_usize(n);
        let lacking = n.saturating_sub(self.pool.len());
        if lacking > self.unallocated {
            return None;
        }
        self.unallocated -= lacking;
        self.pool.extend((0..lacking).map(|_| vec![0.0; width].into_boxed_slice()));
        let rows = self.pool.split_off(self.pool.len() - n);
        let places = self.rows..self.rows + n;
        self.stretches += 1;
        self.rows += n;
        let window = Arc::clone(&self.window);
        Some(Block { number: self.number, window, first_row, places, rows })
    }

    fn next_window(&mut self, order: &Order) {
        self.number += 1;
        self.place += 1;
        if self.place == order.n_windows() {
            self.place = 0;
            self.epoch_number += 1;
            self.epoch = order.epoch(self.epoch_number);
        }
        self.window = Arc::new(self.epoch.window(self.place));
        (self.stretches, self.rows) = (0, 0);
    }
}
