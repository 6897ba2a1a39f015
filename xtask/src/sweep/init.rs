//! `sweep --init`: a sweep file to begin with.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Result, bail};

use crate::exit::{note, usage};

const SWEEP: &str = include_str!("init.toml");

/// Writes a sweep file with comments; one that is there is left alone.
pub(super) fn write(file: &Path) -> Result<()> {
    match File::create_new(file) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            bail!(usage(format!(
                "--init: expected a new file, got {}, which is there",
                file.display()
            )));
        }
        Err(e) => bail!(usage(format!("--init: {}: {e}", file.display()))),
    }
    sae_config::write_text(file, SWEEP)?;
    note(&format!("wrote {}", file.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use sae_config::SweepConfig;

    use super::*;

    fn n_runs(text: &str) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sweep.toml");
        std::fs::write(&file, text).unwrap();
        SweepConfig::read(&file).unwrap().points().unwrap().len()
    }

    #[test]
    fn the_files_are_sweeps_also_with_all_that_may_be_switched_on() {
        assert_eq!(n_runs(include_str!("small.toml")), 8);
        assert_eq!(n_runs(SWEEP), 3 * 2 * 2 * 3);
        let on = |line: &str| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting.to_owned(),
            _ => line.to_owned(),
        };
        let all: Vec<_> = SWEEP.lines().map(on).collect();
        assert_eq!(n_runs(&all.join("\n")), (2 + 2) * 2 * 2 * 2 * 3);
    }
}
