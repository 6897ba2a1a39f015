//! Making the rows: each from a generator of its own, so that they come out the same in parallel.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::PLANTED;
use super::config::PlantedConfig;
use super::saelens;
use super::sampler::Sampler;
use super::synth::SynthModel;
use super::truth::PlantedTruth;
use super::world::World;
use crate::store::to_usize;
use crate::{Dtype, Error, Provenance, Result, RowMeta, StoreSpec, StoreWriter};

/// Rows made at a time.
const ROWS_AT_ONCE: u64 = 4096;

/// Rows of a synthetic model that a thread makes at a time.
const SYNTH_ROWS_AT_ONCE: u64 = 32;

/// What takes time when rows are planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantStage {
    /// Steps that make a drawn dictionary more orthogonal, of [`SynthConfig::orthogonal_steps`].
    ///
    /// [`SynthConfig::orthogonal_steps`]: crate::SynthConfig::orthogonal_steps
    Dictionary,
    /// Rows, of [`PlantedConfig::n_rows`].
    Rows,
}

impl PlantedConfig {
    /// Writes a native store of planted rows to `dir`, and the truth beside it; one that was cut
    /// off is finished.
    ///
    /// # Errors
    /// A setting out of range; a directory that holds a finished or another store, or that cannot
    /// be written.
    pub fn write(&self, dir: &Path, dtype: Dtype) -> Result<()> {
        self.write_with(dir, dtype, &mut |_, _| {})
    }

    /// As [`Self::write`]; `progress` is told what is done of a stage.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_with(
        &self,
        dir: &Path,
        dtype: Dtype,
        progress: &mut dyn FnMut(PlantStage, u64),
    ) -> Result<()> {
        self.check()?;
        let mut settings = BTreeMap::new();
        settings.insert("config".to_owned(), serde_json::json!(self).to_string());
        // A store is not finished with another model of the same name.
        let read = self.model.as_deref().map(saelens::read).transpose()?;
        let model = read.map(|(model, content)| {
            settings.insert("model_blake3".to_owned(), content);
            model
        });
        if let Some(model) = &model {
            for (field, expected, got) in [
                ("d_model", model.d_model, self.d_model),
                ("n_features", model.n_features, self.n_features),
            ] {
                if got != expected {
                    return Err(Error::value(field, format!("{expected} as `model` has"), got));
                }
            }
        }
        let provenance = Provenance {
            host: PLANTED.to_owned(),
            hook_point: PLANTED.to_owned(),
            settings,
            ..Provenance::default()
        };
        let spec = StoreSpec { provenance, ..StoreSpec::new(self.d_model, dtype) };
        let maker = self.maker(model, &mut |done| progress(PlantStage::Dictionary, done));
        self.write_spec(dir, spec, &maker, &mut |done| progress(PlantStage::Rows, done))
    }

    /// What makes the rows: of a model that was read, of one that is drawn, or the sum of features.
    fn maker(&self, read: Option<SynthModel>, progress: &mut dyn FnMut(u64)) -> Maker<'_> {
        let drawn = || {
            let synth = self.synth.as_ref()?;
            Some(synth.model(self.n_features, self.d_model, self.seed, progress))
        };
        match read.or_else(drawn) {
            Some(model) => Maker::Synth(Box::new(Sampler::new(model, self.seed))),
            None => Maker::Sum(World::new(self)),
        }
    }

    fn write_spec(
        &self,
        dir: &Path,
        spec: StoreSpec,
        maker: &Maker<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut writer = StoreWriter::resume(dir, spec)?;
        let present = self.first_row + writer.n_rows();
        let mut truth =
            PlantedTruth::new(self.n_features, self.d_model, maker.dictionary().to_vec());
        let end = self.first_row + self.n_rows;
        let mut start = self.first_row;
        while start < end {
            let next = end.min(start + ROWS_AT_ONCE);
            let rows = maker.rows(start..next);
            for row in &rows {
                truth.push(&row.active, row.intrinsic_dimension);
            }
            let missing = &rows[rows.len().min(to_usize(present.saturating_sub(start)))..];
            let values: Vec<f32> =
                missing.iter().flat_map(|row| row.values.iter().copied()).collect();
            let first_missing = start + (rows.len() - missing.len()) as u64;
            let meta: Vec<RowMeta> = (first_missing..next)
                .map(|i| RowMeta { document: i as u32, ..RowMeta::default() })
                .collect();
            writer.append(&values, &meta)?;
            start = next;
            progress(start - self.first_row);
        }
        truth.write(dir)?;
        writer.finish()
    }
}

/// What makes rows.
enum Maker<'a> {
    Sum(World<'a>),
    Synth(Box<Sampler>),
}

impl Maker<'_> {
    fn dictionary(&self) -> &[f32] {
        match self {
            Self::Sum(world) => &world.dictionary,
            Self::Synth(sampler) => &sampler.model().dictionary,
        }
    }

    /// The rows of these numbers, each the same whatever the range.
    fn rows(&self, numbers: Range<u64>) -> Vec<Row> {
        match self {
            Self::Sum(world) => numbers.into_par_iter().map(|number| world.row(number)).collect(),
            Self::Synth(sampler) => {
                let n_blocks = (numbers.end - numbers.start).div_ceil(SYNTH_ROWS_AT_ONCE);
                let block = |i: u64| {
                    let start = numbers.start + i * SYNTH_ROWS_AT_ONCE;
                    sampler.rows(start..numbers.end.min(start + SYNTH_ROWS_AT_ONCE))
                };
                let blocks: Vec<Vec<Row>> = (0..n_blocks).into_par_iter().map(block).collect();
                blocks.into_iter().flatten().collect()
            }
        }
    }
}

/// A row and its truth.
pub(super) struct Row {
    pub(super) values: Vec<f32>,
    /// Feature and activation, by feature.
    pub(super) active: Vec<(u32, f32)>,
    pub(super) intrinsic_dimension: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open_store;

    fn read_all(dir: &Path) -> Vec<f32> {
        let store = open_store(dir).unwrap();
        let mut rows = vec![0.0; to_usize(store.n_rows()) * store.d_model()];
        store.read_rows(0, &mut rows).unwrap();
        rows
    }

    #[test]
    fn a_store_cut_off_is_finished_with_the_same_rows() {
        let config = PlantedConfig {
            n_rows: 2 * ROWS_AT_ONCE + 500,
            first_row: 77,
            d_model: 4,
            n_features: 20,
            ..PlantedConfig::default()
        };
        let spec = StoreSpec { rows_per_shard: 1500, ..StoreSpec::new(4, Dtype::F32) };
        let whole = tempfile::tempdir().unwrap();
        config
            .write_spec(whole.path(), spec.clone(), &config.maker(None, &mut |_| {}), &mut |_| {})
            .unwrap();
        let rows = read_all(whole.path());
        for cut in [0, 1500, 4500, 8692] {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = StoreWriter::create(dir.path(), spec.clone()).unwrap();
            writer.append(&rows[..cut * 4], &vec![RowMeta::default(); cut]).unwrap();
            drop(writer);
            config
                .write_spec(dir.path(), spec.clone(), &config.maker(None, &mut |_| {}), &mut |_| {})
                .unwrap();
            assert!(read_all(dir.path()) == rows, "cut after {cut} rows");
            let truth = PlantedTruth::load(dir.path()).unwrap();
            assert_eq!(truth, PlantedTruth::load(whole.path()).unwrap());
            assert_eq!(truth.n_rows() * 4, rows.len());
        }
    }
}
