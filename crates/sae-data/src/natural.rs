//! The order of files in a folder: numbers in names count by value, so that `acts_2` comes before
//! `acts_10`.

use std::cmp::Ordering;

/// Compares names byte by byte, but runs of digits by their value; names that only differ in leading
/// zeros are compared byte by byte.
pub(crate) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (mut rest_a, mut rest_b) = (a, b);
    loop {
        let (digits_a, digits_b) = (digits(rest_a), digits(rest_b));
        if digits_a.is_empty() || digits_b.is_empty() {
            match (rest_a, rest_b) {
                ([x, tail_a @ ..], [y, tail_b @ ..]) if x == y => {
                    (rest_a, rest_b) = (tail_a, tail_b);
                }
                ([], []) => return a.cmp(b),
                _ => return rest_a.cmp(rest_b),
            }
        } else {
            let (value_a, value_b) = (significant(digits_a), significant(digits_b));
            let by_value = value_a.len().cmp(&value_b.len()).then_with(|| value_a.cmp(value_b));
            if by_value.is_ne() {
                return by_value;
            }
            (rest_a, rest_b) = (&rest_a[digits_a.len()..], &rest_b[digits_b.len()..]);
        }
    }
}

/// The digits that the text begins with.
fn digits(text: &[u8]) -> &[u8] {
    let n = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    &text[..n]
}

/// The digits without leading zeros.
fn significant(digits: &[u8]) -> &[u8] {
    let n = digits.iter().position(|&b| b != b'0').unwrap_or(digits.len());
    &digits[n..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The name as characters, of which a run of digits is one: (0, its value) in the place of '0'.
    fn key(name: &str) -> Vec<(u8, u64)> {
        let (mut key, mut rest) = (Vec::new(), name);
        while let Some(first) = rest.chars().next() {
            let number = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let taken = number.max(1);
            key.push(match rest[..number].parse() {
                Ok(value) => (b'0', value),
                Err(_) => (first as u8, 0),
            });
            rest = &rest[taken..];
        }
        key
    }

    proptest! {
        #[test]
        fn names_are_sorted_as_by_a_naive_key(
            mut names in prop::collection::vec("[ab_.0-9/:]{0,9}", 0..12),
        ) {
            let mut expected = names.clone();
            expected.sort_by_key(|name| (key(name), name.clone()));
            names.sort_by(|a, b| compare(a.as_bytes(), b.as_bytes()));
            prop_assert_eq!(names, expected);
        }

        #[test]
        fn it_is_an_order(a: Vec<u8>, b: Vec<u8>, c: Vec<u8>) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &b).is_eq(), a == b);
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }

    #[test]
    fn shards_come_by_number() {
        let mut names = [
            "acts_10_5_4.npy",
            "acts_2_50_4.npy",
            "acts_02_5_4.npy",
            "acts.npy",
            "acts_2_5_4.npy",
            "acts_99999999999999999999999.npy",
            "acts_100000000000000000000000.npy",
            "Acts_3.npy",
        ];
        names.sort_by(|a, b| compare(a.as_bytes(), b.as_bytes()));
        assert_eq!(
            names,
            [
                "Acts_3.npy",
                "acts.npy",
                "acts_02_5_4.npy",
                "acts_2_5_4.npy",
                "acts_2_50_4.npy",
                "acts_10_5_4.npy",
                "acts_99999999999999999999999.npy",
                "acts_100000000000000000000000.npy",
            ]
        );
    }
}
