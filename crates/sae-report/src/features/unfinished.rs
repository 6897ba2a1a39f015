//! What a killed process has written of a page: gone on with under the same key.

use std::fs;
use std::path::Path;

use sae_config::{FeatureRecord, HeldOut};

use super::record::Compact;
use super::saved::read;
use super::{FEATURES_PER_FILE, SCRATCH, held_out, io};
use crate::Result;

/// The file that has the key.
const KEY: &str = "key";

/// The folders of data.
const PARTS: [&str; 4] = ["features", "held-out", "words", SCRATCH];

/// Makes the folder ready to be written in; gives the features that are in whole files of it.
pub(super) fn open(partial: &Path, key: &str) -> Result<Vec<FeatureRecord>> {
    let path = partial.join(KEY);
    let is_same = fs::read_to_string(&path).is_ok_and(|found| found == key);
    if is_same {
        return Ok(features(partial));
    }
    if partial.exists() {
        fs::remove_dir_all(partial).map_err(io(partial))?;
    }
    for part in PARTS {
        let part = partial.join(part);
        fs::create_dir_all(&part).map_err(io(&part))?;
    }
    // The last of all, so that whatever lies beside it is of this key.
    sae_config::write_text(&path, key)?;
    Ok(Vec::new())
}

/// Removes what the data of a finished page do not have.
pub(super) fn close(partial: &Path) -> Result<()> {
    let (scratch, key) = (partial.join(SCRATCH), partial.join(KEY));
    fs::remove_dir_all(&scratch).map_err(io(&scratch))?;
    fs::remove_file(&key).map_err(io(&key))
}

/// The features up to the first file that is not there or not whole.
fn features(partial: &Path) -> Vec<FeatureRecord> {
    let mut found = Vec::new();
    for number in 0.. {
        let Some(records) = of_file(partial, number) else { break };
        found.extend(records);
    }
    found
}

fn of_file(partial: &Path, number: usize) -> Option<Vec<FeatureRecord>> {
    let name = |folder: &str| format!("{folder}/{number}");
    let path = |folder: &str| partial.join(format!("{}.js", name(folder)));
    let records: Vec<Compact> = read(&path("features"), &name("features")).ok()?;
    let held_out: Vec<held_out::Compact> = read(&path("held-out"), &name("held-out")).ok()?;
    if [records.len(), held_out.len()] != [FEATURES_PER_FILE; 2] {
        return None;
    }
    let first = (number * FEATURES_PER_FILE) as u32;
    let whole = |((feature, record), held_out): ((u32, Compact), held_out::Compact)| {
        let held_out: HeldOut = held_out.expand(usize::MAX)?;
        Some(FeatureRecord { held_out, ..record.expand(feature)? })
    };
    (first..).zip(records).zip(held_out).map(whole).collect()
}
