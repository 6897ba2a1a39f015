//! The processes of a run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use sae_config::RunConfig;

use super::{Job, Place};

impl Job {
    /// The program, which finds its libraries from wherever its copy lies.
    pub(in crate::sweep) fn program(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            let others = std::env::var("LD_LIBRARY_PATH").ok().filter(|others| others != libraries);
            let others = others.map_or_else(String::new, |others| format!(":{others}"));
            command.env("LD_LIBRARY_PATH", format!("{libraries}{others}"));
        }
        command
    }

    /// The training process of a run.
    pub(in crate::sweep) fn train(&self, folder: &Path, place: &Place) -> Command {
        let mut command = self.command(place);
        command.arg("train").arg(folder.join("run.toml")).arg("--out").arg(folder).arg("--resume");
        command
    }

    /// The training process of runs that read one stream, by their folders.
    pub(in crate::sweep) fn train_all(&self, folders: &[PathBuf], place: &Place) -> Command {
        let mut command = self.command(place);
        command.arg("train").args(folders.iter().map(|folder| folder.join("run.toml")));
        for folder in folders {
            command.arg("--out").arg(folder);
        }
        command.arg("--resume");
        command
    }

    /// Its evaluation process.
    pub(in crate::sweep) fn eval(
        &self,
        folder: &Path,
        out: &Path,
        config: &RunConfig,
        place: &Place,
    ) -> Result<Command> {
        let mut command = self.command(place);
        command.arg("eval").arg(folder.join("checkpoint")).arg("--out").arg(out);
        command.args(["--device", &config.training.device]);
        let stores = self.activations.of(config)?;
        command.arg("--data").arg(&stores.held_out);
        command.args(["--max-norm-ratio", &config.data.max_norm_ratio.to_string()]);
        let floors = self.out.join("floors");
        self.suites.add_arguments(&mut command, config, stores.train.as_deref(), &floors);
        if let Some(texts) = &self.activations.texts {
            // The hook point, and how the host reads, is what the store says.
            command.arg("--host").arg(&texts.host);
            if let Some(max_tokens) = texts.max_tokens {
                command.args(["--max-tokens", &max_tokens.to_string()]);
            }
            for text in &texts.texts {
                command.arg("--text").arg(text);
            }
        }
        if let Some(images) = &self.activations.images {
            command.arg("--host").arg(&images.host);
            command.arg("--images").arg(&images.folder);
        }
        Ok(command)
    }

    /// The process that makes feature pages of a run into a folder.
    pub(in crate::sweep) fn features(
        &self,
        folder: &Path,
        out: &Path,
        config: &RunConfig,
    ) -> Result<Command> {
        let mut command = self.program();
        command.arg("features").arg(folder.join("checkpoint")).arg("--out").arg(out);
        command.arg("--data").arg(&self.activations.of(config)?.held_out);
        command.args(["--device", &config.training.device]);
        if let Some(texts) = &self.activations.texts {
            command.arg("--host").arg(&texts.host);
        }
        if let Some(images) = &self.activations.images {
            command.arg("--host").arg(&images.host);
            command.arg("--images").arg(&images.folder);
        }
        Ok(command)
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = self.program();
        if let Some(threads) = place.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        command
    }
}
