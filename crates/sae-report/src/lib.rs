//! The HTML report of a sweep, from its result files.
//!
#![doc = include_str!("../README.md")]

mod curve;
mod equal;
mod error;
mod export;
mod features;
mod groups;
mod page;
mod pointed;
mod report;
mod scores;
mod settings;
mod tasks;
#[cfg(test)]
mod tests;
mod unknown;

pub use curve::Curves;
pub use equal::{Compared, EqualL0, Summary};
pub use error::{Error, Result};
pub use export::{ExportFormat, ExportNames, export_features};
pub use features::{FeaturePages, Picture, SavedFeatures, Vocabulary};
pub use groups::{Group, Groups};
pub use page::{render, write_report};
pub use pointed::{Pointed, PointedL0, PointedRow};
pub use report::{Report, features_of, read_results};
pub use scores::{ScoreCell, ScoreColumn, ScoreRow, SuiteScores};
pub use settings::{Settings, differing, short};
pub use tasks::{Example, FeatureTasks, Item, Tasks};
