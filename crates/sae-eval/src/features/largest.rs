//! The few largest of many values.

/// Keeps the largest values given to it, each with a number.
#[derive(Debug)]
pub(super) struct Largest {
    most: usize,
    kept: Vec<(u32, f32)>,
}

impl Largest {
    /// To keep at most `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, kept: Vec::with_capacity(most + 1) }
    }

    /// Takes in a value; of equal ones the earlier stays first. NaN is passed over.
    #[inline]
    pub(super) fn add(&mut self, number: u32, value: f32) {
        let is_full = self.kept.len() >= self.most;
        if value.is_nan() || (is_full && self.kept.last().is_none_or(|last| value <= last.1)) {
            return;
        }
        let at = self.kept.partition_point(|kept| kept.1 >= value);
        self.kept.insert(at, (number, value));
        self.kept.truncate(self.most);
    }

    /// The values kept, the largest first.
    pub(super) fn finish(self) -> Vec<(u32, f32)> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_largest_are_those_of_a_stable_sort(
            values in prop::collection::vec(prop_oneof![(-3i8..3).prop_map(f32::from), Just(f32::NAN)], 0..30),
            most in 0usize..8,
        ) {
            let mut largest = Largest::new(most);
            (0..).zip(&values).for_each(|(number, value)| largest.add(number, *value));
            let mut expected: Vec<(u32, f32)> = (0..).zip(values).filter(|(_, v)| !v.is_nan()).collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1));
            expected.truncate(most);
            prop_assert_eq!(largest.finish(), expected);
        }
    }
}
