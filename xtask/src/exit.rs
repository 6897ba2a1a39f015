//! How a command ends: 0 done, 1 failed, 2 bad usage or configuration, 130 interrupted.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

/// Bad usage or configuration, as against work that failed.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A usage error with this message.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// The user asked to stop.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted; the same command goes on from here")
    }
}

impl std::error::Error for Interrupted {}

/// Prints a line to the user, who may have closed the terminal.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a line to standard output, as `println!` does; a reader that has gone has seen enough.
macro_rules! say {
    ($($part:tt)*) => { $crate::exit::print(format_args!($($part)*))? };
}

/// Prints a line; what else than a reader that has gone is an error.
pub(crate) fn print(line: Arguments<'_>) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// Prints what went wrong, if something did, and gives the exit code.
pub(crate) fn report(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    note(&format!("error: {}", message(&error)));
    ExitCode::from(code(&error))
}

/// The messages of an error and its causes; a cause that was already told is left out.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text
}

/// Whether an error is one of usage or configuration.
pub(crate) fn is_usage(error: &anyhow::Error) -> bool {
    code(error) == 2
}

fn code(error: &anyhow::Error) -> u8 {
    let is_usage = |e: &(dyn std::error::Error + 'static)| match e.downcast_ref() {
        Some(sae_config::Error::Io { .. }) => false,
        Some(_) => true,
        None => e.is::<Usage>(),
    };
    match error {
        e if e.is::<Interrupted>() => 130,
        e if e.chain().any(is_usage) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn codes_tell_usage_from_failure() {
        assert_eq!(code(&anyhow!("broken")), 1);
        assert_eq!(code(&usage("wrong").context("while reading")), 2);
        assert_eq!(code(&Interrupted.into()), 130);
        let wrong = sae_config::Error::value("k", "more", 0);
        assert_eq!(code(&anyhow::Error::from(wrong).context("in the sweep")), 2);
    }

    #[test]
    fn a_cause_is_told_once() {
        let file = std::path::Path::new("no/such/file");
        let missing = sae_config::read_toml::<toml::Table>(file).context("the sweep");
        let text = message(&missing.unwrap_err());
        assert_eq!(text.matches("No such file").count(), 1, "{text}");
        assert!(text.starts_with("the sweep: no/such/file"), "{text}");
    }
}
