//! Batches straight from a tiny host: those of a store, windows, places, refusals.

mod refusals;

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use sae_config::DataConfig;
use sae_data::{BatchSource, Loader, LoaderConfig, Ports, Statistics, open_store, zip};
use sae_hosts::{HarvestOptions, HookPoint, HostModel, Live, corpus, harvest_corpus};
use tch::Device;
use tempfile::TempDir;

use crate::harvest::host_in;

const TEXTS: [&str; 4] = [
    "The quick brown fox jumps over the lazy dog.",
    "x",
    "Pack my box\nwith five dozen jugs of liquor, and then some more of it",
    "Sphinx of black quartz, judge my vow",
];

/// A host and texts in a folder of their own.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let host = folder.path().join("host");
    std::fs::create_dir(&host).unwrap();
    drop(host_in(&host));
    std::fs::create_dir(folder.path().join("texts")).unwrap();
    for (i, text) in TEXTS.iter().enumerate() {
        std::fs::write(folder.path().join(format!("texts/{i}.txt")), text).unwrap();
    }
    folder
}

/// Live data of short contexts; `more` are lines of the section.
fn data(folder: &Path, more: &str) -> DataConfig {
    let (host, texts) = (folder.join("host"), folder.join("texts"));
    let mut table: toml::Table = format!(
        "host = {host:?}\nhook = 'resid_post.1'\ncontext_length = 5\nskip_positions = 1\n\
         corpus.path = {texts:?}"
    )
    .parse()
    .unwrap();
    for (key, value) in more.parse::<toml::Table>().unwrap() {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => old.extend(new),
            (_, value) => drop(table.insert(key, value)),
        }
    }
    table.try_into().unwrap()
}

fn open(data: &DataConfig, batch_size: usize, seed: u64) -> Live {
    Live::open(data, batch_size, seed, Device::Cpu).unwrap()
}

/// The next batch of each port.
fn next(source: &mut dyn BatchSource) -> Ports<Vec<f32>> {
    let n_rows = source.batch_size();
    let mut rows = source.ports().as_ref().map(|port| vec![0.0; n_rows * port.dimension]);
    source.next_batch(rows.as_mut().map(Vec::as_mut_slice)).unwrap();
    rows
}

/// Stores of the hook points of live data, harvested one by one.
fn harvested(data: &DataConfig, out: &Path) -> Ports<Arc<dyn sae_data::ActivationStore>> {
    let live = data.live.as_ref().unwrap();
    let host = HostModel::load(&live.host, Device::Cpu).unwrap();
    let options = HarvestOptions {
        context_length: live.context_length,
        skip_positions: live.skip_positions,
        bos: live.bos.into(),
        special_tokens: live.special_tokens.into(),
        ..HarvestOptions::default()
    };
    let store = |hook: &String| {
        let (place, hook) = (out.join(hook), hook.parse::<HookPoint>().unwrap());
        let documents = corpus::open(&live.corpus, host.tokenizer().unwrap()).unwrap();
        let progress = &mut |_: &_| std::ops::ControlFlow::Continue(());
        harvest_corpus(&host, documents, &live.corpus, hook, &options, &place, progress).unwrap();
        open_store(&place).unwrap()
    };
    match &live.target_hook {
        None => store(&live.hook).into(),
        Some(target) => zip(store(&live.hook), store(target)).unwrap(),
    }
}

#[test]
fn one_window_gives_the_batches_of_a_store_in_every_epoch() {
    let folder = folder();
    for more in [
        "",
        "target_hook = 'mlp_out.0'",
        "hook = 'mlp_in.1'\ntarget_hook = 'mlp_out.1'\nskip_positions = 0\ncontext_length = 9",
        "corpus.packing = 'packed'\ncontext_length = 7",
        "corpus.shuffle = { seed = 3 }\ncorpus.max_tokens = 61",
    ] {
        let data = data(folder.path(), more);
        let stores = harvested(&data, &TempDir::new().unwrap().keep());
        for (batch_size, seed) in [(1, 0), (7, 1), (200, 2)] {
            let config = LoaderConfig { batch_size, seed, ..LoaderConfig::default() };
            let mut loader = Loader::open(stores.clone(), config).unwrap();
            let mut live = open(&data, batch_size, seed);
            let expected = stores.as_ref().try_map(|store| Statistics::of(&**store)).unwrap();
            assert_eq!(live.statistics().unwrap(), expected, "{more}");
            let epochs = |source: &dyn BatchSource| source.position().epoch();
            while epochs(&loader).unwrap() < 3 {
                assert_eq!(next(&mut live), next(&mut loader), "{more}, {batch_size} rows");
                assert_eq!(epochs(&live), epochs(&loader), "{more}, {batch_size} rows");
            }
        }
    }
}

#[test]
fn windows_follow_the_corpus_and_hold_each_row_once_an_epoch() {
    let folder = folder();
    // 16 contexts of 4 rows are the least.
    let d_model = open(&data(folder.path(), ""), 1, 0).host().info().d_model;
    let window_rows = 64;
    let data = data(folder.path(), &format!("window_bytes = {}", 4 * d_model * window_rows));
    let stores = harvested(&data, &TempDir::new().unwrap().keep());
    let n_rows = stores.input.n_rows() as usize;
    assert!(n_rows > window_rows, "{n_rows} rows");
    let mut rows = vec![0.0; n_rows * d_model];
    stores.input.read_rows(0, &mut rows).unwrap();
    let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let stored: Vec<_> = rows.chunks(d_model).map(bits).collect();
    let mut live = open(&data, 1, 5);
    let mut orders = Vec::new();
    for epoch in 0..3 {
        let given: Vec<_> = (0..n_rows).map(|_| bits(&next(&mut live).input)).collect();
        assert_eq!(live.position().epoch(), Some(epoch + 1));
        for (at, row) in given.iter().enumerate() {
            let is_near = |place: usize| place.abs_diff(at) < window_rows;
            let found = (0..n_rows).any(|place| stored[place] == *row && is_near(place));
            assert!(found, "epoch {epoch}, row {at} comes from another window");
        }
        let (mut sorted, mut expected) = (given.clone(), stored.clone());
        sorted.sort();
        expected.sort();
        assert_eq!(sorted, expected, "epoch {epoch}");
        orders.push(given);
    }
    assert!(orders[0] != orders[1] && orders[1] != orders[2] && orders[0] != stored);
}

#[test]
fn a_saved_place_goes_on_to_the_bit() {
    let folder = folder();
    let d_model = open(&data(folder.path(), ""), 1, 0).host().info().d_model;
    proptest!(ProptestConfig::with_cases(24), |(
        seed in any::<u64>(),
        batch_size in 1..90_usize,
        window_rows in 64..120_usize,
        n_before in 0..12_usize,
        more in prop::sample::select(vec![
            "", "target_hook = 'attn_out.1'", "min_position = 2\nmax_position = 3",
            "corpus.packing = 'packed'", "corpus.shuffle = { seed = 9, window = 2 }",
        ]),
    )| {
        let window = format!("window_bytes = {}\n{more}", 4 * d_model * window_rows);
        let data = data(folder.path(), &window);
        let mut whole = open(&data, batch_size, seed);
        let first = whole.position();
        for _ in 0..n_before {
            next(&mut whole);
        }
        let place = whole.position();
        let json = serde_json::to_string(&place).unwrap();
        let mut again = open(&data, batch_size, seed);
        again.resume(&serde_json::from_str(&json).unwrap()).unwrap();
        prop_assert_eq!(again.position(), place);
        for _ in 0..4 {
            prop_assert_eq!(next(&mut again), next(&mut whole));
            prop_assert_eq!(again.position(), whole.position());
        }
        // Back to the start, whatever was read.
        again.resume(&first).unwrap();
        let mut fresh = open(&data, batch_size, seed);
        prop_assert_eq!(next(&mut again), next(&mut fresh));
    });
}

#[test]
fn the_identity_is_that_of_what_can_come() {
    let folder = folder();
    let identity = |more: &str, batch_size, seed| {
        open(&data(folder.path(), more), batch_size, seed).identity().unwrap()
    };
    let plain = identity("", 4, 0);
    assert_eq!(plain, identity("", 9, 3), "how it comes is no part of it");
    let moved = folder.path().join("moved");
    std::fs::rename(folder.path().join("host"), &moved).unwrap();
    assert_eq!(identity(&format!("host = {moved:?}"), 4, 0), plain, "nor where the host lies");
    std::fs::rename(&moved, folder.path().join("host")).unwrap();
    std::fs::rename(folder.path().join("texts"), &moved).unwrap();
    assert_eq!(identity(&format!("corpus.path = {moved:?}"), 4, 0), plain, "nor the corpus");
    std::fs::rename(&moved, folder.path().join("texts")).unwrap();
    let mut all = vec![plain.clone()];
    for more in [
        "hook = 'mlp_in.1'",
        "target_hook = 'mlp_out.1'",
        "context_length = 6",
        "skip_positions = 0",
        "special_tokens = 'keep'",
        "min_position = 2",
        "max_position = 3",
        "corpus.packing = 'packed'",
        "corpus.max_tokens = 9",
    ] {
        all.push(identity(more, 4, 0));
    }
    std::fs::write(folder.path().join("texts/1.txt"), "y").unwrap();
    all.push(identity("", 4, 0));
    let n = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), n, "each differs");
}
