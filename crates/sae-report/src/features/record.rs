//! A feature in few characters, as the page reads it.

use sae_config::{
    Attribution, Component, Confusion, ContextToken, FeatureContext, FeatureKHat, FeatureRecord,
    HeldOut, Histogram, Neighbor, Patch, Quantile, TokenLogit,
};
use serde::{Deserialize, Serialize};

/// Calls `found` with every token of a feature.
pub(super) fn tokens(record: &FeatureRecord, found: &mut impl FnMut(u32)) {
    let quantiles = record.quantiles.iter().flat_map(|quantile| &quantile.contexts);
    let held_out = record.held_out.active.iter().map(|(_, context)| context);
    let contexts = record.top.iter().chain(quantiles).chain(held_out);
    contexts.flat_map(|context| &context.tokens).for_each(|token| found(token.id));
    if let Some(Attribution { promoted, suppressed, .. }) = &record.attribution {
        promoted.iter().chain(suppressed).for_each(|token| found(token.id));
    }
}

/// A feature; its number is that of its place.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compact {
    n_active: u64,
    mean: f64,
    max: f32,
    norm: f32,
    components: Vec<(u32, f32, f32)>,
    histogram: Bins,
    top: Vec<Context>,
    /// From, to, how many, and some of them.
    quantiles: Vec<(f32, f32, u64, Vec<Context>)>,
    cosine: Pairs,
    pearson: Pairs,
    pearson_cosine: Vec<f32>,
    jaccard: Pairs,
    /// Promoted, suppressed, all.
    logits: Option<(Pairs, Pairs, Bins)>,
    k_hat: Option<(f64, Option<f64>)>,
    n_gram: Option<Answers>,
}

/// Numbers of features or tokens, each with a value.
type Pairs = Vec<(u32, f32)>;

/// From, to, counts.
type Bins = (f32, f32, Vec<u64>);

/// True positives, false negatives, false positives, true negatives, unanswered.
pub(super) type Answers = [u32; 5];

/// Row, place, activation, which token; then the tokens, and of those that have one the other
/// activations, the gaps before them, and which are outliers. Of a picture there are no tokens, and
/// the activations are of positions.
pub(super) type Context =
    (u64, Option<[u32; 2]>, f32, usize, Vec<u32>, Vec<(usize, f32)>, Vec<(usize, u32)>, Vec<usize>);

impl Compact {
    pub(super) fn new(record: &FeatureRecord) -> Self {
        let contexts = |all: &[FeatureContext]| all.iter().map(context).collect();
        let quantile = |of: &Quantile| (of.from, of.to, of.n, contexts(&of.contexts));
        let component = |of: &Component| (of.dimension, of.value, of.share);
        let near = |all: &[Neighbor]| all.iter().map(|near| (near.feature, near.value)).collect();
        let logits = |all: &[TokenLogit]| all.iter().map(|logit| (logit.id, logit.value)).collect();
        Self {
            n_active: record.n_active,
            mean: record.mean,
            max: record.max,
            norm: record.decoder_norm,
            components: record.components.iter().map(component).collect(),
            histogram: bins(&record.histogram),
            top: contexts(&record.top),
            quantiles: record.quantiles.iter().map(quantile).collect(),
            cosine: near(&record.cosine),
            pearson: near(&record.pearson),
            pearson_cosine: record.pearson_cosine.clone(),
            jaccard: near(&record.jaccard),
            logits: record
                .attribution
                .as_ref()
                .map(|of| (logits(&of.promoted), logits(&of.suppressed), bins(&of.histogram))),
            k_hat: record.k_hat.map(|k_hat| (k_hat.mean, k_hat.correlation)),
            n_gram: record.n_gram.as_ref().map(answers),
        }
    }

    /// The feature of this number without what is held out of it; none where a context names a token
    /// that it has not.
    pub(super) fn expand(self, feature: u32) -> Option<FeatureRecord> {
        let near = |all: Pairs| {
            all.into_iter().map(|(feature, value)| Neighbor { feature, value }).collect()
        };
        let logits =
            |all: Pairs| all.into_iter().map(|(id, value)| TokenLogit { id, value }).collect();
        let contexts = |all: Vec<Context>| all.into_iter().map(expanded).collect::<Option<_>>();
        let quantile = |(from, to, n, of)| Some(Quantile { from, to, n, contexts: contexts(of)? });
        let component = |(dimension, value, share)| Component { dimension, value, share };
        Some(FeatureRecord {
            feature,
            n_active: self.n_active,
            mean: self.mean,
            max: self.max,
            decoder_norm: self.norm,
            components: self.components.into_iter().map(component).collect(),
            histogram: histogram(self.histogram),
            top: contexts(self.top)?,
            quantiles: self.quantiles.into_iter().map(quantile).collect::<Option<_>>()?,
            cosine: near(self.cosine),
            pearson: near(self.pearson),
            pearson_cosine: self.pearson_cosine,
            jaccard: near(self.jaccard),
            attribution: self.logits.map(|(promoted, suppressed, all)| Attribution {
                promoted: logits(promoted),
                suppressed: logits(suppressed),
                histogram: histogram(all),
            }),
            k_hat: self.k_hat.map(|(mean, correlation)| FeatureKHat { mean, correlation }),
            held_out: HeldOut::default(),
            n_gram: self.n_gram.map(confusion),
        })
    }
}

pub(super) fn answers(of: &Confusion) -> Answers {
    [of.true_positives, of.false_negatives, of.false_positives, of.true_negatives, of.unanswered]
}

pub(super) fn confusion(of: Answers) -> Confusion {
    let [true_positives, false_negatives, false_positives, true_negatives, unanswered] = of;
    Confusion { true_positives, false_negatives, false_positives, true_negatives, unanswered }
}

pub(super) fn context(of: &FeatureContext) -> Context {
    let tokens = of.tokens.iter().enumerate();
    let active = tokens.clone().filter(|(at, token)| token.value != 0.0 && *at != of.at);
    let gaps = tokens.clone().filter(|(_, token)| token.gap > 0);
    let patches = of.patches.iter().map(|patch| (patch.position as usize, patch.value));
    (
        of.row,
        of.place,
        of.value,
        of.at,
        of.tokens.iter().map(|token| token.id).collect(),
        active.map(|(at, token)| (at, token.value)).chain(patches).collect(),
        gaps.map(|(at, token)| (at, token.gap)).collect(),
        tokens.filter(|(_, token)| token.is_outlier).map(|(at, _)| at).collect(),
    )
}

pub(super) fn expanded(of: Context) -> Option<FeatureContext> {
    let (row, place, value, at, ids, mut active, gaps, outliers) = of;
    let mut patches = Vec::new();
    if ids.is_empty() {
        let patch =
            |(position, value)| Some(Patch { position: u32::try_from(position).ok()?, value });
        patches = active.drain(..).map(patch).collect::<Option<_>>()?;
    }
    let plain = |id| ContextToken { id, ..ContextToken::default() };
    let mut tokens: Vec<ContextToken> = ids.into_iter().map(plain).collect();
    for (at, value) in active {
        tokens.get_mut(at)?.value = value;
    }
    for (at, gap) in gaps {
        tokens.get_mut(at)?.gap = gap;
    }
    for at in outliers {
        tokens.get_mut(at)?.is_outlier = true;
    }
    if !tokens.is_empty() {
        tokens.get_mut(at)?.value = value;
    }
    Some(FeatureContext { row, place, value, at, tokens, patches })
}

fn bins(of: &Histogram) -> Bins {
    (of.from, of.to, of.counts.clone())
}

fn histogram((from, to, counts): Bins) -> Histogram {
    Histogram { from, to, counts }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![Just(0.0f32), -3.0f32..3.0, 1e-30f32..1e-20]
    }

    prop_compose! {
        fn any_context()(
            tokens in prop::collection::vec((0u32..9, value(), 0u32..3, any::<bool>()), 0..6),
            row: u64, place in prop::option::of([0u32..9, 0u32..9]), own in value(), at in 0usize..6,
            patches in prop::collection::vec((0u32..9, value()), 0..3),
        ) -> FeatureContext {
            let token = |(id, value, gap, is_outlier)| ContextToken { id, value, gap, is_outlier };
            let mut tokens: Vec<ContextToken> = tokens.into_iter().map(token).collect();
            let at = at.min(tokens.len().saturating_sub(1));
            if let Some(token) = tokens.get_mut(at) {
                token.value = own;
            }
            let patch = |(position, value)| Patch { position, value };
            let patches = if tokens.is_empty() { patches.into_iter().map(patch).collect() } else { vec![] };
            FeatureContext { row, place, value: own, at, tokens, patches }
        }
    }

    prop_compose! {
        fn any_record()(
            feature: u32, n_active: u64, mean in -1e9f64..1e9, numbers in [value(), value(), value()],
            contexts in prop::collection::vec(any_context(), 0..4),
            pairs in prop::collection::vec((0u32..99, value()), 0..4),
            counts in prop::collection::vec(any::<u64>(), 0..4),
            k_hat in prop::option::of((0f64..9.0, prop::option::of(-1f64..1.0))), has_logits: bool,
            n_gram in prop::option::of(any::<[u32; 5]>()),
        ) -> FeatureRecord {
            let [max, from, to] = numbers;
            let histogram = Histogram { from, to, counts };
            let near = |(feature, value): &(u32, f32)| Neighbor { feature: *feature, value: *value };
            let near: Vec<Neighbor> = pairs.iter().map(near).collect();
            let logit = |(id, value): &(u32, f32)| TokenLogit { id: *id, value: *value };
            let logits: Vec<TokenLogit> = pairs.iter().map(logit).collect();
            let attribution = Attribution {
                promoted: logits.clone(), suppressed: logits[..logits.len() / 2].to_vec(),
                histogram: histogram.clone(),
            };
            FeatureRecord {
                feature, n_active, mean, max, decoder_norm: to, histogram,
                components: vec![Component { dimension: 3, value: from, share: to }],
                quantiles: vec![Quantile { from, to, n: n_active, contexts: contexts.clone() }],
                top: contexts, cosine: near.clone(), jaccard: near[near.len() / 2..].to_vec(),
                pearson_cosine: near.iter().map(|near| near.value).collect(), pearson: near,
                attribution: has_logits.then_some(attribution),
                k_hat: k_hat.map(|(mean, correlation)| FeatureKHat { mean, correlation }),
                held_out: HeldOut::default(), n_gram: n_gram.map(confusion),
            }
        }
    }

    proptest! {
        #[test]
        fn a_feature_comes_back_as_it_was(record in any_record()) {
            let text = serde_json::to_string(&Compact::new(&record)).unwrap();
            let read: Compact = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.expand(record.feature), Some(record));
        }
    }

    #[test]
    fn places_outside_of_a_context_are_refused() {
        let whole: Context = (1, None, 2.0, 1, vec![5, 6], vec![(0, 1.0)], vec![(1, 3)], vec![0]);
        assert!(expanded(whole.clone()).is_some());
        let changes: [fn(&mut Context); 4] = [
            |of| of.3 = 2,
            |of| of.5 = vec![(2, 1.0)],
            |of| of.6 = vec![(2, 1)],
            |of| of.7 = vec![2],
        ];
        for change in changes {
            let mut wrong = whole.clone();
            change(&mut wrong);
            assert!(expanded(wrong.clone()).is_none(), "{wrong:?}");
        }
    }
}
