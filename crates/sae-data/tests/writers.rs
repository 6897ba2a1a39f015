//! Every writer in every element type: what it writes comes back, what a type cannot hold is refused.

use std::path::Path;

use half::{bf16, f16};
use proptest::prelude::*;
use sae_data::{
    Dtype, Error, Format, NpyWriter, PlantedConfig, Result, RowMeta, StoreWriter, convert,
    open_store,
};

use crate::support::{read_all, spec};

/// Every writer with each element type that rounds value by value.
const WRITERS: [(Format, Dtype); 7] = [
    (Format::Native, Dtype::F16),
    (Format::Native, Dtype::BF16),
    (Format::Native, Dtype::F32),
    (Format::Npy, Dtype::F16),
    (Format::Npy, Dtype::F32),
    (Format::Npy, Dtype::F64),
    (Format::Headerless, Dtype::F32),
];

/// Writes rows in pieces of 2 and reads them back.
fn write(format: Format, dtype: Dtype, rows: &[f32], d_model: usize) -> Result<Vec<f32>> {
    let dir = tempfile::tempdir().unwrap();
    let n_rows = (rows.len() / d_model) as u64;
    let path = dir.path().join(format!("x_{n_rows}_{d_model}.npy"));
    let pieces = || rows.chunks(2 * d_model);
    match format {
        Format::Native => {
            let mut writer = StoreWriter::create(&path, spec(d_model, 3, dtype))?;
            for piece in pieces() {
                writer.append(piece, &vec![RowMeta::default(); piece.len() / d_model])?;
            }
            writer.finish()?;
        }
        _ => {
            let mut writer = match format {
                Format::Npy => NpyWriter::create(&path, dtype, n_rows, d_model)?,
                _ => NpyWriter::create_headerless(&path, n_rows, d_model)?,
            };
            pieces().try_for_each(|piece| writer.append(piece))?;
            writer.finish()?;
        }
    }
    Ok(read_all(&*open_store(&path)?))
}

fn rounded(dtype: Dtype, value: f32) -> f32 {
    match dtype {
        Dtype::F16 => f16::from_f32(value).to_f32(),
        Dtype::BF16 => bf16::from_f32(value).to_f32(),
        Dtype::F32 | Dtype::F64 => value,
        Dtype::Int8 => unreachable!("rows of int8 are rounded together"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn rows_come_back_rounded_or_are_refused(
        bits in prop::collection::vec(prop_oneof![
            4 => any::<u32>(),
            2 => (0x3300_0000_u32..0x3400_0000).prop_map(|bits| bits),
            4 => (0x3f00_0000_u32..0x4100_0000).prop_map(|bits| bits),
        ], 1..8),
        d_model in 1..3_usize,
    ) {
        let mut rows: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        rows.truncate(rows.len() / d_model * d_model);
        prop_assume!(!rows.is_empty());
        for (format, dtype) in WRITERS {
            let expected: Vec<f32> = rows.iter().map(|&v| rounded(dtype, v)).collect();
            let lost = rows.chunks(d_model).zip(expected.chunks(d_model)).any(|(row, back)| {
                back.iter().any(|v| !v.is_finite())
                    || (back.iter().all(|&v| v == 0.0) && row.iter().any(|&v| v != 0.0))
            });
            match write(format, dtype, &rows, d_model) {
                Ok(back) => {
                    prop_assert!(!lost, "{:?} {} {:?}", format, dtype, rows);
                    prop_assert_eq!(back, expected);
                }
                Err(Error::Range { .. } | Error::NonFinite { .. }) => prop_assert!(lost),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}

#[test]
fn a_value_too_large_or_a_row_too_small_is_named() {
    let mut rows = vec![1.0_f32; 10];
    for (value, words) in [
        (f32::NAN, "expected a finite value, got NaN"),
        (f32::NEG_INFINITY, "expected a finite value, got -inf"),
    ] {
        rows[7] = value;
        for (format, dtype) in WRITERS {
            let message = write(format, dtype, &rows, 2).unwrap_err().to_string();
            // The native writer counts rows in the shard, which has 3 here.
            let row = if format == Format::Native { 0 } else { 3 };
            let expected = format!("row {row}, column 1: {words}");
            assert!(message.ends_with(&expected), "{format:?} {dtype}: {message}");
        }
    }
    rows[7] = 65_520.0;
    let message = write(Format::Npy, Dtype::F16, &rows, 2).unwrap_err().to_string();
    let expected = "x_5_2.npy: row 3, column 1: expected a value that f16 can hold, got 6.552e4";
    assert!(message.ends_with(expected), "{message}");
    rows[6..8].copy_from_slice(&[0.0, -1e-9]);
    let message = write(Format::Npy, Dtype::F16, &rows, 2).unwrap_err().to_string();
    assert!(
        message.contains("row 3, column 1: expected a row that f16 does not round"),
        "{message}"
    );
}

#[test]
fn conversion_names_the_value_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x_2_2.npy");
    std::fs::write(&path, bytemuck::cast_slice::<f32, u8>(&[1.0, 2.0, 3.0, 7e4])).unwrap();
    let store = open_store(&path).unwrap();
    for (format, name) in [(Format::Npy, "y.npy"), (Format::Native, "y")] {
        let out = dir.path().join(name);
        let refused = convert(&*store, &out, format, Dtype::F16, &mut |_| ()).unwrap_err();
        assert!(matches!(refused, Error::Range { row: 1, column: 1, got: 7e4, .. }), "{refused}");
        assert!(open_store(&out).is_err());
    }
}

#[test]
fn planted_rows_beyond_f32_are_refused() {
    let config = PlantedConfig { n_rows: 3, magnitude: 1e39, ..PlantedConfig::default() };
    let dir = tempfile::tempdir().unwrap();
    let message = config.write(dir.path(), Dtype::F32).unwrap_err().to_string();
    assert!(message.contains("row 0, column 0"), "{message}");
    let config = PlantedConfig { n_rows: 3, magnitude: 1e6, ..PlantedConfig::default() };
    let message = write_planted(&config, &dir.path().join("f16"));
    assert!(message.contains("expected a value that f16 can hold"), "{message}");
}

fn write_planted(config: &PlantedConfig, dir: &Path) -> String {
    config.write(dir, Dtype::F16).unwrap_err().to_string()
}
