//! Labelled texts: JSON lines with a text and a label each.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use sae_hosts::Text;
use serde::Deserialize;

use crate::failure::Failure;
use crate::output::note;

/// A line of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
    label: String,
}

/// Reads the texts of a file and their labels, in its order, and at most so many of each label.
///
/// `read_of` is what a host reads of a text. One that is the same as that of an earlier text is left out,
/// whatever its label: else it could be trained on and tested.
pub(super) fn read(
    path: &Path,
    most: usize,
    read_of: impl Fn(&str) -> Result<Vec<u8>, Failure>,
) -> Result<(Vec<Text>, Vec<String>), Failure> {
    let content = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(anyhow::anyhow!("--texts {}: {error}", path.display())))?;
    let (mut kept, mut seen, mut n) = (Vec::new(), HashSet::new(), 0);
    for (number, line) in (1..).zip(content.lines()) {
        let at = format!("{}:{number}", path.display());
        let wrong = |what: String| Failure::usage(anyhow::anyhow!("{at}: {what}"));
        let line: Line = serde_json::from_str(line).map_err(|error| {
            wrong(format!("expected {{\"text\": \"…\", \"label\": \"…\"}}: {error}"))
        })?;
        for (key, value) in [("text", &line.text), ("label", &line.label)] {
            if value.trim().is_empty() {
                return Err(wrong(format!("`{key}`: expected some characters, got {value:?}")));
            }
        }
        n += 1;
        let hash = blake3::hash(&read_of(&line.text)?).to_hex().to_string();
        if seen.insert(hash.clone()) {
            kept.push((Text { name: at, content: line.text }, line.label, hash));
        }
    }
    if kept.len() < n {
        let again = n - kept.len();
        note!(
            "{}: {again} of {n} texts come again, as far as they are read, and are left out",
            path.display()
        );
    }
    keep_most(&mut kept, most, |(_, label, hash)| (label.clone(), hash.clone()));
    Ok(kept.into_iter().map(|(text, label, _)| (text, label)).unzip())
}

/// Keeps of each label the `most` with the least hashes, in their order: a choice that does not depend
/// on the order.
pub(super) fn keep_most<T>(all: &mut Vec<T>, most: usize, of: impl Fn(&T) -> (String, String)) {
    let mut hashes: HashMap<String, Vec<String>> = HashMap::new();
    for one in all.iter() {
        let (label, hash) = of(one);
        hashes.entry(label).or_default().push(hash);
    }
    for hashes in hashes.values_mut() {
        hashes.sort_unstable();
        hashes.truncate(most);
    }
    all.retain(|one| {
        let (label, hash) = of(one);
        hashes.get(&label).is_some_and(|kept| kept.binary_search(&hash).is_ok())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_lines(lines: &[&str], most: usize) -> Result<Vec<(String, String)>, String> {
        let path = std::env::temp_dir().join(format!(
            "softsae-texts-{}-{}",
            std::process::id(),
            blake3::hash(lines.concat().as_bytes())
        ));
        std::fs::write(&path, lines.join("\n")).unwrap();
        // As far as eight characters.
        let read_of = |text: &str| Ok(text.chars().take(8).collect::<String>().into_bytes());
        let got = read(&path, most, read_of);
        std::fs::remove_file(&path).unwrap();
        let (texts, labels) = got.map_err(|failure| failure.to_string())?;
        Ok(texts.into_iter().map(|text| text.content).zip(labels).collect())
    }

    fn line(text: &str, label: &str) -> String {
        serde_json::json!({ "text": text, "label": label }).to_string()
    }

    #[test]
    fn texts_keep_their_order_and_come_once() {
        let long = ["12345678 one", "12345678 two"];
        let lines = [
            line("b\nb", "x"),
            line("a", "y"),
            line("b\nb", "y"),
            line(long[0], "x"),
            line("c", "x"),
            line(long[1], "y"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let got = read_lines(&lines, 9).unwrap();
        let expected = [("b\nb", "x"), ("a", "y"), (long[0], "x"), ("c", "x")];
        assert_eq!(got, expected.map(|(text, label)| (text.into(), label.into())));
    }

    #[test]
    fn what_is_kept_of_a_label_does_not_depend_on_the_order() {
        let mut lines: Vec<String> =
            (0..40).map(|i| line(&format!("text {i}"), ["x", "y"][i % 2])).collect();
        let read_all = |lines: &[String]| {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let mut got = read_lines(&lines, 5).unwrap();
            got.sort_unstable();
            got
        };
        let first = read_all(&lines);
        assert_eq!(first.iter().filter(|(_, label)| label == "x").count(), 5);
        assert_eq!(first.len(), 10);
        lines.reverse();
        assert_eq!(read_all(&lines), first);
    }

    #[test]
    fn lines_that_are_none_are_named() {
        let good = line("a", "x");
        for (bad, word) in [
            ("{\"text\": \"a\"}", "missing field `label`"),
            ("{\"text\": \"a\", \"label\": 1}", "invalid type: integer"),
            ("{\"text\": \"a\", \"label\": \"x\", \"more\": 1}", "unknown field `more`"),
            ("{\"text\": \" \", \"label\": \"x\"}", "`text`: expected some characters"),
            ("", "EOF"),
            ("not json", "expected ident"),
        ] {
            let error = read_lines(&[&good, bad, &good], 9).unwrap_err();
            assert!(error.contains(":2: ") && error.contains(word), "{error}");
        }
    }
}
