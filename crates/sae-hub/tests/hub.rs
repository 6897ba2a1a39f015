//! What is asked of the hub, what is kept, and what goes wrong.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sae_hub::{Error, Hub, Kind, Listing, Patience, Reference};
use tempfile::TempDir;

use crate::server::{COMMIT, Faults, Server, TOKEN, files};

fn patience() -> Patience {
    Patience {
        attempts: 4,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(20),
        silence: Duration::from_secs(20),
    }
}

fn hub(server: &Server, cache: &Path, token: Option<&str>) -> Hub {
    let token = token.map(str::to_owned);
    Hub::new(server.address.clone(), cache.to_path_buf(), token, patience())
}

fn listing(hub: &Hub, reference: &str) -> Result<Listing, Error> {
    hub.listing(&reference.parse::<Reference>().unwrap(), Kind::Dataset)
}

/// Fetches everything and compares it with what the server has.
fn fetch_all(hub: &Hub) -> Result<(), Error> {
    let listing = listing(hub, "hf:owner/name")?;
    let folder = hub.fetch(&listing, &listing.files)?;
    for (name, content) in files() {
        assert_eq!(std::fs::read(folder.join(name)).unwrap(), content, "{name}");
    }
    Ok(())
}

#[test]
fn an_address_that_is_none_is_refused_at_once() {
    let cache = TempDir::new().unwrap();
    let slow = Patience { first_wait: Duration::from_secs(600), ..patience() };
    for (endpoint, got) in [
        ("garbage", "none of them"),
        ("ftp://hub", "none of them"),
        ("http://", "no host"),
        ("https://:80", "no host"),
        ("http://a b", "white space"),
        ("", "none of them"),
    ] {
        let hub = Hub::new(endpoint.into(), cache.path().into(), None, slow);
        let error = listing(&hub, "hf:owner/name").unwrap_err();
        assert!(matches!(error, Error::Endpoint { .. }), "{endpoint}: {error}");
        let message = error.to_string();
        assert!(message.contains("HF_ENDPOINT") && message.contains(got), "{message}");
    }
}

#[test]
fn a_revision_becomes_a_commit_whose_files_lie_in_the_cache() {
    let (server, cache) = (Server::start(Faults::default()), TempDir::new().unwrap());
    let hub = hub(&server, cache.path(), Some(TOKEN));
    let listing = listing(&hub, "hf:owner/name").unwrap();
    assert_eq!(listing.commit, COMMIT);
    assert_eq!(listing.reference.to_string(), format!("hf:owner/name@{COMMIT}"));
    let names: Vec<&str> = files().into_keys().collect();
    assert_eq!(listing.files, names);
    fetch_all(&hub).unwrap();
    // As the other clients lay it out.
    let root = cache.path().join("datasets--owner--name");
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    let target =
        std::fs::read_link(root.join(format!("snapshots/{COMMIT}/data/test.jsonl"))).unwrap();
    assert_eq!(target, Path::new("../../../blobs/git-14"));
    // The token goes to the hub and not to where it leads.
    for request in server.requests("GET") {
        let has_token = request.headers.contains_key("authorization");
        let by_hub = request.headers["host"].starts_with("127.0.0.1");
        assert_eq!(has_token, by_hub, "{request:?}");
    }
    // What is there is not asked for again.
    let before = server.requests("GET").len();
    let pinned = crate::hub::listing(&hub, &format!("hf:owner/name@{COMMIT}")).unwrap();
    hub.fetch(&pinned, &pinned.files).unwrap();
    assert_eq!(server.requests("GET").len(), before);
}

#[test]
fn a_path_and_a_revision_with_a_slash_are_followed() {
    let (server, cache) = (Server::start(Faults::default()), TempDir::new().unwrap());
    let hub = hub(&server, cache.path(), None);
    let listing = listing(&hub, "hf:owner/name/data@a/b").unwrap();
    assert_eq!(listing.files.len(), 2);
    let place = hub.fetch(&listing, &listing.files[..1]).unwrap();
    assert!(place.join("test.jsonl").exists() && !place.join("README.md").exists());
    let missing = crate::hub::listing(&hub, "hf:owner/name/nothing").unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
}

#[test]
fn an_old_name_of_a_repository_leads_to_the_new_one() {
    let (server, cache) = (Server::start(Faults::default()), TempDir::new().unwrap());
    let hub = hub(&server, cache.path(), Some(TOKEN));
    let listing = listing(&hub, "hf:old/name").unwrap();
    hub.fetch(&listing, &listing.files).unwrap();
}

#[test]
fn passing_failures_are_tried_again() {
    for status in [408, 429, 500, 502, 503, 504] {
        let faults = Faults { statuses: vec![status; 3], ..Faults::default() };
        let (server, cache) = (Server::start(faults), TempDir::new().unwrap());
        fetch_all(&hub(&server, cache.path(), None)).unwrap();
    }
    let faults = Faults { statuses: vec![429; 4], ..Faults::default() };
    let (server, cache) = (Server::start(faults), TempDir::new().unwrap());
    let error = fetch_all(&hub(&server, cache.path(), None)).unwrap_err();
    let expected = "hf:owner/name: status 429, 4 times (`--offline` uses what the cache has)";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_connection_that_breaks_is_resumed() {
    // The last is what breaks first; without progress it would be given up after four.
    let breaks = vec![1, 0, 0, 70_000, 100_000, 1, 1, 1, 1, 1];
    let faults = Faults { break_after: breaks.clone(), ..Faults::default() };
    let (server, cache) = (Server::start(faults), TempDir::new().unwrap());
    fetch_all(&hub(&server, cache.path(), None)).unwrap();
    let ranges: Vec<String> = server
        .requests("GET")
        .into_iter()
        .filter(|request| request.path.starts_with("/store/"))
        .filter_map(|request| request.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges.len(), breaks.len(), "{ranges:?}");
    assert_eq!(ranges[0], "bytes=1-");
    assert_eq!(ranges[9], "bytes=170006-");
}

#[test]
fn a_list_of_files_that_breaks_off_is_asked_for_again() {
    let with = |broken_lists| Server::start(Faults { broken_lists, ..Faults::default() });
    let cache = TempDir::new().unwrap();
    fetch_all(&hub(&with(3), cache.path(), None)).unwrap();
    let error = listing(&hub(&with(4), cache.path(), None), "hf:owner/name").unwrap_err();
    assert!(matches!(error, Error::Unreachable { attempts: 4, .. }), "{error}");
}

#[test]
fn another_process_goes_on_where_one_was_cut_off() {
    let faults = Faults { break_after: vec![0, 0, 0, 0, 1000], ..Faults::default() };
    let (server, cache) = (Server::start(faults), TempDir::new().unwrap());
    let error = fetch_all(&hub(&server, cache.path(), None)).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    fetch_all(&hub(&server, cache.path(), None)).unwrap();
    let last =
        server.requests("GET").into_iter().rfind(|seen| seen.path.starts_with("/store/data/tr"));
    assert_eq!(last.unwrap().headers["range"], "bytes=1000-");
}

#[test]
fn a_server_without_ranges_gives_the_whole_again() {
    let faults = Faults { break_after: vec![5], ignores_range: true, ..Faults::default() };
    let (server, cache) = (Server::start(faults), TempDir::new().unwrap());
    fetch_all(&hub(&server, cache.path(), None)).unwrap();
}

#[test]
fn what_may_not_be_read_says_whether_a_token_was_sent() {
    let faults = Faults { is_private: true, ..Faults::default() };
    let (server, cache) = (Server::start(faults), TempDir::new().unwrap());
    let message = |token| fetch_all(&hub(&server, cache.path(), token)).unwrap_err().to_string();
    assert!(message(None).ends_with("got no token (status 401, GatedRepo)"), "{}", message(None));
    let wrong = message(Some("hf_other"));
    assert!(wrong.ends_with("got this token (status 401, GatedRepo)"), "{wrong}");
    assert!(!wrong.contains("hf_other"), "a token is never shown");
    fetch_all(&hub(&server, cache.path(), Some(TOKEN))).unwrap();
}

#[test]
fn what_is_not_there_is_named() {
    let (server, cache) = (Server::start(Faults::default()), TempDir::new().unwrap());
    let hub = hub(&server, cache.path(), None);
    let error = listing(&hub, "hf:owner/other@v2").unwrap_err();
    assert!(error.to_string().starts_with("hf:owner/other@v2: not found"), "{error}");
    let listing = listing(&hub, "hf:owner/name").unwrap();
    let error = hub.fetch(&listing, &["gone.txt".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("`gone.txt`: not found"), "{error}");
}

#[test]
fn contents_that_are_not_what_the_hub_says_are_refused() {
    let faults = Faults { is_corrupt: true, ..Faults::default() };
    let (server, cache) = (Server::start(faults), TempDir::new().unwrap());
    let error = fetch_all(&hub(&server, cache.path(), None)).unwrap_err();
    assert!(error.to_string().contains("SHA-256: expected"), "{error}");
    // Nothing of it is kept.
    server.faults.lock().unwrap().is_corrupt = false;
    let listing = listing(&hub(&server, cache.path(), None), "hf:owner/name").unwrap();
    let large = listing.files.iter().filter(|name| name.ends_with(".parquet")).cloned();
    let place =
        hub(&server, cache.path(), None).fetch(&listing, &large.collect::<Vec<_>>()).unwrap();
    let name = "data/train-00000 of 1.parquet";
    assert_eq!(std::fs::read(place.join(name)).unwrap(), files()[name]);
}

#[test]
fn names_that_lead_outside_are_refused() {
    let faults = Faults { climbs: true, ..Faults::default() };
    let (server, cache) = (Server::start(faults), TempDir::new().unwrap());
    let error = listing(&hub(&server, cache.path(), None), "hf:owner/name").unwrap_err();
    assert!(error.to_string().ends_with("got ../../outside"), "{error}");
}

#[test]
fn offline_the_cache_is_all_there_is() {
    let (server, cache) = (Server::start(Faults::default()), TempDir::new().unwrap());
    let online = hub(&server, cache.path(), None);
    let offline = hub(&server, cache.path(), None).offline();
    let nothing = listing(&offline, "hf:owner/name").unwrap_err();
    assert!(matches!(nothing, Error::Offline { .. }), "{nothing}");
    let listed = listing(&online, "hf:owner/name").unwrap();
    assert_eq!(listing(&offline, "hf:owner/name").unwrap(), listed);
    let error = offline.fetch(&listed, &listed.files).unwrap_err();
    assert!(error.to_string().contains("`README.md`: not in the cache"), "{error}");
    fetch_all(&online).unwrap();
    let before = server.seen.lock().unwrap().len();
    fetch_all(&offline).unwrap();
    assert_eq!(server.seen.lock().unwrap().len(), before);
}

#[test]
fn a_hub_that_is_down_is_named_after_some_tries() {
    let cache = TempDir::new().unwrap();
    // Nobody listens on the first port.
    let address = "http://127.0.0.1:1".to_owned();
    let hub = Hub::new(address, cache.path().to_path_buf(), None, patience());
    let error = listing(&hub, "hf:owner/name").unwrap_err();
    assert!(matches!(error, Error::Unreachable { attempts: 4, .. }), "{error}");
}

/// In child processes, whose environment is theirs alone.
#[test]
fn the_environment_names_hub_cache_and_token() {
    const CHILD: &str = "SAE_HUB_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let result = fetch_all(&Hub::from_env());
        print!("{}", result.map_or_else(|error| error.to_string(), |()| "fetched".to_owned()));
        return;
    }
    let faults = Faults { is_private: true, ..Faults::default() };
    let (server, home) = (Server::start(faults), TempDir::new().unwrap());
    let at = |name: &str| home.path().join(name).display().to_string();
    std::fs::write(home.path().join("token"), format!("{TOKEN}\n")).unwrap();
    let run = |more: &[(&str, String)]| {
        let mut variables = BTreeMap::from([
            (CHILD, "1".to_owned()),
            ("HF_ENDPOINT", server.address.clone()),
            ("HF_HOME", at("")),
        ]);
        variables.extend(more.iter().cloned());
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "hub::the_environment_names_hub_cache_and_token"])
            .env_clear()
            .envs(
                std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("HF_")),
            )
            .envs(variables)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let offline = ("HF_HUB_OFFLINE", "1".to_owned());
    assert!(run(std::slice::from_ref(&offline)).contains("and offline"));
    let no_token = run(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1".to_owned())]);
    assert!(no_token.contains("got no token"), "{no_token}");
    assert!(run(&[("HF_TOKEN", "hf_wrong".to_owned())]).contains("got this token"));
    assert!(run(&[]).contains("fetched"));
    assert!(home.path().join("hub/datasets--owner--name/blobs").exists());
    assert!(run(&[offline]).contains("fetched"));
    let cache = ("HF_HUB_CACHE", at("other"));
    let token = ("HF_TOKEN", TOKEN.to_owned());
    assert!(run(&[cache, token]).contains("fetched"));
    assert!(home.path().join("other/datasets--owner--name/blobs").exists());
}
