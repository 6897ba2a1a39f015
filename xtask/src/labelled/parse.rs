//! From unpacked packages to labelled texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Labelled, unpack};

/// Characters of a text that are kept at most: the host reads its first tokens alone.
const MAX_CHARACTERS: usize = 2000;

/// E-mails without their headers: `ham` and `spam`.
pub(super) fn mails(package: &Path) -> Result<Vec<Labelled>> {
    let data = package.join("package/data");
    let mut texts = Vec::new();
    for file in files(&data, "json")? {
        let mail: Value = sae_config::read_json(&file)?;
        // The list of files has none of these.
        let (Some(group), Some(text)) = (mail["group"].as_str(), mail["text"].as_str()) else {
            continue;
        };
        let label = if group.starts_with("spam") { "spam" } else { "ham" };
        let text = text.replace("\r\n", "\n");
        if let Some((_, body)) = text.split_once("\n\n") {
            add(&mut texts, body, label);
        }
    }
    some(texts, &data)
}

/// Sentences of film reviews: `negative` and `positive`.
pub(super) fn films(package: &Path) -> Result<Vec<Labelled>> {
    rated(package, "movieReviewSnippets_GroundTruth.txt")
}

/// Sentences of reviews of products.
pub(super) fn products(package: &Path) -> Result<Vec<Labelled>> {
    rated(package, "amazonReviewSnippets_GroundTruth.txt")
}

/// Sentences of editorials.
pub(super) fn editorials(package: &Path) -> Result<Vec<Labelled>> {
    rated(package, "nytEditorialSnippets_GroundTruth.txt")
}

/// Tweets.
pub(super) fn tweets(package: &Path) -> Result<Vec<Labelled>> {
    rated(package, "tweets_GroundTruth.txt")
}

/// Lines of a number, a mean rating and a text: those rated below 0 and those above.
fn rated(package: &Path, name: &str) -> Result<Vec<Labelled>> {
    let inner = find(package, "hutto_ICWSM_2014.tar.gz")?;
    let folder = inner.with_extension("").with_extension("");
    if find(package, name).is_err() {
        std::fs::create_dir_all(&folder)?;
        unpack(&inner, &folder)?;
    }
    let file = find(package, name)?;
    let mut texts = Vec::new();
    for (number, line) in (1..).zip(read(&file)?.lines()) {
        let wrong = || format!("{}:{number}: expected number, rating and text", file.display());
        let mut parts = line.splitn(3, '\t');
        let (Some(_), Some(rating), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            bail!(wrong());
        };
        let rating: f64 = rating.trim().parse().with_context(wrong)?;
        if rating != 0.0 {
            add(&mut texts, text, if rating > 0.0 { "positive" } else { "negative" });
        }
    }
    some(texts, &file)
}

/// Articles by the folder of their topic.
pub(super) fn topics(package: &Path) -> Result<Vec<Labelled>> {
    let mut texts = Vec::new();
    for file in files(package, "txt")? {
        let Some(folder) = file.parent().and_then(Path::file_name).and_then(|name| name.to_str())
        else {
            continue;
        };
        if TOPICS.contains(&folder) {
            add(&mut texts, &read(&file)?, folder);
        }
    }
    some(texts, package)
}

const TOPICS: [&str; 5] = ["business", "entertainment", "politics", "sports", "tech"];

/// Numbers and names of the kinds of nouns that are taken (`lexnames` of WordNet).
const KINDS: [(&str, &str); 6] = [
    ("05", "animal"),
    ("08", "body"),
    ("13", "food"),
    ("15", "location"),
    ("18", "person"),
    ("20", "plant"),
];

/// Definitions of nouns, without their examples, by the kind of what they define.
pub(super) fn definitions(package: &Path) -> Result<Vec<Labelled>> {
    let file = find(package, "data.noun")?;
    let kinds = BTreeMap::from(KINDS);
    let mut texts = Vec::new();
    // Lines that begin with a space are the licence.
    for line in read(&file)?.lines().filter(|line| !line.starts_with(' ')) {
        let kind = line.split(' ').nth(1).and_then(|number| kinds.get(number));
        let (Some(kind), Some((_, gloss))) = (kind, line.split_once(" | ")) else { continue };
        let definition = gloss.split("; \"").next().unwrap_or(gloss);
        add(&mut texts, definition.trim().trim_end_matches(';'), kind);
    }
    some(texts, &file)
}

/// Adds a text that is not empty, its first characters.
fn add(texts: &mut Vec<Labelled>, text: &str, label: &str) {
    let text: String = text.trim().chars().take(MAX_CHARACTERS).collect();
    if !text.is_empty() {
        texts.push((text, label.to_owned()));
    }
}

/// Refuses no texts: the package is another than the one this was written for.
fn some(texts: Vec<Labelled>, place: &Path) -> Result<Vec<Labelled>> {
    if texts.is_empty() {
        bail!("{}: expected labelled texts, found none", place.display());
    }
    Ok(texts)
}

/// A text, other bytes than UTF-8 as Latin-1.
fn read(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|e| e.as_bytes().iter().map(|byte| char::from(*byte)).collect()))
}

/// The first file of this name below a folder.
fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let all = files(folder, "")?;
    let found = all.into_iter().find(|file| file.file_name().is_some_and(|own| own == name));
    found.with_context(|| format!("{}: expected a file {name}, found none", folder.display()))
}

/// The files below a folder whose names end so, in order.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                left.push(entry.path());
            } else if kind.is_file() && entry.path().to_string_lossy().ends_with(ending) {
                found.push(entry.path());
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }

    fn owned(texts: &[(&str, &str)]) -> Vec<Labelled> {
        texts.iter().map(|(text, label)| ((*text).to_owned(), (*label).to_owned())).collect()
    }

    #[test]
    fn mails_lose_their_headers() {
        let mail = |group: &str, text: &str| {
            serde_json::json!({ "id": "1", "checksum": "x", "group": group, "text": text })
                .to_string()
        };
        let (ham, spam) = (
            mail("easy-ham-1", "From: a\nTo: b\n\nHello\n\nyou"),
            mail("spam-2", "From: a\r\n\r\nBuy"),
        );
        let of = package(&[
            ("package/data/easy-ham-1/1.json", ham.as_bytes()),
            ("package/data/spam-2/2.json", spam.as_bytes()),
            ("package/data/file_list.json", b"[]"),
        ]);
        assert_eq!(mails(of.path()).unwrap(), owned(&[("Hello\n\nyou", "ham"), ("Buy", "spam")]));
        let none = package(&[("package/data/file_list.json", b"[]")]);
        assert!(mails(none.path()).unwrap_err().to_string().contains("expected labelled texts"));
    }

    #[test]
    fn ratings_are_signs() {
        let lines = b"1\t-2.5\tbad\tindeed\n2\t0.0\tso\n3\t0.5\tcaf\xe9\n";
        let of = package(&[
            ("p/hutto_ICWSM_2014.tar.gz", b""),
            ("p/hutto/tweets_GroundTruth.txt", lines),
        ]);
        assert_eq!(
            tweets(of.path()).unwrap(),
            owned(&[("bad\tindeed", "negative"), ("caf\u{e9}", "positive")])
        );
        let of = package(&[
            ("p/hutto_ICWSM_2014.tar.gz", b""),
            ("p/hutto/tweets_GroundTruth.txt", b"1\tx\ty\n"),
        ]);
        let error = format!("{:#}", tweets(of.path()).unwrap_err());
        assert!(
            error.contains("tweets_GroundTruth.txt:1: expected number, rating and text"),
            "{error}"
        );
    }

    #[test]
    fn topics_are_folders_and_definitions_have_no_examples() {
        let of = package(&[
            ("c/bbc/sports/1.txt", b"A game\n"),
            ("c/bbc/tech/2.txt", b"A chip"),
            ("c/README.txt", b"no article"),
        ]);
        assert_eq!(topics(of.path()).unwrap(), owned(&[("A game", "sports"), ("A chip", "tech")]));
        let noun = "  1 licence | of it\n\
            00001 05 n 01 cat 0 000 | feline mammal; \"a cat sat\"\n\
            00002 03 n 01 entity 0 000 | that which is\n\
            00003 20 n 01 oak 0 000 | a tree  \n";
        let of = package(&[("package/dict/data.noun", noun.as_bytes())]);
        let expected = owned(&[("feline mammal", "animal"), ("a tree", "plant")]);
        assert_eq!(definitions(of.path()).unwrap(), expected);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut texts = Vec::new();
        add(&mut texts, &"é".repeat(MAX_CHARACTERS + 9), "x");
        add(&mut texts, " \n", "x");
        assert_eq!(texts.len(), 1);
        assert_eq!(texts[0].0.chars().count(), MAX_CHARACTERS);
    }
}
