//! What is found of a letter in an SAE: its own features, and what absorbs them.

use sae_config::LetterScores;
use sae_models::{Role, Sae};
use tch::{Device, Kind, Tensor};

use super::letter::{Letter, part, rows};
use super::{FirstLetters, N_LETTERS};
use crate::interventions::absorption::{Part, absorbed};
use crate::metrics::to_f64s;
use crate::probing::ProbeScores;
use crate::{Probe, Result};

/// Rise of F1 that makes one more feature a letter's own, and how many are at most.
const F1_RISE: f64 = 0.03;
const MOST_FEATURES: usize = 10;

/// Parts of the training words that are told by the others.
const N_FOLDS: usize = 3;

/// Words with an SAE's features.
pub(super) struct Task<'a> {
    of: &'a FirstLetters,
    /// Length of what each feature adds at a word, in units of the activations' root mean square,
    /// `[words, n_features]` on the CPU: so neither the units of features nor a folded normalisation
    /// change anything.
    lengths: Tensor,
    /// Unit decoder rows, `[n_features, d_model]` in f64 on the CPU.
    units: Tensor,
    /// Σ of lengths over the training words of each letter, `[26, n_features]`.
    sums: Tensor,
}

impl<'a> Task<'a> {
    pub(super) fn new(sae: &Sae, of: &'a FirstLetters) -> Result<Self> {
        let rows = of.rows.f_to_device(sae.device())?.f_to_kind(sae.kind())?;
        let features = sae.encode(&rows)?.features.f_to_device(Device::Cpu)?;
        let features = features.f_to_kind(Kind::Float)?;
        let directions = sae.parameters[Role::DecoderWeight].f_to_device(Device::Cpu)?;
        let directions = directions.f_to_kind(Kind::Double)?;
        Self::of_features(of, features, directions, scales(sae, &rows)?)
    }

    fn of_features(
        of: &'a FirstLetters,
        mut features: Tensor,
        directions: Tensor,
        scales: Vec<f64>,
    ) -> Result<Self> {
        let norms = directions.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?;
        let units = directions.f_div(&norms.f_clamp_min(f64::MIN_POSITIVE)?)?;
        let per_word = Tensor::f_from_slice(&scales)?.f_div_scalar(of.rms)?.f_view([-1, 1])?;
        let per_one = per_word.f_mul(&norms.f_view([1, -1])?)?;
        let lengths = features.f_mul_(&per_one.f_to_kind(features.kind())?)?;
        let sums = sums(of, &lengths)?;
        Ok(Self { of, lengths, units, sums })
    }

    pub(super) fn letter(&self, letter: &Letter) -> Result<LetterScores> {
        let (train, is_train) = part(&self.of.words, false, letter.number);
        let (test, is_test) = part(&self.of.words, true, letter.number);
        let order = self.order(letter.number)?;
        let columns = |at: &[i64], k: usize| -> Result<Tensor> {
            let columns = Tensor::f_from_slice(&order[..k])?;
            rows(&self.lengths.f_index_select(1, &columns)?, at)
        };
        let (mut own, mut before) = (1, f64::INFINITY);
        for k in 1..=MOST_FEATURES.min(order.len()) {
            let f1 = f1_of_folds(&columns(&train, k)?, &is_train)?;
            if k > 1 && f1 - before <= F1_RISE {
                break;
            }
            (own, before) = (k, f1);
        }
        let features: Vec<usize> = order[..own].iter().map(|&feature| feature as usize).collect();
        let one = Probe::fit_balanced(&columns(&train, 1)?, &is_train)?;
        let absorbed =
            if letter.counts() { Some(self.absorption(letter, &features)?) } else { None };
        Ok(LetterScores {
            letter: char::from(b'a' + letter.number as u8),
            n_words: is_test.iter().filter(|is| **is).count() as u64,
            f1_dense: letter.f1_balanced,
            f1_one_feature: one.scores(&columns(&test, 1)?, &is_test)?.f1,
            features,
            n_found: letter.found.len() as u64,
            absorption: absorbed.map(|of| of[0]),
            full_absorption: absorbed.map(|of| of[1]),
        })
    }

    /// Features by how far their mean length over the letter's training words lies above that over others,
    /// the farthest first.
    fn order(&self, letter: usize) -> Result<Vec<i64>> {
        let (_, is_train) = part(&self.of.words, false, letter);
        let n_own = is_train.iter().filter(|is| **is).count() as f64;
        let own = self.sums.f_get(letter as i64)?;
        let all = self.sums.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Double)?;
        let others = all.f_sub(&own)?.f_div_scalar(is_train.len() as f64 - n_own)?;
        let above = own.f_div_scalar(n_own)?.f_sub(&others)?;
        let n_kept = (MOST_FEATURES as i64).min(above.size()[0]);
        Ok(Vec::<i64>::try_from(above.f_topk(n_kept, 0, true, true)?.1)?)
    }

    /// Mean absorption and share of full absorption over the words that the letter's probe finds.
    fn absorption(&self, letter: &Letter, own: &[usize]) -> Result<[f64; 2]> {
        let cosines = Vec::<f64>::try_from(self.units.f_mv(&letter.unit)?)?;
        let mut sums = [0.0; 2];
        for &word in &letter.found {
            let lengths = to_f64s(&self.lengths.f_get(word as i64)?)?;
            let active = lengths.iter().enumerate().filter(|(_, length)| **length != 0.0);
            let part = |(i, length): (usize, &f64)| Part {
                is_main: own.contains(&i),
                projection: length * self.of.rms * cosines[i],
                cosine: cosines[i],
            };
            let parts: Vec<Part> = active.map(part).collect();
            let projection = self.of.x.f_get(word as i64)?.f_dot(&letter.unit)?;
            let of = absorbed(&parts, projection.f_double_value(&[])?);
            sums[0] += of.fraction;
            sums[1] += f64::from(u8::from(of.is_full));
        }
        Ok(sums.map(|sum| sum / letter.found.len().max(1) as f64))
    }
}

/// F1 over rows of which each third is told by a regression on the others.
fn f1_of_folds(x: &Tensor, labels: &[bool]) -> Result<f64> {
    let mut told = vec![0.0; labels.len()];
    for fold in 0..N_FOLDS {
        let (held, rest): (Vec<usize>, Vec<usize>) =
            (0..labels.len()).partition(|row| row % N_FOLDS == fold);
        let of = |at: &[usize]| -> Result<(Tensor, Vec<bool>)> {
            let numbers: Vec<i64> = at.iter().map(|row| *row as i64).collect();
            Ok((rows(x, &numbers)?, at.iter().map(|row| labels[*row]).collect()))
        };
        let (x_rest, of_rest) = of(&rest)?;
        let probe = Probe::fit_balanced(&x_rest, &of_rest)?;
        let weights = Tensor::f_from_slice(&probe.weights)?;
        let said = to_f64s(&of(&held)?.0.f_to_kind(Kind::Double)?.f_mv(&weights)?)?;
        held.iter().zip(said).for_each(|(&row, said)| told[row] = said + probe.bias);
    }
    Ok(ProbeScores::of(&told, labels).f1)
}

/// Σ of lengths over the training words of each letter, `[26, n_features]` in f64.
fn sums(of: &FirstLetters, lengths: &Tensor) -> Result<Tensor> {
    let mut is_of = vec![0.0f32; N_LETTERS * of.words.len()];
    for (i, word) in of.words.iter().enumerate().filter(|(_, word)| !word.is_test) {
        is_of[word.letter * of.words.len() + i] = 1.0;
    }
    let is_of = Tensor::f_from_slice(&is_of)?.f_view([N_LETTERS as i64, -1])?;
    Ok(is_of.f_to_kind(lengths.kind())?.f_mm(lengths)?.f_to_kind(Kind::Double)?)
}

/// What decoder rows are multiplied by at each of some rows, to be in the scale of the activations.
fn scales(sae: &Sae, rows: &Tensor) -> Result<Vec<f64>> {
    let rows = rows.f_to_kind(Kind::Double)?;
    let (_, scale) = sae.normalizer.normalize(&rows);
    let raw = |x: &Tensor| sae.output_normalizer().denormalize(x, scale.as_ref());
    let per_one = raw(&rows.f_ones_like()?)?.f_sub(&raw(&rows.f_zeros_like()?)?)?;
    to_f64s(&per_one.f_mean_dim([1i64].as_slice(), false, Kind::Double)?)
}

#[cfg(test)]
mod tests;
