//! What a judge is asked of a feature: to describe it by contexts, and to tell by the description in
//! which others it is active (detection) and on which tokens (fuzzing), as Delphi defines both
//! (Paulo et al. 2024, arXiv:2410.13928).

mod marks;

use sae_config::{FeatureContext, FeatureRecord, HeldOut};
use serde::Serialize;

use crate::{Result, SavedFeatures};
use marks::Marks;
pub(crate) use marks::hash;

/// Contexts of the largest activations that a judge is shown.
const N_TOP: usize = 10;

/// Contexts of each fifth that a judge is shown.
const N_OF_FIFTH: usize = 2;

/// What is asked of one feature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureTasks {
    /// Its number.
    pub feature: u32,
    /// Hash of the checkpoint.
    pub checkpoint_hash: String,
    /// Hash of the store.
    pub store_hash: String,
    /// Rows in which it is active.
    pub n_active: u64,
    /// What stands before and after tokens that are marked. No text has it.
    pub marks: [String; 2],
    /// Contexts to describe it by, which the pages show: those of the largest activations, then
    /// some of each fifth of them. Tokens are marked that have at least 0.3 of the context's largest
    /// activation.
    pub examples: Vec<Example>,
    /// Texts that are shown nowhere, and whether it is active in them.
    pub detection: Vec<Item>,
    /// The same texts with marked tokens, and whether it is active on these.
    pub fuzzing: Vec<Item>,
}

/// A context to describe a feature by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// The text, in which tokens are marked.
    pub text: String,
    /// The marked tokens, each with its activation as tenths of the largest of all, rounded up.
    pub tokens: Vec<(String, u32)>,
}

/// A text to judge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// The text.
    pub text: String,
    /// Whether the feature is active.
    pub active: bool,
    /// In which fifth of the activations by magnitude, 0 being the smallest.
    pub fifth: Option<usize>,
    /// The row of the store in its middle.
    pub row: u64,
}

/// Tasks of the features of pages.
#[derive(Debug)]
pub struct Tasks<'a> {
    pages: &'a SavedFeatures,
    pool: Vec<FeatureContext>,
    /// The file that was read last.
    file: Option<(usize, Vec<FeatureRecord>, Vec<HeldOut>)>,
}

impl<'a> Tasks<'a> {
    /// Tasks of features that `pages` show with the texts of tokens.
    ///
    /// # Errors
    /// [`Error::Export`](crate::Error::Export) for other pages; [`Error::Io`](crate::Error::Io) and
    /// [`Error::Pages`](crate::Error::Pages).
    pub fn open(pages: &'a SavedFeatures) -> Result<Self> {
        pages.check_texts()?;
        Ok(Self { pages, pool: pages.pool()?, file: None })
    }

    /// What is asked of a feature; nothing if it is active in no row, or in no context beside those
    /// that are shown, or on a token of nearly all windows of the store.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) and [`Error::Pages`](crate::Error::Pages).
    ///
    /// # Panics
    /// If there is no such feature.
    pub fn of(&mut self, feature: u32) -> Result<Option<FeatureTasks>> {
        let (number, place) = self.pages.place(feature);
        if self.file.as_ref().is_none_or(|file| file.0 != number) {
            let held_out = self.pages.held_out(number, self.pool.len())?;
            self.file = Some((number, self.pages.read(number)?, held_out));
        }
        let (_, records, held_out) = self.file.as_ref().expect("it was read");
        let (record, held_out) = (&records[place], &held_out[place]);
        let inactive = held_out.inactive.iter().map(|number| &self.pool[*number as usize]);
        let inactive: Vec<&FeatureContext> = inactive.collect();
        if held_out.active.is_empty() || inactive.is_empty() {
            return Ok(None);
        }
        let set = self.pages.set();
        let shown = examples(record);
        let contexts = shown.iter().copied().chain(held_out.active.iter().map(|(_, one)| one));
        let marks = Marks::for_texts(contexts.chain(inactive.iter().copied()), self.pages);
        let example = |context: &&FeatureContext| {
            let is_marked = marks::strong(context);
            let tenths = |value: f32| tenths(value, record.max);
            let marked = context.tokens.iter().zip(&is_marked).filter(|(_, is_marked)| **is_marked);
            Example {
                text: marks.text(context, &is_marked, self.pages),
                tokens: marked.map(|(t, _)| (self.pages.token(t.id), tenths(t.value))).collect(),
            }
        };
        Ok(Some(FeatureTasks {
            feature,
            checkpoint_hash: set.checkpoint_hash.clone(),
            store_hash: set.store_hash.clone(),
            n_active: record.n_active,
            marks: marks.0.map(str::to_owned),
            examples: shown.iter().map(example).collect(),
            detection: self.detection(record, held_out, &inactive, &marks),
            fuzzing: self.fuzzing(record, held_out, &inactive, &marks),
        }))
    }

    fn detection(
        &self,
        record: &FeatureRecord,
        held_out: &HeldOut,
        inactive: &[&FeatureContext],
        marks: &Marks,
    ) -> Vec<Item> {
        let plain = |context| marks.text(context, &[], self.pages);
        let active = held_out.active.iter().map(|(fifth, one)| item(one, Some(*fifth), plain(one)));
        let others = inactive.iter().map(|one| item(one, None, plain(one)));
        shuffled(active.chain(others).collect(), record.feature, 0)
    }

    /// Where the feature is active the tokens of strong activations are marked, elsewhere as many as
    /// these are on average: the one in the middle and others at random.
    fn fuzzing(
        &self,
        record: &FeatureRecord,
        held_out: &HeldOut,
        inactive: &[&FeatureContext],
        marks: &Marks,
    ) -> Vec<Item> {
        let strong: Vec<Vec<bool>> =
            held_out.active.iter().map(|(_, one)| marks::strong(one)).collect();
        let n_marked = strong.iter().flatten().filter(|is_marked| **is_marked).count();
        let n_marked = n_marked.div_ceil(strong.len());
        let text = |one, is_marked: &[bool]| marks.text(one, is_marked, self.pages);
        let active = held_out.active.iter().zip(&strong);
        let active =
            active.map(|((fifth, one), is_marked)| item(one, Some(*fifth), text(one, is_marked)));
        let others = inactive.iter().map(|one| {
            let is_marked = marks::at_random(one, n_marked, record.feature);
            item(one, None, text(one, &is_marked))
        });
        shuffled(active.chain(others).collect(), record.feature, 1)
    }
}

/// The contexts of a feature that a judge is shown.
fn examples(record: &FeatureRecord) -> Vec<&FeatureContext> {
    let mut found: Vec<&FeatureContext> = record.top.iter().take(N_TOP).collect();
    for quantile in record.quantiles.iter().rev() {
        let is_new = |one: &&FeatureContext| found.iter().all(|other| other.row != one.row);
        let new: Vec<_> = quantile.contexts.iter().filter(is_new).take(N_OF_FIFTH).collect();
        found.extend(new);
    }
    found
}

/// A value as tenths of the largest, rounded up.
fn tenths(value: f32, largest: f32) -> u32 {
    // In f64 the product is exact: in f32 ten tenths may be a little more.
    let tenths = 10.0 * f64::from(value.abs()) / f64::from(largest.abs());
    (tenths.ceil() as u32).min(10)
}

fn item(context: &FeatureContext, fifth: Option<usize>, text: String) -> Item {
    Item { text, active: fifth.is_some(), fifth, row: context.row }
}

/// The items in an order that tells nothing, the same for the same feature.
fn shuffled(mut items: Vec<Item>, feature: u32, kind: u32) -> Vec<Item> {
    items.sort_by_cached_key(|item| hash(feature, kind, item.row));
    items
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tenths_are_from_one_to_ten(bits in 1u32..0x7f80_0000, share in 0.001f64..1.0) {
            let largest = f32::from_bits(bits);
            prop_assert_eq!(tenths(largest, largest), 10);
            prop_assert_eq!(tenths(-largest, largest), 10);
            let value = (f64::from(largest) * share) as f32;
            let found = f64::from(tenths(value, largest));
            let exact = 10.0 * f64::from(value) / f64::from(largest);
            prop_assert!((exact..exact + 1.0).contains(&found), "{} of {}", value, largest);
        }
    }
}
