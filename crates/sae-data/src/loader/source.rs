//! The loader as a source of batches.

use super::Loader;
use crate::{BatchSource, Error, Port, Ports, Result, Statistics, StreamPosition};

/// The kind of a loader's positions.
const KIND: &str = "loader";

impl BatchSource for Loader {
    fn ports(&self) -> &Ports<Port> {
        &self.ports
    }

    fn batch_size(&self) -> usize {
        self.config.batch_size
    }

    fn next_batch(&mut self, mut batch: Ports<&mut [f32]>) -> Result<()> {
        if self.failed {
            return Err(Error::Stopped);
        }
        let n_rows = self.config.batch_size;
        self.check_batch(&batch)?;
        if self.prefetcher.is_none() {
            self.start()?;
        }
        let mut done = 0;
        while done < n_rows {
            if self.used == self.window.len() {
                self.next_window()?;
            }
            let n = (n_rows - done).min(self.window.len() - self.used);
            let rows = &self.window[self.used..][..n];
            let mut start = 0;
            let places = std::iter::once(&mut batch.input).chain(&mut batch.target);
            for (place, Port { dimension: d, .. }) in places.zip(self.ports.each()) {
                let place = place[done * d..].chunks_exact_mut(*d);
                rows.iter().zip(place).for_each(|(row, p)| p.copy_from_slice(&row[start..][..*d]));
                start += d;
            }
            self.use_rows(n);
            done += n;
        }
        self.advance(n_rows as u64);
        Ok(())
    }

    fn position(&self) -> StreamPosition {
        StreamPosition::new(KIND, &self.position()).expect("numbers are JSON")
    }

    fn resume(&mut self, position: &StreamPosition) -> Result<()> {
        self.go_to(&position.read(KIND)?)
    }

    /// The content hash of a store without a target.
    fn identity(&self) -> Result<String> {
        let input = self.stores.input.content_hash()?;
        let Some(target) = &self.stores.target else { return Ok(input) };
        let text = format!("{input}, target {}\n", target.content_hash()?);
        Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
    }

    /// Of all rows.
    fn statistics(&mut self) -> Result<Ports<Statistics>> {
        self.stores.as_ref().try_map(|store| Statistics::cached(&**store))
    }
}
