//! Values of the command line with units: times and amounts of memory.

use std::time::Duration;

/// A time such as `90s`, `15m`, `2h` or `1d`.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let seconds = parse(text, &units).ok_or("expected a time such as 90s, 15m, 2h or 1d")?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// An amount of memory such as `500MB`, `16GB` or `16GiB`.
pub(super) fn parse_memory(text: &str) -> Result<u64, String> {
    let units =
        [("MB", 1e6), ("GB", 1e9), ("MiB", f64::from(1 << 20)), ("GiB", f64::from(1 << 30))];
    let bytes = parse(text, &units).filter(|bytes| *bytes < 1e18);
    bytes.map(|bytes| bytes as u64).ok_or("expected an amount such as 500MB, 16GB or 16GiB".into())
}

/// A positive number and its unit.
fn parse(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let start = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(start);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let value = number.trim().parse::<f64>().ok()? * factor;
    (value > 0.0 && value.is_finite()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        for (text, seconds) in [("90s", 90.0), ("1.5m", 90.0), ("2h", 7200.0), ("1d", 86400.0)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for (text, bytes) in
            [("500MB", 500_000_000), ("0.5GB", 500_000_000), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(parse_memory(text), Ok(bytes), "{text}");
        }
        for text in ["", "5", "s", "0s", "-1s", "5 minutes", "infs", "NaNs", "1e400d", "5M"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        for text in ["5", "MB", "0GB", "-1GB", "5G", "5gb", "1e30GB", "5s"] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }
}
