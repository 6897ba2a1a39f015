//! The threads that fill windows ahead of the consumer.
//!
//! A thread claims the next window together with an empty buffer, under one lock: buffers go to
//! windows in order, so the window that the consumer waits for always has one. There is one buffer
//! more than threads, which bounds the memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::plan::{Epoch, Order, Window};
use crate::store::to_usize;
use crate::{ActivationStore, Error, Result};

/// A window's rows in the order of the stream.
pub(crate) type Rows = Vec<f32>;

#[derive(Debug)]
pub(crate) struct Prefetcher {
    shared: Arc<Shared>,
    empty: Option<Sender<Rows>>,
    filled: Receiver<(u64, Result<Rows>)>,
    /// Windows that came before their turn, by number.
    early: BTreeMap<u64, Rows>,
    next: u64,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn ActivationStore>,
    order: Order,
    claims: Mutex<Claims>,
    stop: AtomicBool,
}

/// What the next thread gets to do.
#[derive(Debug)]
struct Claims {
    empty: Receiver<Rows>,
    number: u64,
    window: u64,
    epoch: Arc<Epoch>,
    epoch_number: u64,
}

/// A window to fill.
struct Claim {
    number: u64,
    window: u64,
    epoch: Arc<Epoch>,
    rows: Rows,
}

impl Prefetcher {
    /// Starts `n_threads` threads that fill windows from `window` of `epoch_number` on.
    pub(crate) fn start(
        store: Arc<dyn ActivationStore>,
        order: Order,
        epoch_number: u64,
        window: u64,
        n_threads: usize,
    ) -> Result<Self> {
        let d_model = store.d_model();
        let (empty, empty_receiver) = channel();
        let (filled_sender, filled) = channel();
        let claims = Claims {
            empty: empty_receiver,
            number: 0,
            window,
            epoch: Arc::new(order.epoch(epoch_number)),
            epoch_number,
        };
        let stop = AtomicBool::new(false);
        let shared = Arc::new(Shared { store, order, claims: Mutex::new(claims), stop });
        let mut this = Self {
            shared,
            empty: Some(empty),
            filled,
            early: BTreeMap::new(),
            next: 0,
            threads: Vec::new(),
        };
        for i in 0..n_threads {
            let (shared, filled) = (Arc::clone(&this.shared), filled_sender.clone());
            let thread = std::thread::Builder::new()
                .name(format!("loader-{i}"))
                .spawn(move || shared.work(&filled))
                .map_err(|e| Error::value("threads", "threads that can be started", e))?;
            this.threads.push(thread);
        }
        let capacity = to_usize(order.max_window_rows()) * d_model;
        (0..=n_threads).for_each(|_| this.give_back(Rows::with_capacity(capacity)));
        Ok(this)
    }

    /// Hands a buffer back to be filled again.
    pub(crate) fn give_back(&self, rows: Rows) {
        if let Some(empty) = &self.empty {
            // Fails only when all threads have ended, after an error that `next` reports.
            let _ = empty.send(rows);
        }
    }

    /// The next window.
    pub(crate) fn next(&mut self) -> Result<Rows> {
        let rows = loop {
            if let Some(rows) = self.early.remove(&self.next) {
                break rows;
            }
            let (number, rows) = self.filled.recv().map_err(|_| Error::Stopped)?;
            match rows {
                Ok(rows) => self.early.insert(number, rows),
                Err(e) => {
                    self.shared.stop.store(true, Ordering::Relaxed);
                    return Err(e);
                }
            };
        };
        self.next += 1;
        Ok(rows)
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.empty = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has printed why; there is nothing to add while dropping.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, filled: &Sender<(u64, Result<Rows>)>) {
        let mut scratch = Vec::new();
        while let Some(mut claim) = self.claim() {
            let window = claim.epoch.window(claim.window);
            let result = self.fill(&window, &mut scratch, &mut claim.rows);
            let failed = result.is_err();
            let sent = filled.send((claim.number, result.map(|()| claim.rows)));
            if failed || sent.is_err() {
                break;
            }
        }
    }

    /// Waits for a buffer and takes the next window; none when the loader is dropped.
    fn claim(&self) -> Option<Claim> {
        let mut claims = self.claims.lock().ok()?;
        let rows = claims.empty.recv().ok()?;
        if self.stopped() {
            return None;
        }
        if claims.window == self.order.n_windows() {
            claims.window = 0;
            claims.epoch_number += 1;
            claims.epoch = Arc::new(self.order.epoch(claims.epoch_number));
        }
        let (number, window) = (claims.number, claims.window);
        claims.number += 1;
        claims.window += 1;
        Some(Claim { number, window, epoch: Arc::clone(&claims.epoch), rows })
    }

    /// Reads blocks one by one and puts each row in its place.
    fn fill(&self, window: &Window, scratch: &mut Vec<f32>, rows: &mut Rows) -> Result<()> {
        let d_model = self.store.d_model();
        rows.resize(window.places.len() * d_model, 0.0);
        let mut places = window.places.iter();
        for &(first, n) in &window.stretches {
            if self.stopped() {
                return Err(Error::Stopped);
            }
            scratch.resize(to_usize(n) * d_model, 0.0);
            self.store.read_rows(first, scratch)?;
            for (row, &place) in scratch.chunks_exact(d_model).zip(places.by_ref()) {
                rows[place as usize * d_model..][..d_model].copy_from_slice(row);
            }
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
