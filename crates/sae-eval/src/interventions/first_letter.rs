//! Absorption and splitting on the first letters of words: a concept that is known of every word, so
//! that what stands for it can be told.

mod letter;
mod task;
mod words;

use sae_config::{FirstLetter, LetterScores};
use sae_hosts::{Bos, HookPoint, HostModel};
use sae_models::Sae;
use tch::{Device, Kind, Tensor};

use self::letter::{Letter, letters};
use self::task::Task;
use self::words::{Word, read, words};
use crate::{Error, Result};

/// Letters of the alphabet.
const N_LETTERS: usize = 26;

/// How words are taken from the host's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstLetterOptions {
    /// Words of each letter at most, evenly spread over its tokens.
    pub words_per_letter: usize,
    /// Words computed at once; decides speed and memory, not the result.
    pub batch_size: usize,
    /// The token in front of the examples.
    pub bos: Bos,
}

impl Default for FirstLetterOptions {
    fn default() -> Self {
        Self { words_per_letter: 120, batch_size: 64, bos: Bos::Auto }
    }
}

/// Words of a host's vocabulary, its activations at them, and what can be read off these: whatever SAE
/// is asked about, it is the same.
#[derive(Debug)]
pub struct FirstLetters {
    words: Vec<Word>,
    /// `[words, d_model]`, of the host's kind and on its device.
    rows: Tensor,
    /// The same on the CPU in f64.
    x: Tensor,
    /// Their root mean square.
    rms: f64,
    letters: Vec<Letter>,
}

impl FirstLetters {
    /// Reads the words: tokens of a space and at least two letters of ASCII, each after two examples.
    ///
    /// Of each letter three fifths of the words train and the others test. The probe of a letter is an
    /// L2 logistic regression on the activations at the word. `progress` is told the words read and the
    /// words in all.
    ///
    /// # Errors
    /// [`Error::Setting`] where fewer than two letters have 40 words; [`Error::Host`].
    pub fn read(
        host: &HostModel,
        hook: HookPoint,
        options: FirstLetterOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        let words = words(host, options.words_per_letter)?;
        let _guard = tch::no_grad_guard();
        let rows = read(host, hook, &words, options, progress)?;
        Self::new(words, rows)
    }

    fn new(words: Vec<Word>, rows: Tensor) -> Result<Self> {
        let x = rows.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let rms = x.f_square()?.f_mean(Kind::Double)?.f_double_value(&[])?.sqrt();
        let rms = rms.max(f64::MIN_POSITIVE);
        // So that the penalty does not depend on the scale.
        let letters = letters(&words, &x.f_div_scalar(rms)?)?;
        Ok(Self { words, rows, x, rms, letters })
    }

    /// Whether an SAE's features of first letters are absorbed by others or split.
    ///
    /// A letter's own features are the one whose mean is highest above that of the other letters' words,
    /// then the next such as long as the F1 of regressions on them rises by more than 0.03: F1 over the
    /// training words, of which each third is told by a regression on the others.
    ///
    /// # Errors
    /// [`Error::Ports`] for a transcoder, [`Error::Dimension`] for an SAE of another `d_model` than the
    /// host, [`Error::Empty`] where no letter's probe tells its words; [`Error::Model`].
    pub fn scores(&self, sae: &Sae) -> Result<FirstLetter> {
        crate::splice::check_dimension(sae, self.rows.size()[1] as usize)?;
        let _guard = tch::no_grad_guard();
        let task = Task::new(sae, self)?;
        let letters =
            self.letters.iter().map(|letter| task.letter(letter)).collect::<Result<Vec<_>>>()?;
        self.finish(letters)
    }

    fn finish(&self, letters: Vec<LetterScores>) -> Result<FirstLetter> {
        let counted: Vec<&LetterScores> =
            letters.iter().filter(|of| of.absorption.is_some()).collect();
        if counted.is_empty() {
            let what = "first letters that a probe reads off the activations";
            return Err(Error::Empty { what });
        }
        let mean = |of: &dyn Fn(&LetterScores) -> f64| {
            counted.iter().map(|letter| of(letter)).sum::<f64>() / counted.len() as f64
        };
        let n_test = self.words.iter().filter(|word| word.is_test).count();
        Ok(FirstLetter {
            n_train: (self.words.len() - n_test) as u64,
            n_test: n_test as u64,
            n_letters: counted.len() as u64,
            absorption: mean(&|of| of.absorption.unwrap_or_default()),
            full_absorption: mean(&|of| of.full_absorption.unwrap_or_default()),
            features_per_letter: mean(&|of| of.features.len() as f64),
            f1_one_feature: mean(&|of| of.f1_one_feature),
            f1_dense: mean(&|of| of.f1_dense),
            letters,
        })
    }
}

/// [`FirstLetters`] of one SAE.
///
/// # Errors
/// As [`FirstLetters::read`] and [`FirstLetters::scores`].
pub fn first_letter(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    options: FirstLetterOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<FirstLetter> {
    crate::splice::check(sae, host)?;
    FirstLetters::read(host, hook, options, progress)?.scores(sae)
}
