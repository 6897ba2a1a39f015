//! What worthless dictionaries get, measured once for each width, L0 and data.

use std::collections::BTreeMap;
use std::sync::Arc;

use sae_config::{Scores, Suite, Worthless};
use sae_data::{ActivationStore, PlantedTruth, Port, Ports, open_store};
use sae_eval::worthless;
use sae_models::{Normalizer, Sae, TrainedOn};
use sae_train::origin;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::super::kept_rows;
use super::super::splice::Spliced;
use super::Suites;
use super::kept::Kept;
use super::probes;
use crate::cli::EvalArgs;
use crate::commands::Differences;
use crate::failure::{Blame as _, Failure};
use crate::output::note;

/// The version of what is kept: another where dictionaries are made otherwise. Suites have their own.
const VERSION: u32 = 4;

/// Rows that dictionaries are made of, evenly spread over their store; more where the SAE has more
/// features.
const N_ROWS: u64 = 16_384;

/// Values of scores by name.
type Values = BTreeMap<String, f64>;

/// Where worthless dictionaries come from.
pub(super) struct Floors {
    rows: Arc<dyn ActivationStore>,
    /// What tells the rows that are measured on from others.
    data: String,
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
    suites: BTreeMap<Suite, u32>,
    probes: Vec<String>,
    /// The host, and what it reads.
    spliced: Option<String>,
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
        let mut data = format!("{data}, norms up to {}", args.max_norm_ratio);
        if let Some(truth) = PlantedTruth::file(&args.data) {
            let bytes = std::fs::read(&truth).or_usage()?;
            data += &format!(", truth {}", blake3::hash(&bytes).to_hex());
        }
        Ok(Self { rows, data })
    }

    /// What they cost.
    pub(super) fn cost(kept: &Kept) -> String {
        let n = Worthless::ALL.len();
        let kept = match kept.folder() {
            Some(folder) => format!(", unless {} has them", folder.display()),
            None => String::new(),
        };
        format!(
            "beside them {n} worthless dictionaries of the same width and L0, each through the same \
             but stability{kept}"
        )
    }

    /// What each worthless dictionary gets by `measure`.
    pub(super) fn measure(
        &self,
        suites: &Suites,
        sae: &Sae,
        l0: f64,
        spliced: Option<&Spliced>,
        measure: impl Fn(&[&Sae]) -> Result<Vec<Scores>, Failure>,
    ) -> Result<Vec<(Worthless, Values)>, Failure> {
        let k = shared_k(l0);
        let rows_hash = self.rows.content_hash().or_run()?;
        let of_host = spliced.map(Spliced::identity).transpose()?;
        let (mut all, mut missing) = (Vec::new(), Vec::new());
        for kind in Worthless::ALL {
            let key = Key {
                version: VERSION,
                kind,
                n_features: sae.config().n_features,
                k,
                normalizer: describe(&sae.normalizer)?,
                rows: rows_hash.clone(),
                data: self.data.clone(),
                suites: suites.versions(),
                probes: probes::identities(&suites.probes)?,
                spliced: of_host.clone(),
            };
            match suites.kept.read(kind.name(), &key)? {
                Some(scores) => all.push((kind, scores)),
                None => missing.push(key),
            }
        }
        if missing.is_empty() {
            return Ok(all);
        }
        let rows = self.sample(sae)?;
        // A host goes on from its hook point with what all of them rebuild.
        let at_once = if spliced.is_some() { missing.len() } else { 1 };
        while !missing.is_empty() {
            let keys: Vec<Key> = missing.drain(..at_once.min(missing.len())).collect();
            let names: Vec<&str> = keys.iter().map(|key| key.kind.name()).collect();
            note!("worthless dictionary: {}", names.join(", "));
            let made = keys.iter().map(|key| worthless(key.kind, sae, &rows, k).or_run());
            let made = made.collect::<Result<Vec<_>, _>>()?;
            let scores = measure(&made.iter().collect::<Vec<_>>())?;
            for (key, scores) in keys.into_iter().zip(scores) {
                let values = scores.into_iter().map(|(name, score)| (name, score.value)).collect();
                let kind = key.kind;
                all.push((kind, suites.kept.write(kind.name(), key, values)?));
            }
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
}

/// The number of features that a worthless dictionary keeps of each row: a whole number up to 16, above
/// it the nearest on a ladder of eight steps an octave, at most 7 % off, so that SAEs of like L0 share what
/// was measured.
fn shared_k(l0: f64) -> usize {
    if l0 <= 16.0 {
        return (l0.round() as usize).max(1);
    }
    ((8.0 * l0.log2()).round() / 8.0).exp2().round() as usize
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

#[cfg(test)]
mod tests {
    use super::shared_k;

    #[test]
    fn a_k_is_whole_and_near_and_shared_by_neighbours() {
        assert_eq!([0.2, 1.4, 8.6, 16.2].map(shared_k), [1, 1, 9, 16]);
        assert_eq!([31.4, 32.0, 33.1].map(shared_k), [32; 3]);
        for tenths in 10..20_000 {
            let l0 = f64::from(tenths) / 10.0;
            let off = (shared_k(l0) as f64 / l0).ln().abs();
            assert!(off < 0.07 || l0 < 16.0, "{l0}: {}", shared_k(l0));
            assert!(shared_k(l0 + 0.1) >= shared_k(l0));
        }
    }
}
