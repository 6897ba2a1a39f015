//! Absorption and splitting that were planted.

use proptest::prelude::*;
use sae_models::{Encoded, InitRng};

use super::super::words::Word;
use super::*;
use crate::Error;
use crate::tied::{NORMALIZATIONS, tied};

/// Words of a planted vocabulary in which the letter is a direction of its own.
///
/// # Shapes
/// 3 letters, 60 words each; dimensions 0 to 2 are the letters, 3 to 62 the words' own.
fn words() -> FirstLetters {
    let (mut words, mut x) = (vec![], vec![]);
    for letter in 0..3 {
        for at in 0..60 {
            words.push(Word { id: 0, letter, is_test: at % 5 % 2 == 1 });
            let mut row = vec![0.0f64; 63];
            (row[letter], row[3 + at]) = (4.0, 1.0);
            x.extend(row);
        }
    }
    FirstLetters::new(words, Tensor::from_slice(&x).view([180, 63])).unwrap()
}

/// A feature of each letter that stays silent on some words, where features of these words do its work.
fn planted(of: &FirstLetters, is_absorbed: impl Fn(usize, usize) -> bool) -> Task<'_> {
    let (features, directions) = features(is_absorbed);
    Task::of_features(of, features, directions, vec![1.0; 180]).unwrap()
}

/// Those features, `[180, 183]`, and their decoder rows, `[183, 63]`.
fn features(is_absorbed: impl Fn(usize, usize) -> bool) -> (Tensor, Tensor) {
    let mut features = vec![];
    let mut directions = vec![0.0f64; 183 * 63];
    for letter in 0..3 {
        directions[letter * 63 + letter] = 1.0;
        for at in 0..60 {
            // Features 0 to 2 are the letters; then one for each word of each letter.
            let own = 3 + letter * 60 + at;
            let mut row = vec![0.0f32; 183];
            row[if is_absorbed(letter, at) { own } else { letter }] = 4.0;
            features.extend(row);
            (directions[own * 63 + letter], directions[own * 63 + 3 + at]) = (1.0, 0.25);
        }
    }
    let features = Tensor::from_slice(&features).view([180, 183]);
    (features, Tensor::from_slice(&directions).view([183, 63]))
}

#[test]
fn planted_absorption_is_found() {
    // Every third of the second letter's words.
    let absorbs = |letter: usize, at: usize| letter == 1 && at.is_multiple_of(3);
    let words = words();
    let task = planted(&words, absorbs);
    let letters: Vec<LetterScores> =
        words.letters.iter().map(|letter| task.letter(letter).unwrap()).collect();
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
    let all = words.finish(letters).unwrap();
    assert_eq!((all.n_letters, all.n_train, all.n_test), (3, 108, 72));
    assert!((all.absorption - expected / 3.0).abs() < 1e-9);
    assert_eq!(all.features_per_letter, 1.0);
}

/// The words' own features of the first letter are one, on every second word.
fn split(of: &FirstLetters) -> Task<'_> {
    let (features, directions) = features(|letter, at| letter == 0 && at % 2 == 0);
    let shared = features.narrow(1, 3, 60).sum_dim_intlist(1, true, Kind::Float);
    let features = Tensor::cat(&[&features.narrow(1, 0, 3), &shared], 1);
    Task::of_features(of, features, directions.narrow(0, 0, 4), vec![1.0; 180]).unwrap()
}

#[test]
fn a_letter_that_two_features_share_is_split() {
    let words = words();
    let of = split(&words).letter(&words.letters[0]).unwrap();
    let mut features = of.features.clone();
    features.sort_unstable();
    assert_eq!(features, [0, 3], "{of:?}");
    assert_eq!(of.absorption, Some(0.0));
}

#[test]
fn test_words_have_no_say_in_what_is_a_letters_own() {
    let words = words();
    let task = split(&words);
    let (test, _) = part(&words.words, true, 0);
    let (lengths, units) = (task.lengths.copy(), task.units.copy());
    for word in test {
        let _ = lengths.get(word).fill_(0.0);
    }
    let silent = Task::of_features(&words, lengths, units, vec![words.rms; 180]).unwrap();
    let [whole, silent] = [&task, &silent].map(|of| of.letter(&words.letters[0]).unwrap());
    assert_eq!(whole.features, silent.features);
    assert!(silent.f1_one_feature < whole.f1_one_feature);
}

#[test]
fn letters_that_no_probe_tells_count_in_nothing() {
    let words = words();
    let mut of = planted(&words, |_, _| false).letter(&words.letters[0]).unwrap();
    (of.absorption, of.full_absorption) = (None, None);
    assert!(matches!(words.finish(vec![of]), Err(Error::Empty { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Powers of two, so that not even the last bit may change.
    #[test]
    fn units_of_features_and_folded_normalisations_change_nothing(
        powers in prop::collection::vec(-8..8i32, 183),
        of_words in prop::collection::vec(-8..8i32, 180),
    ) {
        let words = words();
        let (features, directions) = features(|letter, at| letter == 1 && at % 3 == 0);
        let by = |powers: &[i32], sign: i32| {
            let factors: Vec<f64> = powers.iter().map(|power| f64::from(sign * power).exp2()).collect();
            Tensor::from_slice(&factors)
        };
        let units = &features * by(&powers, 1).to_kind(Kind::Float).view([1, -1]);
        let units = units * by(&of_words, -1).to_kind(Kind::Float).view([-1, 1]);
        let rows = &directions * by(&powers, -1).view([-1, 1]);
        let scales = Vec::<f64>::try_from(by(&of_words, 1)).unwrap();
        let letters = |task: Task<'_>| {
            words.letters.iter().map(|letter| task.letter(letter).unwrap()).collect::<Vec<_>>()
        };
        let plain = Task::of_features(&words, features, directions, vec![1.0; 180]).unwrap();
        let other = Task::of_features(&words, units, rows, scales).unwrap();
        prop_assert_eq!(letters(plain), letters(other));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// What a feature adds to a row is what decoding it adds.
    #[test]
    fn directions_have_the_scale_of_each_row(seed in 0u64..1000, spread in 0.0..3.0f64) {
        let mut rng = InitRng::new(seed);
        let decoder = rng.directions(6, 5, 1.0);
        let rows = rng.uniform(&[4, 5], 2.0) * (rng.uniform(&[4, 1], spread)).exp();
        let rows = rows.to_kind(Kind::Float);
        for normalization in NORMALIZATIONS {
            let sae = tied(&decoder, normalization, 0.0);
            let scales = scales(&sae, &rows).unwrap();
            for feature in 0..6 {
                let decode = |activation: f64| {
                    let features = Tensor::zeros([4, 6], (Kind::Float, Device::Cpu));
                    let _ = features.select(1, feature).fill_(activation);
                    let scale = sae.normalizer.normalize(&rows).1;
                    sae.decode(&Encoded { features, k_hat: None, rows: scale }).unwrap()
                };
                let added = (decode(1.0) - decode(0.0)).to_kind(Kind::Double);
                let row = decoder.get(feature).to_kind(Kind::Double);
                for (i, scale) in scales.iter().enumerate() {
                    let error = (added.get(i as i64) - &row * *scale).abs().max().double_value(&[]);
                    prop_assert!(error < 1e-4 * scale.max(1.0), "{normalization:?}: {error}");
                }
            }
        }
    }
}
