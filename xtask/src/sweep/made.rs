//! What sweeps make in `target/stores`, written down beside it: a store that is another one by now
//! is made again.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sae_config::{read_json, write_json};
use sae_data::{PlantedTruth, file_hash, open_store};
use serde::{Deserialize, Serialize};

use crate::exit::note;

/// What stands for a store: the hash of its rows, and that of the file with their truth.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    rows: String,
    truth: Option<String>,
}

impl Made {
    /// Reads what is in a folder; `hashes` is where hashes of files are kept.
    fn of(store: &Path, hashes: &Path) -> Result<Self> {
        let rows = open_store(store)?.content_hash()?;
        let truth = PlantedTruth::file(store).map(|file| file_hash(&file, hashes)).transpose()?;
        Ok(Self { rows, truth })
    }
}

/// Writes down what was made in the folder `made`, to be moved to `place`.
pub(super) fn write_down(made: &Path, place: &Path, hashes: &Path) -> Result<()> {
    Ok(write_json(&record(place), &Made::of(made, hashes)?)?)
}

/// Whether the store that was made in a place is there, and is still that one. One that cannot be
/// read counts as that: it is refused when it is checked.
pub(super) fn is_there(place: &Path, hashes: &Path) -> bool {
    let Ok(made) = read_json::<Made>(&record(place)) else { return false };
    place.exists() && Made::of(place, hashes).map_or(true, |now| now == made)
}

/// Moves what is in the place of a store, and not known to be that store, out of the way.
pub(super) fn set_aside(place: &Path) -> Result<()> {
    if !place.exists() {
        return Ok(());
    }
    let aside = |n: u32| place.with_extension(format!("aside-{n}"));
    let n = (1..u32::MAX).find(|n| !aside(*n).exists()).context("a free name")?;
    std::fs::rename(place, aside(n)).with_context(|| place.display().to_string())?;
    let (place, aside) = (place.display(), aside(n));
    note(&format!(
        "{place}: not known to be what a sweep made there, and made again; what was there is now {}",
        aside.display()
    ));
    Ok(())
}

/// The file beside a store that says what was made.
fn record(place: &Path) -> PathBuf {
    place.with_extension("made.json")
}
