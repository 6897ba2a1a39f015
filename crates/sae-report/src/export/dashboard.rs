//! The types of SAEDashboard's `batch-N.json`, field by field (`neuronpedia_dashboard.py`).

use sae_config::{FeatureContext, FeatureRecord, Histogram, Neighbor, TokenLogit};
use serde::Serialize;

use super::ExportNames;
use crate::SavedFeatures;

/// Rows of the tables of neurons and of features.
const N_ROWS: usize = 3;

/// A file.
#[derive(Debug, Serialize)]
pub(super) struct Batch<'a> {
    model_id: &'a str,
    layer: usize,
    sae_set: &'a str,
    sae_id_suffix: Option<&'a str>,
    features: Vec<Feature>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(names: &'a ExportNames, features: Vec<Feature>) -> Self {
        let (model_id, layer, sae_set) = (&names.model, names.layer, &names.set);
        Self { model_id, layer, sae_set, sae_id_suffix: None, features }
    }
}

/// `NeuronpediaDashboardFeature`.
#[derive(Debug, Serialize)]
pub(super) struct Feature {
    pub(super) feature_index: u32,
    #[serde(flatten)]
    pub(super) tables: Tables,
    pub(super) n_prompts_total: u64,
    pub(super) n_tokens_in_prompt: u64,
    pub(super) dataset: String,
    pub(super) activations: Vec<Activation>,
    pub(super) vector: Vec<f32>,
}

/// What Neuronpedia's features have under the same names.
#[derive(Debug, Serialize)]
pub(super) struct Tables {
    neuron_alignment_indices: Vec<u32>,
    neuron_alignment_values: Vec<f32>,
    neuron_alignment_l1: Vec<f32>,
    correlated_neurons_indices: Vec<u32>,
    correlated_neurons_l1: Vec<f32>,
    correlated_neurons_pearson: Vec<f32>,
    correlated_features_indices: Vec<u32>,
    /// Cosines, whatever the name.
    correlated_features_l1: Vec<f32>,
    correlated_features_pearson: Vec<f32>,
    neg_str: Vec<String>,
    neg_values: Vec<f32>,
    pos_str: Vec<String>,
    pos_values: Vec<f32>,
    frac_nonzero: f64,
    freq_hist_data_bar_values: Vec<f32>,
    freq_hist_data_bar_heights: Vec<u64>,
    logits_hist_data_bar_heights: Vec<u64>,
    logits_hist_data_bar_values: Vec<f32>,
    decoder_weights_dist: Vec<f32>,
}

/// `NeuronpediaDashboardActivation`.
#[derive(Debug, Serialize)]
pub(super) struct Activation {
    pub(super) bin_min: f32,
    pub(super) bin_max: f32,
    pub(super) bin_contains: f64,
    pub(super) tokens: Vec<String>,
    pub(super) values: Vec<f32>,
    pub(super) qualifying_token_index: usize,
}

impl Feature {
    pub(super) fn new(record: &FeatureRecord, pages: &SavedFeatures, names: &ExportNames) -> Self {
        let set = pages.set();
        let n_prompts_total = set.n_contexts;
        // The least and largest that the tool's intervals have for its group of the largest.
        let top = record
            .top
            .iter()
            .map(|context| Activation::new(context, pages, [-1.0, record.max], -1.0));
        let fifths = record.quantiles.iter().rev().flat_map(|of| {
            let share = of.n as f64 / set.n_rows as f64;
            of.contexts
                .iter()
                .map(move |context| Activation::new(context, pages, [of.from, of.to], share))
        });
        Self {
            feature_index: record.feature,
            tables: Tables::new(record, pages),
            n_prompts_total,
            n_tokens_in_prompt: tokens_in_prompt(set.n_rows, set.n_contexts),
            dataset: names.dataset.clone(),
            activations: top.chain(fifths).collect(),
            vector: Vec::new(),
        }
    }
}

/// Rows of a context in the mean.
pub(super) fn tokens_in_prompt(n_rows: u64, n_contexts: u64) -> u64 {
    (n_rows as f64 / n_contexts.max(1) as f64).round() as u64
}

impl Tables {
    fn new(record: &FeatureRecord, pages: &SavedFeatures) -> Self {
        let components = &record.components[..record.components.len().min(N_ROWS)];
        let pearson: &[Neighbor] = &record.pearson[..record.pearson.len().min(N_ROWS)];
        let cosines = &record.pearson_cosine;
        let logits = record.attribution.as_ref();
        let promoted: &[TokenLogit] = logits.map_or(&[], |logits| &logits.promoted);
        let suppressed: &[TokenLogit] = logits.map_or(&[], |logits| &logits.suppressed);
        let tokens = |of: &[TokenLogit]| of.iter().map(|logit| pages.token(logit.id)).collect();
        let values = |of: &[TokenLogit]| of.iter().map(|logit| logit.value).collect();
        let all = logits.map(|logits| logits.histogram.clone()).unwrap_or_default();
        Self {
            neuron_alignment_indices: components.iter().map(|of| of.dimension).collect(),
            neuron_alignment_values: components.iter().map(|of| of.value).collect(),
            neuron_alignment_l1: components.iter().map(|of| of.share).collect(),
            correlated_neurons_indices: Vec::new(),
            correlated_neurons_l1: Vec::new(),
            correlated_neurons_pearson: Vec::new(),
            correlated_features_indices: pearson.iter().map(|near| near.feature).collect(),
            correlated_features_l1: cosines.iter().take(pearson.len()).copied().collect(),
            correlated_features_pearson: pearson.iter().map(|near| near.value).collect(),
            neg_str: tokens(suppressed),
            neg_values: values(suppressed),
            pos_str: tokens(promoted),
            pos_values: values(promoted),
            frac_nonzero: record.n_active as f64 / pages.set().n_rows as f64,
            freq_hist_data_bar_values: middles(&record.histogram),
            freq_hist_data_bar_heights: record.histogram.counts.clone(),
            logits_hist_data_bar_values: middles(&all),
            logits_hist_data_bar_heights: all.counts,
            decoder_weights_dist: Vec::new(),
        }
    }
}

/// The middles of the bins.
fn middles(of: &Histogram) -> Vec<f32> {
    let width = (of.to - of.from) / of.counts.len() as f32;
    (0..of.counts.len()).map(|bin| of.from + width * (bin as f32 + 0.5)).collect()
}

impl Activation {
    /// A context; where the store lacks tokens within it, one stands for them that says how many.
    fn new(
        context: &FeatureContext,
        pages: &SavedFeatures,
        [bin_min, bin_max]: [f32; 2],
        bin_contains: f64,
    ) -> Self {
        let (mut tokens, mut values, mut own) = (Vec::new(), Vec::new(), 0);
        for (at, token) in context.tokens.iter().enumerate() {
            if token.gap > 0 {
                tokens.push(format!("[{} left out]", token.gap));
                values.push(0.0);
            }
            if at == context.at {
                own = tokens.len();
            }
            tokens.push(pages.token(token.id));
            values.push(token.value);
        }
        Self { bin_min, bin_max, bin_contains, tokens, values, qualifying_token_index: own }
    }
}
