//! Harvests of several hook points in one pass: the bytes of single ones, whatever breaks them off.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sae_hosts::corpus::Texts;
use sae_hosts::{Cut, Error, HarvestProgress, HookPoint, HostModel, harvest, harvest_at};
use tempfile::TempDir;

use crate::harvest::{files, host, options, texts};

const HOOKS: [&str; 3] = ["mlp_out.1", "embed", "mlp_in.1"];

/// The hook points, and a folder in `out` for each.
fn places(out: &Path) -> Vec<(HookPoint, PathBuf)> {
    HOOKS.map(|hook| (hook.parse().unwrap(), out.join(hook))).to_vec()
}

/// Harvests all, until `n_batches` are done.
fn run(host: &HostModel, out: &Path, mut n_batches: u32) -> Result<HarvestProgress, Error> {
    let (texts, places) = (texts(), places(out));
    let stores: Vec<(HookPoint, &Path)> =
        places.iter().map(|(hook, out)| (*hook, &**out)).collect();
    let cut = Cut::new(options().context_length, None);
    harvest_at(host, Box::new(Texts::new(&texts)), cut, &stores, &options(), &mut |_| {
        n_batches = n_batches.saturating_sub(1);
        if n_batches == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

fn single(host: &HostModel, hook: HookPoint, out: &Path) -> HarvestProgress {
    let goes_on = &mut |_: &_| ControlFlow::Continue(());
    harvest(host, &texts(), hook, &options(), out, goes_on).unwrap()
}

#[test]
fn each_store_has_the_bytes_of_a_harvest_of_its_own() {
    let (_folder, host) = host();
    let (alone, whole) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let expected: Vec<_> =
        places(alone.path()).iter().map(|(hook, out)| single(&host, *hook, out)).collect();
    let done = run(&host, whole.path(), u32::MAX).unwrap();
    assert!(expected.iter().all(|alone| *alone == done), "{expected:?}, {done:?}");
    let check = |out: &Path, what: &str| {
        for hook in HOOKS {
            let (expected, got) = (files(&alone.path().join(hook)), files(&out.join(hook)));
            assert!(expected == got, "{hook}, {what}");
        }
    };
    check(whole.path(), "whole");
    for n in 1..4 {
        let out = TempDir::new().unwrap();
        assert!(matches!(run(&host, out.path(), n), Err(Error::Interrupted { .. })));
        // One of them is finished, as a kill between two leaves it.
        let (hook, place) = &places(out.path())[0];
        single(&host, *hook, place);
        run(&host, out.path(), u32::MAX).unwrap();
        check(out.path(), "broken off");
        let again = run(&host, out.path(), u32::MAX).unwrap_err().to_string();
        assert!(again.ends_with("expected an unfinished store, got a finished one"), "{again}");
    }
}

#[test]
fn hook_points_and_stores_that_come_twice_are_refused() {
    let (_folder, host) = host();
    let out = TempDir::new().unwrap();
    let [a, b] = ["resid_pre.1", "resid_post.1"].map(|hook| hook.parse::<HookPoint>().unwrap());
    let (one, two) = (out.path().join("one"), out.path().join("two"));
    for stores in [vec![(a, &*one), (a, &*two)], vec![(a, &*one), (b, &*one)], vec![]] {
        let texts = texts();
        let documents = Box::new(Texts::new(&texts));
        let goes_on = &mut |_: &_| ControlFlow::Continue(());
        let cut = Cut::new(10, None);
        let error = harvest_at(&host, documents, cut, &stores, &options(), goes_on).unwrap_err();
        assert!(error.to_string().starts_with("hook points: expected "), "{error}");
    }
}
