//! A small server that answers as the hub does, and fails as told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const TOKEN: &str = "hf_secret";

/// A request as it came: method, path, headers in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// What goes wrong, each so many times.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Answers with these statuses first.
    pub(crate) statuses: Vec<u16>,
    /// Breaks contents off after so many bytes.
    pub(crate) break_after: Vec<usize>,
    /// Breaks lists of files off in their middle, so many times.
    pub(crate) broken_lists: usize,
    /// Gives the whole although a part was asked for.
    pub(crate) ignores_range: bool,
    /// Wants the token.
    pub(crate) is_private: bool,
    /// Contents are other than their hashes.
    pub(crate) is_corrupt: bool,
    /// Names a file outside the repository.
    pub(crate) climbs: bool,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) faults: Arc<Mutex<Faults>>,
}

/// The files: small ones have a name of git as etag, large ones a SHA-256 and lie elsewhere.
pub(crate) fn files() -> BTreeMap<&'static str, Vec<u8>> {
    let large: Vec<u8> =
        (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    BTreeMap::from([
        ("README.md", b"# a data set".to_vec()),
        ("data/train-00000 of 1.parquet", large),
        ("data/test.jsonl", b"{\"text\": \"a\"}\n".to_vec()),
    ])
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Server {
    pub(crate) fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self {
            address,
            seen: Arc::new(Mutex::new(Vec::new())),
            faults: Arc::new(Mutex::new(faults)),
        };
        let (seen, faults) = (Arc::clone(&server.seen), Arc::clone(&server.faults));
        // Large files are led to by a whole address with another name of the same machine.
        let elsewhere = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, faults, elsewhere) =
                    (Arc::clone(&seen), Arc::clone(&faults), elsewhere.clone());
                std::thread::spawn(move || answer(stream, &seen, &faults, &elsewhere));
            }
        });
        server
    }

    pub(crate) fn requests(&self, method: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|one| one.method == method).cloned().collect()
    }
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_owned()))
        })
        .collect();
    Some(Seen { method, path, headers })
}

/// The files of the repository, as the hub lists them.
fn listing(climbs: bool) -> String {
    let mut names: Vec<&str> = files().into_keys().collect();
    if climbs {
        names.push("../../outside");
    }
    let names: Vec<String> =
        names.iter().map(|name| format!("{{\"rfilename\": \"{name}\"}}")).collect();
    format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}], \"x\": 1}}", names.join(","))
}

/// Status, headers and body of an answer.
type Answer = (String, Vec<(&'static str, String)>, Vec<u8>);

fn answer(mut stream: TcpStream, seen: &Mutex<Vec<Seen>>, faults: &Mutex<Faults>, elsewhere: &str) {
    let Some(request) = read(&stream) else { return };
    seen.lock().unwrap().push(request.clone());
    let mut faults = faults.lock().unwrap();
    let (status, headers, body) = match faults.statuses.pop() {
        Some(status) => empty(&format!("{status} failure"), &[("Retry-After", "0".to_owned())]),
        None => answer_to(&request, &mut faults, elsewhere),
    };
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    // A client that has gone is tested elsewhere.
    let _ =
        stream.write_all(format!("{text}\r\n").as_bytes()).and_then(|()| stream.write_all(&body));
}

/// An answer without a body.
fn empty(status: &str, headers: &[(&'static str, String)]) -> Answer {
    (status.to_owned(), [headers, &[("Content-Length", "0".to_owned())]].concat(), Vec::new())
}

fn answer_to(request: &Seen, faults: &mut Faults, elsewhere: &str) -> Answer {
    let on_hub = !request.path.starts_with("/store/");
    let token = request.headers.get("authorization").map(String::as_str);
    if on_hub && faults.is_private && token != Some(&format!("Bearer {TOKEN}")) {
        return empty("401 Unauthorized", &[("X-Error-Code", "GatedRepo".to_owned())]);
    }
    // An old name of the repository leads to the new one by a path.
    if let Some(rest) = request.path.strip_prefix("/datasets/old/name/") {
        return empty("307 Moved", &[("Location", format!("/datasets/owner/name/{rest}"))]);
    }
    let kinds = ["/api/datasets/", "/api/models/"];
    if let Some(name) = kinds.iter().find_map(|kind| request.path.strip_prefix(kind)) {
        if !matches!(
            name,
            "owner/name/revision/main" | "owner/name/revision/a%2Fb" | "old/name/revision/main"
        ) {
            return empty("404 Not Found", &[("X-Error-Code", "RepoNotFound".to_owned())]);
        }
        let mut body = listing(faults.climbs).into_bytes();
        let headers = vec![("Content-Length", body.len().to_string())];
        if faults.broken_lists > 0 {
            faults.broken_lists -= 1;
            body.truncate(body.len() / 2);
        }
        return ("200 OK".to_owned(), headers, body);
    }
    let prefix = format!("/datasets/owner/name/resolve/{COMMIT}/");
    let (name, is_stored) = match request.path.strip_prefix("/store/") {
        Some(name) => (name, true),
        None => (request.path.strip_prefix(&prefix).unwrap_or_default(), false),
    };
    let name = name.replace("%20", " ");
    let Some(content) = files().remove(name.as_str()) else { return empty("404 Not Found", &[]) };
    if is_large(&content) && !is_stored {
        let headers = [
            ("X-Repo-Commit", COMMIT.to_owned()),
            ("X-Linked-ETag", format!("\"{}\"", sha256(&content))),
            ("X-Linked-Size", content.len().to_string()),
            ("Location", format!("{elsewhere}/store/{}", name.replace(' ', "%20"))),
        ];
        return empty("302 Found", &headers);
    }
    stored(request, faults, &content)
}

fn is_large(content: &[u8]) -> bool {
    content.len() > 1000
}

/// A file, or the part of it that is asked for.
fn stored(request: &Seen, faults: &mut Faults, content: &[u8]) -> Answer {
    let (is_head, is_large) = (request.method == "HEAD", is_large(content));
    let etag = if is_large { sha256(content) } else { format!("git-{}", content.len()) };
    let range = request.headers.get("range").filter(|_| !faults.ignores_range);
    let from = range.map_or(0, |range| {
        range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
    });
    let total = content.len();
    let mut body = if is_head { Vec::new() } else { content[from..].to_vec() };
    if faults.is_corrupt && !body.is_empty() {
        body[0] ^= 1;
    }
    let mut headers =
        vec![("ETag", format!("W/\"{etag}\"")), ("Content-Length", (total - from).to_string())];
    if range.is_some() {
        headers.push(("Content-Range", format!("bytes {from}-{}/{total}", total - 1)));
    }
    if !is_head
        && is_large
        && let Some(n) = faults.break_after.pop()
    {
        body.truncate(n);
    }
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    (status.to_owned(), headers, body)
}
