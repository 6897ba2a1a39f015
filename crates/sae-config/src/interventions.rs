//! What interventions on the host show of an SAE: other activations in the place of the host's own,
//! and single features moved between inputs.

use serde::{Deserialize, Serialize};

/// All that is measured by interventions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interventions {
    /// The host's loss on texts with other activations in the place of its own.
    pub losses: Option<SplicedLosses>,
    /// Whether features of first letters are absorbed or split; none where the host's vocabulary has
    /// too few words for it.
    #[serde(default)]
    pub first_letter: Option<FirstLetter>,
    /// Whether an attribute of a thing can be changed and its others be left; none where the host
    /// knows too few of the things.
    #[serde(default)]
    pub attributes: Option<AttributeScores>,
    /// The same of a second table: countries.
    #[serde(default)]
    pub countries: Option<AttributeScores>,
    /// Why a part is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The host's next-token loss on texts, in nats a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplicedLosses {
    /// Over all predictions.
    pub all: LossGroup,
    /// By position in the context: 1, 2 to 3, 4 to 7, and so forth.
    pub by_position: Vec<LossGroup>,
    /// By text.
    pub by_source: Vec<LossGroup>,
}

/// Losses over some predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossGroup {
    /// Which: the name of a text, or positions as `4-7`.
    pub of: String,
    /// Predictions.
    pub n: u64,
    /// Loss of the untouched host.
    pub clean: f64,
    /// With each replacement.
    pub replaced: Vec<ReplacedLoss>,
}

/// What a replacement of the activations makes of the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplacedLoss {
    /// What takes the place of the activations: `rebuilt` (x̂), `zero`, `random` (x moved in a random
    /// direction as far as x̂ is away), or `largest_N` (what N features of a row give).
    pub by: String,
    /// Loss.
    pub ce: f64,
    /// KL from the untouched host's prediction.
    pub kl: f64,
    /// (zero − this)/(zero − clean), of the loss; none where zeros change nothing.
    pub ce_recovered: Option<f64>,
    /// The same of KL.
    pub kl_recovered: Option<f64>,
}

impl LossGroup {
    /// The replacement of this name.
    #[must_use]
    pub fn by(&self, name: &str) -> Option<&ReplacedLoss> {
        self.replaced.iter().find(|loss| loss.by == name)
    }
}

/// Whether features that stand for the first letter of a word are absorbed by others, or split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FirstLetter {
    /// Words that probes were fitted to.
    pub n_train: u64,
    /// Words that all else is of.
    pub n_test: u64,
    /// Letters whose probe tells their words (F1 above 0.6, on 20 of them at least): the others count
    /// in nothing below.
    pub n_letters: u64,
    /// Mean over letters of the mean absorption over their words: the share of the probe's reading
    /// that others give in the place of the letter's own features.
    pub absorption: f64,
    /// Mean over letters of the share of words on which none of the letter's own features is active
    /// and another does their work alone.
    pub full_absorption: f64,
    /// Mean over letters of the number of features that it is split into.
    pub features_per_letter: f64,
    /// Mean over letters of the F1 of a probe on the letter's first feature alone.
    pub f1_one_feature: f64,
    /// Mean over letters of the F1 of a probe on the activations themselves, which weights classes as
    /// that on the first feature does.
    pub f1_dense: f64,
    /// Each letter.
    pub letters: Vec<LetterScores>,
}

/// What is found of a letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LetterScores {
    /// The letter.
    pub letter: char,
    /// Its words among those tested.
    pub n_words: u64,
    /// F1 of a probe on activations, which weights classes as that on the first feature does.
    pub f1_dense: f64,
    /// F1 of a probe on the first feature.
    pub f1_one_feature: f64,
    /// The features that are the letter's own, the first one first.
    pub features: Vec<usize>,
    /// Words that the probe on activations finds.
    pub n_found: u64,
    /// Mean absorption over those; none where the letter does not count.
    pub absorption: Option<f64>,
    /// Share of those that are absorbed whole.
    pub full_absorption: Option<f64>,
}

/// Whether an attribute of a thing can be changed by features, and its others be left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttributeScores {
    /// Things of which the host knows all attributes.
    pub n_things: u64,
    /// Pairs of them that were tried, over all attributes.
    pub n_pairs: u64,
    /// Those of them that `disentanglement` is of: the others choose the number of features.
    #[serde(default)]
    pub n_told: u64,
    /// The best mean of cause and isolation, by the number of features that is best on other pairs.
    pub disentanglement: f64,
    /// Its standard error over pairs; none where an attribute has a single one.
    #[serde(default)]
    pub standard_error: Option<f64>,
    /// By the number of features that are moved, for each attribute.
    pub by_features: Vec<Moved>,
    /// The whole activation moved: all that can be caused, and nothing isolated.
    pub whole: Moved,
}

/// What happens when features of an attribute are moved from one thing to another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Features that are moved.
    pub n_features: u64,
    /// Share of pairs where the attribute becomes that of the other thing.
    pub cause: f64,
    /// Share of pairs and other attributes where these stay as they were.
    pub isolation: f64,
}
