//! Absorption and splitting on the first letters of words: a concept that is known of every word, so
//! that what stands for it can be told.

mod task;
mod words;

use sae_config::{FirstLetter, LetterScores};
use sae_hosts::{Bos, HookPoint, HostModel};
use sae_models::Sae;

use self::task::Task;
use self::words::{read, words};
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
        Self { words_per_letter: 120, batch_size: 32, bos: Bos::Auto }
    }
}

/// Whether features of first letters are absorbed by others or split, over the words of a host's
/// vocabulary: tokens of a space and at least two letters of ASCII, read after two examples.
///
/// Of each letter three fifths of the words train and the others test. The probe of a letter is an L2
/// logistic regression on the activations at the word. Its own features are the one whose mean is
/// highest above that of the other letters' words, then the next such as long as the F1 of a
/// regression on them rises by more than 0.03. `progress` is told the words read and the words in all.
///
/// # Errors
/// [`Error::Ports`] for a transcoder, [`Error::Dimension`] for an SAE of another `d_model` than the
/// host, [`Error::Setting`] where fewer than two letters have 40 words, [`Error::Empty`] where no
/// letter's probe tells its words; [`Error::Host`] and [`Error::Model`].
pub fn first_letter(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    options: FirstLetterOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<FirstLetter> {
    crate::splice::check(sae, host)?;
    let words = words(host, options.words_per_letter)?;
    let _guard = tch::no_grad_guard();
    let x = read(host, hook, &words, options, progress)?;
    let task = Task::new(sae, x, words)?;
    let letters = (0..N_LETTERS)
        .filter(|letter| task.count(*letter, false) > 0)
        .map(|letter| task.letter(letter))
        .collect::<Result<Vec<_>>>()?;
    finish(&task, letters)
}

fn finish(task: &Task, letters: Vec<LetterScores>) -> Result<FirstLetter> {
    let counted: Vec<&LetterScores> = letters.iter().filter(|of| of.absorption.is_some()).collect();
    if counted.is_empty() {
        return Err(Error::Empty { what: "first letters that a probe reads off the activations" });
    }
    let mean = |of: &dyn Fn(&LetterScores) -> f64| {
        counted.iter().map(|letter| of(letter)).sum::<f64>() / counted.len() as f64
    };
    let n_test = task.words.iter().filter(|word| word.is_test).count();
    Ok(FirstLetter {
        n_train: (task.words.len() - n_test) as u64,
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
