//! The features of rows that a host gives while it reads, kept nowhere but for their codes.

use std::path::Path;

use sae_data::RowMeta;
use sae_hosts::{ContextPosition, HostModel, HostRows};
use sae_models::Sae;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::places::Places;
use super::{DescribeOptions, FeatureDescriber, FeatureObserver, ROWS_A_SAVE};
use crate::pass::Forward;
use crate::{Error, EvalBatch, EvaluateOptions, Result};

/// Where the row after those that were observed comes from.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// Where the host's batch begins that has it.
    position: ContextPosition,
    /// Rows of this batch before it.
    row: usize,
}

/// Rows that the host has given and that are not observed yet.
#[derive(Debug, Default)]
struct Waiting {
    rows: Vec<f32>,
    metas: Vec<RowMeta>,
    /// Of each batch of the host that has some of them: the place of its first one here, and how many
    /// there are.
    batches: Vec<(Place, usize)>,
}

impl FeatureObserver {
    /// To observe rows that a host gives, as [`open`](Self::open) does those of a store.
    ///
    /// # Errors
    /// [`Error::Spool`].
    pub fn open_live(n_features: usize, scratch: &Path) -> Result<Self> {
        Self::with(n_features, scratch, Some(Vec::new()))
    }

    /// Observes all rows, from the first that is not observed yet on: in batches as large as those of
    /// a pass over a store of these rows, so that features are the same to the bit.
    ///
    /// `progress` is told how many rows are done.
    ///
    /// # Errors
    /// [`Error::Host`] for documents that cannot be read or have changed; [`Error::Dimension`];
    /// [`Error::Spool`], [`Error::Model`], [`Error::NotFinite`].
    pub fn observe_host(
        &mut self,
        sae: &Sae,
        host: &HostModel,
        rows: &mut HostRows<'_>,
        options: EvaluateOptions,
        progress: &mut dyn FnMut(&HostRows<'_>, u64),
    ) -> Result<()> {
        let (expected, got) = (sae.config().d_model, host.info().d_model);
        if expected != got {
            return Err(Error::Dimension { expected, got, of: "the host" });
        }
        let mut place = self.place()?;
        rows.resume(&place.position, host)?;
        let mut forward = Forward::new(sae);
        let mut waiting = Waiting::default();
        loop {
            let position = rows.position();
            let next = rows.next(host)?;
            let is_last = next.is_none();
            if let Some((found, metas)) = next {
                // Of the batch that was in hand, the rows that were observed are passed over.
                let passed = std::mem::take(&mut place.row);
                if passed > metas.len() {
                    let (expected, got) = (format!("at least {passed}"), metas.len().to_string());
                    return Err(Error::Setting { name: "rows of a batch", expected, got });
                }
                waiting.rows.extend_from_slice(&found[passed * got..]);
                waiting.metas.extend_from_slice(&metas[passed..]);
                waiting.batches.push((Place { position, row: passed }, metas.len() - passed));
            }
            while waiting.metas.len() >= options.batch_size.max(1)
                || (is_last && !waiting.metas.is_empty())
            {
                let n = waiting.metas.len().min(options.batch_size.max(1));
                self.observe_rows(
                    sae,
                    &mut forward,
                    &waiting.rows[..n * got],
                    &waiting.metas[..n],
                )?;
                let end = waiting.pass(n, got, rows.position());
                if self.n_rows() >= self.spool.saved().rows + ROWS_A_SAVE {
                    self.save(end)?;
                }
                progress(rows, self.n_rows());
            }
            if is_last {
                return self.save(Place { position: rows.position(), row: 0 });
            }
        }
    }

    /// As [`finish`](Self::finish), of rows that a host gave.
    ///
    /// # Errors
    /// [`Error::Spool`], [`Error::Torch`]; [`Error::Empty`] if there was no row.
    pub fn finish_live<'a>(
        mut self,
        sae: &Sae,
        host: Option<&'a HostModel>,
        options: DescribeOptions,
    ) -> Result<FeatureDescriber<'a>> {
        let places = Places::of_rows(self.places.take().unwrap_or_default(), false);
        FeatureDescriber::new(self, sae, places, host, options)
    }

    fn observe_rows(
        &mut self,
        sae: &Sae,
        forward: &mut Forward,
        rows: &[f32],
        metas: &[RowMeta],
    ) -> Result<()> {
        let x = Tensor::f_from_slice(rows)?
            .f_reshape([metas.len() as i64, -1])?
            .f_to_device(sae.device())?
            .f_to_kind(sae.kind())?;
        let first_row = self.n_rows();
        forward.apply(sae, &x, |x_hat, features, k_hat| {
            let batch = EvalBatch { first_row, x: &x, target: &x, x_hat, features, k_hat };
            self.take(&batch, Some(metas))
        })
    }

    /// Where the first row comes from that is not observed.
    fn place(&self) -> Result<Place> {
        let saved = self.spool.saved().source.clone();
        let place = saved.map(serde_json::from_value).transpose();
        place.map(Option::unwrap_or_default).map_err(|error| Error::Setting {
            name: "place of a pass",
            expected: "one that was saved".to_owned(),
            got: error.to_string(),
        })
    }

    fn save(&mut self, place: Place) -> Result<()> {
        let place = serde_json::to_value(place).expect("numbers are JSON");
        self.spool.save(Some(place))
    }
}

impl Waiting {
    /// Takes the first `n` rows away; gives the place of the one after them, which is `end` if there
    /// is none here.
    fn pass(&mut self, n: usize, d_model: usize, end: ContextPosition) -> Place {
        self.rows.drain(..n * d_model);
        self.metas.drain(..n);
        let mut left = n;
        while let Some((place, n_rows)) = self.batches.first_mut() {
            if left < *n_rows {
                place.row += left;
                *n_rows -= left;
                return *place;
            }
            left -= *n_rows;
            self.batches.remove(0);
        }
        Place { position: end, row: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_next_row_is_in_the_batch_that_has_it() {
        let at = |seen| ContextPosition { seen, ..ContextPosition::default() };
        let batch = |seen, row, n| (Place { position: at(seen), row }, n);
        let mut waiting = Waiting {
            rows: vec![0.0; 20],
            metas: vec![RowMeta::default(); 10],
            batches: vec![batch(3, 2, 4), batch(7, 0, 0), batch(9, 0, 6)],
        };
        for (n, expected) in [(1, (3, 3)), (3, (9, 0)), (2, (9, 2)), (4, (42, 0))] {
            let place = waiting.pass(n, 2, at(42));
            assert_eq!((place.position.seen, place.row), expected);
            assert_eq!(waiting.rows.len(), 2 * waiting.metas.len());
        }
    }
}
