//! Where a live run stands, in a form that can be kept.

use sae_data::Result;
use serde::{Deserialize, Serialize};

use super::Live;
use crate::ContextPosition;

/// The kind of the positions of live sources.
pub(super) const KIND: &str = "live";

/// A window: its epoch, its number there, and where it begins in the corpus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub(super) epoch: u64,
    pub(super) window: u64,
    pub(super) start: ContextPosition,
}

impl Place {
    /// The window after this one in the same epoch.
    pub(super) fn next(self, start: ContextPosition) -> Self {
        Self { window: self.window + 1, start, ..self }
    }

    /// The first window of the next epoch.
    pub(super) fn next_epoch(self) -> Self {
        Self { epoch: self.epoch + 1, ..Self::default() }
    }
}

/// A place in the stream of a live source, with all that decides the order of what comes after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LivePosition {
    /// Times that the corpus was read to its end.
    pub(super) epoch: u64,
    /// Windows behind in this epoch.
    pub(super) window: u64,
    /// Where the window begins in the corpus.
    pub(super) start: ContextPosition,
    /// Damaged files and documents left out in this epoch, up to the end of the window where it has
    /// been harvested.
    pub(super) skipped: u64,
    /// Rows of the window that were given.
    pub(super) row: u64,
    /// Seed of the order.
    pub(super) seed: u64,
    /// Most rows of a window.
    pub(super) window_rows: u64,
    /// Dimension of a row.
    pub(super) d_model: usize,
}

impl LivePosition {
    /// Where a source stands.
    pub(super) fn of(live: &Live) -> Self {
        let Place { epoch, window, start } = live.place;
        Self {
            epoch,
            window,
            start,
            skipped: live.window.as_ref().map_or(start.document.skipped, |window| window.skipped),
            row: live.row as u64,
            seed: live.settings.seed,
            window_rows: live.settings.window_rows as u64,
            d_model: live.host.info().d_model,
        }
    }

    pub(super) fn place(&self) -> Place {
        Place { epoch: self.epoch, window: self.window, start: self.start }
    }

    /// Refuses a place in the stream of other settings.
    pub(super) fn check(&self, expected: &Self) -> Result<()> {
        let fields = |of: &Self| {
            [("seed", of.seed), ("window_rows", of.window_rows), ("d_model", of.d_model as u64)]
        };
        for ((field, got), (_, expected)) in fields(self).into_iter().zip(fields(expected)) {
            if got != expected {
                return Err(sae_data::Error::Value {
                    field: format!("live position: {field}"),
                    expected: expected.to_string(),
                    got: got.to_string(),
                });
            }
        }
        Ok(())
    }
}
