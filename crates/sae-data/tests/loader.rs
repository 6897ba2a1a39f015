//! The loader: resume to the bit, mixing, and errors that name the setting.

use std::sync::Arc;

use sae_data::{Error, Loader, LoaderConfig};

use crate::support::{number, store};

fn next_batch(loader: &mut Loader) -> sae_data::Result<Vec<f32>> {
    let mut batch = vec![f32::NAN; loader.batch_size() * loader.d_model()];
    loader.next_batch(&mut batch).map(|()| batch)
}

fn numbers(loader: &mut Loader, n_batches: usize) -> Vec<u64> {
    let d_model = loader.d_model();
    let mut all = Vec::new();
    for _ in 0..n_batches {
        all.extend(next_batch(loader).unwrap().chunks(d_model).map(number));
    }
    all
}

#[test]
fn resumes_to_the_bit_from_every_batch() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 103, 4, 40);
    let config = LoaderConfig {
        batch_size: 16,
        seed: 5,
        block_bytes: 3 * 16,
        window_bytes: 30 * 16,
        ..LoaderConfig::default()
    };
    let mut whole = Loader::new(Arc::clone(&store), config.clone()).unwrap();
    let mut positions = vec![whole.position()];
    let mut batches = Vec::new();
    for _ in 0..20 {
        batches.push(next_batch(&mut whole).unwrap());
        positions.push(whole.position());
    }
    for (i, position) in positions[..20].iter().enumerate() {
        let saved = serde_json::to_string(position).unwrap();
        let position = serde_json::from_str(&saved).unwrap();
        let mut resumed = Loader::resume(Arc::clone(&store), config.clone(), &position).unwrap();
        assert_eq!(resumed.position(), position);
        for batch in batches[i..].iter().take(4) {
            assert_eq!(&next_batch(&mut resumed).unwrap(), batch);
        }
    }
}

#[test]
fn a_batch_may_hold_several_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let config = LoaderConfig { batch_size: 25, ..LoaderConfig::default() };
    let mut loader = Loader::new(store(dir.path(), 10, 4, 4), config).unwrap();
    let seen = numbers(&mut loader, 2);
    for epoch in seen.chunks(10) {
        let mut rows = epoch.to_vec();
        rows.sort_unstable();
        assert_eq!(rows, (0..10).collect::<Vec<_>>());
    }
    assert_eq!((loader.position().epoch, loader.position().row), (5, 0));
}

/// What the documentation of `Loader` says of mixing, measured: rows of one block in one batch,
/// and how far apart neighbours of the store come to be.
#[test]
fn neighbours_are_far_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (n_rows, block, window, batch) = (16_000_u64, 20_u64, 4_000_u64, 200_usize);
    let config = LoaderConfig {
        batch_size: batch,
        seed: 3,
        block_bytes: block as usize * 16,
        window_bytes: window as usize * 16,
        ..LoaderConfig::default()
    };
    let mut loader = Loader::new(store(dir.path(), n_rows, 4, 5_000), config).unwrap();
    let stream = numbers(&mut loader, n_rows as usize / batch);

    let mut of_own_block = 0_u64;
    for rows in stream.chunks(batch) {
        let mut counts = std::collections::HashMap::<u64, u64>::new();
        rows.iter().for_each(|row| *counts.entry(row / block).or_default() += 1);
        of_own_block += counts.values().map(|n| n * (n - 1)).sum::<u64>();
    }
    let measured = of_own_block as f64 / n_rows as f64;
    let stated = (batch - 1) as f64 * (block - 1) as f64 / (window - 1) as f64;
    assert!((measured / stated - 1.0).abs() < 0.1, "measured {measured}, stated {stated}");

    let mut place = vec![0_i64; n_rows as usize];
    stream.iter().enumerate().for_each(|(i, &row)| place[row as usize] = i as i64);
    let mean =
        place.windows(2).map(|p| (p[1] - p[0]).abs() as f64).sum::<f64>() / (n_rows - 1) as f64;
    assert!(mean > window as f64 / 3.0 * 0.9, "neighbours are {mean} rows apart on average");
}

#[test]
fn refuses_settings_and_positions_that_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 10, 4, 4);
    let new = |config| Loader::new(Arc::clone(&store), config).unwrap_err().to_string();
    let base = LoaderConfig::default;
    assert!(new(LoaderConfig { batch_size: 0, ..base() }).starts_with("batch_size"));
    assert!(new(LoaderConfig { threads: 0, ..base() }).starts_with("threads"));
    assert!(new(LoaderConfig { world_size: 11, ..base() }).starts_with("world_size"));
    assert!(new(LoaderConfig { rank: 1, ..base() }).starts_with("rank"));

    let position = Loader::new(Arc::clone(&store), base()).unwrap().position();
    let resume = |config, position| {
        Loader::resume(Arc::clone(&store), config, &position).unwrap_err().to_string()
    };
    let other_seed = resume(LoaderConfig { seed: 9, ..base() }, position.clone());
    assert_eq!(other_seed, "loader position: seed: expected 9, got 0");
    let mut other_store = position.clone();
    other_store.n_rows = 11;
    assert_eq!(resume(base(), other_store), "loader position: n_rows: expected 10, got 11");
    let mut beyond = position;
    beyond.row = 10;
    assert_eq!(resume(base(), beyond), "loader position: row: expected below 10, got 10");
}

#[test]
fn a_failed_read_stops_the_loader() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1000, 4, 1000);
    let config = LoaderConfig {
        batch_size: 10,
        block_bytes: 160,
        window_bytes: 16 * 50,
        threads: 2,
        ..LoaderConfig::default()
    };
    let mut loader = Loader::new(Arc::clone(&store), config).unwrap();
    let shard = store.locate(0).0;
    std::fs::OpenOptions::new().write(true).open(&shard).unwrap().set_len(2000).unwrap();
    let mut few = vec![0.0; 39];
    let error = loader.next_batch(&mut few).unwrap_err().to_string();
    assert_eq!(error, "batch: expected 40 values, got 39");
    let error = (0..1000).find_map(|_| next_batch(&mut loader).err()).unwrap();
    assert!(matches!(&error, Error::Changed { path, .. } if *path == shard), "{error}");
    assert!(matches!(next_batch(&mut loader), Err(Error::Stopped)));
}
