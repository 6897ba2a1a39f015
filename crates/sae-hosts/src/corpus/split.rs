//! Which documents are held out: a hash of the content decides.

use sae_config::Split;

use super::record::Record;

/// The part of the documents that is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    split: Split,
    /// Hashes below this one are held out.
    bound: u64,
}

impl Part {
    /// A part where `share` of the documents are held out.
    pub(super) fn new(split: Split, share: f64) -> Self {
        // 2⁶⁴ is a float; the cast saturates for shares that round to 1.
        Self { split, bound: (share * 18_446_744_073_709_551_616.0) as u64 }
    }

    /// Whether a document is of the part.
    pub(super) fn has(&self, record: &Record) -> bool {
        let hash = record.hash();
        let first: [u8; 8] = hash.as_bytes()[..8].try_into().expect("eight of 32 bytes");
        let is_held_out = u64::from_be_bytes(first) < self.bound;
        is_held_out == (self.split == Split::HeldOut)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_share_is_held_out() {
        for share in [0.01, 0.05, 0.5, 0.99] {
            let part = Part::new(Split::HeldOut, share);
            let n = 20_000;
            let held = (0..n).filter(|i| part.has(&Record::Text(format!("document {i}")))).count();
            // Five standard deviations of a binomial distribution.
            let (mean, deviation) =
                (f64::from(n) * share, (f64::from(n) * share * (1.0 - share)).sqrt());
            assert!((held as f64 - mean).abs() < 5.0 * deviation, "{share}: {held}");
        }
    }

    proptest! {
        #[test]
        fn every_document_is_in_one_part(text: String, ids: Vec<u32>, share in 0.001..0.999_f64) {
            for record in [Record::Text(text), Record::Ids(ids)] {
                let is_in = |split| Part::new(split, share).has(&record);
                prop_assert!(is_in(Split::Train) != is_in(Split::HeldOut));
                // What a smaller share holds out, a larger one does too.
                let larger = Part::new(Split::HeldOut, share + 0.0009);
                prop_assert!(!is_in(Split::HeldOut) || larger.has(&record));
            }
        }
    }
}
