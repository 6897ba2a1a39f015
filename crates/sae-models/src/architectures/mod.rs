//! What each architecture is at inference: its tensors, their initial values, and its rule.

mod soft;

use std::collections::BTreeMap;

use sae_config::Code;
use sae_kernels::Rank;
use tch::Tensor;

pub use self::soft::Estimator;
use crate::init::{encoder_and_decoder, zeros};
use crate::{InitRng, ModelConfig, Parameters, Result, Role, Selection, Tensors};

/// The threshold of a model that has not seen one.
const NO_THRESHOLD: f64 = -1.0;

/// Thresholds of JumpReLU at the start.
const FIRST_THRESHOLD: f64 = 0.001;

/// The rule of inference.
///
/// BatchTopK (Bussmann et al. 2024, arXiv:2412.06410) and Matryoshka BatchTopK (arXiv:2503.17547)
/// keep the k·B largest features of a batch in training, and at inference those above a threshold
/// that training has averaged. Matryoshka, the April update and P-anneal differ from others in their
/// loss alone. JumpReLU is of Rajamanoharan et al. 2024 (arXiv:2407.14435), Gated of the same authors
/// (arXiv:2404.16014), Standard of Bricken et al. 2023.
pub(crate) fn selection(config: &ModelConfig) -> Selection {
    match &config.code {
        Code::TopK { k } => Selection::TopK { k: *k as i64, rank: Rank::Value },
        Code::AbsTopK { k } => Selection::TopK { k: *k as i64, rank: Rank::Magnitude },
        Code::BatchTopK { .. } | Code::MatryoshkaBatchTopK { .. } => Selection::Exceeding,
        Code::Soft(c) => Selection::Estimated(Estimator::new(c, config.n_features)),
        Code::JumpRelu { subtract_b_dec } => Selection::Jump { subtract_b_dec: *subtract_b_dec },
        Code::Gated {} => Selection::Gate,
        Code::Standard {} | Code::StandardApril {} | Code::PAnneal {} => Selection::Positive,
    }
}

/// Whether b_dec is subtracted from what the encoder reads: never where it is that of another port.
pub(crate) fn subtracts_b_dec(config: &ModelConfig) -> bool {
    !config.is_transcoder() && selection(config).subtracts_b_dec()
}

/// Takes the tensors that an architecture has beside encoder and decoder.
pub(crate) fn take_own(
    config: &ModelConfig,
    all: &mut Parameters,
    from: &mut Tensors,
) -> Result<()> {
    let f = config.n_features as i64;
    match &config.code {
        Code::TopK { .. } | Code::BatchTopK { .. } | Code::MatryoshkaBatchTopK { .. } => {
            all.take_buffer(Role::Threshold, &[], from)
        }
        Code::Soft(c) => soft::take(config, c, all, from),
        Code::JumpRelu { .. } => all.take_trained(Role::Threshold, &[f], from),
        Code::Gated {} => {
            all.take_trained(Role::MagnitudeLogScale, &[f], from)?;
            all.take_trained(Role::MagnitudeBias, &[f], from)
        }
        Code::AbsTopK { .. } | Code::Standard {} | Code::StandardApril {} | Code::PAnneal {} => {
            Ok(())
        }
    }
}

/// The initial values of all tensors.
pub(crate) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
    let of_features = || zeros(&[config.n_features]);
    // Decoder and encoder of norm 0.1 where all that is positive is kept, as the April update has it.
    let norm = if matches!(selection(config), Selection::Positive) { 0.1 } else { 1.0 };
    let mut map = encoder_and_decoder(config, rng, norm);
    let mut set = |role: Role, value: Tensor| drop(map.insert(role.name().into(), value));
    match &config.code {
        Code::TopK { .. } | Code::BatchTopK { .. } | Code::MatryoshkaBatchTopK { .. } => {
            set(Role::Threshold, zeros(&[]) + NO_THRESHOLD);
        }
        Code::Soft(c) => soft::initial(config, c, rng, &mut map),
        Code::JumpRelu { .. } => set(Role::Threshold, of_features() + FIRST_THRESHOLD),
        Code::Gated {} => {
            set(Role::MagnitudeLogScale, of_features());
            set(Role::MagnitudeBias, of_features());
        }
        Code::AbsTopK { .. } | Code::Standard {} | Code::StandardApril {} | Code::PAnneal {} => {}
    }
    map
}
