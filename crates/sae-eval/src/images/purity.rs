//! Whether the images on which a feature is most active have something in common.

use sae_config::AgainstChance;
use sae_models::InitRng;

use crate::Result;

/// Images that a feature is active on at least, to count.
pub(super) const LEAST_IMAGES: usize = 5;

/// Images that are looked at of each feature, those of its greatest activations.
const MOST_IMAGES: usize = 20;

/// Times that images are dealt out anew.
const N_DEALS: u64 = 5;

/// Share of the images of the greatest activations, twenty at most, that have the kind most frequent
/// among them; none where fewer than five images with a kind are active.
pub(super) fn purity(activations: &[f32], kinds: &[Option<usize>]) -> Option<f64> {
    let mut active: Vec<(f32, usize)> = activations
        .iter()
        .zip(kinds)
        .filter(|(activation, _)| **activation > 0.0)
        .filter_map(|(activation, kind)| Some((*activation, (*kind)?)))
        .collect();
    if active.len() < LEAST_IMAGES {
        return None;
    }
    active.sort_by(|a, b| b.0.total_cmp(&a.0));
    active.truncate(MOST_IMAGES);
    let mut kinds: Vec<usize> = active.iter().map(|(_, kind)| *kind).collect();
    kinds.sort_unstable();
    let most = kinds.chunk_by(|a, b| a == b).map(<[usize]>::len).max().unwrap_or_default();
    Some(most as f64 / kinds.len() as f64)
}

/// The mean of scores of features, where there are any, with what they are by chance: `scores` gives
/// them, and of a seed those where what they are of is dealt out anew.
pub(super) fn against_chance(
    mut scores: impl FnMut(Option<u64>) -> Result<Vec<Option<f64>>>,
) -> Result<Option<AgainstChance>> {
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let own: Vec<f64> = scores(None)?.into_iter().flatten().collect();
    let mut chance = Vec::new();
    for deal in 0..N_DEALS {
        chance.extend(scores(Some(deal))?.into_iter().flatten());
    }
    if own.is_empty() || chance.is_empty() {
        return Ok(None);
    }
    let value = mean(&own);
    let squares: f64 = own.iter().map(|score| (score - value).powi(2)).sum();
    let n = own.len() as f64;
    let standard_error = (squares / (n - 1.0).max(1.0) / n).sqrt();
    let (chance, n) = (mean(&chance), own.len() as u64);
    Ok(Some(AgainstChance { value, standard_error, chance, n }))
}

/// Numbers below n in a random order.
pub(super) fn dealt(n: usize, seed: u64) -> Vec<usize> {
    let keys = InitRng::new(seed).uniform(&[n as i64], 1.0);
    let keys = Vec::<f64>::try_from(keys).expect("a vector of f64");
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| keys[a].total_cmp(&keys[b]));
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn purity_is_that_of_counting_one_by_one(
            images in prop::collection::vec((0..40u8, prop::option::weighted(0.8, 0..4usize)), 0..60),
        ) {
            // Activations that differ, so that the greatest are beyond doubt.
            let n = images.len() as f32 + 1.0;
            let activations: Vec<f32> = images
                .iter()
                .enumerate()
                .map(|(i, (a, _))| if *a < 10 { 0.0 } else { f32::from(*a) + i as f32 / n })
                .collect();
            let kinds: Vec<Option<usize>> = images.iter().map(|(_, kind)| *kind).collect();
            let rank = |i: usize| {
                let is_above = |j: &usize| kinds[*j].is_some() && activations[*j] > activations[i];
                (0..images.len()).filter(is_above).count()
            };
            let chosen: Vec<usize> = (0..images.len())
                .filter(|&i| kinds[i].is_some() && activations[i] > 0.0 && rank(i) < 20)
                .collect();
            let most = (0..4).map(|kind| chosen.iter().filter(|i| kinds[**i] == Some(kind)).count()).max();
            let expected = (chosen.len() >= 5).then(|| most.unwrap() as f64 / chosen.len() as f64);
            prop_assert_eq!(purity(&activations, &kinds), expected);
            // Scale and names of kinds mean nothing.
            let twice: Vec<f32> = activations.iter().map(|a| 2.0 * a).collect();
            let renamed: Vec<Option<usize>> = kinds.iter().map(|kind| kind.map(|k| 9 - k)).collect();
            prop_assert_eq!(purity(&twice, &renamed), expected);
        }

        #[test]
        fn a_deal_has_every_image_once(n in 0..80usize, seed in 0..99u64) {
            let mut order = dealt(n, seed);
            order.sort_unstable();
            prop_assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn chance_is_what_other_images_give() {
        // Two kinds, each with a feature of its own on ten images of it.
        let kinds: Vec<Option<usize>> = (0..40).map(|i| Some(i % 2)).collect();
        let features: Vec<Vec<f32>> = (0..2)
            .map(|kind| (0..40).map(|i| f32::from(u8::from(i % 2 == kind))).collect())
            .collect();
        let scores = |deal: Option<u64>| {
            let order = deal.map_or_else(|| (0..40).collect(), |seed| dealt(40, seed));
            let kinds: Vec<Option<usize>> = order.iter().map(|&i| kinds[i]).collect();
            Ok(features.iter().map(|feature| purity(feature, &kinds)).collect())
        };
        let of = against_chance(scores).unwrap().unwrap();
        assert_eq!((of.value, of.standard_error, of.n), (1.0, 0.0, 2));
        assert!((0.5..0.75).contains(&of.chance), "{}", of.chance);
        assert_eq!(against_chance(|_| Ok(vec![None])).unwrap(), None);
    }
}
