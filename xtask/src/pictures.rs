//! Pictures of a Debian package, fetched once into `target/assets` and split into those to train on
//! and those to judge by.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::exit::{note, usage};
use crate::wheel::explain;
use crate::workspace::Workspace;

/// Pictures of a package. Debian replaces its versions, so that none is pinned: runs are known by
/// the content of what was fetched.
#[derive(Debug)]
pub(crate) struct Pictures {
    pub(crate) name: &'static str,
    package: &'static str,
    /// The folder of the package in which they are.
    root: &'static str,
    /// The folders in it that are taken.
    folders: &'static [&'static str],
}

/// Stamps of Tux Paint (GPL-2): photos and drawings cut out on transparency, by folders of what they show.
const STAMPS: Pictures = Pictures {
    name: "tuxpaint-stamps",
    package: "tuxpaint-stamps-default",
    root: "usr/share/tuxpaint/stamps",
    // Photos for the most part. The others are letters, signs and drawings.
    folders: &[
        "animals",
        "clothes",
        "food",
        "hobbies",
        "household",
        "medical",
        "military",
        "people",
        "plants",
        "space",
        "sports",
        "vehicles",
    ],
};

/// A folder of drawings, wherever it is.
const DRAWINGS: &str = "cartoon";

const ALL: [&Pictures; 1] = [&STAMPS];

/// The share of groups of pictures to judge by, of 256.
const HELD_OUT: u8 = 64;

/// Words that tell variants of one picture apart.
const VARIANTS: [&str; 8] = ["mirror", "flip", "left", "right", "back", "front", "side", "top"];

/// The pictures of this name, if there are any.
pub(crate) fn find(name: &str) -> Option<&'static Pictures> {
    ALL.into_iter().find(|pictures| pictures.name == name)
}

/// The names of all of them.
pub(crate) fn names() -> Vec<&'static str> {
    ALL.iter().map(|pictures| pictures.name).collect()
}

impl Pictures {
    /// The folder with the folders `train` and `held-out`, once they are fetched.
    pub(crate) fn path(&self, workspace: &Workspace) -> PathBuf {
        workspace.target().join("assets").join(self.name)
    }

    /// Fetches the pictures unless they are there, and gives their folder.
    pub(crate) fn fetch(&self, workspace: &Workspace) -> Result<PathBuf> {
        self.fetch_with(workspace, "apt-get", "dpkg-deb")
    }

    fn fetch_with(&self, workspace: &Workspace, apt: &str, dpkg: &str) -> Result<PathBuf> {
        let place = self.path(workspace);
        if place.exists() {
            return Ok(place);
        }
        note(&format!("fetching {} (Debian's {})", self.name, self.package));
        let folder = place.parent().expect("pictures lie in a folder");
        std::fs::create_dir_all(folder).map_err(|e| explain(e, folder))?;
        let scratch = tempfile::tempdir_in(folder).map_err(|e| explain(e, folder))?;
        self.run(Command::new(apt).args(["download", self.package]).current_dir(scratch.path()))?;
        let downloaded = downloaded(scratch.path(), self.package)?;
        let unpacked = scratch.path().join("unpacked");
        self.run(Command::new(dpkg).arg("-x").arg(&downloaded).arg(&unpacked))?;
        let split = scratch.path().join("split");
        split_pictures(&unpacked.join(self.root), self.folders, &split)
            .with_context(|| format!("{}: {}", self.package, self.root))?;
        std::fs::rename(&split, &place).map_err(|e| explain(e, &place))?;
        Ok(place)
    }

    /// Runs a program of Debian; where there is none, or it fails, says what to do instead.
    fn run(&self, command: &mut Command) -> Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        let instead = format!(
            "or give pictures of your own: `[images]` with `train` and `held_out` in place of \
             `name = \"{}\"`",
            self.name
        );
        let output = match command.output() {
            Ok(output) => output,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(usage(format!(
                "{}: expected {program} of Debian or a system made of it, found none; {instead}",
                self.name
            ))),
            Err(error) => return Err(error).with_context(|| program),
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{program} cannot get {} ({}): {}; `apt-get update` may help, {instead}",
            self.package,
            output.status,
            said.trim()
        );
    }
}

/// The package that apt-get has put into a folder.
fn downloaded(folder: &Path, package: &str) -> Result<PathBuf> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    bail!("apt-get download {package}: expected a package in {}, found none", folder.display())
}

/// Moves the pictures in some folders of `root` into the folders `train` and `held-out` of a new one.
fn split_pictures(root: &Path, folders: &[&str], out: &Path) -> Result<()> {
    let mut n_moved = BTreeMap::from([("train", 0), ("held-out", 0)]);
    let mut left: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    left.retain(|folder| folder.is_dir());
    let mut pictures = Vec::new();
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                if entry.file_name() != DRAWINGS {
                    left.push(path);
                }
            } else if kind.is_file() && path.extension().is_some_and(|end| end == "png") {
                pictures.push(path);
            }
        }
    }
    let name = |picture: &Path| {
        let name = picture.strip_prefix(root).expect("a picture lies below the root");
        name.to_string_lossy().into_owned()
    };
    pictures.sort_by_key(|picture| name(picture));
    let mut seen = HashSet::new();
    for picture in pictures {
        // Some lie in two folders.
        if !seen.insert(crate::wheel::hash(&picture)?) {
            continue;
        }
        let name = name(&picture);
        let part = if is_held_out(&group(&name)) { "held-out" } else { "train" };
        let place = out.join(part).join(name);
        let folder = place.parent().expect("a picture lies in a folder");
        std::fs::create_dir_all(folder).map_err(|e| explain(e, folder))?;
        std::fs::File::open(&picture)?.sync_all().map_err(|e| explain(e, &picture))?;
        std::fs::rename(&picture, &place).map_err(|e| explain(e, &place))?;
        *n_moved.get_mut(part).expect("one of the two") += 1;
    }
    match n_moved.iter().find(|(_, n)| **n == 0) {
        Some((part, _)) => bail!("expected PNG pictures for {part}, found none"),
        None => Ok(()),
    }
}

/// What a picture and its variants share, in whatever folder: its name without numbers and without
/// the words that tell variants apart.
fn group(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem).to_lowercase();
    let words = stem.split(|c: char| !c.is_ascii_lowercase());
    let words = words.filter(|word| !word.is_empty() && !VARIANTS.contains(word));
    words.collect::<Vec<_>>().join(" ")
}

fn is_held_out(group: &str) -> bool {
    Sha256::digest(group)[0] < HELD_OUT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pip::tests::fake_python as fake_program;

    #[test]
    fn variants_of_a_picture_are_in_one_group() {
        for name in ["a/Cat_01.png", "a/b/cat2.png", "a/b/cat_mirror.png", "b/cat-left.png", "cat"]
        {
            assert_eq!(group(name), "cat");
        }
        assert_ne!(group("a/b/house cat.png"), group("a/b/cat.png"));
    }

    #[test]
    fn a_quarter_of_the_groups_is_held_out() {
        let held_out = (0..4000).filter(|i| is_held_out(&format!("animals/{i}"))).count();
        assert!((900..1100).contains(&held_out), "{held_out}");
    }

    #[test]
    fn pictures_are_fetched_once_split_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let (apt, dpkg) = (folder.path().join("apt"), folder.path().join("dpkg"));
        for program in [&apt, &dpkg] {
            std::fs::create_dir(program).unwrap();
        }
        let apt = fake_program(&apt, "touch stamps_1.deb");
        let names: Vec<String> = (0..64)
            .map(|i| format!("animals/{}.png", ["a", "b", "cd", "x"][i % 4].repeat(i / 4 + 1)))
            .collect();
        let root = "$3/usr/share/tuxpaint/stamps/animals";
        let touch = |name: &String| format!("echo {name} > $3/usr/share/tuxpaint/stamps/{name}; ");
        let touch: String = names.iter().map(touch).collect();
        // The last one is the first again.
        let unpack = format!(
            "mkdir -p {root} {root}/z; {touch} cp {root}/a.png {root}/z/a.png; touch {root}/a.txt {root}/b.ogg; \
                              mkdir -p {root}/cartoon {root}/../symbols; \
                              touch {root}/cartoon/a.png {root}/../symbols/a.png"
        );
        let dpkg = fake_program(&dpkg, &unpack);
        let fetch = || {
            STAMPS.fetch_with(&workspace, apt.to_str().unwrap(), dpkg.to_str().unwrap()).unwrap()
        };
        let place = fetch();
        let in_part = |part: &str, name: &String| place.join(part).join(name).is_file();
        for name in &names {
            assert!(in_part("train", name) != in_part("held-out", name), "{name}");
        }
        assert!(!place.join("train/animals/a.txt").exists());
        assert!(!place.join("held-out/animals/a.txt").exists());
        for part in ["train", "held-out"] {
            assert!(!place.join(part).join("animals/z").exists(), "twice");
            assert!(!place.join(part).join("symbols").exists(), "letters and signs");
            assert!(!place.join(part).join("animals/cartoon").exists(), "drawings");
        }
        // Nothing else is left, and nothing is fetched again.
        assert_eq!(std::fs::read_dir(place.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(STAMPS.fetch_with(&workspace, "no-such-apt", "no-such-dpkg").unwrap(), place);
    }

    #[test]
    fn what_is_missing_or_fails_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let error = STAMPS.fetch_with(&workspace, "no-such-apt", "dpkg-deb").unwrap_err();
        assert!(crate::exit::is_usage(&error));
        let error = error.to_string();
        assert!(
            error.contains("expected no-such-apt of Debian") && error.contains("`[images]`"),
            "{error}"
        );
        let apt = fake_program(folder.path(), "echo 'E: Unable to locate package' >&2; exit 100");
        let error =
            STAMPS.fetch_with(&workspace, apt.to_str().unwrap(), "x").unwrap_err().to_string();
        assert!(error.contains("Unable to locate package; `apt-get update` may help"), "{error}");
        assert!(!STAMPS.path(&workspace).exists());
    }
}
