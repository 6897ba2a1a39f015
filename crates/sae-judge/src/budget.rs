//! How much may be asked.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// Bounds on what is asked: of all calls that share a file of answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Requests, failed ones included.
    pub requests: Option<u64>,
    /// Tokens of prompts and answers. The request that reaches the bound is the last, of each of those
    /// that are sent at the same time.
    pub tokens: Option<u64>,
}

/// What was asked so far.
#[derive(Debug)]
pub(crate) struct Spent {
    budget: Budget,
    requests: AtomicU64,
    tokens: AtomicU64,
}

impl Spent {
    pub(crate) fn new(budget: Budget, requests: u64, tokens: u64) -> Self {
        Self { budget, requests: requests.into(), tokens: tokens.into() }
    }

    /// Counts a request that is about to be sent, if one is left.
    pub(crate) fn request(&self) -> Result<()> {
        if let Some(limit) = self.budget.tokens
            && self.tokens.load(Ordering::SeqCst) >= limit
        {
            return Err(Error::Budget { what: "tokens", limit });
        }
        let limit = self.budget.requests.unwrap_or(u64::MAX);
        let another = |n: u64| (n < limit).then_some(n + 1);
        let counted = self.requests.fetch_update(Ordering::SeqCst, Ordering::SeqCst, another);
        counted.map_or(Err(Error::Budget { what: "requests", limit }), |_| Ok(()))
    }

    /// Counts the tokens of a request that was answered.
    pub(crate) fn tokens(&self, n: u64) {
        self.tokens.fetch_add(n, Ordering::SeqCst);
    }

    /// Requests and tokens so far.
    pub(crate) fn total(&self) -> [u64; 2] {
        [self.requests.load(Ordering::SeqCst), self.tokens.load(Ordering::SeqCst)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_spent() {
        let spent = Spent::new(Budget { requests: Some(3), tokens: Some(100) }, 1, 20);
        spent.request().unwrap();
        spent.tokens(79);
        spent.request().unwrap();
        assert!(matches!(spent.request(), Err(Error::Budget { what: "requests", limit: 3 })));
        spent.tokens(1);
        assert!(matches!(spent.request(), Err(Error::Budget { what: "tokens", limit: 100 })));
        assert_eq!(spent.total(), [3, 100]);
        let endless = Spent::new(Budget::default(), u64::MAX - 1, 0);
        endless.request().unwrap();
    }
}
