//! What training reads: batches without end, from wherever they come.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Port, Ports, Result, Statistics};

/// An endless stream of batches of activations, whose place can be saved.
///
/// What comes is decided by the source's settings and its place alone. A source reads nothing but
/// what its other methods need until the first batch is asked for.
pub trait BatchSource: Send + Debug {
    /// Where the rows come from.
    fn ports(&self) -> &Ports<Port>;

    /// Rows a batch.
    fn batch_size(&self) -> usize;

    /// Writes the next batch.
    ///
    /// # Shapes
    /// Each slice is `[batch_size, dimension]` of its port, row-major; row i of the target belongs to
    /// row i of the input.
    ///
    /// # Errors
    /// Slices of another size or number; rows that cannot be had, and then [`Error::Stopped`] ever
    /// after.
    fn next_batch(&mut self, batch: Ports<&mut [f32]>) -> Result<()>;

    /// Checks that a batch has a slice for each port, of the right size.
    ///
    /// # Errors
    /// The slice that is missing, too many or of another size.
    fn check_batch(&self, batch: &Ports<&mut [f32]>) -> Result<()> {
        let (ports, n_rows) = (self.ports(), self.batch_size());
        let all = [
            ("batch", Some(&batch.input), Some(&ports.input)),
            ("target of the batch", batch.target.as_ref(), ports.target.as_ref()),
        ];
        for (field, slice, port) in all {
            let (got, wanted) = (slice.map(|s| s.len()), port.map(|port| n_rows * port.dimension));
            if got != wanted {
                let told = |n: Option<usize>| n.map_or("nothing".into(), |n| format!("{n} values"));
                let got = got.map_or("nothing".into(), |n| n.to_string());
                return Err(Error::value(field, told(wanted), got));
            }
        }
        Ok(())
    }

    /// Where the next batch begins.
    fn position(&self) -> StreamPosition;

    /// Goes on at a position as if the stream had never stopped: bit for bit the same rows.
    ///
    /// # Errors
    /// A position of another kind of source, of another stream or of other settings, naming the
    /// difference.
    fn resume(&mut self, position: &StreamPosition) -> Result<()>;

    /// A hash of everything that the stream can give, in hexadecimal.
    ///
    /// # Errors
    /// Activations that cannot be read.
    fn identity(&self) -> Result<String>;

    /// Statistics of the rows of each port.
    ///
    /// # Errors
    /// Rows that cannot be had.
    fn statistics(&mut self) -> Result<Ports<Statistics>>;
}

/// A place in the stream of a source: the kind of the source, and what one of that kind needs to
/// go on. In JSON `{ "KIND": PLACE }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Value>", into = "BTreeMap<String, Value>")]
pub struct StreamPosition {
    kind: String,
    place: Value,
}

impl StreamPosition {
    /// A place in the stream of a source of this kind.
    ///
    /// # Errors
    /// A place that is no JSON.
    pub fn new(kind: &str, place: &impl Serialize) -> Result<Self> {
        let place = serde_json::to_value(place);
        let place = place.map_err(|e| Error::value("stream position", "a value of JSON", e))?;
        Ok(Self { kind: kind.into(), place })
    }

    /// How often the source has given all that it has and begun anew, where its kind counts that.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.place.get("epoch")?.as_u64()
    }

    /// How much of this epoch the source has left out for being damaged, where its kind counts that.
    #[must_use]
    pub fn skipped(&self) -> Option<u64> {
        self.place.get("skipped")?.as_u64()
    }

    /// The place in the stream of a source of this kind.
    ///
    /// # Errors
    /// A position of another kind, or one that is not what this kind writes.
    pub fn read<T: DeserializeOwned>(&self, kind: &str) -> Result<T> {
        if self.kind != kind {
            let (expected, got) = (format!("that of a `{kind}`"), format!("`{}`", self.kind));
            return Err(Error::value("stream position", expected, got));
        }
        let wrong = |e| Error::value(format!("stream position: {kind}"), "what a state keeps", e);
        serde_json::from_value(self.place.clone()).map_err(wrong)
    }
}

impl TryFrom<BTreeMap<String, Value>> for StreamPosition {
    type Error = String;

    fn try_from(map: BTreeMap<String, Value>) -> Result<Self, String> {
        let keys: Vec<String> = map.keys().cloned().collect();
        let mut entries = map.into_iter();
        match (entries.next(), entries.next()) {
            (Some((kind, place)), None) => Ok(Self { kind, place }),
            _ => Err(format!("expected the position of one source, got {keys:?}")),
        }
    }
}

impl From<StreamPosition> for BTreeMap<String, Value> {
    fn from(position: StreamPosition) -> Self {
        Self::from([(position.kind, position.place)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_by_its_own_kind_alone() {
        let position = StreamPosition::new("loader", &[1, 2]).unwrap();
        assert_eq!(serde_json::to_string(&position).unwrap(), r#"{"loader":[1,2]}"#);
        let position: StreamPosition = serde_json::from_str(r#"{"loader":[1,2]}"#).unwrap();
        assert_eq!(position.read::<[u64; 2]>("loader").unwrap(), [1, 2]);
        assert_eq!(position.epoch(), None);
        let counted = StreamPosition::new("live", &serde_json::json!({ "epoch": 3, "skipped": 1 }));
        let counted = counted.unwrap();
        assert_eq!((counted.epoch(), counted.skipped()), (Some(3), Some(1)));
        let error = position.read::<[u64; 2]>("live").unwrap_err().to_string();
        assert_eq!(error, "stream position: expected that of a `live`, got `loader`");
        let error = position.read::<String>("loader").unwrap_err().to_string();
        assert!(error.starts_with("stream position: loader: expected"), "{error}");
        for text in ["{}", r#"{"loader":1,"live":2}"#] {
            let error = serde_json::from_str::<StreamPosition>(text).unwrap_err().to_string();
            assert!(error.contains("expected the position of one source"), "{error}");
        }
    }
}
