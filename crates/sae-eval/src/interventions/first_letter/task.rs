//! What is found of a letter: its probe, its own features, and what absorbs them.

use sae_config::LetterScores;
use sae_models::{Role, Sae};
use tch::{Device, Kind, Tensor};

use super::N_LETTERS;
use super::words::Word;
use crate::interventions::absorption::{Part, absorbed};
use crate::{Error, Probe, Result};

/// Least F1 of a probe whose letter counts, and the words that it has to find at least.
const LEAST_F1: f64 = 0.6;
const LEAST_FOUND: usize = 20;

/// Rise of F1 that makes one more feature a letter's own, and how many are at most.
const F1_RISE: f64 = 0.03;
const MOST_FEATURES: usize = 10;

/// Words with their activations and features.
pub(super) struct Task {
    pub(super) words: Vec<Word>,
    /// `[words, d_model]` on the CPU in f64, as the host has them.
    x: Tensor,
    /// `[words, n_features]` on the CPU.
    features: Tensor,
    /// Decoder rows in the scale of x: what an activation of 1 adds on average, `[n_features, d_model]`.
    directions: Tensor,
    /// Σ over training words of each letter, `[26, n_features]`.
    sums: Tensor,
    /// What x is divided by for probes, so that their penalty does not depend on its scale.
    scale: f64,
}

impl Task {
    pub(super) fn new(sae: &Sae, x: Tensor, words: Vec<Word>) -> Result<Self> {
        let rows = x.f_to_device(sae.device())?.f_to_kind(sae.kind())?;
        let encoded = sae.encode(&rows)?;
        let features = encoded.features.f_to_device(Device::Cpu)?;
        let x = x.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let total = x.f_square()?.f_mean(Kind::Double)?.f_double_value(&[])?;
        let scale = total.sqrt().max(f64::MIN_POSITIVE);
        let directions = directions(sae, &rows)?;
        let sums = sums(&words, &features)?;
        Ok(Self { words, x, features, directions, sums, scale })
    }

    pub(super) fn count(&self, letter: usize, is_test: bool) -> usize {
        let is = |word: &&Word| word.letter == letter && word.is_test == is_test;
        self.words.iter().filter(is).count()
    }

    /// Numbers of the words that test or train, and which of them begin with the letter.
    fn split(&self, letter: usize, is_test: bool) -> (Vec<i64>, Vec<bool>) {
        let all = self.words.iter().enumerate().filter(|(_, word)| word.is_test == is_test);
        all.map(|(i, word)| (i as i64, word.letter == letter)).unzip()
    }

    pub(super) fn letter(&self, letter: usize) -> Result<LetterScores> {
        let ((train, is_train), (test, is_test)) =
            (self.split(letter, false), self.split(letter, true));
        let rows = |of: &Tensor, at: &[i64]| {
            Ok::<_, Error>(of.f_index_select(0, &Tensor::f_from_slice(at)?)?)
        };
        let x = self.x.f_div_scalar(self.scale)?;
        let (x_train, x_test) = (rows(&x, &train)?, rows(&x, &test)?);
        let probe = Probe::fit(&x_train, &is_train)?;
        let f1_dense = probe.scores(&x_test, &is_test)?.f1;
        let weights = Tensor::f_from_slice(&probe.weights)?;
        let readings = Vec::<f64>::try_from(x_test.f_mv(&weights)?)?;
        let said = |i: &usize| is_test[*i] && readings[*i] + probe.bias > 0.0;
        let found: Vec<usize> = (0..test.len()).filter(said).collect();

        let order = self.order(letter)?;
        let (mut own, mut f1): (usize, Vec<f64>) = (1, Vec::new());
        for k in 1..=MOST_FEATURES.min(order.len()) {
            let columns = Tensor::f_from_slice(&order[..k])?;
            let of =
                |at: &[i64]| Ok::<_, Error>(rows(&self.features, at)?.f_index_select(1, &columns)?);
            let sparse = Probe::fit(&of(&train)?, &is_train)?;
            f1.push(sparse.scores(&of(&test)?, &is_test)?.f1);
            own = k;
            if k > 1 && f1[k - 1] - f1[k - 2] <= F1_RISE {
                own = k - 1;
                break;
            }
        }
        let features: Vec<usize> = order[..own].iter().map(|&feature| feature as usize).collect();
        let counts = f1_dense > LEAST_F1 && found.len() >= LEAST_FOUND;
        let at: Vec<i64> = found.iter().map(|&i| test[i]).collect();
        let absorbed = if counts { Some(self.absorption(&at, &weights, &features)?) } else { None };
        Ok(LetterScores {
            letter: char::from(b'a' + letter as u8),
            n_words: is_test.iter().filter(|is| **is).count() as u64,
            f1_dense,
            f1_one_feature: f1[0],
            features,
            n_found: found.len() as u64,
            absorption: absorbed.map(|of| of[0]),
            full_absorption: absorbed.map(|of| of[1]),
        })
    }

    /// Features by how far their mean over the letter's training words lies above that over others,
    /// the farthest first.
    fn order(&self, letter: usize) -> Result<Vec<i64>> {
        let n_own = self.count(letter, false) as f64;
        let n = self.words.iter().filter(|word| !word.is_test).count() as f64;
        let own = self.sums.f_get(letter as i64)?;
        let all = self.sums.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Double)?;
        let others = all.f_sub(&own)?.f_div_scalar(n - n_own)?;
        let above = own.f_div_scalar(n_own)?.f_sub(&others)?;
        let n_kept = (MOST_FEATURES as i64).min(above.size()[0]);
        Ok(Vec::<i64>::try_from(above.f_topk(n_kept, 0, true, true)?.1)?)
    }

    /// Mean absorption and share of full absorption over words.
    fn absorption(&self, words: &[i64], weights: &Tensor, own: &[usize]) -> Result<[f64; 2]> {
        let unit = weights.f_div(&weights.f_norm()?)?;
        let along = Vec::<f64>::try_from(self.directions.f_mv(&unit)?)?;
        let norms = self.directions.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), false)?;
        let norms = Vec::<f64>::try_from(norms)?;
        let mut sums = [0.0; 2];
        for &word in words {
            let activations = self.features.f_get(word)?.f_to_kind(Kind::Double)?;
            let activations = Vec::<f64>::try_from(activations)?;
            let active = activations.iter().enumerate().filter(|(_, a)| **a != 0.0);
            let part = |(i, a): (usize, &f64)| Part {
                is_main: own.contains(&i),
                projection: a * along[i],
                cosine: along[i] / norms[i].max(f64::MIN_POSITIVE),
            };
            let parts: Vec<Part> = active.map(part).collect();
            let of = absorbed(&parts, self.x.f_get(word)?.f_dot(&unit)?.f_double_value(&[])?);
            sums[0] += of.fraction;
            sums[1] += f64::from(u8::from(of.is_full));
        }
        Ok(sums.map(|sum| sum / words.len().max(1) as f64))
    }
}

/// Σ of features over the training words of each letter, `[26, n_features]` in f64.
fn sums(words: &[Word], features: &Tensor) -> Result<Tensor> {
    let mut is_of = vec![0.0f32; N_LETTERS * words.len()];
    for (i, word) in words.iter().enumerate().filter(|(_, word)| !word.is_test) {
        is_of[word.letter * words.len() + i] = 1.0;
    }
    let is_of = Tensor::f_from_slice(&is_of)?.f_view([N_LETTERS as i64, -1])?;
    Ok(is_of.f_to_kind(features.kind())?.f_mm(features)?.f_to_kind(Kind::Double)?)
}

/// Decoder rows in the scale of activations, in f64 on the CPU: what an activation of 1 adds to the
/// mean of some rows.
fn directions(sae: &Sae, rows: &Tensor) -> Result<Tensor> {
    let decoder = sae.parameters[Role::DecoderWeight].f_to_device(Device::Cpu)?;
    let mean = rows.f_to_kind(Kind::Double)?.f_mean_dim([0i64].as_slice(), true, Kind::Double)?;
    let (_, scale) = sae.normalizer.normalize(&mean);
    let raw = |x: &Tensor| -> Result<Tensor> {
        let raw =
            sae.output_normalizer().denormalize(&x.f_to_device(sae.device())?, scale.as_ref())?;
        Ok(raw.f_to_device(Device::Cpu)?)
    };
    let decoder = decoder.f_to_kind(Kind::Double)?;
    Ok(raw(&decoder)?.f_sub(&raw(&decoder.f_zeros_like()?)?)?)
}

#[cfg(test)]
mod tests {
    use super::super::finish;
    use super::*;

    /// Words of a planted vocabulary in which the letter is a direction of its own, and a feature of it
    /// that stays silent on some words, where features of these words do its work.
    ///
    /// # Shapes
    /// 3 letters, 60 words each; dimensions 0 to 2 are the letters, 3 to 62 the words' own.
    fn planted(is_absorbed: impl Fn(usize, usize) -> bool) -> Task {
        let (n_letters, n_words, d) = (3, 60, 63);
        let (mut words, mut x, mut features) = (vec![], vec![], vec![]);
        for letter in 0..n_letters {
            for at in 0..n_words {
                words.push(Word { id: 0, letter, is_test: at % 5 % 2 == 1 });
                let mut row = vec![0.0f64; d];
                (row[letter], row[n_letters + at]) = (4.0, 1.0);
                x.extend(row);
                // Features 0 to 2 are the letters; then one for each word of each letter.
                let mut row = vec![0.0f32; n_letters + n_letters * n_words];
                let own = n_letters + letter * n_words + at;
                match is_absorbed(letter, at) {
                    true => row[own] = 4.0,
                    false => (row[letter], row[own]) = (4.0, 0.0),
                }
                features.extend(row);
            }
        }
        let n = words.len() as i64;
        let features = Tensor::from_slice(&features).view([n, -1]);
        let mut directions = vec![0.0f64; (n_letters + n_letters * n_words) * d];
        for letter in 0..n_letters {
            directions[letter * d + letter] = 1.0;
            for at in 0..n_words {
                let row = (n_letters + letter * n_words + at) * d;
                (directions[row + letter], directions[row + n_letters + at]) = (1.0, 0.25);
            }
        }
        let sums = sums(&words, &features).unwrap();
        let directions = Tensor::from_slice(&directions).view([-1, d as i64]);
        Task {
            words,
            x: Tensor::from_slice(&x).view([n, -1]),
            features,
            directions,
            sums,
            scale: 1.0,
        }
    }

    #[test]
    fn planted_absorption_is_found() {
        // Every third of the second letter's words.
        let absorbs = |letter: usize, at: usize| letter == 1 && at.is_multiple_of(3);
        let task = planted(absorbs);
        let letters: Vec<LetterScores> =
            (0..3).map(|letter| task.letter(letter).unwrap()).collect();
        let n_test = (0..60).filter(|at| at % 5 % 2 == 1).count();
        let n_absorbed = (0..60).filter(|at| at % 5 % 2 == 1 && absorbs(1, *at)).count();
        let expected = n_absorbed as f64 / n_test as f64;
        for (letter, of) in letters.iter().enumerate() {
            assert_eq!((of.f1_dense, of.n_found), (1.0, n_test as u64), "{of:?}");
            assert_eq!(of.features, [letter]);
            let absorbed = if letter == 1 { expected } else { 0.0 };
            assert!((of.absorption.unwrap() - absorbed).abs() < 1e-9, "{of:?}");
            assert!((of.full_absorption.unwrap() - absorbed).abs() < 1e-9);
            assert_eq!(of.f1_one_feature < 1.0, letter == 1);
        }
        let all = finish(&task, letters).unwrap();
        assert_eq!((all.n_letters, all.n_train, all.n_test), (3, 108, 72));
        assert!((all.absorption - expected / 3.0).abs() < 1e-9);
        assert_eq!(all.features_per_letter, 1.0);
    }

    #[test]
    fn a_letter_that_two_features_share_is_split() {
        // The words' own features of the first letter are one, on every second word.
        let mut task = planted(|letter, at| letter == 0 && at % 2 == 0);
        let shared = task.features.narrow(1, 3, 60).sum_dim_intlist(1, true, Kind::Float);
        task.features = Tensor::cat(&[&task.features.narrow(1, 0, 3), &shared], 1);
        task.directions = task.directions.narrow(0, 0, 4);
        task.sums = sums(&task.words, &task.features).unwrap();
        let of = task.letter(0).unwrap();
        let mut features = of.features.clone();
        features.sort_unstable();
        assert_eq!(features, [0, 3], "{of:?}");
        assert_eq!(of.absorption, Some(0.0));
    }

    #[test]
    fn letters_that_no_probe_tells_count_in_nothing() {
        let task = planted(|_, _| false);
        let mut of = task.letter(0).unwrap();
        (of.absorption, of.full_absorption) = (None, None);
        assert!(matches!(finish(&task, vec![of]), Err(Error::Empty { .. })));
    }
}
