//! A live host as a source of batches.

use sae_data::{BatchSource, Error, Port, Ports, Result, Statistics, StreamPosition};

use super::place::{KIND, LivePosition};
use super::{Live, Place};

impl BatchSource for Live {
    fn ports(&self) -> &Ports<Port> {
        &self.ports
    }

    fn batch_size(&self) -> usize {
        self.settings.batch_size
    }

    fn next_batch(&mut self, batch: Ports<&mut [f32]>) -> Result<()> {
        if self.failed {
            return Err(Error::Stopped);
        }
        self.check_batch(&batch)?;
        self.failed = true;
        self.copy(batch)?;
        self.failed = false;
        Ok(())
    }

    fn position(&self) -> StreamPosition {
        StreamPosition::new(KIND, &LivePosition::of(self)).expect("numbers are JSON")
    }

    fn resume(&mut self, position: &StreamPosition) -> Result<()> {
        let position: LivePosition = position.read(KIND)?;
        position.check(&LivePosition::of(self))?;
        self.batches.resume(&position.start, &self.host).map_err(of_host)?;
        (self.window, self.ahead, self.failed) = (None, None, false);
        (self.place, self.row) = (position.place(), position.row as usize);
        Ok(())
    }

    fn identity(&self) -> Result<String> {
        Ok(self.identity.clone())
    }

    /// Of the rows at the start of the corpus: of `statistics_rows`, or of the first window.
    fn statistics(&mut self) -> Result<Ports<Statistics>> {
        if self.place != Place::default() {
            let got = format!("window {} of epoch {}", self.place.window, self.place.epoch);
            return Err(Error::Value {
                field: "statistics of a live source".into(),
                expected: "the first window of its corpus".into(),
                got,
            });
        }
        self.fill().map_err(of_host)?;
        let window = self.window.as_ref().ok_or(Error::Stopped)?;
        let d_model = self.host.info().d_model;
        let n_rows = self.settings.statistics_rows.unwrap_or(usize::MAX).min(window.order.len());
        window.rows.as_ref().try_map(|rows| Statistics::of_rows(&rows[..n_rows * d_model], d_model))
    }
}

impl Live {
    /// Copies the next rows, from as many windows as they take.
    fn copy(&mut self, mut batch: Ports<&mut [f32]>) -> Result<()> {
        let (d_model, n_rows) = (self.host.info().d_model, self.settings.batch_size);
        let mut done = 0;
        while done < n_rows {
            self.fill().map_err(of_host)?;
            let window = self.window.as_ref().ok_or(Error::Stopped)?;
            let Some(left) = window.order.get(self.row..) else {
                let expected = format!("at most {}", window.order.len());
                let (field, got) = ("live position: row".into(), self.row.to_string());
                return Err(Error::Value { field, expected, got });
            };
            let rows = &left[..left.len().min(n_rows - done)];
            let places = std::iter::once(&mut batch.input).chain(&mut batch.target);
            for (place, from) in places.zip(window.rows.each()) {
                let places = place[done * d_model..].chunks_exact_mut(d_model);
                for (place, row) in places.zip(rows) {
                    place.copy_from_slice(&from[*row as usize * d_model..][..d_model]);
                }
            }
            done += rows.len();
            self.row += rows.len();
            if self.row == window.order.len() {
                self.advance();
            }
        }
        Ok(())
    }
}

fn of_host(error: crate::Error) -> Error {
    match error {
        crate::Error::Store(error) => error,
        other => Error::Source(Box::new(other)),
    }
}
