//! The words of a host's vocabulary, and its activations at them.

use sae_hosts::{HookPoint, HostInput, HostModel, HostTokenizer, Past};
use tch::Tensor;

use super::super::check_length;
use super::{FirstLetterOptions, N_LETTERS};
use crate::{Error, Result};

/// What stands before each word: two of the task's own examples.
const EXAMPLES: &str = " table has the first letter: T\n river has the first letter: R\n";

/// Words of the examples.
const EXAMPLE_WORDS: [&[u8]; 2] = [b" table", b" river"];

/// Words of a letter at least, so that its probe can be fitted and tested.
const LEAST_WORDS: usize = 40;

/// A word of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) id: u32,
    /// From 0.
    pub(super) letter: usize,
    pub(super) is_test: bool,
}

/// Words of each letter that has enough of them.
pub(super) fn words(host: &HostModel, most: usize) -> Result<Vec<Word>> {
    let tokenizer = host.tokenizer()?;
    let HostInput::Tokens { vocabulary, .. } = host.info().input else {
        let (expected, got) = ("a language model".to_owned(), host.info().family.clone());
        return Err(Error::Setting { name: "host", expected, got });
    };
    let mut of_letter: Vec<Vec<u32>> = vec![Vec::new(); N_LETTERS];
    for id in 0..vocabulary as u32 {
        if let Some(letter) = letter_of(tokenizer, id) {
            of_letter[letter].push(id);
        }
    }
    let mut words = Vec::new();
    for (letter, ids) in of_letter.iter().enumerate().filter(|(_, ids)| ids.len() >= LEAST_WORDS) {
        let n = ids.len().min(most.max(LEAST_WORDS));
        // Evenly spread; every second and fourth of five tests.
        let word = |i: usize| Word { id: ids[i * ids.len() / n], letter, is_test: i % 5 % 2 == 1 };
        words.extend((0..n).map(word));
    }
    let n_letters = words.chunk_by(|a, b| a.letter == b.letter).count();
    if n_letters < 2 {
        return Err(Error::Setting {
            name: "vocabulary of the host",
            expected: format!("at least 2 letters that {LEAST_WORDS} words begin with"),
            got: n_letters.to_string(),
        });
    }
    Ok(words)
}

/// The letter that a token begins with after its space, if it is a word.
fn letter_of(tokenizer: &HostTokenizer, id: u32) -> Option<usize> {
    let piece = tokenizer.piece(id)?;
    let letters = piece.strip_prefix(b" ")?;
    let is_word = letters.len() > 1 && letters.iter().all(u8::is_ascii_alphabetic);
    let is_free = is_word && !EXAMPLE_WORDS.contains(&piece.as_slice());
    is_free.then(|| usize::from(letters[0].to_ascii_lowercase() - b'a'))
}

/// The host's activations at the words, `[words, d_model]`.
pub(super) fn read(
    host: &HostModel,
    hook: HookPoint,
    words: &[Word],
    options: FirstLetterOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Tensor> {
    let tokenizer = host.tokenizer()?;
    let lead = options.bos.resolve(tokenizer)?;
    let before: Vec<u32> = lead.into_iter().chain(tokenizer.encode(EXAMPLES)?).collect();
    host.check_ids(&before)?;
    check_length(host, before.len() + 1)?;
    let tensor = |ids: &[u32], shape: [i64; 2]| -> Result<Tensor> {
        let ids: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
        Ok(Tensor::f_from_slice(&ids)?.f_reshape(shape)?.f_to_device(host.device())?)
    };
    let mut past = Past::new();
    host.prefix_after(&mut past, &tensor(&before, [1, -1])?, hook)?;
    past.keep(before.len());
    let mut rows = Vec::new();
    let mut done = 0;
    for batch in words.chunks(options.batch_size.max(1)) {
        let ids: Vec<u32> = batch.iter().map(|word| word.id).collect();
        let mut past = past.expand(batch.len(), 0);
        let prefix = host.prefix_after(&mut past, &tensor(&ids, [-1, 1])?, hook)?;
        rows.push(prefix.activations().f_select(1, 0)?);
        done += batch.len();
        progress(done as u64, words.len() as u64);
    }
    Ok(Tensor::f_cat(&rows, 0)?)
}
