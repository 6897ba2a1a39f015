//! The hub: what a revision is, which files it has, and the files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::cache::{self, Folder};
use crate::client::{Client, Patience, Request};
use crate::reference::is_plain;
use crate::{Error, Kind, Reference, Result, download};

/// The hub that everybody means where `HF_ENDPOINT` names no other.
const ENDPOINT: &str = "https://huggingface.co";

static IS_OFFLINE: AtomicBool = AtomicBool::new(false);

/// Lets every [`Hub::from_env`] of this process use what the cache has alone, as `HF_HUB_OFFLINE`
/// does.
pub fn go_offline() {
    IS_OFFLINE.store(true, Ordering::Relaxed);
}

/// A hub and the cache of its files.
#[derive(Debug, Clone)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    is_offline: bool,
    client: Client,
}

/// The files of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The repository at that commit.
    pub reference: Reference,
    /// What it holds.
    pub kind: Kind,
    /// The commit.
    pub commit: String,
    /// Paths of the files below the reference's path, from the root of the repository, sorted.
    pub files: Vec<String>,
}

/// What the hub says of a revision, as far as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Hub {
    /// The hub, token and cache that the environment names.
    pub fn from_env() -> Self {
        let endpoint = cache::endpoint_from_env().unwrap_or_else(|| ENDPOINT.to_owned());
        let is_offline = IS_OFFLINE.load(Ordering::Relaxed) || cache::is_set("HF_HUB_OFFLINE");
        let token = cache::token_from_env();
        let hub = Self::new(endpoint, cache::from_env(), token, Patience::default());
        Self { is_offline, ..hub }
    }

    /// A hub at an address, with its cache in a folder.
    pub fn new(
        endpoint: String,
        cache: PathBuf,
        token: Option<String>,
        patience: Patience,
    ) -> Self {
        Self { endpoint, cache, is_offline: false, client: Client::new(token, patience) }
    }

    /// The same hub, of which the cache alone is used.
    #[must_use]
    pub fn offline(self) -> Self {
        Self { is_offline: true, ..self }
    }

    /// Returns the commit of a reference and its files. What is known of a commit is not asked for
    /// again.
    ///
    /// # Errors
    /// [`Error::Endpoint`], [`Error::NotFound`], [`Error::Access`], [`Error::Unreachable`];
    /// [`Error::Offline`] if it is not in the cache.
    pub fn listing(&self, reference: &Reference, kind: Kind) -> Result<Listing> {
        let folder = self.folder(reference, kind);
        let revision = reference.revision();
        let known = if cache::is_commit(revision) {
            Some(revision.to_owned())
        } else if self.is_offline {
            folder.commit(reference)?
        } else {
            None
        };
        if let Some(commit) = &known
            && let Some(answer) = kept(&folder.listing(commit))?
        {
            return of_answer(reference, kind, answer);
        }
        if self.is_offline {
            let what = format!("the list of files of {reference}");
            return Err(Error::Offline { what, path: self.cache.clone() });
        }
        let answer = self.ask(reference, kind)?;
        let json = serde_json::to_vec(&answer)
            .map_err(|error| Error::answer(reference.to_string(), "files", "names", error))?;
        cache::write(&folder.listing(&answer.sha), &json)?;
        if !cache::is_commit(revision) {
            folder.set_commit(reference, &answer.sha)?;
        }
        of_answer(reference, kind, answer)
    }

    /// Refuses an address that names no hub.
    fn check_endpoint(&self) -> Result<()> {
        let endpoint = self.endpoint.clone();
        let rest = ["http://", "https://"].iter().find_map(|scheme| endpoint.strip_prefix(scheme));
        let got = match rest {
            None => "none of them",
            Some(rest) if rest.starts_with(['/', ':', '?', '#']) || rest.is_empty() => "no host",
            Some(rest) if rest.contains(char::is_whitespace) => "white space in it",
            Some(_) => return Ok(()),
        };
        Err(Error::Endpoint { endpoint, got: got.to_owned() })
    }

    fn ask(&self, reference: &Reference, kind: Kind) -> Result<Answer> {
        self.check_endpoint()?;
        let what = reference.to_string();
        let (endpoint, kinds) = (&self.endpoint, kind.plural());
        let revision = escape(reference.revision(), false);
        let url = format!("{endpoint}/api/{kinds}/{}/revision/{revision}", reference.repository);
        let body = self.client.body(&Request { url: &url, what: &what, from: 0 })?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
            Error::answer(what.as_str(), "files", "`sha` and `siblings`", error)
        })?;
        if !cache::is_commit(&answer.sha) {
            return Err(Error::answer(what, "sha", "a commit", answer.sha));
        }
        Ok(answer)
    }

    /// Brings files of a listing into the cache; returns the place of the reference there: the
    /// folder of the commit, or the path in it.
    ///
    /// # Errors
    /// As [`Hub::listing`]; [`Error::Answer`] if a file is not what the hub says;
    /// [`Error::Space`].
    pub fn fetch(&self, listing: &Listing, files: &[String]) -> Result<PathBuf> {
        let Listing { reference, kind, commit, .. } = listing;
        let folder = self.folder(reference, *kind);
        for name in files {
            let what = format!("{} `{name}`", reference);
            if self.is_offline {
                if !folder.snapshot(commit).join(name).exists() {
                    return Err(Error::Offline { what, path: self.cache.clone() });
                }
                continue;
            }
            self.check_endpoint()?;
            let url = self.url(listing, name);
            download::file(&self.client, &folder, commit, name, &url, &what)?;
        }
        let root = folder.snapshot(commit);
        Ok(reference.path.as_ref().map_or(root.clone(), |path| root.join(path)))
    }

    fn url(&self, listing: &Listing, name: &str) -> String {
        let kind = match listing.kind {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        };
        let (endpoint, repository) = (&self.endpoint, &listing.reference.repository);
        format!("{endpoint}/{kind}{repository}/resolve/{}/{}", listing.commit, escape(name, true))
    }

    fn folder(&self, reference: &Reference, kind: Kind) -> Folder {
        Folder::new(&self.cache, kind, &reference.repository)
    }
}

/// The listing of a commit that is kept.
fn kept(path: &Path) -> Result<Option<Answer>> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let wrong = |error| Error::answer(path.display().to_string(), "files", "names", error);
            serde_json::from_slice(&bytes).map(Some).map_err(wrong)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path)(error)),
    }
}

fn of_answer(reference: &Reference, kind: Kind, answer: Answer) -> Result<Listing> {
    let what = reference.to_string();
    let mut files: Vec<String> = answer.siblings.into_iter().map(|file| file.rfilename).collect();
    if let Some(name) = files.iter().find(|name| !is_plain(name)) {
        return Err(Error::answer(what, "files", "paths in the repository", name));
    }
    if let Some(path) = &reference.path {
        let inside = |name: &String| {
            name.strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        files.retain(inside);
        if files.is_empty() {
            return Err(Error::NotFound { what });
        }
    }
    files.sort_unstable();
    Ok(Listing { reference: reference.at(&answer.sha), kind, commit: answer.sha, files })
}

/// A path as addresses have it; slashes of a revision are part of its name.
fn escape(path: &str, keeps_slashes: bool) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        let is_kept = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        if is_kept || byte == b'/' && keeps_slashes {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
