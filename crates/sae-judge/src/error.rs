//! What can keep a judge from an answer.

use std::path::PathBuf;
use std::time::Duration;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Answers that cannot be had; the message names the address or file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address that is none.
    #[error(
        "endpoint {url:?}: expected an address that begins with http:// or https://, got {got}"
    )]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        got: String,
    },
    /// The endpoint refuses what it is asked, now and later.
    #[error("{url}: expected an answer to a chat, got status {status}: {said}")]
    Refused {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// The endpoint gave no answer in so many attempts.
    #[error("{url}: expected an answer, got {got} in the last of {attempts} attempts")]
    Unreachable {
        /// The address.
        url: String,
        /// What came of the last attempt.
        got: String,
        /// Attempts in a row.
        attempts: u32,
    },
    /// The endpoint asks for a wait that is too long.
    #[error("{url}: expected to wait for at most {longest:?}, got asked for {wanted:?}")]
    Wait {
        /// The address.
        url: String,
        /// What it asks for.
        wanted: Duration,
        /// The longest wait.
        longest: Duration,
    },
    /// The model does not answer as the prompts ask it to.
    #[error(
        "{model}: expected answers as the prompts ask for, got {n} in a row that are none, the last{}: {last:?}",
        if *is_cut_off { ", cut off at the bound on its tokens" } else { "" }
    )]
    Unreadable {
        /// The model.
        model: String,
        /// Answers.
        n: u32,
        /// The beginning of the last one.
        last: String,
        /// Whether it ended at the bound on tokens of an answer.
        is_cut_off: bool,
    },
    /// No more may be asked.
    #[error("the budget of {limit} {what} is spent")]
    Budget {
        /// What is counted.
        what: &'static str,
        /// Of them.
        limit: u64,
    },
    /// Another request has failed.
    #[error("stopped as another request has failed")]
    Stopped,
    /// A file of answers is not what it should be.
    #[error("{path}, line {line}: expected an answer of a judge, got {got}", path = path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        got: String,
    },
    /// A file of answers cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        r#source: std::io::Error,
    },
    /// The tasks cannot be made.
    #[error(transparent)]
    Tasks(#[from] sae_report::Error),
}
