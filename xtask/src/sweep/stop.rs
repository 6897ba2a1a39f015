//! Ctrl-C and termination: once asks everything to stop, twice stops it at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

/// Counts signals from now on, instead of ending at the first.
pub(super) fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if REQUESTS.fetch_add(1, Ordering::SeqCst) == 0 {
            eprintln!("stopping; once more to stop at once");
        }
    })
    .context("listening for Ctrl-C")
}

/// Whether to stop.
pub(super) fn requested() -> bool {
    REQUESTS.load(Ordering::SeqCst) > 0
}

/// Whether to stop without waiting.
pub(super) fn urgent() -> bool {
    REQUESTS.load(Ordering::SeqCst) > 1
}
