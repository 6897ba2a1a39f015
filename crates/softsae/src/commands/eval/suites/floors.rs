//! What worthless dictionaries get, measured once for each width, L0 and data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use sae_config::{Scores, Worthless, read_json, write_json};
use sae_data::{ActivationStore, Port, Ports, open_store};
use sae_eval::worthless;
use sae_models::{Normalizer, Sae, TrainedOn};
use sae_train::origin;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::super::kept_rows;
use super::Suites;
use crate::cli::EvalArgs;
use crate::commands::Differences;
use crate::failure::{Blame as _, Failure};
use crate::output::note;

/// The version of what is kept: another where dictionaries are made, or scores computed, otherwise.
const VERSION: u32 = 1;

/// Rows that dictionaries are made of, evenly spread over their store; more where the SAE has more
/// features.
const N_ROWS: u64 = 16_384;

/// Where worthless dictionaries come from, and where what they got is kept.
pub(super) struct Floors {
    rows: Arc<dyn ActivationStore>,
    /// What tells the rows that are measured on from others.
    data: String,
    kept: Option<PathBuf>,
}

/// What decides what a worthless dictionary gets.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Key {
    version: u32,
    kind: Worthless,
    n_features: usize,
    k: usize,
    normalizer: String,
    rows: String,
    data: String,
    suites: Vec<String>,
    probes: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    key: Key,
    scores: BTreeMap<String, f64>,
}

impl Floors {
    pub(super) fn open(
        args: &EvalArgs,
        store: &Arc<dyn ActivationStore>,
        found: &mut Differences,
        of_model: &TrainedOn,
    ) -> Result<Self, Failure> {
        let rows = match &args.train_data {
            None => Arc::clone(store),
            Some(path) => {
                let rows = open_store(path).or_usage()?;
                if rows.d_model() != store.d_model() {
                    return Err(Failure::usage(anyhow::anyhow!(
                        "--train-data {}: expected rows of dimension {}, got {}",
                        path.display(),
                        store.d_model(),
                        rows.d_model()
                    )));
                }
                let place = origin(&Port::of_store(rows.as_ref())).or_usage()?;
                let source = format!("--train-data {}: against the model", path.display());
                found.add(Differences::find(of_model, &place, &source, args.elsewhere)?);
                rows
            }
        };
        let rows = kept_rows(&Ports::from(rows), args.max_norm_ratio)?.input;
        let data = store.content_hash().or_usage()?;
        let data = format!("{data}, norms up to {}", args.max_norm_ratio);
        Ok(Self { rows, data, kept: args.floors.clone() })
    }

    /// What they cost.
    pub(super) fn cost(&self) -> String {
        let n = Worthless::ALL.len();
        let kept = match &self.kept {
            Some(folder) => format!(", unless {} has them", folder.display()),
            None => String::new(),
        };
        format!(
            "beside them {n} worthless dictionaries of the same width and L0: the passes of core, \
             truth and probing for each{kept}"
        )
    }

    /// What each worthless dictionary gets by `measure`.
    pub(super) fn measure(
        &self,
        suites: &Suites,
        sae: &Sae,
        l0: f64,
        measure: impl Fn(&Sae) -> Result<Scores, Failure>,
    ) -> Result<Vec<(Worthless, BTreeMap<String, f64>)>, Failure> {
        let k = (l0.round() as usize).max(1);
        let rows_hash = self.rows.content_hash().or_run()?;
        let mut rows = None;
        let mut all = Vec::new();
        for kind in Worthless::ALL {
            let key = Key {
                version: VERSION,
                kind,
                n_features: sae.config().n_features,
                k,
                normalizer: describe(&sae.normalizer)?,
                rows: rows_hash.clone(),
                data: self.data.clone(),
                suites: suites.wanted.iter().map(|suite| suite.name().to_owned()).collect(),
                probes: suites.probes.iter().map(super::Probes::identity).collect(),
            };
            if let Some(scores) = self.read(&key)? {
                all.push((kind, scores));
                continue;
            }
            note!("worthless dictionary: {}", kind.name());
            let rows = match &rows {
                Some(rows) => rows,
                None => rows.insert(self.sample(sae)?),
            };
            let scores = measure(&worthless(kind, sae, rows, k).or_run()?)?;
            let scores: BTreeMap<_, _> =
                scores.into_iter().map(|(name, score)| (name, score.value)).collect();
            all.push((kind, self.write(key, scores)?));
        }
        Ok(all)
    }

    /// Rows that dictionaries are made of.
    fn sample(&self, sae: &Sae) -> Result<Tensor, Failure> {
        let (n, d) = (self.rows.n_rows(), self.rows.d_model());
        let wanted = N_ROWS.max(sae.config().n_features as u64).min(n);
        let mut values = vec![0.0_f32; wanted as usize * d];
        for (i, row) in values.chunks_exact_mut(d).enumerate() {
            // Evenly spread: row ⌊i·n/wanted⌋.
            let at = (i as u128 * u128::from(n) / u128::from(wanted)) as u64;
            self.rows.read_rows(at, row).or_run()?;
        }
        let rows = Tensor::f_from_slice(&values).or_run()?;
        let rows = rows.f_reshape([wanted as i64, d as i64]).or_run()?;
        rows.f_to_device(sae.device()).or_run()?.f_to_kind(sae.kind()).or_run()
    }

    /// What is kept under this key. What is kept under another in its place is no use, and measured
    /// again.
    fn read(&self, key: &Key) -> Result<Option<BTreeMap<String, f64>>, Failure> {
        let Some(path) = self.place(key)? else { return Ok(None) };
        if !path.exists() {
            return Ok(None);
        }
        let kept: Kept = read_json(&path).or_usage()?;
        Ok((kept.key == *key).then_some(kept.scores))
    }

    fn write(
        &self,
        key: Key,
        scores: BTreeMap<String, f64>,
    ) -> Result<BTreeMap<String, f64>, Failure> {
        let Some(path) = self.place(&key)? else { return Ok(scores) };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).or_run()?;
        }
        let kept = Kept { key, scores };
        write_json(&path, &kept).or_run()?;
        Ok(kept.scores)
    }

    /// The file of a key, where they are kept.
    fn place(&self, key: &Key) -> Result<Option<PathBuf>, Failure> {
        let Some(folder) = &self.kept else { return Ok(None) };
        let hash = blake3::hash(&serde_json::to_vec(key).or_run()?).to_hex();
        Ok(Some(folder.join(format!("{}-{}.json", key.kind.name(), &hash[..16]))))
    }
}

/// What tells the constants of a normalisation from others.
fn describe(normalizer: &Normalizer) -> Result<String, Failure> {
    let name = normalizer.name();
    Ok(match normalizer {
        Normalizer::Scale { scale } => format!("{name} {scale}"),
        Normalizer::ShiftScale { shift, scale } => {
            let shift = Vec::<f32>::try_from(shift.to_kind(tch::Kind::Float)).or_run()?;
            let bytes: Vec<u8> = shift.iter().flat_map(|value| value.to_le_bytes()).collect();
            format!("{name} {scale} {}", blake3::hash(&bytes))
        }
        _ => name.to_owned(),
    })
}
