//! A window of rows: harvested in the order of the corpus, given in a shuffled one.

use sae_data::{Ports, window_order};

use super::Live;
use super::place::Place;
use crate::{Error, Result};

/// Rows of consecutive contexts.
#[derive(Debug)]
pub(super) struct Window {
    /// The rows of each port, in the order of the corpus.
    pub(super) rows: Ports<Vec<f32>>,
    /// Which of them comes at each place of the stream.
    pub(super) order: Vec<u32>,
    /// The window after this one.
    pub(super) next: Place,
    /// Damaged files and documents left out in this epoch, up to the end of the window.
    pub(super) skipped: u64,
}

impl Live {
    /// Harvests the window at the present place, if it is not there.
    pub(super) fn fill(&mut self) -> Result<()> {
        while self.window.is_none() {
            let (rows, next, skipped) = self.harvest()?;
            let d_model = self.host.info().d_model;
            let n_rows = rows.input.len() / d_model;
            let Place { epoch, window, .. } = self.place;
            if n_rows > 0 {
                let order = window_order(self.settings.seed, epoch, window, n_rows, d_model);
                self.window = Some(Window { rows, order, next, skipped });
            } else if window > 0 {
                // What is left of the corpus has no row.
                self.place = next;
            } else {
                let expected = "tokens after the first positions of a context that are neither \
                                special nor left out by their position";
                return Err(Error::input("data.corpus", expected, "none"));
            }
        }
        Ok(())
    }

    /// Goes on behind the window in hand. Where it holds the whole corpus, its rows are those of the
    /// next one too.
    pub(super) fn advance(&mut self) {
        let Some(window) = self.window.take() else { return };
        let is_whole = self.place.window == 0 && window.next == self.place.next_epoch();
        (self.place, self.row) = (window.next, 0);
        if is_whole {
            let (seed, d_model) = (self.settings.seed, self.host.info().d_model);
            let order = window_order(seed, self.place.epoch, 0, window.order.len(), d_model);
            let next = self.place.next_epoch();
            self.window = Some(Window { order, next, ..window });
        }
    }

    /// The rows of the window at the present place, the place of the next one, and how many damaged
    /// files and documents were left out up to there.
    fn harvest(&mut self) -> Result<(Ports<Vec<f32>>, Place, u64)> {
        let Self { host, hooks, ports, batches, settings, place, ahead, .. } = self;
        let hooks: Vec<_> = hooks.each().copied().collect();
        let d_model = host.info().d_model;
        let mut rows = ports.as_ref().map(|_| Vec::new());
        reserve(&mut rows, settings.window_rows * d_model)?;
        let mut skipped = batches.contexts().documents().skipped().count;
        let next = loop {
            let (start, batch) = match ahead.take() {
                Some(ahead) => ahead,
                None => {
                    let start = batches.position();
                    let batch = batches.next(host)?;
                    skipped = batches.contexts().documents().skipped().count;
                    match batch {
                        Some(batch) => (start, batch),
                        None => {
                            let next = place.next_epoch();
                            batches.resume(&next.start, host)?;
                            break next;
                        }
                    }
                }
            };
            let n_rows = rows.input.len() / d_model;
            if n_rows > 0 && n_rows + batch.n_rows() > settings.window_rows {
                *ahead = Some((start, batch));
                break place.next(start);
            }
            if batch.n_rows() > 0 {
                let found = batch.rows(host, &hooks)?;
                let each = std::iter::once(&mut rows.input).chain(&mut rows.target);
                each.zip(found).for_each(|(rows, found)| rows.extend_from_slice(&found));
            }
        };
        Ok((rows, next, skipped))
    }
}

/// Takes the memory of a window at once, which is touched as rows come in.
fn reserve(rows: &mut Ports<Vec<f32>>, n_values: usize) -> Result<()> {
    for rows in std::iter::once(&mut rows.input).chain(&mut rows.target) {
        let taken = rows.try_reserve_exact(n_values);
        taken.map_err(|error| {
            let expected = "rows that fit the memory";
            Error::input("data.window_bytes", expected, format!("{n_values} values: {error}"))
        })?;
    }
    Ok(())
}
