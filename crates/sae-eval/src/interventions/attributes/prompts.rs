//! Prompts about things, what the host says after them, and its activations at the things.

use std::collections::BTreeMap;

use sae_hosts::{Bos, HookPoint, HostModel, HostTokenizer, Past, Prefix};
use sae_models::Sae;
use tch::Tensor;

use super::super::check_length;
use super::AttributeTable;
use crate::metrics::to_f64s;
use crate::{Error, Result};

/// Prompts that are computed together at most.
const AT_ONCE: usize = 32;

/// A prompt about a thing, as far as the hook point.
#[derive(Debug)]
pub(super) struct Prompt {
    /// From the thing's last token on.
    rest: Prefix,
    /// What the layers after the hook point know of the tokens before it.
    past: Past,
    /// The activation at the thing's last token, `[1, d_model]`, of the host's kind and on its device.
    pub(super) x: Tensor,
    /// Its features, `[1, n_features]`.
    pub(super) features: Tensor,
}

/// The prompts of all things that the host knows.
#[derive(Debug)]
pub(super) struct Prompts {
    /// First token of each value, by attribute; none of one that is not told from another by it.
    tokens: Vec<Vec<Option<u32>>>,
    /// By thing: its values and prompts, in the order of the attributes.
    things: Vec<(Vec<usize>, Vec<Prompt>)>,
}

impl Prompts {
    /// Asks a host for every attribute of every thing.
    pub(super) fn known(
        sae: &Sae,
        host: &HostModel,
        hook: HookPoint,
        table: &AttributeTable,
        bos: Bos,
    ) -> Result<Self> {
        let tokenizer = host.tokenizer()?;
        let lead = bos.resolve(tokenizer)?;
        let n = table.attributes().len();
        let values: Vec<Vec<&str>> = (0..n).map(|attribute| distinct(table, attribute)).collect();
        let tokens = values.iter().map(|values| first_tokens(tokenizer, values));
        let mut prompts = Self { tokens: tokens.collect::<Result<_>>()?, things: vec![] };
        let asked = |(before, after): &(String, String)| {
            let texts = table.things().iter().map(|(thing, _)| thing.as_str());
            Asked::new(host, hook, lead, texts, [before.as_str(), after.as_str()])
        };
        let ask: Vec<Asked> = table.prompts().iter().map(asked).collect::<Result<_>>()?;
        let place = |thing: usize, attribute: usize| {
            let own = &table.things()[thing].1[attribute];
            values[attribute].iter().position(|value| value == own)
        };
        // Things of which all attributes so far are known, and their prompts.
        let mut known: BTreeMap<usize, Vec<Prompt>> =
            (0..table.things().len()).map(|thing| (thing, Vec::new())).collect();
        for (attribute, asked) in ask.iter().enumerate() {
            let things: Vec<usize> = known.keys().copied().collect();
            for (thing, prompt, logits) in asked.of(sae, host, hook, &things)? {
                match prompts.said(attribute, &logits) == place(thing, attribute) {
                    true => known.entry(thing).or_default().push(prompt),
                    false => drop(known.remove(&thing)),
                }
            }
        }
        for (thing, of_thing) in known {
            let own = (0..n).filter_map(|attribute| place(thing, attribute)).collect();
            prompts.things.push((own, of_thing));
        }
        Ok(prompts)
    }

    pub(super) fn n_things(&self) -> usize {
        self.things.len()
    }

    pub(super) fn n_attributes(&self) -> usize {
        self.tokens.len()
    }

    /// The number of a thing's value among those of an attribute.
    pub(super) fn value(&self, thing: usize, attribute: usize) -> usize {
        self.things[thing].0[attribute]
    }

    pub(super) fn prompt(&self, thing: usize, attribute: usize) -> &Prompt {
        &self.things[thing].1[attribute]
    }

    /// The value of an attribute whose first token has the greatest logit.
    pub(super) fn said(&self, attribute: usize, logits: &[f64]) -> Option<usize> {
        let all = self.tokens[attribute].iter().enumerate();
        let told = all.filter_map(|(value, token)| Some((value, logits[(*token)? as usize])));
        told.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(value, _)| value)
    }
}

/// The values of an attribute, each once.
fn distinct(table: &AttributeTable, attribute: usize) -> Vec<&str> {
    let mut values: Vec<&str> =
        table.things().iter().map(|(_, values)| values[attribute].as_str()).collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// The token that each value begins with after a space; none where another begins with the same.
fn first_tokens(tokenizer: &HostTokenizer, values: &[&str]) -> Result<Vec<Option<u32>>> {
    let first = |value: &&str| Ok(tokenizer.encode(&format!(" {value}"))?.first().copied());
    let tokens = values.iter().map(first).collect::<Result<Vec<Option<u32>>>>()?;
    let is_own = |token: &Option<u32>| tokens.iter().filter(|other| *other == token).count() == 1;
    Ok(tokens.iter().map(|token| token.filter(|_| is_own(token))).collect())
}

/// The prompts of an attribute.
struct Asked {
    /// The tokens of each, and the position of the thing's last one.
    all: Vec<(Vec<u32>, usize)>,
    /// What the host knows of the tokens that they begin with alike.
    front: Past,
}

impl Asked {
    fn new<'a>(
        host: &HostModel,
        hook: HookPoint,
        lead: Option<u32>,
        things: impl Iterator<Item = &'a str>,
        around: [&str; 2],
    ) -> Result<Self> {
        let tokenizer = host.tokenizer()?;
        let all = things.map(|thing| tokens_of(tokenizer, lead, thing, around));
        let all = all.collect::<Result<Vec<_>>>()?;
        for (ids, _) in &all {
            host.check_ids(ids)?;
            check_length(host, ids.len())?;
        }
        let alike = |ids: &[u32], others: &[u32]| {
            ids.iter().zip(others).take_while(|(id, other)| id == other).count()
        };
        let first = all.first().map_or(&[][..], |(ids, _)| ids);
        let n = all.iter().map(|(ids, at)| alike(ids, first).min(*at)).min().unwrap_or_default();
        let mut front = Past::new();
        if n > 0 {
            let prefix = host.prefix_after(&mut front, &tensor(host, &[&first[..n]])?, hook)?;
            let _ = host.next_logits_after(&mut front, &prefix, prefix.activations())?;
            front.keep(n);
        }
        Ok(Self { all, front })
    }

    /// Prompts of things as far as the hook point, and the logits after them: those of equal lengths
    /// are computed together.
    fn of(
        &self,
        sae: &Sae,
        host: &HostModel,
        hook: HookPoint,
        things: &[usize],
    ) -> Result<Vec<(usize, Prompt, Vec<f64>)>> {
        let mut alike: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for &thing in things {
            let (ids, position) = &self.all[thing];
            alike.entry((ids.len(), *position)).or_default().push(thing);
        }
        let mut all = Vec::with_capacity(things.len());
        for ((length, position), things) in alike {
            for things in things.chunks(AT_ONCE) {
                all.extend(self.at_once(sae, (host, hook), things, (length, position))?);
            }
        }
        Ok(all)
    }

    /// Of things whose prompts are of one length, with the things' last tokens at one position.
    fn at_once(
        &self,
        sae: &Sae,
        (host, hook): (&HostModel, HookPoint),
        things: &[usize],
        (length, position): (usize, usize),
    ) -> Result<Vec<(usize, Prompt, Vec<f64>)>> {
        let mut past = self.front.expand(things.len(), 0);
        let own = things.iter().map(|&thing| &self.all[thing].0[self.front.length()..]);
        let own = tensor(host, &own.collect::<Vec<_>>())?;
        let prefix = host.prefix_after(&mut past, &own, hook)?;
        let logits = host.next_logits_after(&mut past, &prefix, prefix.activations())?;
        past.keep(position);
        let mut all = Vec::with_capacity(things.len());
        for (at, &thing) in things.iter().enumerate() {
            let rest = prefix.of_text(at).last(length - position, 1);
            let past = past.of_text(at).expand(1, hook.layer);
            let x = rest.activations().f_select(1, 0)?;
            let rows = x.f_to_device(sae.device())?.f_to_kind(sae.kind())?;
            let features = sae.encode(&rows)?.features;
            let logits = to_f64s(&logits.f_get(at as i64)?)?;
            all.push((thing, Prompt { rest, past, x, features }, logits));
        }
        Ok(all)
    }
}

/// Tokens of texts of one length, `[texts, positions]`.
fn tensor(host: &HostModel, texts: &[&[u32]]) -> Result<Tensor> {
    let ids: Vec<i64> = texts.iter().copied().flatten().map(|&id| id.into()).collect();
    let ids = Tensor::f_from_slice(&ids)?.f_view([texts.len() as i64, -1])?;
    Ok(ids.f_to_device(host.device())?)
}

/// The tokens of a prompt, and the position of the thing's last one.
fn tokens_of(
    tokenizer: &HostTokenizer,
    lead: Option<u32>,
    thing: &str,
    [before, after]: [&str; 2],
) -> Result<(Vec<u32>, usize)> {
    let front = format!("{before}{thing}");
    let of_front = tokenizer.encode(&front)?;
    let ids = tokenizer.encode(&format!("{front}{after}"))?;
    if of_front.is_empty() || !ids.starts_with(&of_front) {
        return Err(Error::Setting {
            name: "prompt",
            expected: "a thing that ends where a token does".to_owned(),
            got: format!("`{front}{after}`"),
        });
    }
    let position = of_front.len() - 1 + usize::from(lead.is_some());
    Ok((lead.into_iter().chain(ids).collect(), position))
}

/// The logits after a prompt with each of some rows `[1, d_model]` in the place of its activation at
/// the thing.
pub(super) fn logits_with(
    host: &HostModel,
    prompt: &Prompt,
    rows: &[Tensor],
) -> Result<Vec<Vec<f64>>> {
    let after = prompt.rest.activations().size()[1] - 1;
    let rest = prompt.rest.last(after as usize + 1, rows.len());
    let own = rest.activations();
    let rows = rows.iter().map(|row| row.f_to_device(own.device())?.f_to_kind(own.kind()));
    let rows = rows.collect::<std::result::Result<Vec<_>, _>>()?;
    let n = rows.len();
    let rows = Tensor::f_cat(&rows, 0)?.f_unsqueeze(1)?;
    let x = Tensor::f_cat(&[&rows, &own.f_narrow(1, 1, after)?], 1)?;
    let mut past = prompt.past.expand(n, 0);
    let logits = host.next_logits_after(&mut past, &rest, &x)?;
    (0..n).map(|i| to_f64s(&logits.f_get(i as i64)?)).collect()
}
