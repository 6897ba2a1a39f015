//! Tables of things and their attributes.

use crate::{Error, Result};

/// Things, their attributes, and a prompt for each attribute that a host goes on with by saying it.
///
/// A table is text: lines of fields with tabs between them. Lines that begin with `#` say nothing. The
/// first other line names the attributes after an empty field, the next has their prompts after `?`, in
/// which `{}` is the thing; then a line for each thing.
///
/// ```
/// use sae_eval::AttributeTable;
///
/// let table = AttributeTable::parse(
///     "\tcolour\tsize\n?\tThe colour of {} is\tThe size of {} is\nsnow\twhite\tsmall\n",
/// )?;
/// assert_eq!(table.attributes(), ["colour", "size"]);
/// # Ok::<(), sae_eval::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeTable {
    attributes: Vec<String>,
    /// What stands before and after the thing, of each attribute.
    prompts: Vec<(String, String)>,
    /// A thing and its values.
    things: Vec<(String, Vec<String>)>,
}

impl AttributeTable {
    /// Cities with their country, continent and language.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    pub fn cities() -> Self {
        Self::parse(include_str!("../../../data/cities.tsv")).expect("a table that a test reads")
    }

    /// Countries with their capital, continent and language.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    pub fn countries() -> Self {
        Self::parse(include_str!("../../../data/countries.tsv")).expect("a table that a test reads")
    }

    /// Reads a table.
    ///
    /// # Errors
    /// [`Error::Setting`] with the line that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = (1..).zip(text.lines());
        let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let mut next =
            |expected: &str| lines.next().ok_or_else(|| wrong("end", expected, "nothing more"));
        let (number, names) = next("a line that names the attributes")?;
        let attributes = fields(number, names, "", None)?;
        if attributes.len() < 2 {
            return Err(wrong(number, "at least 2 attributes", names));
        }
        let n = attributes.len();
        let (number, prompts) = next("a line of prompts")?;
        let prompts = fields(number, prompts, "?", Some(n))?
            .iter()
            .map(|prompt| match prompt.split_once("{}") {
                Some((before, after)) if !after.is_empty() && !after.contains("{}") => {
                    Ok((before.to_owned(), after.to_owned()))
                }
                _ => Err(wrong(number, "prompts with one {} that do not end with it", prompt)),
            })
            .collect::<Result<_>>()?;
        let mut things: Vec<(String, Vec<String>)> = Vec::new();
        for (number, line) in lines {
            let (thing, _) = line.split_once('\t').unwrap_or((line, ""));
            if thing.is_empty() || things.iter().any(|(other, _)| other == thing) {
                return Err(wrong(number, "another thing than the lines before", line));
            }
            things.push((thing.to_owned(), fields(number, line, thing, Some(n))?));
        }
        Ok(Self { attributes, prompts, things })
    }

    /// The names of the attributes.
    #[must_use]
    pub fn attributes(&self) -> &[String] {
        &self.attributes
    }

    /// Things with their values, in the order of the attributes.
    #[must_use]
    pub fn things(&self) -> &[(String, Vec<String>)] {
        &self.things
    }

    /// What stands before and after a thing in the prompt of each attribute.
    pub(super) fn prompts(&self) -> &[(String, String)] {
        &self.prompts
    }
}

/// The fields of a line after its first, which is given; none of them empty.
fn fields(number: usize, line: &str, first: &str, n: Option<usize>) -> Result<Vec<String>> {
    let mut fields = line.split('\t').map(str::to_owned);
    let is_first = fields.next().is_some_and(|field| field == first);
    let fields: Vec<String> = fields.collect();
    let fits = n.is_none_or(|n| fields.len() == n) && fields.iter().all(|field| !field.is_empty());
    if is_first && fits {
        return Ok(fields);
    }
    let n = n.map_or("fields".to_owned(), |n| format!("{n} fields"));
    Err(wrong(number, &format!("`{first}` and {n} with a tab before each"), line))
}

fn wrong(line: impl std::fmt::Display, expected: &str, got: &str) -> Error {
    let expected = format!("{expected} in line {line}");
    Error::Setting { name: "table of attributes", expected, got: format!("{got:?}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_cities_are_a_table_with_groups_of_every_attribute() {
        let table = AttributeTable::cities();
        assert_eq!(table.attributes(), ["country", "continent", "language"]);
        assert!(table.things().len() > 60);
        for attribute in 0..3 {
            let mut values: Vec<&str> =
                table.things().iter().map(|(_, values)| values[attribute].as_str()).collect();
            values.sort_unstable();
            values.dedup();
            assert!(values.len() >= 6 && values.len() < table.things().len() - 20, "{values:?}");
        }
    }

    /// The values of an attribute by thing.
    fn values(table: &AttributeTable, attribute: usize) -> BTreeMap<&str, &str> {
        table
            .things()
            .iter()
            .map(|(thing, own)| (thing.as_str(), own[attribute].as_str()))
            .collect()
    }

    #[test]
    fn the_two_tables_agree_on_what_both_know() {
        let (cities, countries) = (AttributeTable::cities(), AttributeTable::countries());
        assert_eq!(countries.attributes(), ["capital", "continent", "language"]);
        assert!(countries.things().len() > 50);
        let country_of = values(&cities, 0);
        let capital_of = values(&countries, 0);
        let (mut n_countries, mut n_capitals) = (0, 0);
        for attribute in [1, 2] {
            let (of_city, of_country) = (values(&cities, attribute), values(&countries, attribute));
            for (city, country) in &country_of {
                if let Some(value) = of_country.get(country) {
                    assert_eq!(of_city[city], *value, "{city} in {country}");
                    n_countries += 1;
                }
            }
            let mut groups: Vec<&str> = of_country.values().copied().collect();
            groups.sort_unstable();
            groups.dedup();
            assert!(groups.len() >= 5 && groups.len() < of_country.len() - 15, "{groups:?}");
        }
        for (country, capital) in &capital_of {
            if let Some(of) = country_of.get(capital) {
                assert_eq!(of, country, "{capital}");
                n_capitals += 1;
            }
        }
        // A capital is of one country.
        let mut capitals: Vec<&&str> = capital_of.values().collect();
        capitals.sort_unstable();
        capitals.dedup();
        assert_eq!(capitals.len(), capital_of.len());
        assert!(n_countries > 60 && n_capitals > 25, "{n_countries} {n_capitals}");
    }

    #[test]
    fn lines_that_are_wrong_are_named() {
        let good = "\ta\tb\n?\tx {} y\t{} z\n# no thing\nt\t1\t2\n";
        let table = AttributeTable::parse(good).unwrap();
        assert_eq!(table.things(), [("t".to_owned(), vec!["1".to_owned(), "2".to_owned()])]);
        assert_eq!(table.prompts()[1], (String::new(), " z".to_owned()));
        for (text, line) in [
            ("", "end"),
            ("\ta\n", "1"),
            ("a\tb\n", "1"),
            ("\ta\tb\n", "end"),
            ("\ta\tb\n?\tx {} y\n", "2"),
            ("\ta\tb\n?\tx {}\t{} z\n", "2"),
            ("\ta\tb\n?\tx y\t{} z\n", "2"),
            ("\ta\tb\n?\t{} {} z\t{} z\n", "2"),
            ("\ta\tb\n?\tx {} y\t{} z\nt\t1\n", "3"),
            ("\ta\tb\n?\tx {} y\t{} z\nt\t1\t\n", "3"),
            ("\ta\tb\n?\tx {} y\t{} z\nt\t1\t2\nt\t1\t2\n", "4"),
        ] {
            let error = AttributeTable::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("in line {line}, got")), "{text:?}: {error}");
        }
    }
}
