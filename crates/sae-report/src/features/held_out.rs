//! Files of contexts to judge by: those of features, which no page shows, and the pool of windows.

use sae_config::{FeatureContext, FeatureRecord, HeldOut};
use serde::{Deserialize, Serialize};

use super::record::{Context, context, expanded};

/// What is held out of a feature: contexts in which it is active with the fifth of each, and the
/// numbers of windows in which it is not.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Compact(Vec<(usize, Context)>, Vec<u32>);

impl Compact {
    pub(super) fn new(record: &FeatureRecord) -> Self {
        let HeldOut { active, inactive } = &record.held_out;
        Self(active.iter().map(|(fifth, one)| (*fifth, context(one))).collect(), inactive.clone())
    }

    /// None where a context names a token that it has not, or a window that the pool has not.
    pub(super) fn expand(self, n_pool: usize) -> Option<HeldOut> {
        let Self(active, inactive) = self;
        let one = |(fifth, of)| Some((fifth, expanded(of)?));
        let active = active.into_iter().map(one).collect::<Option<_>>()?;
        let is_there = inactive.iter().all(|number| (*number as usize) < n_pool);
        is_there.then_some(HeldOut { active, inactive })
    }
}

/// The pool as it is written.
pub(super) fn compact_pool(pool: &[FeatureContext]) -> Vec<Context> {
    pool.iter().map(context).collect()
}

/// The pool as it was; none where a window names a token that it has not.
pub(super) fn expanded_pool(pool: Vec<Context>) -> Option<Vec<FeatureContext>> {
    pool.into_iter().map(expanded).collect()
}

#[cfg(test)]
mod tests {
    use sae_config::ContextToken;

    use super::*;

    #[test]
    fn what_is_held_out_comes_back_as_it_was() {
        let token = |id, value| ContextToken { id, value, ..ContextToken::default() };
        let one = FeatureContext {
            row: 3,
            value: 2.0,
            at: 1,
            tokens: vec![token(4, 0.0), token(5, 2.0)],
            ..FeatureContext::default()
        };
        let held_out = HeldOut { active: vec![(4, one.clone())], inactive: vec![0, 7] };
        let record = FeatureRecord { held_out: held_out.clone(), ..FeatureRecord::default() };
        let text = serde_json::to_string(&Compact::new(&record)).unwrap();
        let read = || serde_json::from_str::<Compact>(&text).unwrap();
        assert_eq!(read().expand(8), Some(held_out));
        assert_eq!(read().expand(7), None);
        assert_eq!(expanded_pool(compact_pool(std::slice::from_ref(&one))), Some(vec![one]));
    }
}
