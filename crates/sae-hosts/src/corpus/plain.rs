//! Text files, each a document.

use std::path::PathBuf;

use super::record::{Record, Records};
use crate::{Result, Text};

/// The one record of a text file.
#[derive(Debug)]
pub(super) struct PlainText {
    path: Option<PathBuf>,
}

impl PlainText {
    /// The record, or none if `skip` passes over it.
    pub(super) fn new(path: PathBuf, skip: u64) -> Self {
        Self { path: Some(path).filter(|_| skip == 0) }
    }
}

impl Records for PlainText {
    fn next(&mut self) -> Result<Option<Result<Record>>> {
        let Some(path) = self.path.take() else { return Ok(None) };
        Ok(Some(Text::read(&path).map(|text| Record::Text(text.content))))
    }

    fn fraction(&self) -> f64 {
        if self.path.is_some() { 0.0 } else { 1.0 }
    }
}
