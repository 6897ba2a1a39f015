//! Signals: the first asks everything to stop, the second stops it at once; a closed terminal may
//! be another matter.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::note;

static REQUESTS: AtomicUsize = AtomicUsize::new(0);
static HUNG_UP: AtomicBool = AtomicBool::new(false);

/// Counts signals from now on, instead of ending at the first.
pub(super) fn install() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listening for signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                HUNG_UP.store(true, Ordering::SeqCst);
            } else if REQUESTS.fetch_add(1, Ordering::SeqCst) == 0 {
                note("stopping; once more to stop at once");
            }
        }
    });
    Ok(())
}

/// Whether to stop.
pub(super) fn requested() -> bool {
    REQUESTS.load(Ordering::SeqCst) > 0 || hung_up()
}

/// Whether the terminal was closed.
pub(super) fn hung_up() -> bool {
    HUNG_UP.load(Ordering::SeqCst)
}

/// Whether to stop without waiting.
pub(super) fn urgent() -> bool {
    REQUESTS.load(Ordering::SeqCst) > 1
}
