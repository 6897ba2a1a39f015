//! What commands print.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};

/// As `println!`, but a reader that has gone, as after `| head`, is no failure.
macro_rules! say {
    ($($arguments:tt)*) => { $crate::output::line(format_args!($($arguments)*)) };
}
pub(crate) use say;

/// As `eprintln!`, but nobody has to listen.
macro_rules! note {
    ($($arguments:tt)*) => { $crate::output::to_stderr(format_args!($($arguments)*)) };
}
pub(crate) use note;

pub(crate) fn to_stderr(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub(crate) fn line(line: Arguments<'_>) {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            note!("error: standard output: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}
