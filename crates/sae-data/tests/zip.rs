//! Input and target: rows matched by what is known of them, and the loader that gives both.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use sae_data::{
    ActivationStore, BatchSource, Dtype, Loader, LoaderConfig, PlantedConfig, Ports, RowMeta,
    Selection, StoreSpec, StoreWriter, StreamPosition, open_store, zip,
};

/// Row number n as (document, position): three rows a document.
fn meta(n: u32) -> RowMeta {
    RowMeta { token_id: 100 + n, document: n / 3, position: n % 3 }
}

/// A store of these rows, each of width `d` and filled with `n·factor`.
fn write(path: &Path, d: usize, factor: f32, rows: &[RowMeta]) -> Arc<dyn ActivationStore> {
    let spec = StoreSpec { rows_per_shard: 16, ..StoreSpec::new(d, Dtype::F32) };
    let mut writer = StoreWriter::create(path, spec).unwrap();
    for meta in rows {
        let value = (meta.token_id - 100) as f32 * factor;
        writer.append(&vec![value; d], std::slice::from_ref(meta)).unwrap();
    }
    writer.finish().unwrap();
    open_store(path).unwrap()
}

fn column(store: &dyn ActivationStore) -> Vec<f32> {
    let d = store.d_model();
    let mut rows = vec![0.0; d * store.n_rows() as usize];
    store.read_rows(0, &mut rows).unwrap();
    rows.chunks(d).map(|row| row[0]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn rows_in_any_order_and_a_subset_find_their_target(
        (input, target) in (1usize..40).prop_flat_map(|n| {
            let all = || Just((0..n as u32).collect::<Vec<_>>());
            (all().prop_shuffle(), 1..=n, all().prop_shuffle(), any::<[bool; 2]>())
        }).prop_map(|(mut input, kept, mut target, [sorts_input, sorts_target])| {
            input.truncate(kept);
            if sorts_input { input.sort_unstable(); }
            if sorts_target { target.sort_unstable(); }
            (input, target)
        }),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let rows = |numbers: &[u32]| numbers.iter().map(|n| meta(*n)).collect::<Vec<_>>();
        let input_store = write(&dir.path().join("in"), 2, 1.0, &rows(&input));
        let target_store = write(&dir.path().join("out"), 3, 10.0, &rows(&target));
        let both = zip(input_store, target_store).unwrap();
        let expected: Vec<f32> = input.iter().map(|n| *n as f32 * 10.0).collect();
        prop_assert_eq!(column(&**both.output()), expected);
        prop_assert_eq!(both.input.n_rows(), both.output().n_rows());
    }

    /// Batches of the input are those of the store alone, and each row has its target.
    #[test]
    fn a_target_changes_nothing_of_the_order(
        seed: u64, n_rows in 1u32..60, batch_size in 1usize..9, block in 1usize..9,
        window in 1usize..70, turned: bool, n_before in 0usize..9,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut rows: Vec<RowMeta> = (0..n_rows).map(meta).collect();
        let input = write(&dir.path().join("in"), 2, 1.0, &rows);
        if turned { rows.reverse(); }
        let target = write(&dir.path().join("out"), 5, 10.0, &rows);
        let config = LoaderConfig {
            batch_size, seed, block_bytes: block * 8, window_bytes: window * 8,
            ..LoaderConfig::default()
        };
        let mut alone = Loader::new(Arc::clone(&input), config.clone()).unwrap();
        let stores = zip(input, target).unwrap();
        let mut both = Loader::open(stores.clone(), config.clone()).unwrap();
        let mut next = |both: &mut dyn BatchSource| {
            let (mut x, mut t) = (vec![0.0; 2 * batch_size], vec![0.0; 5 * batch_size]);
            both.next_batch(Ports { input: &mut x, target: Some(&mut t) }).unwrap();
            let mut expected = vec![0.0; 2 * batch_size];
            alone.next_batch(&mut expected).unwrap();
            assert_eq!(x, expected);
            for (x, t) in x.chunks(2).zip(t.chunks(5)) {
                assert_eq!(t, [x[0] * 10.0; 5]);
            }
        };
        for _ in 0..n_before {
            next(&mut both);
        }
        let saved = serde_json::to_string(&BatchSource::position(&both)).unwrap();
        let position: StreamPosition = serde_json::from_str(&saved).unwrap();
        let mut resumed = Loader::open(stores, config).unwrap();
        BatchSource::resume(&mut resumed, &position).unwrap();
        for _ in 0..3 {
            next(&mut resumed);
        }
    }
}

#[test]
fn rows_that_do_not_match_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<RowMeta> = (0..9).map(meta).collect();
    let (mut shuffled, mut short) = (all.clone(), all.clone());
    shuffled.swap(0, 8);
    short.remove(4);
    let with = |at: usize, meta: RowMeta, rows: &[RowMeta]| {
        let mut rows = rows.to_vec();
        rows[at] = meta;
        rows
    };
    let token = |at: usize, rows: &[RowMeta]| with(at, RowMeta { token_id: 777, ..rows[at] }, rows);
    let cases = [
        (&all, &short, "row 4, document 1, position 1", "expected a row of"),
        (&all, &token(5, &all), "row 5", "expected token 105 at document 1, position 2"),
        (&all, &token(8, &shuffled), "token 777 in row 8", "expected token 100 at document 0"),
        (
            &with(3, all[2], &all),
            &all,
            "rows 2 and 3 of document 0, position 2",
            "expected one row",
        ),
        (
            &all,
            &with(8, all[1], &all),
            "rows 1 and 8 of document 0, position 1",
            "expected one row",
        ),
        (&with(3, all[2], &all), &with(3, all[2], &all), "rows 2 and 3", "expected one row"),
    ];
    for (i, (input, target, which, what)) in cases.into_iter().enumerate() {
        let at = |name: &str| dir.path().join(format!("{name}{i}"));
        let stores = (write(&at("in"), 2, 1.0, input), write(&at("out"), 2, 1.0, target));
        let message = zip(stores.0, stores.1).unwrap_err().to_string();
        assert!(message.contains(which) && message.contains(what), "{i}: {message}");
    }
    let plain = dir.path().join("x_9_2.npy");
    std::fs::write(&plain, [0; 72]).unwrap();
    let (plain, store) = (open_store(&plain).unwrap(), write(&dir.path().join("s"), 2, 1.0, &all));
    for (input, target) in [(&plain, &store), (&store, &plain)] {
        let message = zip(Arc::clone(input), Arc::clone(target)).unwrap_err().to_string();
        assert!(message.contains("x_9_2.npy: expected token, document and position"), "{message}");
    }
}

#[test]
fn a_loader_refuses_slices_and_targets_that_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<RowMeta> = (0..9).map(meta).collect();
    let input = write(&dir.path().join("in"), 2, 1.0, &all);
    let target = write(&dir.path().join("out"), 3, 1.0, &all);
    let config = LoaderConfig { batch_size: 4, ..LoaderConfig::default() };
    let mut both =
        Loader::open(zip(Arc::clone(&input), Arc::clone(&target)).unwrap(), config.clone())
            .unwrap();
    let mut alone = Loader::open(Arc::clone(&input), config.clone()).unwrap();
    let (mut x, mut t) = ([0.0; 8], [0.0; 12]);
    let message = both.next_batch(&mut x).unwrap_err().to_string();
    assert_eq!(message, "target of the batch: expected 12 values, got nothing");
    let slices = Ports { input: &mut x[..], target: Some(&mut t[..]) };
    let message = BatchSource::next_batch(&mut alone, slices).unwrap_err().to_string();
    assert_eq!(message, "target of the batch: expected nothing, got 12");
    let slices = Ports { input: &mut x[..], target: Some(&mut t[..11]) };
    let message = BatchSource::next_batch(&mut both, slices).unwrap_err().to_string();
    assert_eq!(message, "target of the batch: expected 12 values, got 11");
    assert_ne!(both.identity().unwrap(), alone.identity().unwrap());
    assert_eq!(alone.identity().unwrap(), input.content_hash().unwrap());
    let few = Arc::new(Selection::by_index(target, [1, 2]).unwrap());
    let unequal = Ports { input, target: Some(few as Arc<dyn ActivationStore>) };
    let message = Loader::open(unequal, config).unwrap_err().to_string();
    assert_eq!(message, "target: expected 9 rows, as the input has, got 2");
}

/// Two contexts of one document: each position comes twice.
#[test]
fn rows_of_two_hook_points_of_one_harvest_belong_together_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<_> =
        (0..8).map(|n| RowMeta { token_id: 100 + n, document: 0, position: 1 + n % 4 }).collect();
    let store = |name: &str, change: &dyn Fn(&mut StoreSpec), rows: &[RowMeta]| {
        let mut spec = StoreSpec::new(2, Dtype::F32);
        spec.provenance.host_hash = Some("of the host".into());
        spec.provenance.tokenizer_hash = Some("of the tokenizer".into());
        spec.provenance.hook_point = name.into();
        spec.provenance.settings.insert("context_length".into(), "5".into());
        change(&mut spec);
        let mut writer = StoreWriter::create(&dir.path().join(name), spec).unwrap();
        for meta in rows {
            writer.append(&[meta.token_id as f32; 2], std::slice::from_ref(meta)).unwrap();
        }
        writer.finish().unwrap();
        open_store(&dir.path().join(name)).unwrap()
    };
    let input = store("input", &|_| {}, &rows);
    let both = zip(Arc::clone(&input), store("target", &|_| {}, &rows)).unwrap();
    assert_eq!(column(&**both.output()), column(&*both.input));

    let turned: Vec<_> = rows.iter().rev().copied().collect();
    let length = |spec: &mut StoreSpec| {
        spec.provenance.settings.insert("context_length".into(), "9".into());
    };
    let unknown = |spec: &mut StoreSpec| spec.provenance.host_hash = None;
    for other in [
        store("fewer", &|_| {}, &rows[..7]),
        store("turned", &|_| {}, &turned),
        store("length", &length, &rows),
        store("unknown", &unknown, &rows),
    ] {
        let error = zip(Arc::clone(&input), other).unwrap_err().to_string();
        assert!(error.contains("one row of each document and position"), "{error}");
    }
}

#[test]
fn planted_rows_of_two_seeds_are_no_pair() {
    let dir = tempfile::tempdir().unwrap();
    let plant = |name: &str, seed: u64, noise: f64| {
        let config = PlantedConfig {
            n_rows: 8,
            d_model: 4,
            n_features: 8,
            k_min: 1,
            k_max: 2,
            seed,
            noise,
            ..PlantedConfig::default()
        };
        let path = dir.path().join(name);
        config.write(&path, Dtype::F32).unwrap();
        open_store(&path).unwrap()
    };
    let (input, clean, other) = (plant("a", 3, 0.1), plant("b", 3, 0.0), plant("c", 4, 0.1));
    zip(Arc::clone(&input), clean).unwrap();
    let error = zip(input, other).unwrap_err().to_string();
    assert!(
        error.ends_with("expected planted rows of seed 3, as the input has it, got seed 4"),
        "{error}"
    );
}
