//! How Python writes values and dates.

use minijinja::value::{Value, ValueKind};

/// A value as `json.dumps` writes it with `ensure_ascii=False`.
pub(super) fn dumps(value: &Value, indent: Option<usize>) -> Result<String, String> {
    let mut text = String::new();
    write(value, indent, 0, &mut text)?;
    Ok(text)
}

fn write(
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    text: &mut String,
) -> Result<(), String> {
    let line = |text: &mut String, depth: usize| {
        if let Some(indent) = indent {
            text.push('\n');
            text.push_str(&" ".repeat(indent * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => text.push_str(&number(value)?),
        ValueKind::String => {
            text.push_str(&serde_json::Value::from(value.as_str().unwrap_or_default()).to_string());
        }
        ValueKind::Seq | ValueKind::Iterable => {
            text.push('[');
            let mut is_empty = true;
            for item in value.try_iter().map_err(|error| error.to_string())? {
                if !is_empty {
                    text.push_str(comma);
                }
                is_empty = false;
                line(text, depth + 1);
                write(&item, indent, depth + 1, text)?;
            }
            if !is_empty {
                line(text, depth);
            }
            text.push(']');
        }
        ValueKind::Map => {
            text.push('{');
            let mut is_empty = true;
            for key in value.try_iter().map_err(|error| error.to_string())? {
                if !is_empty {
                    text.push_str(comma);
                }
                is_empty = false;
                line(text, depth + 1);
                let name = key.as_str().ok_or("a key that is no text")?;
                text.push_str(&serde_json::Value::from(name).to_string());
                text.push_str(": ");
                let item = value.get_item(&key).map_err(|error| error.to_string())?;
                write(&item, indent, depth + 1, text)?;
            }
            if !is_empty {
                line(text, depth);
            }
            text.push('}');
        }
        other => return Err(format!("a {other}, which JSON does not have")),
    }
    Ok(())
}

/// A number as Python writes it.
pub(super) fn number(value: &Value) -> Result<String, String> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    let number = f64::try_from(value.clone()).map_err(|error| error.to_string())?;
    if !number.is_finite() {
        return Err(format!("the number {number}"));
    }
    // Both write the shortest digits, and an exponent from 1e16 on and below 1e-4.
    let text = format!("{number:?}");
    Ok(match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    })
}

/// A day that templates are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Day {
    year: u16,
    month: u8,
    day: u8,
}

const MONTHS: [(&str, u8); 12] = [
    ("January", 31),
    ("February", 28),
    ("March", 31),
    ("April", 30),
    ("May", 31),
    ("June", 30),
    ("July", 31),
    ("August", 31),
    ("September", 30),
    ("October", 31),
    ("November", 30),
    ("December", 31),
];

const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Day {
    /// Reads `YYYY-MM-DD`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("the date `{text}` instead of one like 2025-01-31");
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return Err(wrong()) };
        let is_number = |text: &str, n| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
        if !(is_number(year, 4) && is_number(month, 2) && is_number(day, 2)) {
            return Err(wrong());
        }
        let year: u16 = year.parse().map_err(|_| wrong())?;
        let month: u8 = month.parse().map_err(|_| wrong())?;
        let day: u8 = day.parse().map_err(|_| wrong())?;
        let this = Self { year, month, day };
        let is_there =
            (1..=12).contains(&month) && year > 0 && (1..=this.days_of(month)).contains(&day);
        if is_there { Ok(this) } else { Err(wrong()) }
    }

    fn is_leap(self) -> bool {
        self.year.is_multiple_of(4) && !self.year.is_multiple_of(100)
            || self.year.is_multiple_of(400)
    }

    fn days_of(self, month: u8) -> u8 {
        MONTHS[usize::from(month - 1)].1 + u8::from(month == 2 && self.is_leap())
    }

    /// The day's number in its year, from 1.
    fn day_of_year(self) -> u32 {
        (1..self.month).map(|month| u32::from(self.days_of(month))).sum::<u32>()
            + u32::from(self.day)
    }

    /// The day of the week, 0 for Monday.
    fn weekday(self) -> usize {
        let before = u32::from(self.year) - 1;
        let days = 365 * before + before / 4 - before / 100 + before / 400 + self.day_of_year();
        ((days + 6) % 7) as usize
    }

    /// The day as `strftime` writes it, at midnight.
    pub(super) fn format(self, format: &str) -> Result<String, String> {
        let month = MONTHS[usize::from(self.month - 1)].0;
        let weekday = WEEKDAYS[self.weekday()];
        let (mut text, mut chars) = (String::new(), format.chars());
        while let Some(char) = chars.next() {
            if char != '%' {
                text.push(char);
                continue;
            }
            let (code, is_bare) = match chars.next() {
                Some('-') => (chars.next(), true),
                code => (code, false),
            };
            let number = |n: u32, width: usize| match is_bare {
                true => n.to_string(),
                false => format!("{n:0width$}"),
            };
            text.push_str(&match code {
                Some('Y') => format!("{:04}", self.year),
                Some('y') => number(u32::from(self.year % 100), 2),
                Some('m') => number(self.month.into(), 2),
                Some('d') => number(self.day.into(), 2),
                Some('j') => number(self.day_of_year(), 3),
                Some('H' | 'M' | 'S') => number(0, 2),
                Some('B') if !is_bare => month.to_owned(),
                Some('b') if !is_bare => month[..3].to_owned(),
                Some('A') if !is_bare => weekday.to_owned(),
                Some('a') if !is_bare => weekday[..3].to_owned(),
                Some('%') if !is_bare => "%".to_owned(),
                _ => return Err(format!("the date as `{format}`")),
            });
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_as_by_python() {
        // datetime.date(…).strftime("%A %d %B %Y, %a %b %-d %j %y")
        for (day, text) in [
            ("2024-02-29", "Thursday 29 February 2024, Thu Feb 29 060 24"),
            ("2025-12-01", "Monday 01 December 2025, Mon Dec 1 335 25"),
            ("1999-12-31", "Friday 31 December 1999, Fri Dec 31 365 99"),
            ("2000-01-01", "Saturday 01 January 2000, Sat Jan 1 001 00"),
        ] {
            let format = "%A %d %B %Y, %a %b %-d %j %y";
            assert_eq!(Day::parse(day).unwrap().format(format).unwrap(), text);
        }
        for wrong in
            ["2025-02-29", "2025-13-01", "2025-1-1", "yesterday", "2025-00-10", "+025-01-01"]
        {
            assert!(Day::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Day::parse("2025-01-01").unwrap().format("%c").is_err());
    }

    #[test]
    fn numbers_and_values_are_written_as_by_python() {
        for (value, text) in [
            (Value::from(3), "3"),
            (Value::from(1.0), "1.0"),
            (Value::from(0.1), "0.1"),
            (Value::from(1e16), "1e+16"),
            (Value::from(1.5e-5), "1.5e-05"),
            (Value::from(1e-4), "0.0001"),
            (Value::from(123_456_789.125), "123456789.125"),
        ] {
            assert_eq!(number(&value).unwrap(), text);
        }
        let json = r#"{"b":[1,{"é":null}],"a":"<x>\n","e":[],"o":{}}"#;
        let value: crate::corpus::json::Json = serde_json::from_str(json).unwrap();
        let value = Value::from(&value);
        let plain = r#"{"b": [1, {"é": null}], "a": "<x>\n", "e": [], "o": {}}"#;
        assert_eq!(dumps(&value, None).unwrap(), plain);
        let indented = "{\n  \"b\": [\n    1,\n    {\n      \"é\": null\n    }\n  ],\n  \
                        \"a\": \"<x>\\n\",\n  \"e\": [],\n  \"o\": {}\n}";
        assert_eq!(dumps(&value, Some(2)).unwrap(), indented);
    }
}
