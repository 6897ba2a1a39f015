//! Which features of pages a judge is asked of.

use sae_report::SavedFeatures;

use crate::cli::ChosenArgs;
use crate::failure::Failure;

/// The numbers of the features, in the order in which they are gone through.
pub(super) fn chosen(args: &ChosenArgs, pages: &SavedFeatures) -> Result<Vec<u32>, Failure> {
    let n_features = pages.set().n_features;
    match &args.features {
        Some(list) => listed(list, n_features).map_err(|got| {
            let last = n_features.saturating_sub(1);
            Failure::usage(anyhow::anyhow!(
                "--features: expected numbers and ranges from 0 to {last}, such as 7,100-199, got {got:?}"
            ))
        }),
        None => Ok(pages.sample(args.sample.get())),
    }
}

/// Numbers and ranges, each feature once; else the part that is none.
fn listed(list: &str, n_features: usize) -> Result<Vec<u32>, &str> {
    let mut numbers = std::collections::BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u32>().ok();
        let (Some(first), Some(last)) = (number(first), number(last)) else { return Err(part) };
        if first > last || last as usize >= n_features {
            return Err(part);
        }
        numbers.extend(first..=last);
    }
    Ok(numbers.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_numbers_and_ranges() {
        assert_eq!(listed("7, 3-5,4", 8), Ok(vec![3, 4, 5, 7]));
        for wrong in ["", "a", "3-", "-3", "5-3", "8", "1-8", "1-2-3", "1,,2", "1.5"] {
            let part = listed(wrong, 8).unwrap_err();
            assert!(wrong.contains(part), "{wrong}");
        }
    }
}
