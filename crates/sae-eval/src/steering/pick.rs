//! The next token of a distribution.

use crate::{Error, Result};

/// The token that logits give: the likeliest (the first of equals) at temperature 0, else the one
/// whose part of the distribution holds `draw`, a number from 0 to 1.
pub(super) fn pick(logits: &[f64], temperature: f64, draw: f64) -> Result<u32> {
    if let Some(got) = logits.iter().copied().find(|logit| !logit.is_finite()) {
        return Err(Error::NotFinite { name: "logits of the host", row: 0, got });
    }
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let likeliest = logits.iter().position(|logit| *logit == most).unwrap_or_default();
    if temperature == 0.0 {
        return Ok(likeliest as u32);
    }
    let weight = |logit: &f64| ((logit - most) / temperature).exp();
    let mut left = draw * logits.iter().map(weight).sum::<f64>();
    for (token, logit) in logits.iter().enumerate() {
        left -= weight(logit);
        if left < 0.0 {
            return Ok(token as u32);
        }
    }
    // Only rounding leaves something of a draw close to 1.
    Ok(likeliest as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn evenly_spaced_draws_give_each_token_its_share(
            logits in prop::collection::vec(-4.0..4.0f64, 1..12),
            temperature in 0.2..3.0f64,
        ) {
            let n = 2000;
            let mut counts = vec![0.0; logits.len()];
            for i in 0..n {
                let token = pick(&logits, temperature, (f64::from(i) + 0.5) / f64::from(n)).unwrap();
                counts[token as usize] += 1.0;
            }
            let total: f64 = logits.iter().map(|logit| (logit / temperature).exp()).sum();
            for (count, logit) in counts.iter().zip(&logits) {
                let expected = (logit / temperature).exp() / total * f64::from(n);
                prop_assert!((count - expected).abs() <= 1.0 + 1e-6, "{count} {expected}");
            }
        }

        #[test]
        fn no_temperature_gives_the_likeliest(logits in prop::collection::vec(-4.0..4.0f64, 1..12), draw in 0.0..1.0f64) {
            let token = pick(&logits, 0.0, draw).unwrap() as usize;
            prop_assert!(logits.iter().all(|logit| *logit <= logits[token]));
            // A cold draw is the same where no other is as likely.
            let rivals = logits.iter().filter(|logit| **logit > logits[token] - 0.1).count();
            if rivals == 1 {
                prop_assert_eq!(pick(&logits, 1e-3, draw).unwrap() as usize, token);
            }
        }
    }

    #[test]
    fn equal_logits_give_the_first_and_nan_is_refused() {
        assert_eq!(pick(&[1.0, 3.0, 3.0], 0.0, 0.9).unwrap(), 1);
        assert_eq!(pick(&[0.0, 0.0], 1.0, 1.0).unwrap(), 0);
        assert!(matches!(pick(&[0.0, f64::NAN], 1.0, 0.5), Err(Error::NotFinite { .. })));
    }
}
