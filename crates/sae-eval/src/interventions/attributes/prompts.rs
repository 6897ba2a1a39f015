//! Prompts about things, what the host says after them, and its activations at the things.

use sae_hosts::{Bos, HookPoint, HostModel, HostTokenizer, Prefix};
use sae_models::Sae;
use tch::Tensor;

use super::AttributeTable;
use crate::metrics::to_f64s;
use crate::{Error, Result};

/// A prompt about a thing, as far as the hook point.
#[derive(Debug)]
pub(super) struct Prompt {
    prefix: Prefix,
    /// Where the thing's last token is.
    position: i64,
    /// The activation there, `[1, d_model]`, of the host's kind and on its device.
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
        'things: for (thing, own) in table.things() {
            let mut asked = Vec::new();
            let place = |attribute: usize| {
                values[attribute].iter().position(|value| *value == own[attribute])
            };
            let own: Vec<usize> = (0..n).filter_map(place).collect();
            for (attribute, around) in table.prompts().iter().enumerate() {
                let (ids, position) = tokens_of(tokenizer, lead, thing, around)?;
                let (prompt, logits) = ask(sae, host, hook, &ids, position)?;
                if prompts.said(attribute, &logits) != Some(own[attribute]) {
                    continue 'things;
                }
                asked.push(prompt);
            }
            prompts.things.push((own, asked));
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

/// The tokens of a prompt, and the position of the thing's last one.
fn tokens_of(
    tokenizer: &HostTokenizer,
    lead: Option<u32>,
    thing: &str,
    (before, after): &(String, String),
) -> Result<(Vec<u32>, usize)> {
    let front = format!("{before}{thing}");
    let n = tokenizer.encode(&front)?.len();
    let ids = tokenizer.encode(&format!("{front}{after}"))?;
    if ids.get(..n) != Some(&tokenizer.encode(&front)?) {
        return Err(Error::Setting {
            name: "prompt",
            expected: "a thing that ends where a token does".to_owned(),
            got: format!("`{front}{after}`"),
        });
    }
    let position = n - 1 + usize::from(lead.is_some());
    Ok((lead.into_iter().chain(ids).collect(), position))
}

/// The prompt as far as the hook point, and the logits after it.
fn ask(
    sae: &Sae,
    host: &HostModel,
    hook: HookPoint,
    ids: &[u32],
    position: usize,
) -> Result<(Prompt, Vec<f64>)> {
    host.check_ids(ids)?;
    let ids: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
    let ids = Tensor::f_from_slice(&ids)?.f_unsqueeze(0)?.f_to_device(host.device())?;
    let prefix = host.prefix(&ids, hook)?;
    let logits = host.next_logits_from(&prefix, prefix.activations())?;
    let position = position as i64;
    let x = prefix.activations().f_select(1, position)?;
    let rows = x.f_to_device(sae.device())?.f_to_kind(sae.kind())?;
    let features = sae.encode(&rows)?.features;
    Ok((Prompt { prefix, position, x, features }, to_f64s(&logits)?))
}

/// The logits after a prompt with each of some rows `[1, d_model]` in the place of its activation at
/// the thing.
pub(super) fn logits_with(
    host: &HostModel,
    prompt: &Prompt,
    rows: &[Tensor],
) -> Result<Vec<Vec<f64>>> {
    let own = prompt.prefix.activations();
    let after = own.size()[1] - prompt.position - 1;
    let mut logits = Vec::new();
    for row in rows {
        let row = row.f_to_device(own.device())?.f_to_kind(own.kind())?.f_unsqueeze(1)?;
        let x = Tensor::f_cat(
            &[
                &own.f_narrow(1, 0, prompt.position)?,
                &row,
                &own.f_narrow(1, prompt.position + 1, after)?,
            ],
            1,
        )?;
        logits.push(to_f64s(&host.next_logits_from(&prompt.prefix, &x)?)?);
    }
    Ok(logits)
}
