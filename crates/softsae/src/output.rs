//! What commands print on standard output.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};

/// As `println!`, but a reader that has gone, as after `| head`, is no failure.
macro_rules! say {
    ($($arguments:tt)*) => { $crate::output::line(format_args!($($arguments)*)) };
}
pub(crate) use say;

pub(crate) fn line(line: Arguments<'_>) {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("error: standard output: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}
