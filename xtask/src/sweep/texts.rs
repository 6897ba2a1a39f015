//! Texts to judge by must not be texts that are trained on.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;
use sae_config::TextsConfig;

use super::content::Contents;
use crate::exit::usage;

/// Bytes from which on a line tells where it comes from: shorter ones occur in any text.
const LONG: usize = 64;

/// Refuses held-out texts that are trained on: under another name, or in half of their long lines.
pub(super) fn check(texts: &TextsConfig, contents: &Contents) -> Result<()> {
    for held_out in &texts.held_out {
        let hash = contents.file("texts.held_out", held_out)?;
        for train in &texts.train {
            if contents.file("texts.train", train)? == hash {
                return Err(refusal(held_out, &format!("the content of {}", train.display())));
            }
        }
    }
    let held_out = texts.held_out.iter().map(|path| read("texts.held_out", path));
    let held_out = held_out.collect::<Result<Vec<_>>>()?;
    // Lines are taken out as they are found.
    let mut missing: Vec<HashSet<&str>> =
        held_out.iter().map(|text| long_lines(text).collect()).collect();
    let all: Vec<usize> = missing.iter().map(HashSet::len).collect();
    for path in &texts.train {
        let text = read("texts.train", path)?;
        for lines in &mut missing {
            for line in long_lines(&text) {
                lines.remove(line);
            }
        }
    }
    for ((path, missing), n) in texts.held_out.iter().zip(&missing).zip(all) {
        let found = n - missing.len();
        if found > 0 && 2 * found >= n {
            let got = format!("{found} of its {n} long lines in the training texts");
            return Err(refusal(path, &got));
        }
    }
    Ok(())
}

fn read(key: &str, path: &Path) -> Result<String> {
    let wrong = |e: String| usage(format!("{key}: {}: {e}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    if bytes.is_empty() {
        return Err(wrong("expected a text, got an empty file".into()));
    }
    String::from_utf8(bytes).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        wrong(format!("expected UTF-8, got other bytes at offset {offset}"))
    })
}

fn long_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| line.len() >= LONG)
}

fn refusal(path: &Path, got: &str) -> anyhow::Error {
    let path = path.display();
    usage(format!("texts.held_out: {path}: expected a text that is not trained on, got {got}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn texts_that_are_trained_on_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let line = |i: usize| format!("Line {i} of a book: {}\n", "a long story, ".repeat(5));
        let lines = |range: std::ops::Range<usize>| range.map(line).collect::<String>();
        let refusal = |train: &str, held_out: &str| {
            let paths = [("train.txt", train), ("held-out.txt", held_out)].map(|(name, text)| {
                let path = folder.path().join(name);
                std::fs::write(&path, text).unwrap();
                path
            });
            let [train, held_out] = paths.map(|path| vec![path]);
            let texts = TextsConfig { train, held_out };
            let checked = check(&texts, &Contents::new(&Workspace::at(folder.path())));
            checked.err().map(|e| e.to_string())
        };
        assert!(line(1).trim().len() >= LONG);
        assert_eq!(refusal(&lines(0..50), &lines(50..60)), None);
        assert_eq!(refusal("short\nlines", "short\nlines too"), None);
        let same = refusal(&lines(0..50), &lines(0..50)).unwrap();
        assert!(
            same.starts_with("texts.held_out: ") && same.contains("held-out.txt: expected a text")
        );
        assert!(same.contains("got the content of ") && same.ends_with("train.txt"), "{same}");
        let slice = refusal(&lines(0..50), &lines(45..55)).unwrap();
        assert!(slice.ends_with("got 5 of its 10 long lines in the training texts"), "{slice}");
        assert_eq!(refusal(&lines(0..50), &lines(46..56)), None, "a few lines may be quoted");
        let empty = refusal("x", "").unwrap();
        assert!(empty.ends_with("held-out.txt: expected a text, got an empty file"), "{empty}");
    }
}
