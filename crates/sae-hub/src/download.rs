//! One file of the hub into the cache: resumed, checked, then given its name.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use ureq::Response;

use crate::cache::{Folder, create_parent};
use crate::client::{Client, Request};
use crate::{Error, Result};

/// What the hub says of a file.
#[derive(Debug, PartialEq, Eq)]
struct Description {
    /// The name of its content: a SHA-256 of large files.
    etag: String,
    n_bytes: u64,
}

/// Brings a file of a commit into the cache, and its name into the commit's snapshot.
pub(crate) fn file(
    client: &Client,
    folder: &Folder,
    commit: &str,
    name: &str,
    url: &str,
    what: &str,
) -> Result<PathBuf> {
    let place = folder.snapshot(commit).join(name);
    if place.exists() {
        return Ok(place);
    }
    let description = describe(&client.head(url, what)?, what)?;
    let blob = folder.blob(&description.etag);
    create_parent(&blob)?;
    if !blob.exists() {
        let partial = PathBuf::from(format!("{}.incomplete", blob.display()));
        let options =
            File::options().create(true).truncate(false).read(true).write(true).open(&partial);
        let mut file = options.map_err(Error::io(&partial))?;
        // Another process that has begun the same file finishes it first.
        file.lock().map_err(Error::io(&partial))?;
        if !blob.exists() {
            fill(client, &mut file, &partial, &description, url, what)?;
            file.sync_all().map_err(Error::io(&partial))?;
            std::fs::rename(&partial, &blob).map_err(Error::io(&blob))?;
        }
    }
    link(&blob, &place, name)?;
    Ok(place)
}

fn describe(response: &Response, what: &str) -> Result<Description> {
    let header = |linked: &str, own: &'static str| {
        let value = response.header(linked).or_else(|| response.header(own));
        value.ok_or_else(|| Error::answer(what, own, "the header", "none"))
    };
    let etag = header("X-Linked-ETag", "ETag")?;
    let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
    let is_name =
        !etag.is_empty() && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if !is_name {
        return Err(Error::answer(what, "ETag", "letters and digits", etag));
    }
    let n_bytes = header("X-Linked-Size", "Content-Length")?;
    let wrong = |_| Error::answer(what, "Content-Length", "a number", n_bytes);
    let n_bytes = n_bytes.parse().map_err(wrong)?;
    Ok(Description { etag, n_bytes })
}

/// Downloads what is missing of a file, and checks the whole.
fn fill(
    client: &Client,
    file: &mut File,
    path: &Path,
    description: &Description,
    url: &str,
    what: &str,
) -> Result<()> {
    let total = description.n_bytes;
    let mut failures = 0;
    loop {
        let mut at = file.seek(SeekFrom::End(0)).map_err(Error::io(path))?;
        if at > total {
            file.set_len(0).map_err(Error::io(path))?;
            at = file.seek(SeekFrom::Start(0)).map_err(Error::io(path))?;
        }
        if at == total {
            break;
        }
        check_space(path, total - at)?;
        let response = client.get(&Request { url, what, from: at })?;
        if at > 0 && !goes_on(&response, at, total) {
            file.set_len(0).map_err(Error::io(path))?;
            at = file.seek(SeekFrom::Start(0)).map_err(Error::io(path))?;
            if response.status() == 206 {
                // Another part than was asked for: ask for the whole.
                continue;
            }
        }
        match copy(response, file, total - at) {
            Ok(()) => {}
            Err(Broken::File(error)) => return Err(Error::io(path)(error)),
            Err(Broken::Connection(got, n_bytes)) => {
                failures = if n_bytes > 0 { 1 } else { failures + 1 };
                if failures >= client.patience.attempts {
                    let what = what.to_owned();
                    return Err(Error::Unreachable { what, got, attempts: failures });
                }
                client.patience.wait(failures, None);
            }
        }
    }
    check(file, path, description, what)
}

/// Whether an answer is the rest of the file from a byte on.
fn goes_on(response: &Response, from: u64, total: u64) -> bool {
    let range = response.header("Content-Range").unwrap_or_default();
    response.status() == 206 && range == format!("bytes {from}-{}/{total}", total - 1)
}

enum Broken {
    File(std::io::Error),
    /// What the connection said, and bytes that came before.
    Connection(String, u64),
}

fn copy(response: Response, file: &mut File, wanted: u64) -> Result<(), Broken> {
    let mut reader = response.into_reader();
    let mut buffer = vec![0; 1 << 18];
    let mut n_read = 0;
    while n_read < wanted {
        let n = match reader.read(&mut buffer) {
            Ok(0) => {
                let got = format!("the end {} bytes too early", wanted - n_read);
                return Err(Broken::Connection(got, n_read));
            }
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Broken::Connection(error.to_string(), n_read)),
        };
        let n = n.min(usize::try_from(wanted - n_read).unwrap_or(usize::MAX));
        file.write_all(&buffer[..n]).map_err(Broken::File)?;
        n_read += n as u64;
    }
    Ok(())
}

/// Compares a file with the SHA-256 that names it; what is wrong is removed.
fn check(file: &mut File, path: &Path, description: &Description, what: &str) -> Result<()> {
    let etag = &description.etag;
    let is_sha256 = etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_sha256 {
        return Ok(());
    }
    file.seek(SeekFrom::Start(0)).map_err(Error::io(path))?;
    let mut hasher = Sha256::new();
    std::io::copy(file, &mut hasher).map_err(Error::io(path))?;
    let got: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if got == *etag {
        return Ok(());
    }
    file.set_len(0).map_err(Error::io(path))?;
    Err(Error::answer(what, "SHA-256", etag, got))
}

fn check_space(path: &Path, needed: u64) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let space = rustix::fs::statvfs(folder).map_err(|error| Error::io(folder)(error.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < needed {
        return Err(Error::Space { path: folder.to_path_buf(), needed, free });
    }
    Ok(())
}

/// Lets the name in a snapshot lead to its content.
fn link(blob: &Path, place: &Path, name: &str) -> Result<()> {
    create_parent(place)?;
    let up = "../".repeat(2 + name.split('/').count() - 1);
    let target = format!("{up}blobs/{}", blob.file_name().unwrap_or_default().to_string_lossy());
    match std::os::unix::fs::symlink(&target, place) {
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(Error::io(place)),
    }
}
