//! Ctrl-C and termination: the first asks a job that can go on later to save and stop, the second
//! kills it; a job that can only start again ends at the first.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Starts listening for signals; `can_resume` says whether the job looks at [`requested`].
///
/// Ending at once leaves nothing half-written: what is written has no name until it is whole.
pub(crate) fn install(can_resume: bool) {
    let listening = ctrlc::set_handler(move || {
        if !can_resume || REQUESTED.swap(true, Ordering::SeqCst) {
            eprintln!("interrupted");
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
