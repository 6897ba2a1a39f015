//! The endings of files by their format.

use sae_config::CorpusFormat;

/// The endings of a format's files.
const fn endings(format: CorpusFormat) -> &'static [&'static str] {
    match format {
        CorpusFormat::Text => &["txt"],
        CorpusFormat::Jsonl => {
            &["jsonl", "ndjson", "jsonl.gz", "ndjson.gz", "jsonl.zst", "ndjson.zst"]
        }
        CorpusFormat::Parquet => &["parquet"],
        CorpusFormat::Npy => &["npy"],
        CorpusFormat::Bin => &["bin"],
    }
}

/// The format of a file by its ending.
pub(super) fn format_of(name: &str) -> Option<CorpusFormat> {
    CorpusFormat::ALL.into_iter().find(|format| has_own_ending(*format, name))
}

fn has_own_ending(format: CorpusFormat, name: &str) -> bool {
    let name = name.to_lowercase();
    endings(format).iter().any(|ending| name.ends_with(&format!(".{ending}")))
}

/// Whether a file of a folder is of a format that the settings name: JSON lines may be called
/// `.json` there too.
pub(super) fn has_ending(format: CorpusFormat, name: &str) -> bool {
    let lower = name.to_lowercase();
    let is_json = [".json", ".json.gz", ".json.zst"].iter().any(|ending| lower.ends_with(ending));
    has_own_ending(format, name) || format == CorpusFormat::Jsonl && is_json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_endings() {
        for format in CorpusFormat::ALL {
            for ending in endings(format) {
                assert_eq!(format_of(&format!("a.{ending}")), Some(format));
                assert_eq!(format_of(&format!("A.{}", ending.to_uppercase())), Some(format));
            }
        }
        assert_eq!(format_of("a.json"), None);
        assert!(has_ending(CorpusFormat::Jsonl, "a.json.gz"));
        assert_eq!(format_of("README.md"), None);
    }
}
