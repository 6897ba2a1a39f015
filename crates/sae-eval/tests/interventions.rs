//! Interventions on a small Llama with random weights, against their definitions.

use sae_eval::{
    AttributeOptions, AttributeTable, CrossEntropyOptions, Error, FirstLetterOptions, LossOptions,
    cross_entropy, disentanglement, first_letter, splice_losses,
};
use sae_hosts::{Bos, HookPoint, HostModel};
use sae_models::Sae;
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use crate::hosts::host_with_tokenizer;
use crate::models::{linear, soft};

fn hook(name: &str) -> HookPoint {
    name.parse().unwrap()
}

fn words(ids: impl IntoIterator<Item = u32>) -> String {
    ids.into_iter().map(|id| format!("w{id} ")).collect()
}

fn options(largest: &[usize]) -> LossOptions {
    let reading = CrossEntropyOptions { context_length: 16, ..CrossEntropyOptions::default() };
    LossOptions { reading, largest: largest.to_vec() }
}

fn losses(
    host: &HostModel,
    sae: &Sae,
    texts: &[(&str, &str)],
    largest: &[usize],
) -> (sae_config::CrossEntropy, sae_config::SplicedLosses) {
    let options = options(largest);
    let report =
        splice_losses(sae, host, hook("resid_post.1"), texts, &options, &mut |_, _| {}).unwrap();
    let ce = &report.cross_entropy;
    let score = |name: &str| report.scores.get(name).map(|score| score.value);
    assert!((score("interventions.kl_recovered").unwrap() - ce.kl_recovered).abs() < 1e-9);
    // Zeros may help a host with random weights: then there is nothing to recover.
    let recovered = score("interventions.ce_recovered");
    assert_eq!(recovered.is_some(), ce.zero > ce.clean);
    assert!(recovered.is_none_or(|recovered| (recovered - ce.ce_recovered).abs() < 1e-9));
    (report.cross_entropy, report.losses)
}

#[test]
fn losses_by_text_and_position_make_up_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let host = host_with_tokenizer(dir.path());
    let sae = soft(host.info().d_model, 64, 5);
    let (one, two) = (words((0..40).map(|i| i * 37 % 97)), words((0..23).map(|i| i * 11 % 97)));
    let texts = [("one", one.as_str()), ("two", two.as_str())];
    let (ce, all) = losses(&host, &sae, &texts, &[1, 3, 64]);
    let plain = [one.as_str(), two.as_str()];
    let reading = options(&[]).reading;
    let expected =
        cross_entropy(&sae, &host, hook("resid_post.1"), &plain, reading, &mut |_, _| {}).unwrap();
    assert_eq!(ce, expected);
    let by = |name: &str| all.all.by(name).unwrap().clone();
    assert_eq!((all.all.n, all.all.clean), (ce.n_tokens, ce.clean));
    assert_eq!((by("rebuilt").ce, by("rebuilt").kl), (ce.spliced, ce.kl_spliced));
    assert_eq!((by("zero").ce, by("zero").kl_recovered), (ce.zero, Some(0.0)));
    let recovered = (ce.zero > ce.clean).then_some(ce.ce_recovered);
    assert_eq!(by("rebuilt").ce_recovered, recovered);
    // 64 features are all that there are.
    assert!((by("largest_64").ce - ce.spliced).abs() < 1e-5);
    assert!((by("largest_1").kl - by("largest_3").kl).abs() > 1e-6);
    let positions: Vec<&str> = all.by_position.iter().map(|group| group.of.as_str()).collect();
    assert_eq!(positions, ["1", "2-3", "4-7", "8-15"]);
    let sources: Vec<&str> = all.by_source.iter().map(|group| group.of.as_str()).collect();
    assert_eq!(sources, ["one", "two"]);
    for groups in [&all.by_position, &all.by_source] {
        assert_eq!(groups.iter().map(|group| group.n).sum::<u64>(), all.all.n);
        for name in ["rebuilt", "zero", "random", "largest_1"] {
            let sum = |of: &dyn Fn(&sae_config::ReplacedLoss) -> f64| -> f64 {
                groups.iter().map(|group| of(group.by(name).unwrap()) * group.n as f64).sum()
            };
            let n = all.all.n as f64;
            assert!((sum(&|of| of.ce) / n - by(name).ce).abs() < 1e-9);
            assert!((sum(&|of| of.kl) / n - by(name).kl).abs() < 1e-9);
        }
    }
    // Alone each text gives what it gives among others.
    let (alone, _) = losses(&host, &sae, &texts[1..], &[]);
    assert!((alone.spliced - all.by_source[1].by("rebuilt").unwrap().ce).abs() < 1e-6);
}

/// k̂ differs between rows: of numbers between the mean L0 and the greatest some rows lose features.
#[test]
fn only_as_many_features_as_any_row_has_are_the_whole_reconstruction() {
    let dir = tempfile::tempdir().unwrap();
    let host = host_with_tokenizer(dir.path());
    let sae = soft(host.info().d_model, 64, 5);
    let text = words((0..40).map(|i| i * 37 % 97));
    let all: Vec<usize> = (1..=20).collect();
    let (ce, of) = losses(&host, &sae, &[("text", &text)], &all);
    let whole = of.all.by("rebuilt").unwrap();
    let is_whole = |n: &usize| of.all.by(&format!("largest_{n}")).unwrap().kl == whole.kl;
    let fewer = all.iter().take_while(|n| !is_whole(n)).count() as f64;
    let l0: Vec<f64> = ce.by_next_loss.iter().map(|of| of.l0).collect();
    let mean = l0.iter().sum::<f64>() / l0.len() as f64;
    assert!(all[fewer as usize..].iter().all(is_whole) && fewer > mean, "{fewer} {mean}");
}

#[test]
fn random_errors_are_of_the_size_of_the_reconstructions_own() {
    let dir = tempfile::tempdir().unwrap();
    let host = host_with_tokenizer(dir.path());
    let text = words((0..40).map(|i| i * 37 % 97));
    let texts = [("text", text.as_str())];
    // Without an error the random one is none either.
    let (_, perfect) = losses(&host, &linear(host.info().d_model, 1.0, 0.0), &texts, &[]);
    let random = perfect.all.by("random").unwrap();
    assert!(random.ce_recovered.is_none_or(|recovered| recovered == 1.0));
    assert_eq!((random.ce, random.kl_recovered), (perfect.all.clean, Some(1.0)));
    let size = |scale: f64| {
        let (_, all) = losses(&host, &linear(host.info().d_model, scale, 0.0), &texts, &[]);
        let of = all.all.by("random").unwrap().clone();
        of.kl
    };
    let (small, large, silent) = (size(0.9), size(0.5), size(0.0));
    assert!(0.0 < small && small < large && large < silent, "{small} {large} {silent}");
    let error = splice_losses(
        &linear(host.info().d_model, 0.5, 0.0),
        &host,
        hook("resid_post.1"),
        &texts,
        &options(&[2, 0]),
        &mut |_, _| {},
    );
    assert_eq!(error.unwrap_err().to_string(), "largest: expected at least 1, got 0");
}

/// What a host says after a prompt, as logits.
fn logits(host: &HostModel, ids: &[u32]) -> Vec<f64> {
    let ids: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
    let ids = Tensor::from_slice(&ids).unsqueeze(0).to_device(test_device());
    let all = host.logits(&ids).unwrap().get(0);
    Vec::try_from(all.get(all.size()[0] - 1).to_kind(Kind::Double)).unwrap()
}

/// Two tokens of which a host says one after half of the prompts, and which it says after each.
fn balanced(all: &[Vec<f64>], from: usize) -> ([usize; 2], Vec<usize>) {
    let mut best: Option<(f64, [usize; 2])> = None;
    for a in from..from + 20 {
        for b in a + 1..from + 20 {
            let above = all.iter().filter(|logits| logits[a] > logits[b]).count() as f64;
            let off = (above / all.len() as f64 - 0.5).abs();
            if best.is_none_or(|(least, _)| off < least) {
                best = Some((off, [a, b]));
            }
        }
    }
    let (off, [a, b]) = best.unwrap();
    assert!(off < 0.3, "the host says one thing of all");
    (([a, b]), all.iter().map(|logits| if logits[a] > logits[b] { a } else { b }).collect())
}

/// A table of what the host itself says of things of some tokens, asked of one prompt at a time, with two
/// values for each of two attributes.
fn table(host: &HostModel, things: &[Vec<u32>]) -> AttributeTable {
    let ask = |after: u32| -> Vec<Vec<f64>> {
        things.iter().map(|thing| logits(host, &[&[1], &thing[..], &[after]].concat())).collect()
    };
    let (_, first) = balanced(&ask(2), 40);
    let (_, second) = balanced(&ask(3), 62);
    let mut text = "\tfirst\tsecond\n?\tw1 {} w2\tw1 {} w3\n".to_owned();
    for (i, thing) in things.iter().enumerate() {
        let (thing, first, second) = (words(thing.iter().copied()), first[i], second[i]);
        text.push_str(&format!("{}\tw{first}\tw{second}\n", thing.trim_end()));
    }
    AttributeTable::parse(&text).unwrap()
}

/// Things of one token.
fn single() -> Vec<Vec<u32>> {
    (10..34).map(|id| vec![id]).collect()
}

#[test]
fn a_whole_activation_changes_everything_and_a_silent_sae_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = host_with_tokenizer(dir.path());
    let width = host.info().d_model;
    // The second are more than are computed together, and begin alike.
    for things in [single(), (10..50).map(|id| vec![5, id]).collect()] {
        let table = table(&host, &things);
        let measure = |sae: &Sae| {
            let n_features = vec![1, 2 * width];
            let options = AttributeOptions { n_features, pairs_per_attribute: 10, bos: Bos::Auto };
            let hook = hook("resid_pre.0");
            disentanglement(sae, &host, hook, &table, &options, &mut |_, _| {}).unwrap()
        };
        let perfect = measure(&linear(width, 1.0, 0.0));
        assert_eq!(perfect.n_things, things.len() as u64);
        // Before the first layer a moved activation is another token: all that is asked is answered
        // as of the source.
        assert_eq!((perfect.whole.cause, perfect.whole.isolation), (1.0, 0.0));
        let all = perfect.by_features[1];
        assert_eq!((all.n_features, all.cause, all.isolation), (2 * width as u64, 1.0, 0.0));
        let silent = measure(&linear(width, 0.0, 0.0));
        for of in &silent.by_features {
            assert_eq!((of.cause, of.isolation), (0.0, 1.0));
        }
        assert_eq!(silent.disentanglement, 0.5);
        let n_features = 2 * width as u64;
        assert_eq!(silent.whole, sae_config::Moved { n_features, ..perfect.whole });
    }
}

#[test]
fn things_of_unequal_lengths_are_told_as_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let host = host_with_tokenizer(dir.path());
    let width = host.info().d_model;
    let of_two = (10..46).map(|id| vec![id * 7 % 97, id]);
    let things: Vec<Vec<u32>> = single().into_iter().chain(of_two).chain([vec![5, 6, 7]]).collect();
    let options = AttributeOptions::of(2 * width);
    assert_eq!(options.n_features, [1, 4, 16, 2 * width]);
    let (sae, table) = (linear(width, 1.0, 0.0), table(&host, &things));
    let of = disentanglement(&sae, &host, hook("resid_post.0"), &table, &options, &mut |_, _| {});
    assert_eq!(of.unwrap().n_things, things.len() as u64);
}

#[test]
fn what_cannot_be_tried_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let host = host_with_tokenizer(dir.path());
    let width = host.info().d_model;
    let sae = linear(width, 1.0, 0.0);
    let table = table(&host, &single());
    let run = |options: &AttributeOptions, table: &AttributeTable| {
        let hook = hook("resid_post.1");
        disentanglement(&sae, &host, hook, table, options, &mut |_, _| {}).unwrap_err().to_string()
    };
    let with = |n_features: &[usize], pairs_per_attribute| AttributeOptions {
        n_features: n_features.to_vec(),
        pairs_per_attribute,
        bos: Bos::Auto,
    };
    assert_eq!(
        run(&with(&[1, 65], 10), &table),
        "n_features: expected 1 to 64, the features of the SAE, got 65"
    );
    assert!(run(&with(&[], 10), &table).starts_with("n_features: expected at least one"));
    assert!(run(&with(&[1], 1), &table).starts_with("pairs_per_attribute: expected at least 2"));
    let unknown = AttributeTable::parse("\ta\tb\n?\tw1 {} w2\tw1 {} w3\nw9\tw5\tw6\n").unwrap();
    assert!(run(&with(&[1], 10), &unknown).contains("expected at least 8, got"));
    // Tokens without spaces are no words.
    let letters = first_letter(
        &sae,
        &host,
        hook("resid_post.1"),
        FirstLetterOptions::default(),
        &mut |_, _| {},
    );
    assert_eq!(
        letters.unwrap_err().to_string(),
        "vocabulary of the host: expected at least 2 letters that 40 words begin with, got 0"
    );
    let other = first_letter(
        &linear(width - 1, 1.0, 0.0),
        &host,
        hook("resid_post.1"),
        FirstLetterOptions::default(),
        &mut |_, _| {},
    );
    assert!(matches!(other, Err(Error::Dimension { .. })));
}
