//! What comes of asking, whatever the endpoint does.

use std::sync::Mutex;

use sae_config::Confusion;
use sae_judge::{Budget, Endpoint, Error, Judge, Settings};

use crate::server::{Faults, Server};
use crate::support::{REQUESTS, expected, judge, run, scores, tasks};

#[test]
fn labels_and_scores_are_those_of_the_rule_whatever_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Faults::default());
    for at_once in [1, 5] {
        let path = folder.path().join(format!("{at_once}.jsonl"));
        let asker = judge(&server.address, &path, Budget::default());
        let done = Mutex::new(Vec::new());
        let tasks = Mutex::new(tasks(6).into_iter().map(Ok));
        let outcome = asker.run(&tasks, at_once, &|n| done.lock().unwrap().push(n));
        assert!(outcome.stopped.is_none());
        assert_eq!(scores(&outcome.labels), expected(6));
        assert_eq!(asker.spent(), [6 * REQUESTS as u64, 600 * REQUESTS as u64]);
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, [1, 2, 3, 4, 5, 6]);
        // Asked again, nothing is sent.
        let n_seen = server.n_seen();
        let again = judge(&server.address, &path, Budget::default());
        assert_eq!(run(&again, 6, at_once).labels, outcome.labels);
        assert_eq!(server.n_seen(), n_seen);
    }
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.len(), 12 * REQUESTS);
    for one in seen.iter() {
        assert_eq!(
            (&*one.path, one.key.as_deref()),
            ("/v1/chat/completions", Some("Bearer secret"))
        );
        assert_eq!((&one.body["model"], &one.body["stream"]), (&"by/rule".into(), &false.into()));
        assert_eq!((&one.body["temperature"], &one.body["max_tokens"]), (&0.into(), &1024.into()));
        assert_eq!(one.body["messages"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn what_passes_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let overloaded = (503, "", "busy");
    let limited = (429, "Retry-After: 0\r\n", "{\"error\": {\"message\": \"slow down\"}}");
    for (number, (faults, n_failed)) in [
        (Faults { statuses: vec![overloaded, limited], ..Faults::default() }, 2),
        (Faults { breaks: 2, ..Faults::default() }, 2),
        (Faults { pages: 1, breaks: 1, ..Faults::default() }, 2),
        (Faults { is_strict: true, ..Faults::default() }, 2),
        (Faults { is_silent: true, ..Faults::default() }, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let server = Server::start(faults.clone());
        let path = folder.path().join(format!("{number}.jsonl"));
        let asker = judge(&server.address, &path, Budget::default());
        let outcome = run(&asker, 2, 1);
        assert!(outcome.stopped.is_none(), "{faults:?}: {:?}", outcome.stopped);
        assert_eq!(scores(&outcome.labels), expected(2));
        assert_eq!(server.n_seen(), 2 * REQUESTS + n_failed);
        let [requests, tokens] = asker.spent();
        assert_eq!(requests as usize, server.n_seen());
        assert_eq!(tokens == 200 * REQUESTS as u64, !faults.is_silent);
        assert!(tokens > 1000, "estimated where the endpoint does not count: {tokens}");
        if faults.is_strict {
            let last = server.seen.lock().unwrap().last().unwrap().body.clone();
            assert_eq!(last["max_completion_tokens"], 1024);
            assert!(last.get("max_tokens").is_none() && last.get("temperature").is_none());
        }
    }
}

type Check = fn(&Error) -> bool;

/// What lasts: the fault, the error that comes of it, and requests until then.
fn lasting() -> [(Faults, Check, usize); 6] {
    [
        (
            Faults { statuses: vec![(503, "", ""); 3], ..Faults::default() },
            |e| matches!(e, Error::Unreachable { attempts: 3, .. }),
            3,
        ),
        (
            Faults { pages: 3, ..Faults::default() },
            |e| matches!(e, Error::Unreachable { got, .. } if got.contains("Bad gateway")),
            3,
        ),
        (
            Faults {
                statuses: vec![(401, "", "{\"error\": {\"message\": \"a\\u001bkey\"}}")],
                ..Faults::default()
            },
            |e| matches!(e, Error::Refused { status: 401, said, .. } if said == "a key"),
            1,
        ),
        (
            Faults {
                statuses: vec![(429, "", "{\"error\": {\"code\": \"insufficient_quota\"}}")],
                ..Faults::default()
            },
            |e| matches!(e, Error::Refused { status: 429, .. }),
            1,
        ),
        (
            Faults {
                statuses: vec![(302, "Location: http://127.0.0.1:9/\r\n", "")],
                ..Faults::default()
            },
            |e| matches!(e, Error::Refused { status: 302, .. }),
            1,
        ),
        (
            Faults { statuses: vec![(429, "Retry-After: 3600\r\n", "")], ..Faults::default() },
            |e| matches!(e, Error::Wait { wanted, .. } if wanted.as_secs() == 3600),
            1,
        ),
    ]
}

#[test]
fn what_lasts_ends_it_and_keeps_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let cases = lasting();
    for (number, (faults, is_expected, n_requests)) in cases.into_iter().enumerate() {
        let server = Server::start(Faults::default());
        let path = folder.path().join(format!("{number}.jsonl"));
        let asker = judge(&server.address, &path, Budget::default());
        assert_eq!(run(&asker, 2, 1).labels.len(), 2);
        *server.faults.lock().unwrap() = faults;
        let n_seen = server.n_seen();
        let outcome = run(&asker, 5, 1);
        let error = outcome.stopped.expect("a failure");
        assert!(is_expected(&error), "{error}");
        assert!(!error.to_string().contains("secret"));
        assert_eq!(scores(&outcome.labels), expected(2), "those answered before");
        assert_eq!(server.n_seen() - n_seen, n_requests);
        // It goes on where it was.
        let outcome = run(&judge(&server.address, &path, Budget::default()), 5, 3);
        assert_eq!((scores(&outcome.labels), outcome.stopped.is_none()), (expected(5), true));
        assert_eq!(server.n_seen() - n_seen - n_requests, 3 * REQUESTS);
    }
    // Nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let asker = judge(&format!("http://{free}"), &folder.path().join("down"), Budget::default());
    let error = run(&asker, 1, 2).stopped.expect("a failure").to_string();
    assert!(error.contains("3 attempts") && error.contains(&free.to_string()), "{error}");
}

#[test]
fn answers_that_cannot_be_read_are_no_scores_and_end_it_in_the_long_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    let server = Server::start(Faults::default());
    let asker = judge(&server.address, &path, Budget::default());
    assert_eq!(run(&asker, 1, 1).labels.len(), 1);
    let nonsense = Some("LABEL: the token \"tok1;\"\nI would rather not judge.");
    server.faults.lock().unwrap().nonsense = nonsense;
    let outcome = run(&asker, 2, 1);
    assert!(outcome.stopped.is_none());
    let found = outcome.labels[&1].clone();
    let unanswered = Confusion { unanswered: 12, ..Confusion::default() };
    assert_eq!((found.detection, found.fuzzing), (Some(unanswered), Some(unanswered)));
    assert_eq!(found.detection.unwrap().balanced_accuracy(), None);
    server.faults.lock().unwrap().nonsense = Some("no");
    let error = run(&asker, 30, 1).stopped.expect("a failure");
    assert!(matches!(&error, Error::Unreadable { n: 10, last, .. } if last == "no"), "{error}");
    // They are asked for again.
    server.faults.lock().unwrap().nonsense = None;
    assert_eq!(
        scores(&run(&judge(&server.address, &path, Budget::default()), 2, 1).labels),
        expected(2)
    );
}

#[test]
fn an_answer_that_was_cut_off_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    let server = Server::start(Faults { is_cut_off: true, ..Faults::default() });
    let outcome = run(&judge(&server.address, &path, Budget::default()), 2, 1);
    assert!(outcome.labels.values().all(|judged| judged.label.is_none()));
    assert_eq!(
        (outcome.labels.len(), server.n_seen()),
        (2, 2),
        "without a label nothing is scored"
    );
    let error = run(&judge(&server.address, &path, Budget::default()), 30, 1).stopped;
    let error = error.expect("a failure").to_string();
    assert!(error.contains("cut off at the bound on its tokens"), "{error}");
    server.faults.lock().unwrap().is_cut_off = false;
    let asker = judge(&server.address, &path, Budget::default());
    assert_eq!(scores(&run(&asker, 2, 1).labels), expected(2), "they are asked for again");
}

#[test]
fn a_budget_is_of_all_calls() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Faults::default());
    for (number, (budget, n_requests)) in [
        (Budget { requests: Some(10), tokens: None }, 10),
        (Budget { requests: None, tokens: Some(950) }, 10),
        (Budget { requests: Some(7), tokens: Some(100_000) }, 7),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{number}.jsonl"));
        let n_seen = server.n_seen();
        for _ in 0..2 {
            let outcome = run(&judge(&server.address, &path, budget), 5, 1);
            assert_eq!(scores(&outcome.labels), expected(1));
            let error = outcome.stopped.expect("it is spent");
            assert!(matches!(error, Error::Budget { .. }), "{error}");
            assert_eq!(server.n_seen() - n_seen, n_requests);
        }
    }
}

#[test]
fn another_model_or_prompt_is_asked_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    let server = Server::start(Faults::default());
    let endpoint = |model: &str| {
        let (url, model) = (server.address.clone(), model.to_owned());
        Endpoint::new(Settings { url, model, ..Settings::default() }).unwrap()
    };
    for (model, n_seen) in [("a", REQUESTS), ("b", 2 * REQUESTS), ("a", 2 * REQUESTS)] {
        let asker = Judge::open(endpoint(model), &path, Budget::default()).unwrap();
        let labels = run(&asker, 1, 1).labels;
        assert_eq!((&*labels[&0].model, server.n_seen()), (model, n_seen));
    }
    assert!(server.seen.lock().unwrap()[0].key.is_none());
}
