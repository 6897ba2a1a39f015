//! Labels of features by a language model, and how well they tell where features are active.
//!
#![doc = include_str!("../README.md")]

mod answers;
mod budget;
mod endpoint;
mod error;
mod journal;
mod judge;
mod prompts;

pub use budget::Budget;
pub use endpoint::{Endpoint, Patience, Settings};
pub use error::{Error, Result};
pub use judge::{Judge, Outcome};
