//! The HTML report of a sweep, from its result files.
//!
#![doc = include_str!("../README.md")]

mod curve;
mod equal;
mod error;
mod features;
mod groups;
mod page;
mod report;
mod settings;
#[cfg(test)]
mod tests;

pub use curve::Curves;
pub use equal::{Compared, EqualL0, Summary};
pub use error::{Error, Result};
pub use features::{FeaturePages, Vocabulary};
pub use groups::{Group, Groups};
pub use page::{render, write_report};
pub use report::{Report, read_results};
pub use settings::{Settings, differing, short};
