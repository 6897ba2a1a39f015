//! The HTML report of a sweep, from its result files.
//!
#![doc = include_str!("../README.md")]

mod curve;
mod error;
mod page;
mod report;

pub use curve::Curves;
pub use error::{Error, Result};
pub use page::{render, write_report};
pub use report::Report;
