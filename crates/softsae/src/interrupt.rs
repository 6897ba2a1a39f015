//! Ctrl-C and termination: the first asks a job that can go on later to save and stop, the second
//! kills it; a job that can only start again ends at the first.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Starts listening for signals; `can_resume` says whether the job looks at [`requested`].
///
/// Ending at once leaves nothing half-written: what is written has no name until it is whole.
pub(crate) fn install(can_resume: bool) {
    let mut signals = match Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            say(&format!("warning: signals are not handled, an interrupt stops at once: {error}"));
            return;
        }
    };
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        for signal in signals.forever() {
            // A scheduler and the program that started this one may each pass one request on, as
            // SIGTERM and as SIGINT: only the same signal again is another request.
            if !can_resume || seen.contains(&signal) {
                say("interrupted");
                // Without the destructors of libtorch, which another thread may be using.
                signal_hook::low_level::exit(130);
            }
            if seen.is_empty() {
                say("stopping after this step; once more to stop at once");
            }
            seen.push(signal);
            REQUESTED.store(true, Ordering::SeqCst);
        }
    });
}

/// Tells whoever still listens.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether a signal has asked the job to stop.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// The flag that a signal sets.
pub(crate) fn flag() -> &'static AtomicBool {
    &REQUESTED
}
