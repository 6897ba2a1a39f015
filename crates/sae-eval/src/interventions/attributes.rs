//! Whether features change one attribute of a thing and leave its others (after RAVEL, Huang et al. 2024,
//! arXiv:2402.17700).

mod features;
mod prompts;
mod table;

use sae_config::{AttributeScores, Moved};
use sae_hosts::{Bos, HookPoint, HostModel};
use sae_models::Sae;
use tch::Tensor;

use self::features::order;
use self::prompts::{Prompt, Prompts};
pub use self::table::AttributeTable;
use crate::{Error, Result};

/// Things that the host has to know, so that there are some to choose features by and some to try.
const LEAST_THINGS: usize = 8;

/// How [`disentanglement`] tries features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeOptions {
    /// Numbers of features that are moved together.
    pub n_features: Vec<usize>,
    /// Pairs of things that are tried of each attribute at most.
    pub pairs_per_attribute: usize,
    /// The token in front of each prompt.
    pub bos: Bos,
}

/// Numbers of features that are moved together, beside all of them.
const N_MOVED: [usize; 5] = [1, 4, 16, 64, 256];

impl AttributeOptions {
    /// Those of an SAE of so many features: 1, 4, 16, 64 and 256 as far as it has more, and all, which
    /// show what it knows of a thing without its error.
    #[must_use]
    pub fn of(n_features: usize) -> Self {
        let fewer = N_MOVED.into_iter().filter(|n| *n < n_features);
        let n_features = fewer.chain([n_features]).collect();
        Self { n_features, pairs_per_attribute: 24, bos: Bos::Auto }
    }
}

/// A thing whose attribute is to become that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    base: usize,
    source: usize,
}

/// Whether features of an attribute, moved at a thing's last token from one thing to another, make the
/// host say the other's value (cause), and leave what it says of the other attributes (isolation).
///
/// The host says the value of the table whose first token it finds likeliest; values that begin with
/// the same token are left out. Only things count of which it knows all attributes. Half of them choose the features: those that differ most between the
/// groups of the attribute, and least between those of the others; the rest are tried. Of a base b and
/// a source s the features S are moved: x_b + Σ_{i∈S} (f_i(s) − f_i(b))·d_i, so that the SAE's error
/// stays. `progress` is told the pairs done and the pairs in all.
///
/// # Errors
/// [`Error::Ports`] for a transcoder, [`Error::Dimension`] for an SAE of another `d_model` than the
/// host, [`Error::Setting`] for options out of range or fewer than 8 things that are known; [`Error::Host`] and [`Error::Model`].
pub fn disentanglement(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    table: &AttributeTable,
    options: &AttributeOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<AttributeScores> {
    crate::splice::check(sae, host)?;
    options.check(sae)?;
    let _guard = tch::no_grad_guard();
    let prompts = Prompts::known(sae, host, hook, table, options.bos)?;
    if prompts.n_things() < LEAST_THINGS {
        return Err(Error::Setting {
            name: "things whose attributes the host knows",
            expected: format!("at least {LEAST_THINGS}"),
            got: prompts.n_things().to_string(),
        });
    }
    // Features are chosen by the things of even number, and tried on the others.
    let (choosing, tried): (Vec<usize>, Vec<usize>) =
        (0..prompts.n_things()).partition(|thing| thing % 2 == 0);
    let n_attributes = prompts.n_attributes();
    let most = options.n_features.iter().copied().max().unwrap_or_default();
    let mut trial =
        Trial { sae, host, prompts: &prompts, sizes: &options.n_features, tallies: vec![] };
    let pairs: Vec<Vec<Pair>> = (0..n_attributes)
        .map(|attribute| pairs(&prompts, attribute, &tried, options.pairs_per_attribute))
        .collect();
    let total: usize = pairs.iter().map(Vec::len).sum();
    let mut done = 0;
    for (attribute, pairs) in pairs.iter().enumerate() {
        let order = order(sae, &prompts, attribute, &choosing, most)?;
        trial.tallies.push(vec![Vec::new(); pairs.len()]);
        for (at, pair) in pairs.iter().enumerate() {
            trial.try_pair(attribute, at, *pair, &order)?;
            done += 1;
            progress(done as u64, total as u64);
        }
    }
    trial.finish(total)
}

impl AttributeOptions {
    fn check(&self, sae: &Sae) -> Result<()> {
        let n = sae.config().n_features;
        let wrong = |name, expected: String, got: usize| {
            Err(Error::Setting { name, expected, got: got.to_string() })
        };
        match self.n_features.iter().find(|k| **k == 0 || **k > n) {
            Some(&k) => {
                return wrong("n_features", format!("1 to {n}, the features of the SAE"), k);
            }
            None if self.n_features.is_empty() => {
                return wrong("n_features", "at least one number".to_owned(), 0);
            }
            None => {}
        }
        match self.pairs_per_attribute {
            got @ 0..2 => wrong("pairs_per_attribute", "at least 2".to_owned(), got),
            _ => Ok(()),
        }
    }
}

/// Pairs of things that differ in an attribute, and in another one at least: each thing with others at
/// growing distance in the list, until there are enough.
fn pairs(prompts: &Prompts, attribute: usize, things: &[usize], most: usize) -> Vec<Pair> {
    let differ = |pair: &Pair, attribute: usize| {
        prompts.value(pair.base, attribute) != prompts.value(pair.source, attribute)
    };
    let n = things.len();
    let all = (1..n).flat_map(|step| {
        (0..n).map(move |i| Pair { base: things[i], source: things[(i + step * step) % n] })
    });
    let others =
        |pair: &Pair| (0..prompts.n_attributes()).any(|b| b != attribute && differ(pair, b));
    let mut pairs = Vec::new();
    for pair in all.filter(|pair| differ(pair, attribute) && others(pair)) {
        if pairs.len() < most && !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    pairs
}

/// What happened when features of a pair were moved.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tally {
    caused: f64,
    isolated: f64,
}

/// Pairs that are tried, with each number of features and at last with the whole activation.
struct Trial<'a> {
    sae: &'a Sae,
    host: &'a HostModel,
    prompts: &'a Prompts,
    sizes: &'a [usize],
    /// By attribute, pair, and number of features.
    tallies: Vec<Vec<Vec<Tally>>>,
}

impl Trial<'_> {
    fn try_pair(&mut self, attribute: usize, at: usize, pair: Pair, order: &[i64]) -> Result<()> {
        let mut caused = Vec::new();
        let mut isolated = vec![Vec::new(); self.sizes.len() + 1];
        for asked in 0..self.prompts.n_attributes() {
            let value = |thing| self.prompts.value(thing, asked);
            let (base, source) = (value(pair.base), value(pair.source));
            // What does not differ can neither be caused nor isolated.
            if base == source {
                continue;
            }
            let [of_base, of_source] =
                [pair.base, pair.source].map(|thing| self.prompts.prompt(thing, asked));
            let said = self.say(of_base, of_source, order)?;
            let said = said.into_iter().map(|logits| self.prompts.said(asked, &logits));
            match asked == attribute {
                true => {
                    caused = said.map(|said| f64::from(u8::from(said == Some(source)))).collect()
                }
                false => isolated
                    .iter_mut()
                    .zip(said)
                    .for_each(|(all, said)| all.push(f64::from(u8::from(said == Some(base))))),
            }
        }
        let mean = |all: &Vec<f64>| all.iter().sum::<f64>() / all.len().max(1) as f64;
        self.tallies[attribute][at] = caused
            .into_iter()
            .zip(&isolated)
            .map(|(caused, isolated)| Tally { caused, isolated: mean(isolated) })
            .collect();
        Ok(())
    }

    /// Logits after the base's prompt with each number of features moved from the source, and with the
    /// whole activation.
    fn say(&self, base: &Prompt, source: &Prompt, order: &[i64]) -> Result<Vec<Vec<f64>>> {
        let mut rows = self
            .sizes
            .iter()
            .map(|&n| features::moved(self.sae, base, source, &order[..n.min(order.len())]))
            .collect::<Result<Vec<Tensor>>>()?;
        rows.push(source.x.shallow_clone());
        prompts::logits_with(self.host, base, &rows)
    }

    fn finish(self, n_pairs: usize) -> Result<AttributeScores> {
        // Pairs of an attribute by turns choose the number of features and are told of.
        let moved = |size: usize, is_told: Option<bool>| -> [f64; 2] {
            let mut sums = [0.0; 2];
            for pairs in &self.tallies {
                let of = pairs.iter().enumerate();
                let of = of.filter(|(i, _)| is_told.is_none_or(|told| (i % 2 == 1) == told));
                let all: Vec<Tally> = of.map(|(_, tallies)| tallies[size]).collect();
                let mean = |f: &dyn Fn(&Tally) -> f64| {
                    all.iter().map(f).sum::<f64>() / all.len() as f64 / self.tallies.len() as f64
                };
                sums[0] += mean(&|of| of.caused);
                sums[1] += mean(&|of| of.isolated);
            }
            sums
        };
        if let Some(got) = self.tallies.iter().map(Vec::len).find(|n| *n < 2) {
            let (name, expected) = ("pairs of an attribute", "at least 2".to_owned());
            return Err(Error::Setting { name, expected, got: got.to_string() });
        }
        let score = |of: [f64; 2]| (of[0] + of[1]) / 2.0;
        let chosen_by = |size: &usize| score(moved(*size, Some(false)));
        // Of equal ones the first.
        let better = |best: usize, size: usize| {
            if chosen_by(&size) > chosen_by(&best) { size } else { best }
        };
        let best = (0..self.sizes.len()).reduce(better).unwrap_or_default();
        let told: Vec<Vec<f64>> = self.tallies.iter().map(|pairs| told(pairs, best)).collect();
        let of = |size: usize, n_features: usize| {
            let [cause, isolation] = moved(size, None);
            Moved { n_features: n_features as u64, cause, isolation }
        };
        Ok(AttributeScores {
            n_things: self.prompts.n_things() as u64,
            n_pairs: n_pairs as u64,
            n_told: told.iter().map(Vec::len).sum::<usize>() as u64,
            disentanglement: score(moved(best, Some(true))),
            standard_error: error_of_mean(&told),
            by_features: self.sizes.iter().enumerate().map(|(i, &n)| of(i, n)).collect(),
            whole: of(self.sizes.len(), self.sae.config().n_features),
        })
    }
}

/// The scores of the pairs of an attribute that are told of, with a number of features.
fn told(pairs: &[Vec<Tally>], size: usize) -> Vec<f64> {
    let of = pairs.iter().skip(1).step_by(2).map(|tallies| tallies[size]);
    of.map(|of| (of.caused + of.isolated) / 2.0).collect()
}

/// The standard error of the mean over attributes of the means over their pairs; none where an
/// attribute has a single one.
fn error_of_mean(of_attributes: &[Vec<f64>]) -> Option<f64> {
    let of = |scores: &Vec<f64>| {
        let n = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / n;
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        (scores.len() > 1).then(|| squares / (n - 1.0) / n)
    };
    let variances = of_attributes.iter().map(of).collect::<Option<Vec<f64>>>()?;
    Some(variances.iter().sum::<f64>().sqrt() / variances.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_that_of_a_mean_of_means() {
        // Variances 2/3 and 1/2 of means over 3 and 2 pairs.
        let of = [vec![0.0, 1.0, 2.0], vec![1.0, 2.0]];
        let expected = (1.0f64 / 3.0 + 0.5 / 2.0).sqrt() / 2.0;
        assert!((error_of_mean(&of).unwrap() - expected).abs() < 1e-12);
        assert_eq!(error_of_mean(&[vec![1.0, 2.0], vec![1.0]]), None);
        let tally = |caused| vec![Tally { caused, isolated: 0.5 }];
        assert_eq!(told(&[0.0, 1.0, 0.0, 0.0, 1.0].map(tally), 0), [0.75, 0.25]);
    }
}
