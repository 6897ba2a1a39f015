//! A feature in few characters, as the page reads it.

use sae_config::{Attribution, FeatureContext, FeatureRecord, Histogram, Neighbor, TokenLogit};
use serde_json::{Value, json};

/// Calls `found` with every token of a feature.
pub(super) fn tokens(record: &FeatureRecord, found: &mut impl FnMut(u32)) {
    let quantiles = record.quantiles.iter().flat_map(|quantile| &quantile.contexts);
    let contexts = record.top.iter().chain(quantiles);
    contexts.flat_map(|context| &context.tokens).for_each(|token| found(token.id));
    if let Some(Attribution { promoted, suppressed, .. }) = &record.attribution {
        promoted.iter().chain(suppressed).for_each(|token| found(token.id));
    }
}

/// A feature; its number is that of its place.
pub(super) fn compact(record: &FeatureRecord) -> Value {
    let quantile = |quantile: &sae_config::Quantile| {
        let contexts: Vec<_> = quantile.contexts.iter().map(context).collect();
        json!([quantile.from, quantile.to, quantile.n, contexts])
    };
    json!({
        "n_active": record.n_active,
        "mean": record.mean,
        "max": record.max,
        "norm": record.decoder_norm,
        "histogram": histogram(&record.histogram),
        "top": record.top.iter().map(context).collect::<Vec<_>>(),
        "quantiles": record.quantiles.iter().map(quantile).collect::<Vec<_>>(),
        "cosine": neighbors(&record.cosine),
        "pearson": neighbors(&record.pearson),
        "jaccard": neighbors(&record.jaccard),
        "logits": record.attribution.as_ref().map(|logits| json!([
            token_logits(&logits.promoted),
            token_logits(&logits.suppressed),
            histogram(&logits.histogram),
        ])),
        "k_hat": record.k_hat.map(|k_hat| json!([k_hat.mean, k_hat.correlation])),
    })
}

/// Row, place, activation, which token; then the tokens, and of those that have one the other
/// activations, the gaps before them, and which are outliers.
fn context(context: &FeatureContext) -> Value {
    let tokens = context.tokens.iter().enumerate();
    let ids: Vec<u32> = context.tokens.iter().map(|token| token.id).collect();
    let active = tokens.clone().filter(|(at, token)| token.value != 0.0 && *at != context.at);
    let active: Vec<_> = active.map(|(at, token)| json!([at, token.value])).collect();
    let gaps = tokens.clone().filter(|(_, token)| token.gap > 0);
    let gaps: Vec<_> = gaps.map(|(at, token)| json!([at, token.gap])).collect();
    let outliers = tokens.filter(|(_, token)| token.is_outlier).map(|(at, _)| at);
    let outliers: Vec<usize> = outliers.collect();
    json!([context.row, context.place, context.value, context.at, ids, active, gaps, outliers])
}

fn histogram(histogram: &Histogram) -> Value {
    json!([histogram.from, histogram.to, histogram.counts])
}

fn neighbors(neighbors: &[Neighbor]) -> Vec<Value> {
    neighbors.iter().map(|near| json!([near.feature, near.value])).collect()
}

fn token_logits(tokens: &[TokenLogit]) -> Vec<Value> {
    tokens.iter().map(|token| json!([token.id, token.value])).collect()
}
