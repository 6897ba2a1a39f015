//! Properties over sizes, batch sizes, shards, ranks and threads.

use std::sync::Arc;

use proptest::prelude::*;
use sae_data::{Loader, LoaderConfig, Statistics, open_store};

use crate::support::{number, store};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn ranks_see_each_row_exactly_once_an_epoch(
        n_rows in 1..300_u64,
        rows_per_shard in 20..100_u64,
        batch_size in 1..40_usize,
        block_rows in 1..30_usize,
        window_rows in 1..100_usize,
        world_size in 1..4_u64,
        threads in 1..4_usize,
        seed: u64,
    ) {
        prop_assume!(world_size <= n_rows);
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), n_rows, 2, rows_per_shard);
        let mut epochs = [Vec::new(), Vec::new()];
        for rank in 0..world_size {
            let config = LoaderConfig {
                batch_size,
                seed,
                world_size,
                rank,
                block_bytes: block_rows * 8,
                window_bytes: window_rows * 8,
                threads,
            };
            let one_thread = LoaderConfig { threads: 1, batch_size: 1, ..config.clone() };
            let mut loader = Loader::new(Arc::clone(&store), config).unwrap();
            let mut reference = Loader::new(Arc::clone(&store), one_thread).unwrap();
            let (mut batch, mut expected) = (vec![f32::NAN; batch_size * 2], [f32::NAN; 2]);
            while loader.position().epoch < 2 {
                loader.next_batch(&mut batch).unwrap();
                for row in batch.chunks(2) {
                    let epoch = reference.position().epoch;
                    reference.next_batch(&mut expected).unwrap();
                    prop_assert_eq!(row, &expected);
                    if let Some(epoch) = epochs.get_mut(epoch as usize) {
                        epoch.push(number(row));
                    }
                }
            }
        }
        for mut epoch in epochs {
            epoch.sort_unstable();
            prop_assert_eq!(epoch, (0..n_rows).collect::<Vec<_>>());
        }
    }

    #[test]
    fn statistics_are_those_of_the_definition(
        n_rows in 1..400_u64,
        d_model in 2..12_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), n_rows, d_model, 97);
        let s = Statistics::of(&*store).unwrap();
        let rows = crate::support::rows(0..n_rows, d_model);
        prop_assert_eq!(&Statistics::of_rows(&rows, d_model).unwrap(), &s);
        let n = n_rows as f64;
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-11 * (1.0 + b.abs());
        let mut centred = 0.0;
        for column in 0..d_model {
            let values = || rows.iter().skip(column).step_by(d_model).map(|&x| f64::from(x));
            let mean = values().sum::<f64>() / n;
            let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            prop_assert!(close(s.mean[column], mean) && close(s.variance[column], variance));
            centred += variance;
        }
        let squared = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        let squares: Vec<f64> = rows.chunks(d_model).map(squared).collect();
        prop_assert!(close(s.mean_squared_norm, squares.iter().sum::<f64>() / n));
        prop_assert!(close(s.mean_squared_centred_norm, centred));
        let mut norms: Vec<f64> = squares.iter().map(|s| f64::from(s.sqrt() as f32)).collect();
        norms.sort_by(f64::total_cmp);
        let middle = norms.len() / 2;
        let median = (norms[middle] + norms[(norms.len() - 1) / 2]) / 2.0;
        prop_assert!(close(s.median_norm, median));
        prop_assert!(close(s.min_norm, norms[0]) && close(s.max_norm, norms[norms.len() - 1]));
        prop_assert!(close(s.mean_norm, norms.iter().sum::<f64>() / n));
    }

    #[test]
    fn any_other_key_in_a_manifest_is_refused_by_name(key in "[a-z_]{1,12}", level in 0..3_usize) {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path(), 3, 2, 4);
        let path = dir.path().join("manifest.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        let place = match level {
            0 => &mut manifest,
            1 => &mut manifest["provenance"],
            _ => &mut manifest["shards"][0],
        };
        prop_assume!(place.get(&key).is_none() && !["image_hashes", "image_names", "row_metadata", "frames"].contains(&&*key));
        place[&key] = 1.into();
        std::fs::write(&path, manifest.to_string()).unwrap();
        let error = open_store(dir.path()).unwrap_err().to_string();
        prop_assert!(error.contains(&format!("unknown field `{key}`")), "{}", error);
    }

    #[test]
    fn any_other_tensor_in_a_shard_is_refused_by_name(name in "[a-z_]{1,12}", before: bool) {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path(), 3, 2, 4);
        let path = dir.path().join("shard-00000.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let header = std::str::from_utf8(&bytes[8..1024]).unwrap().trim_end().to_owned();
        prop_assume!(!header.contains(&format!("\"{name}\"")));
        // One that is empty, where the last tensor ends, changes no other byte.
        let end = bytes.len() - 1024;
        let entry = format!(r#""{name}":{{"dtype":"F32","shape":[0],"data_offsets":[{end},{end}]}}"#);
        let header = match before {
            true => format!("{{{entry},{}", &header[1..]),
            false => format!("{},{entry}}}", &header[..header.len() - 1]),
        };
        bytes[8..1024].fill(b' ');
        bytes[8..8 + header.len()].copy_from_slice(header.as_bytes());
        std::fs::write(&path, bytes).unwrap();
        let error = open_store(dir.path()).unwrap_err().to_string();
        prop_assert!(error.contains("the tensors of a shard only") && error.contains(&name), "{}", error);
    }
}
