//! A host's next-token predictions with its own activations and with others in their place.

mod judge;
mod replacement;

use sae_hosts::{HookPoint, HostModel, SpecialTokens};
use sae_models::Sae;
use tch::Tensor;

use self::judge::{Clean, judge};
use self::replacement::Replacer;
use crate::{CrossEntropyOptions, Error, Result};

pub(crate) use self::replacement::Replacement;

/// Tokens that a host reads at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    /// The text that they are of, counted from 0.
    pub(crate) source: usize,
    pub(crate) ids: Vec<u32>,
}

/// Contexts, and whether a token was put in front of each.
#[derive(Debug)]
pub(crate) struct Contexts {
    pub(crate) all: Vec<Context>,
    pub(crate) are_led: bool,
}

/// A prediction of the next token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prediction {
    /// Of the context, counted over those with a prediction to count.
    pub(crate) context: usize,
    pub(crate) source: usize,
    /// The position that it is made at.
    pub(crate) position: usize,
    /// Numbers of active features at this position and at the next.
    pub(crate) l0: [f64; 2],
    /// Loss of the untouched host.
    pub(crate) clean: f64,
    /// With each replacement, in their order.
    pub(crate) replaced: Vec<Loss>,
}

/// What a replacement makes of a prediction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Loss {
    /// Loss of the next token, in nats.
    pub(crate) ce: f64,
    /// KL from the untouched host's prediction.
    pub(crate) kl: f64,
}

impl Contexts {
    /// Cuts texts into contexts, each of one text.
    pub(crate) fn of_texts(
        host: &HostModel,
        texts: &[&str],
        options: &CrossEntropyOptions,
    ) -> Result<Self> {
        let tokenizer = host.tokenizer()?;
        let bos = options.bos.resolve(tokenizer)?;
        let own = options.context_length - usize::from(bos.is_some());
        let mut all = Vec::new();
        for (source, text) in texts.iter().enumerate() {
            let mut ids = tokenizer.encode(text)?;
            if let Some(max_tokens) = options.max_tokens {
                ids.truncate(usize::try_from(max_tokens).unwrap_or(usize::MAX));
            }
            host.check_ids(&ids)?;
            let led = |ids: &[u32]| bos.iter().chain(ids).copied().collect();
            all.extend(ids.chunks(own).map(|ids| Context { source, ids: led(ids) }));
        }
        Ok(Self { all, are_led: bos.is_some() })
    }

    /// Contexts that are tokens already, all of one source.
    pub(crate) fn of_tokens(contexts: &[Vec<u32>]) -> Self {
        let of = |ids: &Vec<u32>| Context { source: 0, ids: ids.clone() };
        Self { all: contexts.iter().map(of).collect(), are_led: false }
    }
}

/// Every prediction that counts: those made at positions that are replaced, of tokens at positions
/// that are replaced. Each replacement is by the SAE of a number; numbers of active features are those
/// of the first. `progress` is told the contexts done and the contexts in all.
pub(crate) fn predictions(
    saes: &[&Sae],
    host: &HostModel,
    hook: HookPoint,
    contexts: &Contexts,
    options: &CrossEntropyOptions,
    replacements: &[(usize, Replacement)],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<Prediction>> {
    saes.iter().try_for_each(|sae| check(sae, host))?;
    let skip = options.skip_positions;
    let special = match (options.special_tokens, host.tokenizer()) {
        (SpecialTokens::Dropped, Ok(tokenizer)) => tokenizer.special_ids(),
        _ => vec![],
    };
    // Positions that are replaced, from `skip` on.
    let replaced = |ids: &[u32]| -> Vec<bool> {
        let is_special = |at: usize| (at > 0 || !contexts.are_led) && special.contains(&ids[at]);
        (skip..ids.len()).map(|at| !is_special(at)).collect()
    };
    // A context counts if a prediction is left.
    let counts = |of: &&Context| replaced(&of.ids).windows(2).any(|pair| pair == [true, true]);
    let contexts: Vec<&Context> = contexts.all.iter().filter(counts).collect();
    let mut splice = Splice {
        host,
        hook,
        skip: skip as i64,
        replacers: saes.iter().map(|sae| Replacer::new(sae)).collect(),
        replacements,
        found: Vec::new(),
    };
    let mut done = 0;
    while done < contexts.len() {
        let length = contexts[done].ids.len();
        let same = |of: &&&Context| of.ids.len() == length;
        let batch: Vec<&Context> =
            contexts[done..].iter().take(options.batch_size).take_while(same).copied().collect();
        let marks: Vec<_> = batch.iter().map(|of| replaced(&of.ids)).collect();
        splice.add(done, &batch, &marks)?;
        done += batch.len();
        progress(done as u64, contexts.len() as u64);
    }
    match splice.found.is_empty() {
        true => Err(Error::Empty { what: "predictions to count" }),
        false => Ok(splice.found),
    }
}

pub(crate) fn check(sae: &Sae, host: &HostModel) -> Result<()> {
    check_dimension(sae, host.info().d_model)
}

/// Checks that the reconstructions of an SAE can take the place of activations of so many dimensions.
pub(crate) fn check_dimension(sae: &Sae, d_model: usize) -> Result<()> {
    if sae.config().is_transcoder() {
        let expected = "an autoencoder: what it rebuilds takes the place of what it reads";
        return Err(Error::Ports { expected });
    }
    let (expected, got) = (sae.config().d_model, d_model);
    if expected != got {
        return Err(Error::Dimension { expected, got, of: "the host" });
    }
    Ok(())
}

struct Splice<'a> {
    host: &'a HostModel,
    hook: HookPoint,
    skip: i64,
    replacers: Vec<Replacer<'a>>,
    replacements: &'a [(usize, Replacement)],
    found: Vec<Prediction>,
}

impl Splice<'_> {
    /// The replacement before one that keeps so many features that it is the whole reconstruction,
    /// where no row has more than `most_active`.
    fn same(&self, at: usize, most_active: f64) -> Option<usize> {
        match self.replacements[at] {
            // Numbers of active features are those of the first SAE.
            (0, Replacement::Largest(n)) if n as f64 >= most_active => {
                self.replacements[..at].iter().position(|of| *of == (0, Replacement::Rebuilt))
            }
            _ => None,
        }
    }

    /// Adds contexts of equal length, of whose positions from `skip` on those marked are replaced.
    ///
    /// # Shapes
    /// Marks `[contexts][positions - skip]`.
    fn add(&mut self, first: usize, contexts: &[&Context], marks: &[Vec<bool>]) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let (n, length) = (contexts.len() as i64, contexts[0].ids.len() as i64);
        let flat: Vec<i64> =
            contexts.iter().flat_map(|of| of.ids.iter().map(|&id| id.into())).collect();
        let ids = Tensor::f_from_slice(&flat)?.f_reshape([n, length])?;
        let prefix = self.host.prefix(&ids.f_to_device(self.host.device())?, self.hook)?;
        let kept = prefix.activations().f_narrow(1, 0, self.skip)?;
        let own = prefix.activations().f_narrow(1, self.skip, length - self.skip)?;
        let flat: Vec<bool> = marks.iter().flatten().copied().collect();
        let is_replaced = Tensor::f_from_slice(&flat)?
            .f_reshape([n, length - self.skip, 1])?
            .f_to_device(own.device())?;
        let clean = self.host.logits_from(&prefix, prefix.activations())?;
        let row = |logits: &Tensor, context: usize| Ok::<_, Error>(logits.f_get(context as i64)?);
        let (mut of_clean, mut before) = (Vec::new(), self.found.len() as u64);
        for (at, (context, marks)) in contexts.iter().zip(marks).enumerate() {
            let logits = row(&clean, at)?;
            let clean = Clean::of(&context.ids, self.skip as usize, marks, &logits, before)?;
            before += clean.counted().len() as u64;
            of_clean.push(clean);
        }
        drop(clean);
        let l0 = self.replacers.iter_mut().map(|of| of.read(&own)).collect::<Result<Vec<_>>>()?;
        let l0 = l0.first().ok_or(Error::Empty { what: "SAEs" })?;
        let most_active = l0.iter().copied().fold(0.0, f64::max);
        let start = self.found.len();
        for (at, (context, clean)) in contexts.iter().zip(&of_clean).enumerate() {
            let l0 = &l0[at * marks[at].len()..][..marks[at].len()];
            let all = clean.counted().iter().zip(clean.losses());
            self.found.extend(all.map(|(&position, &clean)| Prediction {
                context: first + at,
                source: context.source,
                position,
                l0: [0, 1].map(|next| l0[position - self.skip as usize + next]),
                clean,
                replaced: Vec::with_capacity(self.replacements.len()),
            }));
        }
        for (at, &(sae, replacement)) in self.replacements.iter().enumerate() {
            if let Some(same) = self.same(at, most_active) {
                let found = self.found[start..].iter_mut();
                found.for_each(|of| of.replaced.push(of.replaced[same]));
                continue;
            }
            let others = self.replacers[sae].replace(&own, replacement)?;
            let others = others.f_where_self(&is_replaced, &own)?;
            let activations = Tensor::f_cat(&[&kept, &others], 1)?;
            let logits = self.host.logits_from(&prefix, &activations)?;
            let mut found = self.found[start..].iter_mut();
            for (at, clean) in of_clean.iter().enumerate() {
                for loss in judge(clean, &row(&logits, at)?)? {
                    found.next().expect("one prediction a loss").replaced.push(loss);
                }
            }
        }
        Ok(())
    }
}
