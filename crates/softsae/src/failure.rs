//! How a command fails: by its usage (2), by its run (1), or by an interrupt (130).

use std::fmt;
use std::process::ExitCode;

/// Why a command did not finish.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad arguments, configuration or input files: nothing was started.
    Usage(anyhow::Error),
    /// The job itself failed.
    Run(anyhow::Error),
    /// Stopped by Ctrl-C or a termination signal, after saving what it had.
    Interrupted(String),
}

impl Failure {
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    pub(crate) fn run(error: impl Into<anyhow::Error>) -> Self {
        Self::Run(error.into())
    }

    /// The failure of one of several things, which is named.
    pub(crate) fn of(self, what: impl fmt::Display) -> Self {
        match self {
            Self::Usage(error) => Self::Usage(error.context(what.to_string())),
            Self::Run(error) => Self::Run(error.context(what.to_string())),
            Self::Interrupted(message) => Self::Interrupted(format!("{what}: {message}")),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Run(_) => ExitCode::from(1),
            Self::Interrupted(_) => ExitCode::from(130),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) | Self::Run(error) => write!(f, "{error:#}"),
            Self::Interrupted(what) => f.write_str(what),
        }
    }
}

/// Marks an error as the user's or the run's.
pub(crate) trait Blame<T> {
    /// The arguments or the configuration are at fault (exit code 2).
    fn or_usage(self) -> Result<T, Failure>;
    /// The run failed (exit code 1).
    fn or_run(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Blame<T> for Result<T, E> {
    fn or_usage(self) -> Result<T, Failure> {
        self.map_err(Failure::usage)
    }

    fn or_run(self) -> Result<T, Failure> {
        self.map_err(Failure::run)
    }
}
