//! Images that a vision host sees: those to train on and those to judge by.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Result;
use sae_config::{ImageBackground, ImagePositions, ImagesConfig, TRAINING_VERSION};
use serde::Serialize;

use super::content::{Contents, files, short_hash};
use super::source::{Host, Ids, stand_for};
use crate::exit::usage;
use crate::pictures::{self, Pictures};
use crate::workspace::Workspace;

/// A vision host, and what it sees.
pub(super) struct ImageSource {
    pub(super) host: Host,
    pub(super) positions: ImagePositions,
    pub(super) background: ImageBackground,
    pub(super) train: ImageFolder,
    pub(super) held_out: ImageFolder,
    /// Pictures that have to be fetched before the ids of runs are known.
    pub(super) to_fetch: Option<&'static Pictures>,
}

/// What a store of images is made from.
pub(super) struct ImageFolder {
    /// Hash of everything that shapes the store of a hook point.
    pub(super) ids: Ids,
    pub(super) folder: PathBuf,
}

impl ImageSource {
    /// The source of a checked sweep, and what stands for its data in the ids of runs.
    pub(super) fn new(
        workspace: &Workspace,
        host: Host,
        host_id: &str,
        hooks: &BTreeSet<&str>,
        images: &ImagesConfig,
        contents: &Contents,
    ) -> Result<(Self, Ids)> {
        let (train, held_out, to_fetch) = match (&images.name, &images.train, &images.held_out) {
            (Some(name), ..) => {
                let pictures = pictures::find(name).ok_or_else(|| {
                    let names = pictures::names();
                    usage(format!("images.name: expected one of {names:?}, got {name:?}"))
                })?;
                let place = pictures.path(workspace);
                let to_fetch = (!place.exists()).then_some(pictures);
                (place.join("train"), place.join("held-out"), to_fetch)
            }
            (None, Some(train), Some(held_out)) => (train.clone(), held_out.clone(), None),
            _ => return Err(usage("images: expected `name`, or `train` and `held_out`")),
        };
        if to_fetch.is_none() {
            check_apart(&train, &held_out, contents)?;
        }
        #[derive(Serialize)]
        struct Identity<'a> {
            version: u32,
            host: &'a str,
            hook: &'a str,
            positions: ImagePositions,
            background: ImageBackground,
            images: &'a str,
        }
        let new = |key: &str, folder: PathBuf| {
            let hash = match to_fetch {
                Some(pictures) => format!("{key} of {}, not fetched", pictures.name),
                None => contents.tree(key, &folder)?,
            };
            let id = |hook: &&str| {
                let identity = Identity {
                    version: TRAINING_VERSION,
                    host: host_id,
                    hook,
                    positions: images.positions,
                    background: images.background,
                    images: &hash,
                };
                let id = short_hash(&serde_json::to_string(&identity)?);
                anyhow::Ok(((*hook).to_owned(), id))
            };
            let ids = hooks.iter().map(id).collect::<Result<_>>()?;
            anyhow::Ok(ImageFolder { ids, folder })
        };
        let (train, held_out) = (new("images.train", train)?, new("images.held_out", held_out)?);
        let data = stand_for(&train.ids, &held_out.ids, "");
        let (positions, background) = (images.positions, images.background);
        Ok((Self { host, positions, background, train, held_out, to_fetch }, data))
    }

    /// Prints where the activations come from.
    pub(super) fn print(&self) -> Result<()> {
        if let Some(pictures) = self.to_fetch {
            say!(
                "pictures {}: fetched when the sweep starts; ids are other ones then",
                pictures.name
            );
        }
        for (name, images) in [("train", &self.train), ("held-out", &self.held_out)] {
            let (positions, folder) = (self.positions.name(), images.folder.display());
            for (hook, id) in &images.ids {
                say!("{name} activations {id}: {hook}, {positions} of images in {folder}");
            }
        }
        Ok(())
    }
}

/// Refuses images to judge by that are trained on, whatever their names.
fn check_apart(train: &Path, held_out: &Path, contents: &Contents) -> Result<()> {
    let hashed = |key: &str, folder: &Path| {
        let list = files(folder).map_err(|e| usage(format!("{key}: {}: {e}", folder.display())))?;
        let hashed = list.into_values().map(|file| Ok((contents.file(key, &file)?, file)));
        hashed.collect::<Result<Vec<_>>>()
    };
    let trained_on: HashMap<String, PathBuf> = hashed("images.train", train)?.into_iter().collect();
    let held_out = hashed("images.held_out", held_out)?;
    match held_out.iter().find_map(|(hash, file)| Some((file, trained_on.get(hash)?))) {
        None => Ok(()),
        Some((file, other)) => Err(usage(format!(
            "images.held_out: {}: expected an image that is not trained on, got the content of {}",
            file.display(),
            other.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn source(folder: &Path, images: &str) -> Result<(ImageSource, Ids)> {
        let workspace = Workspace::at(folder);
        let (images, contents): (ImagesConfig, _) =
            (toml::from_str(images).unwrap(), Contents::new(&workspace));
        let host = Host::Own("host.onnx".into());
        let hooks = BTreeSet::from(["resid_post.8"]);
        ImageSource::new(&workspace, host, "hash", &hooks, &images, &contents)
    }

    #[test]
    fn images_are_known_by_their_content_and_how_they_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("a/cats/1.png", "one"), ("b/cats/2.png", "two")] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), text).unwrap();
        }
        let data = |train: &str, more: &str| {
            let (train, held_out) = (at(train), at("b"));
            let text = format!("train = {train:?}\nheld_out = {held_out:?}\n{more}");
            source(folder.path(), &text).map(|(_, data)| data)
        };
        let before = data("a", "").unwrap();
        fs::rename(at("a"), at("moved")).unwrap();
        assert_eq!(data("moved", "positions = 'patches'").unwrap(), before);
        assert_ne!(data("moved", "positions = 'all'").unwrap(), before);
        assert_ne!(data("moved", "background = 'white'").unwrap(), before);
        fs::write(at("moved/cats/3.png"), "three").unwrap();
        assert_ne!(data("moved", "").unwrap(), before);
        fs::write(at("moved/cats/4.png"), "two").unwrap();
        let error = data("moved", "").unwrap_err().to_string();
        assert!(error.starts_with("images.held_out: ") && error.ends_with("cats/4.png"), "{error}");
        let error = data("none", "").unwrap_err().to_string();
        assert!(error.starts_with("images.train: ") && error.contains("none"), "{error}");
    }

    #[test]
    fn pictures_that_are_not_fetched_are_told_and_unknown_ones_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (named, _) = source(folder.path(), "name = 'tuxpaint-stamps'").unwrap();
        assert_eq!(named.to_fetch.map(|pictures| pictures.name), Some("tuxpaint-stamps"));
        assert_ne!(named.train.ids, named.held_out.ids);
        let error = source(folder.path(), "name = 'stamps'").err().unwrap().to_string();
        assert!(error.starts_with("images.name: expected one of [\"tuxpaint-stamps\"]"), "{error}");
    }
}
