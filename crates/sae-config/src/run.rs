//! A run: which activations, which SAE, how it is trained.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    ArchitectureConfig, DataConfig, Error, Result, TrainingConfig, apply_preset, read_toml,
};

/// Everything that determines a training run (`run.toml`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The activations.
    pub data: DataConfig,
    /// What all architectures share.
    pub sae: SaeConfig,
    /// The architecture and its own settings.
    pub architecture: ArchitectureConfig,
    /// Length, batches, learning rate, device.
    pub training: TrainingConfig,
}

/// What all architectures share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaeConfig {
    /// Dictionary size F.
    pub n_features: usize,
    /// What is done to activations before encoding, and undone after decoding.
    #[serde(default)]
    pub normalization: Normalization,
}

/// What is done to activations before encoding, and undone after decoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// Activations as they are.
    None,
    /// x/√E‖x‖².
    Scale,
    /// (x − mean)/√E‖x − mean‖².
    #[default]
    ShiftScale,
    /// Each row divided by its own norm.
    UnitNorm,
    /// Each row centred and divided by its own standard deviation.
    LayerNorm,
}

impl RunConfig {
    /// Reads and checks a run file, which may name a preset to build on. Relative paths in it start
    /// at its folder.
    ///
    /// Settings that are not written stay absent: [`RunConfig::check`] decides them.
    ///
    /// # Errors
    /// An error that names the file and the key.
    pub fn read(path: &Path) -> Result<Self> {
        let table: toml::Table = read_toml(path)?;
        let mut config: Self = if table.contains_key("preset") {
            let table = apply_preset(table).map_err(|e| e.in_file(path))?;
            let config = table.try_into();
            config.map_err(|e| Error::Parse { path: path.into(), message: e.to_string() })?
        } else {
            read_toml(path)?
        };
        config.check().map_err(|e| e.in_file(path))?;
        let folder = std::path::absolute(path.parent().unwrap_or(Path::new("")));
        let folder = folder.or_else(|_| std::env::current_dir());
        config.root_paths(&folder.map_err(|source| Error::Io { path: path.into(), source })?);
        Ok(config)
    }

    /// Lets relative paths start at `folder`.
    pub fn root_paths(&mut self, folder: &Path) {
        let Self { data, training, .. } = self;
        let stores = data.stores.iter_mut().map(|store| &mut store.path);
        let single = [&mut data.store].into_iter().filter(|store| !store.as_os_str().is_empty());
        let others = [&mut data.target, &mut data.rows, &mut training.init].into_iter().flatten();
        for path in single.chain(stores).chain(others) {
            *path = folder.join(&*path);
        }
        if let Some(live) = &mut data.live {
            live.root_paths(folder);
        }
    }

    /// Refuses a target whose rows would have to be known to be rebuilt in their own scale.
    pub(crate) fn check_target(&self) -> Result<()> {
        let name = match self.sae.normalization {
            Normalization::UnitNorm => "unit_norm",
            Normalization::LayerNorm => "layer_norm",
            Normalization::None | Normalization::Scale | Normalization::ShiftScale => return Ok(()),
        };
        let Some(key) = self.data.target_key() else { return Ok(()) };
        let expected = format!(
            "`none`, `scale` or `shift_scale` with `{key}`: what a row of it is divided by is not \
             known from its input"
        );
        Err(Error::value("sae.normalization", expected, format!("`{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::RunConfig;

    #[test]
    fn relative_paths_start_at_the_folder_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.toml");
        let more = "sae.n_features = 64\narchitecture = { name = 'topk', k = 4 }\n[training]\n\
                    steps = 9\nbatch_size = 8\ninit = '../other/checkpoint'\n";
        let read = |data: &str| {
            std::fs::write(&file, format!("{data}\n{more}")).unwrap();
            RunConfig::read(&file).unwrap()
        };
        let config = read("data = { store = 'a.npy', rows = 'lists/rows.txt' }");
        let at = |name: &str| folder.path().join(name);
        assert_eq!(config.data.store, at("a.npy"));
        assert_eq!(config.data.rows, Some(at("lists/rows.txt")));
        assert_eq!(config.training.init, Some(at("../other/checkpoint")));
        let config = read("data = { store = 'a.npy', target = 'b.npy' }");
        assert_eq!(config.data.target, Some(at("b.npy")));
        let config = read("data.stores = [{ path = 'b' }, { path = '/elsewhere/c' }]");
        let paths: Vec<&Path> = config.data.stores.iter().map(|s| s.path.as_path()).collect();
        assert_eq!(paths, [at("b").as_path(), Path::new("/elsewhere/c")]);
        assert!(config.data.store.as_os_str().is_empty());

        for (normalization, fits) in [("none", true), ("scale", true), ("unit_norm", false)] {
            let sae = format!("{{ n_features = 64, normalization = '{normalization}' }}");
            let with = more.replace("sae.n_features = 64", &format!("sae = {sae}"));
            let text = format!("data = {{ store = 'a', target = 'b' }}\n{with}");
            std::fs::write(&file, text).unwrap();
            let read = RunConfig::read(&file).map_err(|e| e.to_string());
            assert_eq!(read.is_ok(), fits, "{read:?}");
            assert!(read.err().is_none_or(|e| e.contains("`data.target`")));
        }

        // What is written out can be read from anywhere.
        let copy = folder.path().join("sub/run.toml");
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        crate::write_toml(&copy, &config).unwrap();
        assert_eq!(RunConfig::read(&copy).unwrap(), config);
    }
}
