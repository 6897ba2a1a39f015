//! Random search: samples of some keys, each the same for all other settings.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

use super::axes::{Factor, Settings};
use super::keys::dotted_key;
use crate::{Error, Result};

/// Random search (`[search]`).
///
/// Each sample is combined with all axes, so that architectures and seeds are compared at the
/// same values. More samples keep those that there were, and another key changes no draw of the
/// others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// Number of samples, all of which differ.
    pub samples: usize,
    /// Seed of the draws.
    #[serde(default)]
    pub seed: u64,
    /// From what each key is drawn.
    pub keys: Table,
}

/// What a key is drawn from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Draw {
    /// All numbers of an interval alike, to four significant digits.
    Uniform(f64, f64),
    /// All orders of magnitude alike, to four significant digits.
    LogUniform(f64, f64),
    /// The integers from one to another, both included.
    Integer(i64, i64),
    /// The values of a list.
    Choice(Vec<Value>),
}

/// Attempts at a new sample after which there is none.
const MOST_ATTEMPTS: u64 = 10_000;

impl SearchConfig {
    /// The samples.
    pub(super) fn factor(&self) -> Result<Factor> {
        if self.samples == 0 {
            return Err(Error::value("search.samples", "at least 1", 0));
        }
        if self.keys.is_empty() {
            return Err(Error::value("search.keys", "at least one key", "none"));
        }
        let mut keys = Vec::new();
        let mut draws = Vec::new();
        for (key, value) in &self.keys {
            let path = format!("search.keys.{key}");
            draws.push((key, Draw::read(&path, value)?));
            keys.push((key.clone(), path));
        }
        self.check_number(&draws)?;
        let (mut rows, mut seen) = (Vec::new(), HashSet::new());
        let (mut index, mut in_vain) = (0, 0);
        while rows.len() < self.samples {
            let row: Settings = draws
                .iter()
                .map(|(key, draw)| ((*key).clone(), draw.value(random(self.seed, key, index))))
                .collect();
            index += 1;
            if seen.insert(format!("{row:?}")) {
                rows.push(row);
                in_vain = 0;
                continue;
            }
            in_vain += 1;
            if in_vain == MOST_ATTEMPTS.max(20 * rows.len() as u64) {
                let expected =
                    format!("at most {}, since further draws are repetitions", rows.len());
                return Err(Error::value("search.samples", expected, self.samples));
            }
        }
        Ok(Factor { keys, rows })
    }

    /// Refuses more samples than there are combinations of values.
    fn check_number(&self, draws: &[(&String, Draw)]) -> Result<()> {
        let sizes = draws.iter().map(|(_, draw)| draw.n_values());
        let Some(n) = sizes.reduce(|a, b| a?.checked_mul(b?)).flatten() else { return Ok(()) };
        if self.samples as u128 <= n {
            return Ok(());
        }
        let expected = format!("at most {n}, the number of combinations of the values");
        Err(Error::value("search.samples", expected, self.samples))
    }
}

impl Draw {
    fn read(path: &str, value: &Value) -> Result<Self> {
        let forms = "`{ uniform = [a, b] }`, `{ log_uniform = [a, b] }`, `{ integer = [a, b] }` or \
                     `{ choice = [a, b, …] }`";
        let draw: Self = value.clone().try_into().map_err(|_| Error::value(path, forms, value))?;
        let fine = match &draw {
            Self::Uniform(low, high) => low < high && (high - low).is_finite(),
            Self::LogUniform(low, high) => *low > 0.0 && low < high && high.is_finite(),
            Self::Integer(low, high) => low < high,
            Self::Choice(values) => (1..values.len()).all(|n| !values[..n].contains(&values[n])),
        };
        if !fine || draw.n_values() == Some(0) {
            let expected = match draw {
                Self::Uniform(..) | Self::Integer(..) => "two numbers, the smaller one first",
                Self::LogUniform(..) => "two positive numbers, the smaller one first",
                Self::Choice(_) => "a list of values that differ",
            };
            return Err(Error::value(path, expected, value));
        }
        Ok(draw)
    }

    /// How many values there are to draw; none where they are not counted.
    fn n_values(&self) -> Option<u128> {
        match self {
            Self::Uniform(..) | Self::LogUniform(..) => None,
            Self::Integer(low, high) => Some(low.abs_diff(*high) as u128 + 1),
            Self::Choice(values) => Some(values.len() as u128),
        }
    }

    /// The value that 64 random bits stand for.
    fn value(&self, bits: u64) -> Value {
        let share = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        let below = |n: u128| (u128::from(bits) * n) >> 64;
        match self {
            Self::Uniform(low, high) => rounded(low + share * (high - low), *low, *high),
            Self::LogUniform(low, high) => {
                rounded((low.ln() + share * (high.ln() - low.ln())).exp(), *low, *high)
            }
            Self::Integer(low, high) => {
                let above = below(low.abs_diff(*high) as u128 + 1);
                Value::Integer((i128::from(*low) + above as i128) as i64)
            }
            Self::Choice(values) => values[below(values.len() as u128) as usize].clone(),
        }
    }
}

/// A number to four significant digits, the same wherever it is computed, within its bounds.
fn rounded(value: f64, low: f64, high: f64) -> Value {
    let value: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    Value::Float(value.clamp(low, high))
}

/// Random bits that depend on nothing but the seed, the key and the number of the draw.
fn random(seed: u64, key: &str, index: u64) -> u64 {
    let hash = Sha256::digest(format!("{seed} {} {index}", dotted_key(key)));
    hash[..8].iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(text: &str) -> SearchConfig {
        toml::from_str(text).unwrap()
    }

    fn rows(text: &str) -> Vec<Settings> {
        search(text).factor().unwrap().rows
    }

    #[test]
    fn draws_fill_their_ranges() {
        let keys = "keys = { lr = { log_uniform = [1e-4, 1e-2] }, x = { uniform = [-1.0, 3] }, \
                    n = { integer = [-2, 2] }, c = { choice = ['a', 7, { w = 0.5 }] } }";
        let rows = rows(&format!("samples = 4000\n{keys}"));
        let floats = |at: usize| rows.iter().map(move |row| row[at].1.as_float().unwrap());
        let share = |n: usize| n as f64 / 4000.0;
        let near = |share: f64, expected: f64| (share - expected).abs() < 0.05;
        assert!(floats(0).all(|lr| (1e-4..=1e-2).contains(&lr)));
        assert!(near(share(floats(0).filter(|lr| *lr < 1e-3).count()), 0.5));
        assert!(floats(1).all(|x| (-1.0..=3.0).contains(&x)));
        assert!(near(share(floats(1).filter(|x| *x < 0.0).count()), 0.25));
        for n in -2..=2 {
            let count = rows.iter().filter(|row| row[2].1 == Value::Integer(n)).count();
            assert!(near(share(count), 0.2), "{n}: {count}");
        }
        assert!(near(share(rows.iter().filter(|row| row[3].1 == "a".into()).count()), 1.0 / 3.0));
        for lr in floats(0) {
            assert_eq!(format!("{lr:.3e}").parse::<f64>().unwrap(), lr, "four digits");
        }
        // The draws are part of the ids of runs: they stay as they are.
        assert_eq!(rows[0][0].1, Value::Float(FIRST));
    }

    /// The first draw of `lr` with seed 0: 1e-4·100^u, u from the first 53 bits of
    /// sha256("0 training.lr 0").
    const FIRST: f64 = 9.082e-03;

    #[test]
    fn all_combinations_are_found_and_no_more() {
        let keys = "keys = { n = { integer = [1, 4] }, c = { choice = [1, 2, 3] } }";
        let all = rows(&format!("samples = 12\n{keys}"));
        let distinct: HashSet<_> = all.iter().map(|row| format!("{row:?}")).collect();
        assert_eq!(distinct.len(), 12);
        let error = search(&format!("samples = 13\n{keys}")).factor().err().unwrap().to_string();
        assert!(error.starts_with("`search.samples`: expected at most 12,"), "{error}");
        let narrow = "samples = 9\nkeys = { x = { uniform = [1.0, 1.004] } }";
        let error = search(narrow).factor().err().unwrap().to_string();
        assert!(error.contains("expected at most 5, since further draws"), "{error}");
    }

    #[test]
    fn what_cannot_be_drawn_is_named() {
        for (keys, words) in [
            ("lr = 1.0", "`search.keys.lr`: expected `{ uniform"),
            ("lr = { normal = [0, 1] }", "`search.keys.lr`: expected `{ uniform"),
            ("lr = { uniform = [1.0] }", "`search.keys.lr`: expected `{ uniform"),
            ("lr = { uniform = [1.0, 2.0, 3.0] }", "`search.keys.lr`: expected `{ uniform"),
            ("lr = { uniform = [2.0, 1.0] }", "two numbers, the smaller one first"),
            ("lr = { uniform = [0.0, inf] }", "two numbers, the smaller one first"),
            ("lr = { uniform = [nan, 1.0] }", "two numbers, the smaller one first"),
            ("lr = { log_uniform = [0.0, 1.0] }", "two positive numbers, the smaller one first"),
            ("n = { integer = [3, 3] }", "two numbers, the smaller one first"),
            ("n = { integer = [0.5, 3] }", "`search.keys.n`: expected `{ uniform"),
            ("c = { choice = [] }", "a list of values that differ"),
            ("c = { choice = [1, 2, 1] }", "a list of values that differ"),
            ("", "`search.keys`: expected at least one key"),
        ] {
            let search = search(&format!("samples = 1\nkeys = {{ {keys} }}"));
            let error = search.factor().err().expect("refused").to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
        let none = search("samples = 0\nkeys.n.integer = [0, 3]").factor().err().unwrap();
        assert!(none.to_string().starts_with("`search.samples`: expected at least 1"));
    }

    proptest! {
        #[test]
        fn more_samples_and_more_keys_keep_the_draws(
            seed in any::<u64>(),
            n in 1_usize..30,
            more in 0_usize..30,
            low in 1e-8_f64..1.0,
            factor in 1.5_f64..1e6,
        ) {
            let keys = |other: &str| format!(
                "seed = {}\nkeys = {{ lr = {{ log_uniform = [{low:e}, {:e}] }}{other} }}",
                seed >> 1,
                low * factor,
            );
            let few = rows(&format!("samples = {n}\n{}", keys("")));
            let many = rows(&format!("samples = {}\n{}", n + more, keys("")));
            prop_assert_eq!(&few[..], &many[..n]);
            // Another key makes samples differ that were repetitions, and changes no draw.
            let other = rows(&format!("samples = {n}\n{}", keys(", n = { integer = [0, 9] }")));
            let draws = |rows: &[Settings]| -> Vec<String> {
                rows.iter().map(|row| format!("{:?}", row[0])).collect()
            };
            let mut first_times = draws(&other);
            let mut seen = HashSet::new();
            first_times.retain(|draw| seen.insert(draw.clone()));
            prop_assert_eq!(&first_times[..], &draws(&few)[..first_times.len()]);
            for row in &many {
                let value = row[0].1.as_float().unwrap();
                prop_assert!((low..=low * factor).contains(&value));
            }
        }

        #[test]
        fn integers_reach_both_ends(bits in any::<u64>(), low in any::<i64>(), high in any::<i64>()) {
            prop_assume!(low < high);
            let draw = Draw::Integer(low, high);
            let value = |bits| draw.value(bits).as_integer().unwrap();
            prop_assert!((low..=high).contains(&value(bits)));
            prop_assert_eq!(value(0), low);
            prop_assert!(high as i128 - value(u64::MAX) as i128 <= i128::from(low.abs_diff(high)) >> 60);
        }
    }
}
