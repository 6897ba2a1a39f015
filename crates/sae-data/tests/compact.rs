//! Stores of int8 and compressed stores: what comes back, and that damage is never read as rows.

mod refusals;

use std::path::Path;

use proptest::prelude::*;
use sae_data::{
    ActivationStore, Compression, Concatenation, Dtype, Error, Format, RowMeta, Statistics,
    StoreSpec, StoreWriter, convert, open_store,
};

use crate::support::{append, meta, read_all, spec, write_store};

const DTYPES: [Dtype; 4] = [Dtype::Int8, Dtype::F16, Dtype::BF16, Dtype::F32];

fn levels() -> [Option<Compression>; 3] {
    [None, Some(Compression::zstd(1).unwrap()), Some(Compression::zstd(6).unwrap())]
}

fn with(compression: Option<Compression>, spec: StoreSpec) -> StoreSpec {
    StoreSpec { compression, ..spec }
}

/// Rows as int8 holds them, from the definition.
fn as_int8(rows: &[f32], d_model: usize) -> Vec<f32> {
    let of_row = |row: &[f32]| {
        let largest = row.iter().fold(0.0_f64, |largest, x| largest.max(f64::from(x.abs())));
        let exponent = (largest / 127.0).log2().floor() as i32;
        // 17 significant bits.
        let unit = 2_f64.powi(exponent - 16);
        let scale = (f64::from((largest / 127.0) as f32) / unit).ceil() * unit;
        let value = |x: &f32| ((f64::from(*x) / scale).round_ties_even() * scale) as f32;
        row.iter().map(value).collect::<Vec<f32>>()
    };
    rows.chunks(d_model).flat_map(of_row).collect()
}

/// Rows of noise, each of its own size.
fn noise(n_rows: usize, d_model: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n_rows)
        .flat_map(|row| {
            let size = 1.5_f32.powi((row % 20) as i32 - 10);
            (0..d_model).map(|_| size * next()).collect::<Vec<_>>()
        })
        .collect()
}

fn write(path: &Path, values: &[f32], spec: StoreSpec) {
    let d_model = spec.d_model;
    let mut writer = StoreWriter::create(path, spec).unwrap();
    for (i, piece) in values.chunks(7 * d_model).enumerate() {
        let n = (piece.len() / d_model) as u64;
        writer.append(piece, &meta(7 * i as u64..7 * i as u64 + n)).unwrap();
    }
    writer.finish().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_rows_of_any_store_come_back(
        n_rows in 1..200_usize,
        d_model in prop_oneof![1..6_usize, Just(700), Just(9000)],
        per_shard in 9..90_u64,
        seed: u64,
        from in 0..200_usize,
        n in 1..200_usize,
    ) {
        // Two frames of long rows.
        let n_rows = n_rows.min(60_000 / d_model);
        let values = noise(n_rows, d_model, seed);
        let (from, n) = (from % n_rows, n.min(n_rows - from % n_rows));
        for dtype in DTYPES {
            let mut plain = Vec::new();
            for compression in levels() {
                let dir = tempfile::tempdir().unwrap();
                write(dir.path(), &values, with(compression, spec(d_model, per_shard, dtype)));
                let store = open_store(dir.path()).unwrap();
                prop_assert_eq!(store.dtype(), dtype);
                let whole = read_all(&*store);
                if compression.is_none() {
                    plain.clone_from(&whole);
                }
                prop_assert!(whole == plain, "{} with {:?}", dtype, compression);
                let mut part = vec![0.0; n * d_model];
                store.read_rows(from as u64, &mut part).unwrap();
                prop_assert_eq!(&part[..], &whole[from * d_model..][..n * d_model]);
                let mut found = vec![RowMeta::default(); n];
                store.read_meta(from as u64, &mut found).unwrap();
                prop_assert_eq!(found, meta(from as u64..(from + n) as u64));
                store.verify().unwrap();
            }
            match dtype {
                Dtype::Int8 => prop_assert_eq!(plain, as_int8(&values, d_model)),
                Dtype::F32 => prop_assert_eq!(&plain, &values),
                _ => {}
            }
        }
    }

    #[test]
    fn statistics_are_those_of_what_is_read(n_rows in 1..100_usize, seed: u64) {
        let dir = tempfile::tempdir().unwrap();
        let (values, d_model) = (noise(n_rows, 5, seed), 5);
        let compression = Some(Compression::zstd(3).unwrap());
        write(&dir.path().join("int8"), &values, with(compression, spec(d_model, 30, Dtype::Int8)));
        write(&dir.path().join("f32"), &as_int8(&values, d_model), spec(d_model, 30, Dtype::F32));
        let of = |name| Statistics::of(&*open_store(&dir.path().join(name)).unwrap()).unwrap();
        prop_assert_eq!(of("int8"), of("f32"));
    }

    #[test]
    fn no_changed_byte_is_read_as_rows(at: u32, by in 1..=255_u8, which in 0..4_usize, cut in 0..9_u64) {
        let dir = tempfile::tempdir().unwrap();
        let compression = (which % 2 == 0).then(|| Compression::zstd(3).unwrap());
        let dtype = if which < 2 { Dtype::Int8 } else { Dtype::F32 };
        let values = noise(60, 700, 5);
        write(dir.path(), &values, with(compression, spec(700, 60, dtype)));
        let path = dir.path().join("shard-00000.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let expected = read_all(&*open_store(dir.path()).unwrap());
        let at = at as usize % bytes.len();
        bytes[at] ^= by;
        bytes.truncate(bytes.len() - cut.saturating_sub(4) as usize);
        std::fs::write(&path, bytes).unwrap();
        let read = open_store(dir.path()).and_then(|store| {
            let mut out = vec![0.0; expected.len()];
            store.read_rows(0, &mut out).map(|()| out)
        });
        match read {
            Ok(out) => prop_assert!(out == expected, "byte {} was read as rows", at),
            Err(error) => prop_assert!(error.to_string().contains("shard-00000"), "{}", error),
        }
    }
}

#[test]
fn a_damaged_frame_is_named_by_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let compression = Some(Compression::zstd(3).unwrap());
    // 46 rows a frame.
    write(dir.path(), &noise(100, 700, 5), with(compression, spec(700, 100, Dtype::F16)));
    let path = dir.path().join("shard-00000.safetensors");
    let good = std::fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&good).unwrap();
    let ends = tensors.tensor("frames").unwrap();
    let ends = ends.data().as_chunks::<8>().0.iter().map(|end| u64::from_le_bytes(*end));
    let ends: Vec<u64> = ends.collect();
    assert_eq!(ends.len(), 3);
    let mut bytes = good.clone();
    // The magic number of the second frame.
    bytes[1024 + ends[0] as usize] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let store = open_store(dir.path()).unwrap();
    let mut row = vec![0.0; 700];
    for good in [0, 45, 92, 99] {
        store.read_rows(good, &mut row).unwrap();
    }
    for bad in [46, 91] {
        let error = store.read_rows(bad, &mut row).unwrap_err();
        assert!(matches!(&error, Error::Format { path: p, .. } if *p == path), "{error}");
        let expected = "rows 46 to 91, 64400 bytes in a zstd frame";
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(store.verify().is_err());
    // After an error the thread does not take what it has for the frame.
    store.read_rows(45, &mut row).unwrap();
    assert!(store.read_rows(46, &mut row).is_err());
}

#[test]
fn shards_are_plain_safetensors() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[1.0, -127.0, 0.4, 0.0, 2.0, 0.0], spec(2, 8, Dtype::Int8));
    let bytes = std::fs::read(dir.path().join("shard-00000.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let activations = tensors.tensor("activations").unwrap();
    assert_eq!((activations.dtype(), activations.shape()), (safetensors::Dtype::I8, &[3, 2][..]));
    assert_eq!(bytemuck::cast_slice::<u8, i8>(activations.data()), [1, -127, 127, 0, 127, 0]);
    let scale = tensors.tensor("scale").unwrap();
    let scales: Vec<f32> =
        scale.data().as_chunks::<4>().0.iter().map(|scale| f32::from_le_bytes(*scale)).collect();
    assert!((scales[1] - 0.4 / 127.0).abs() < 1e-7 && scales[0] == 1.0);
}

#[test]
fn a_compressed_store_resumes_to_the_same_bytes() {
    let compression = Some(Compression::zstd(3).unwrap());
    for dtype in DTYPES {
        let of = || with(compression, spec(700, 50, dtype));
        let whole = tempfile::tempdir().unwrap();
        write_store(whole.path(), 180, of());
        for cut in [3, 50, 77] {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = StoreWriter::create(dir.path(), of()).unwrap();
            append(&mut writer, 0..cut, 700);
            drop(writer);
            // Before the first whole shard nothing is lost by another beginning.
            let other = StoreWriter::resume(dir.path(), spec(700, 50, dtype)).map(drop);
            assert_eq!(other.is_err(), cut >= 50);
            let message = other.map_or_else(|error| error.to_string(), |()| String::new());
            assert!(message.is_empty() || message.contains("expected frames none, got"));
            let mut writer = StoreWriter::resume(dir.path(), of()).unwrap();
            let from = writer.n_rows();
            assert_eq!(from, cut / 50 * 50);
            append(&mut writer, from..180, 700);
            writer.finish().unwrap();
            for name in ["manifest.json", "shard-00000.safetensors", "shard-00003.safetensors"] {
                let read = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
                assert!(read(dir.path()) == read(whole.path()), "{name} of {dtype} cut at {cut}");
            }
        }
    }
}

#[test]
fn copies_of_int8_are_exact_and_mixtures_become_f32() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let values = noise(50, 6, 9);
    write(&at("int8"), &values, spec(6, 20, Dtype::Int8));
    let store = open_store(&at("int8")).unwrap();
    let compression = Compression::zstd(3).unwrap();
    convert(&*store, &at("again"), Format::Compressed(compression), Dtype::Int8, &mut |_| ())
        .unwrap();
    let again = open_store(&at("again")).unwrap();
    assert_eq!((again.dtype(), read_all(&*again)), (Dtype::Int8, read_all(&*store)));
    let both = Concatenation::new(vec![(store.clone(), 1.0), (again, 1.0)]).unwrap();
    assert_eq!((both.dtype(), both.n_rows()), (Dtype::Int8, 100));
    write(&at("f16"), &values, spec(6, 20, Dtype::F16));
    let half = open_store(&at("f16")).unwrap();
    let mixed = Concatenation::new(vec![(store.clone(), 1.0), (half, 1.0)]).unwrap();
    assert_eq!(mixed.dtype(), Dtype::F32);
    let error = convert(&*store, &at("x.npy"), Format::Npy, Dtype::Int8, &mut |_| ()).unwrap_err();
    assert!(error.to_string().starts_with("dtype: expected f16, f32 or f64, got int8"), "{error}");
}
