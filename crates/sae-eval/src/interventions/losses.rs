//! The host's loss with other activations in the place of its own: by text and position, beside what
//! an error of the same size costs that is random, and with a few features alone.

use std::collections::BTreeMap;

use sae_config::{CrossEntropy, LossGroup, ReplacedLoss, Scores, SplicedLosses};
use sae_hosts::{HookPoint, HostModel};
use sae_models::Sae;

use super::scores::loss_scores;
use crate::cross_entropy::summary;
use crate::splice::{Contexts, Loss, Prediction, Replacement, predictions};
use crate::{CrossEntropyOptions, Error, Result};

/// How [`splice_losses`] reads texts, and what it keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct LossOptions {
    /// How texts are read.
    pub reading: CrossEntropyOptions,
    /// Numbers of features of a row that are kept, each a replacement of its own: those of the greatest
    /// activation times norm of the decoder's row.
    pub largest: Vec<usize>,
}

impl Default for LossOptions {
    fn default() -> Self {
        Self { reading: CrossEntropyOptions::default(), largest: vec![1, 4, 16, 64] }
    }
}

impl LossOptions {
    /// What takes the place of activations, in the order of the results: each costs a pass through the
    /// layers after the hook point.
    fn replacements(&self) -> Vec<Replacement> {
        let fixed = [Replacement::Rebuilt, Replacement::Zero, Replacement::Random];
        fixed.into_iter().chain(self.largest.iter().map(|&n| Replacement::Largest(n))).collect()
    }

    /// Passes through the host that it takes: one whole, then one after the hook point for each
    /// replacement.
    #[must_use]
    pub fn n_passes(&self) -> usize {
        1 + self.replacements().len()
    }
}

/// What [`splice_losses`] measures.
#[derive(Debug, Clone, PartialEq)]
pub struct LossReport {
    /// As [`cross_entropy`](crate::cross_entropy) has it.
    pub cross_entropy: CrossEntropy,
    /// By text and position, with every replacement.
    pub losses: SplicedLosses,
    /// The scores of the suite `interventions` that are of losses, with intervals over contexts.
    pub scores: Scores,
}

/// The host's loss on texts, of which each has a name: untouched, with reconstructions, with zeros,
/// with random errors of the same size (Gurnee 2024), and with the largest features of each row
/// alone.
///
/// # Errors
/// As [`cross_entropy`](crate::cross_entropy).
pub fn splice_losses(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    texts: &[(&str, &str)],
    options: &LossOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LossReport> {
    options.reading.check()?;
    if let Some(got) = options.largest.iter().find(|n| **n == 0) {
        let (name, expected) = ("largest", "at least 1".to_owned());
        return Err(Error::Setting { name, expected, got: got.to_string() });
    }
    let (names, contents): (Vec<&str>, Vec<&str>) = texts.iter().copied().unzip();
    let contexts = Contexts::of_texts(host, &contents, &options.reading)?;
    let by = options.replacements();
    let of_sae: Vec<_> = by.iter().map(|&by| (0, by)).collect();
    let all = predictions(&[sae], host, hook, &contexts, &options.reading, &of_sae, progress)?;
    Ok(LossReport {
        cross_entropy: summary(hook, &all)?,
        losses: groups(&all, &by, &names),
        scores: loss_scores(&all, &by),
    })
}

/// The scores of several SAEs that are of reconstructions in the place of activations, from one pass of
/// the host to the hook point.
///
/// # Errors
/// As [`cross_entropy`](crate::cross_entropy); [`Error::Empty`] of no SAEs.
pub fn rebuilt_scores(
    saes: &[&Sae],
    host: &HostModel,
    hook: HookPoint,
    texts: &[&str],
    reading: CrossEntropyOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<Scores>> {
    reading.check()?;
    let contexts = Contexts::of_texts(host, texts, &reading)?;
    let rebuilt = (0..saes.len()).map(|sae| (sae, Replacement::Rebuilt));
    let by: Vec<_> = rebuilt.chain([(0, Replacement::Zero)]).collect();
    let all = predictions(saes, host, hook, &contexts, &reading, &by, progress)?;
    let of_sae = |sae: usize| {
        let own = |of: &Prediction| Prediction {
            replaced: vec![of.replaced[sae], of.replaced[saes.len()]],
            ..of.clone()
        };
        let own: Vec<Prediction> = all.iter().map(own).collect();
        loss_scores(&own, &[Replacement::Rebuilt, Replacement::Zero])
    };
    Ok((0..saes.len()).map(of_sae).collect())
}

fn groups(all: &[Prediction], by: &[Replacement], names: &[&str]) -> SplicedLosses {
    let whole: Vec<&Prediction> = all.iter().collect();
    let (mut positions, mut sources) = (BTreeMap::new(), BTreeMap::new());
    for of in all {
        // The power of two at or below it; 0 is a group of its own.
        let power = of.position.checked_ilog2();
        positions.entry(power).or_insert_with(Vec::new).push(of);
        sources.entry(of.source).or_insert_with(Vec::new).push(of);
    }
    let range = |power: Option<u32>| match power.map(|power| (1_usize << power, (2 << power) - 1)) {
        None => "0".to_owned(),
        Some((from, to)) if from == to => from.to_string(),
        Some((from, to)) => format!("{from}-{to}"),
    };
    SplicedLosses {
        all: group("all".to_owned(), &whole, by),
        by_position: positions.iter().map(|(power, of)| group(range(*power), of, by)).collect(),
        by_source: sources.iter().map(|(at, of)| group(names[*at].to_owned(), of, by)).collect(),
    }
}

fn group(name: String, of: &[&Prediction], by: &[Replacement]) -> LossGroup {
    let n = of.len() as f64;
    let clean = of.iter().map(|of| of.clean).sum::<f64>() / n;
    let mean = |at: usize| {
        let of = of.iter().map(|of| of.replaced[at]);
        let sum = of.fold(Loss::default(), |a, b| Loss { ce: a.ce + b.ce, kl: a.kl + b.kl });
        Loss { ce: sum.ce / n, kl: sum.kl / n }
    };
    let zero = by.iter().position(|by| *by == Replacement::Zero).map(mean).unwrap_or_default();
    let replaced = by.iter().enumerate().map(|(at, by)| {
        let Loss { ce, kl } = mean(at);
        ReplacedLoss {
            by: by.name(),
            ce,
            kl,
            ce_recovered: (zero.ce > clean).then(|| (zero.ce - ce) / (zero.ce - clean)),
            kl_recovered: (zero.kl > 0.0).then(|| 1.0 - kl / zero.kl),
        }
    });
    LossGroup { of: name, n: of.len() as u64, clean, replaced: replaced.collect() }
}
