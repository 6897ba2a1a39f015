//! Ctrl-C and termination: the first asks the job to save and stop, the second kills it.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Starts listening for signals.
pub(crate) fn install() {
    let listening = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            process::exit(130);
        }
        eprintln!("stopping after this step; once more to stop at once");
    });
    if let Err(error) = listening {
        eprintln!("warning: signals are not handled, an interrupt stops at once: {error}");
    }
}

/// Whether a signal has asked the job to stop.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// The flag that a signal sets.
pub(crate) fn flag() -> &'static AtomicBool {
    &REQUESTED
}
