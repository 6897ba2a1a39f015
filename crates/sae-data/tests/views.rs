//! Selections, concatenations, cached statistics and inspection.

use std::sync::Arc;

use sae_data::{
    ActivationStore, Concatenation, Dtype, Error, Inspection, NpyWriter, Provenance, RowMeta,
    Selection, Statistics, StoreWriter, open_store,
};

use crate::support::{meta, read_all, row, rows, spec, store};

#[test]
fn selects_by_index_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 40, 3, 16);
    let wanted = [39, 3, 4, 5, 5, 17, 16, 15, 0];
    let selection = Selection::by_index(Arc::clone(&store), wanted).unwrap();
    let expected: Vec<f32> = wanted.iter().flat_map(|&i| row(i, 3)).collect();
    assert_eq!(read_all(&selection), expected);
    for start in 0..9 {
        let mut out = [0.0; 3];
        selection.read_rows(start, &mut out).unwrap();
        assert_eq!(out[..], row(wanted[start as usize], 3));
        assert_eq!(selection.locate(start), store.locate(wanted[start as usize]));
    }
    let mut found = [RowMeta::default(); 9];
    selection.read_meta(0, &mut found).unwrap();
    assert_eq!(found[1..4], meta(3..6));
    assert!(matches!(
        Selection::by_index(Arc::clone(&store), [40]),
        Err(Error::OutOfRange { n_rows: 40, .. })
    ));
    assert!(matches!(Selection::by_index(store, []), Err(Error::Value { .. })));
}

#[test]
fn selects_by_position() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 35, 3, 16);
    let selection = Selection::by_meta(store, |meta| meta.position >= 1).unwrap();
    let expected: Vec<f32> = (0..35).filter(|i| i % 10 != 0).flat_map(|i| row(i, 3)).collect();
    assert_eq!(read_all(&selection), expected);
}

#[test]
fn selects_by_norm_against_the_median() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::create(dir.path(), spec(2, 4, Dtype::F32)).unwrap();
    let norms = [1.0, 2.0, 3.0, 4.0, 100.0, 30.0];
    let values: Vec<f32> = norms.iter().flat_map(|n| [0.0, *n]).collect();
    writer.append(&values, &meta(0..6)).unwrap();
    writer.finish().unwrap();
    let store = open_store(dir.path()).unwrap();
    let kept = |ratio| {
        let selection = Selection::by_norm(Arc::clone(&store), ratio).unwrap();
        read_all(&selection).into_iter().skip(1).step_by(2).collect::<Vec<_>>()
    };
    assert_eq!(kept(10.0), [1.0, 2.0, 3.0, 4.0, 30.0], "the median is 3.5");
    assert_eq!(kept(8.0), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(kept(1000.0).len(), 6);
    for bad in [0.0, 0.5, f64::NAN, f64::INFINITY] {
        assert!(Selection::by_norm(Arc::clone(&store), bad).is_err());
    }
}

/// A headerless store of rows `[0, norm]`.
fn store_of_norms(dir: &std::path::Path, norms: &[f32]) -> Arc<dyn ActivationStore> {
    let path = dir.join(format!("x_{}_2.npy", norms.len()));
    let values: Vec<f32> = norms.iter().flat_map(|norm| [0.0, *norm]).collect();
    std::fs::write(&path, bytemuck::cast_slice::<f32, u8>(&values)).unwrap();
    open_store(&path).unwrap()
}

#[test]
fn rows_of_zeros_do_not_count_in_the_median_norm() {
    let dir = tempfile::tempdir().unwrap();
    let mut norms = vec![0.0; 600];
    norms.extend((0..399_u16).map(|i| 1.0 + f32::from(i) / 399.0));
    norms.push(100.0);
    let store = store_of_norms(dir.path(), &norms);
    let selection = Selection::by_norm(Arc::clone(&store), 10.0).unwrap();
    assert_eq!(selection.n_rows(), 999, "all but the last, rows of zeros too");
    let found = Inspection::of(&*store).unwrap();
    assert_eq!((found.n_zero_rows, found.n_rows), (600, 1000));
    assert!((found.median_norm - 1.5).abs() < 0.01, "{}", found.median_norm);
    assert_eq!(Statistics::of(&*store).unwrap().median_norm, 0.0, "of all rows");

    let zeros = store_of_norms(dir.path(), &[0.0, -0.0, 0.0]);
    let error = Selection::by_norm(zeros, 10.0).unwrap_err().to_string();
    assert!(error.ends_with("expected a row that is not zero, for max_norm_ratio, got zeros only"));
}

#[test]
fn norms_keep_their_order_to_the_ends_of_f32() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = f32::from_bits(1);
    let store = store_of_norms(dir.path(), &[tiny, tiny, 4.0 * tiny, 0.0]);
    assert_eq!(Selection::by_norm(store, 2.0).unwrap().n_rows(), 3);
    let store = store_of_norms(dir.path(), &[1e30, 2e30, 3e38]);
    assert_eq!(Selection::by_norm(store, 2.0).unwrap().n_rows(), 2);

    let path = dir.path().join("large_2_2.npy");
    std::fs::write(&path, bytemuck::cast_slice::<f32, u8>(&[1.0, 1.0, 3e38, 3e38])).unwrap();
    let store = open_store(&path).unwrap();
    let messages = [
        Selection::by_norm(Arc::clone(&store), 2.0).unwrap_err().to_string(),
        Statistics::of(&*store).unwrap_err().to_string(),
        Inspection::of(&*store).unwrap_err().to_string(),
    ];
    for message in messages {
        assert!(
            message.contains("large_2_2.npy: row 1: expected a norm of at most 3.4"),
            "{message}"
        );
    }
}

#[test]
fn dimensions_that_are_always_zero_hide_no_outlier() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x_2_8.npy");
    let row = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 40.0_f32];
    std::fs::write(&path, bytemuck::cast_slice::<f32, u8>(&[row, row].concat())).unwrap();
    let found = Inspection::of(&*open_store(&path).unwrap()).unwrap();
    let [dimension] = found.outlier_dimensions[..] else { panic!("{found:?}") };
    assert_eq!((dimension.dimension, dimension.ratio), (7, 40.0));
}

#[test]
fn concatenates_with_weights() {
    let dir = tempfile::tempdir().unwrap();
    let a = store(&dir.path().join("a"), 10, 3, 4);
    let b = store(&dir.path().join("b"), 7, 3, 4);
    let joined = Concatenation::new(vec![(Arc::clone(&a), 2.5), (Arc::clone(&b), 1.0)]).unwrap();
    assert_eq!(joined.n_rows(), 25 + 7);
    let mut expected = [rows(0..10, 3), rows(0..10, 3)].concat();
    expected.extend([0, 2, 4, 6, 8].iter().flat_map(|&i| row(i, 3)));
    expected.extend(rows(0..7, 3));
    assert_eq!(read_all(&joined), expected);
    assert_eq!(joined.locate(22), a.locate(4));
    assert_eq!(joined.locate(31), b.locate(6));
    joined.verify().unwrap();
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.01] {
        assert!(Concatenation::new(vec![(Arc::clone(&a), weight)]).is_err(), "{weight}");
    }
    assert!(Concatenation::new(Vec::new()).is_err());
    let other = store(&dir.path().join("c"), 7, 4, 4);
    assert!(Concatenation::new(vec![(a, 1.0), (other, 1.0)]).is_err());
}

#[test]
fn content_hashes_tell_contents_apart() {
    let dir = tempfile::tempdir().unwrap();
    let a = store(&dir.path().join("a"), 10, 3, 4);
    let same = store(&dir.path().join("same"), 10, 3, 4);
    let other = store(&dir.path().join("other"), 11, 3, 4);
    assert_eq!(a.content_hash().unwrap(), same.content_hash().unwrap());
    let some = Selection::by_index(Arc::clone(&a), [1, 2]).unwrap();
    let others = Selection::by_index(Arc::clone(&a), [1, 3]).unwrap();
    let twice = Concatenation::new(vec![(Arc::clone(&a), 2.0)]).unwrap();
    let stores: [&dyn ActivationStore; 5] = [&*a, &*other, &some, &others, &twice];
    let hashes: std::collections::HashSet<_> =
        stores.iter().map(|s| s.content_hash().unwrap()).collect();
    assert_eq!(hashes.len(), 5);
}

#[test]
fn statistics_are_kept_until_the_rows_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let write = |range: std::ops::Range<u64>| {
        let mut writer = NpyWriter::create(&path, Dtype::F32, 9, 3).unwrap();
        writer.append(&rows(range, 3)).unwrap();
        writer.finish().unwrap();
    };
    write(0..9);
    let first = Statistics::cached(&*open_store(&path).unwrap()).unwrap();
    assert_eq!(first, Statistics::of(&*open_store(&path).unwrap()).unwrap());
    let sidecar = || {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
        names.filter(|p| p.to_string_lossy().contains("statistics")).collect::<Vec<_>>()
    };
    let [kept] = &sidecar()[..] else { panic!("one file of statistics") };

    let mut marked = first.clone();
    marked.median_norm = -1.0;
    std::fs::write(kept, serde_json::to_vec(&marked).unwrap()).unwrap();
    assert_eq!(Statistics::cached(&*open_store(&path).unwrap()).unwrap(), marked, "read back");
    std::fs::write(kept, "half a fi").unwrap();
    assert_eq!(Statistics::cached(&*open_store(&path).unwrap()).unwrap(), first);

    write(9..18);
    let changed = open_store(&path).unwrap();
    assert_eq!(Statistics::cached(&*changed).unwrap(), Statistics::of(&*changed).unwrap());
    assert_eq!(sidecar().len(), 2);
}

#[test]
fn statistics_keep_their_digits_far_from_zero() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::create(dir.path(), spec(1, 1 << 20, Dtype::F32)).unwrap();
    let n = 400_000_u64;
    let values: Vec<f32> = (0..n).map(|i| 1e6 + (i % 2) as f32).collect();
    writer.append(&values, &vec![RowMeta::default(); n as usize]).unwrap();
    writer.finish().unwrap();
    let statistics = Statistics::of(&*open_store(dir.path()).unwrap()).unwrap();
    assert!((statistics.mean_squared_centred_norm - 0.25).abs() < 1e-12);
    assert!((statistics.mean[0] - 1_000_000.5).abs() < 1e-9);
}

#[test]
fn inspection_sees_what_is_odd() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::create(dir.path(), spec(8, 64, Dtype::F32)).unwrap();
    let mut values = vec![1.0_f32; 8 * 100];
    for (i, row) in values.chunks_mut(8).enumerate() {
        row[3] = 40.0;
        if i % 10 == 0 {
            row.iter_mut().for_each(|v| *v *= 50.0);
        }
    }
    writer.append(&values, &meta(0..100)).unwrap();
    writer.finish().unwrap();
    let found = Inspection::of(&*open_store(dir.path()).unwrap()).unwrap();
    assert_eq!((found.n_rows, found.n_non_finite_rows), (100, 0));
    assert_eq!(found.norms.iter().map(|bin| bin.n_rows).sum::<u64>(), 100);
    assert_eq!((found.norms[0].n_rows, found.norms[19].n_rows), (90, 10));
    let [dimension] = found.outlier_dimensions[..] else { panic!("{found:?}") };
    assert_eq!((dimension.dimension, dimension.ratio), (3, 40.0));
    let [position] = found.outlier_positions[..] else { panic!("{found:?}") };
    assert_eq!((position.position, position.n_rows), (0, 10));
    assert!((position.ratio - 50.0).abs() < 1e-4);
}

#[test]
fn inspection_counts_what_is_not_finite() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x_4_2.npy");
    let values = [1.0, f32::NAN, 3.0, 4.0, f32::INFINITY, f32::NEG_INFINITY, 6.0, 8.0];
    std::fs::write(&path, bytemuck::cast_slice::<f32, u8>(&values)).unwrap();
    let found = Inspection::of(&*open_store(&path).unwrap()).unwrap();
    assert_eq!((found.n_non_finite_rows, found.non_finite_fraction), (2, 3.0 / 8.0));
    assert_eq!((found.mean_norm, found.median_norm), (7.5, 7.5));
}

#[test]
fn a_concatenation_of_one_origin_knows_it() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, host: &str| {
        let provenance = Provenance { host: host.to_owned(), ..Provenance::default() };
        let spec = sae_data::StoreSpec { provenance, ..spec(3, 4, Dtype::F32) };
        crate::support::write_store(&dir.path().join(name), 5, spec);
        (open_store(&dir.path().join(name)).unwrap(), 1.0)
    };
    let (a, b, c) = (write("a", "one"), write("b", "one"), write("c", "two"));
    let joined = Concatenation::new(vec![a.clone(), b]).unwrap();
    assert_eq!(joined.provenance().unwrap().host, "one");
    assert!(Concatenation::new(vec![a, c]).unwrap().provenance().is_none());
}
