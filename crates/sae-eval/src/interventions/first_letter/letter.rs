//! What can be read off a host's activations of a letter, whatever the SAE.

use tch::Tensor;

use super::N_LETTERS;
use super::words::Word;
use crate::{Error, Probe, Result};

/// Least F1 of a probe whose letter counts, and the words that it has to find at least.
const LEAST_F1: f64 = 0.6;
const LEAST_FOUND: usize = 20;

/// A letter and the probe on activations that tells it.
#[derive(Debug)]
pub(super) struct Letter {
    /// From 0.
    pub(super) number: usize,
    /// Direction of the probe's weights, `[d_model]`.
    pub(super) unit: Tensor,
    /// F1 on the test words.
    pub(super) f1: f64,
    /// The same of a probe that counts the letter's words and the others as half of the data each, as
    /// those on features do.
    pub(super) f1_balanced: f64,
    /// The letter's test words that the probe finds.
    pub(super) found: Vec<usize>,
}

impl Letter {
    /// Whether its probe tells its words, so that it counts.
    pub(super) fn counts(&self) -> bool {
        self.f1 > LEAST_F1 && self.found.len() >= LEAST_FOUND
    }
}

/// Words that train, or those that test, and which of them begin with a letter.
pub(super) fn part(words: &[Word], is_test: bool, letter: usize) -> (Vec<i64>, Vec<bool>) {
    let all = words.iter().enumerate().filter(|(_, word)| word.is_test == is_test);
    all.map(|(i, word)| (i as i64, word.letter == letter)).unzip()
}

/// Some rows of a matrix.
pub(super) fn rows(of: &Tensor, at: &[i64]) -> Result<Tensor> {
    Ok(of.f_index_select(0, &Tensor::f_from_slice(at)?)?)
}

/// The letters that words begin with.
///
/// # Shapes
/// x `[words, d_model]` on the CPU in f64, of root mean square 1.
pub(super) fn letters(words: &[Word], x: &Tensor) -> Result<Vec<Letter>> {
    let (test, _) = part(words, true, 0);
    let (x_train, x_test) = (rows(x, &part(words, false, 0).0)?, rows(x, &test)?);
    let letter = |number: usize| -> Result<Letter> {
        let ((_, is_train), (_, is_test)) = (part(words, false, number), part(words, true, number));
        let probe = Probe::fit(&x_train, &is_train)?;
        let f1 = probe.scores(&x_test, &is_test)?.f1;
        let weights = Tensor::f_from_slice(&probe.weights)?;
        let readings = Vec::<f64>::try_from(x_test.f_mv(&weights)?)?;
        let is_found = |i: &usize| is_test[*i] && readings[*i] + probe.bias > 0.0;
        let found = (0..test.len()).filter(is_found).map(|i| test[i] as usize).collect();
        let unit = weights.f_div(&weights.f_norm()?)?;
        let balanced = Probe::fit_balanced(&x_train, &is_train)?;
        let f1_balanced = balanced.scores(&x_test, &is_test)?.f1;
        Ok(Letter { number, unit, f1, f1_balanced, found })
    };
    let has_words = |letter: &usize| words.iter().any(|word| word.letter == *letter);
    let all = (0..N_LETTERS).filter(has_words).map(letter).collect::<Result<Vec<_>>>()?;
    match all.is_empty() {
        true => Err(Error::Empty { what: "words" }),
        false => Ok(all),
    }
}
