//! What a killed process has written of a page: gone on with under the same key.

use std::fs;
use std::path::Path;

use sae_config::{FeatureRecord, HeldOut};

use super::record::Compact;
use super::saved::read;
use super::{DATA, EARLIER, FEATURES_PER_FILE, PAGE, PARTIAL, SCRATCH, held_out, io};
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

/// Brings a folder in order in which new data have taken the place of earlier ones: with a page, what
/// was needed for that is removed; without one the process was killed, and both go back.
pub(super) fn settle(folder: &Path) -> Result<()> {
    let [page, data, partial, earlier] =
        [PAGE, DATA, PARTIAL, EARLIER].map(|name| folder.join(name));
    let key = data.join(KEY);
    if page.exists() && key.exists() {
        for place in [&data.join(SCRATCH), &earlier] {
            if place.exists() {
                fs::remove_dir_all(place).map_err(io(place))?;
            }
        }
        // The last of all: it says that there may be more to remove.
        return fs::remove_file(&key).map_err(io(&key));
    }
    if key.exists() {
        fs::rename(&data, &partial).map_err(io(&data))?;
    }
    if !page.exists() && earlier.exists() && !data.exists() {
        fs::rename(&earlier, &data).map_err(io(&earlier))?;
    }
    Ok(())
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
