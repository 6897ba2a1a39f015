//! The loader's shuffled batches against a plain copy of the same bytes, from the page cache.
//!
//! A measurement is one epoch: 65,536 rows of dimension 768, 201 MB as f32, in batches of 2048.
//! The loader has its default settings, one thread that reads ahead among them, with windows of a
//! quarter of the store so that the shuffle is that of a store larger than memory. The consumer
//! only takes the batches.

use std::path::{Path, PathBuf};
use std::time::Duration;

use benches::Table;
use criterion::Criterion;
use sae_data::{Dtype, Format, Loader, LoaderConfig, PlantedConfig, convert, open_store};

const N_ROWS: u64 = 65_536;
const D_MODEL: usize = 768;
const BATCH_SIZE: usize = 2048;
const N_BATCHES: usize = N_ROWS as usize / BATCH_SIZE;
const MEMCPY: &str = "loader/memcpy";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(2000))
        .configure_from_args();
    let mut table = Table::new("loader");
    let mut run = |id: &str, ratio_to: Option<&str>, work: &mut dyn FnMut()| {
        criterion.bench_function(id, |bencher| bencher.iter(&mut *work));
        table.add(id, ratio_to);
    };

    let source = vec![1.0_f32; N_ROWS as usize * D_MODEL];
    let mut target = vec![0.0_f32; source.len()];
    run(MEMCPY, None, &mut || {
        target.copy_from_slice(&source);
        std::hint::black_box(&mut target);
    });
    drop((source, target));

    let dir = tempfile::tempdir()?;
    let stores = stores(dir.path())?;
    for (id, path) in &stores {
        let window_bytes = 4 * D_MODEL * N_ROWS as usize / 4;
        let config =
            LoaderConfig { batch_size: BATCH_SIZE, window_bytes, ..LoaderConfig::default() };
        let mut loader = Loader::new(open_store(path)?, config)?;
        let mut batch = vec![0.0; BATCH_SIZE * D_MODEL];
        run(id, Some(MEMCPY), &mut || {
            for _ in 0..N_BATCHES {
                loader.next_batch(&mut batch).expect("a store without faults");
                std::hint::black_box(&mut batch);
            }
        });
    }
    criterion.final_summary();
    table.finish()?;
    println!("\nGB/s of f32 batches (claim: at least 1.5)");
    for (id, _) in &stores {
        if let Some(median_ns) = table.median_ns(id) {
            println!("{id:24} {:.2}", (4 * D_MODEL) as f64 * N_ROWS as f64 / median_ns);
        }
    }
    Ok(())
}

/// The same rows in every format and type, with the id of each.
fn stores(dir: &Path) -> Result<Vec<(String, PathBuf)>, sae_data::Error> {
    let origin = dir.join("native-f32");
    let config = PlantedConfig { n_rows: N_ROWS, d_model: D_MODEL, ..PlantedConfig::default() };
    config.write(&origin, Dtype::F32)?;
    let store = open_store(&origin)?;
    let mut stores = vec![("loader/native/f32".to_owned(), origin)];
    let zstd = Format::Compressed("zstd".parse()?);
    for (format, dtype, id, name) in [
        (Format::Native, Dtype::F16, "loader/native/f16", "native-f16"),
        (Format::Native, Dtype::BF16, "loader/native/bf16", "native-bf16"),
        (Format::Native, Dtype::Int8, "loader/native/int8", "native-int8"),
        (zstd, Dtype::Int8, "loader/native/int8-zstd", "native-int8-zstd"),
        (zstd, Dtype::F32, "loader/native/f32-zstd", "native-f32-zstd"),
        (Format::Npy, Dtype::F16, "loader/npy/f16", "f16.npy"),
        (Format::Npy, Dtype::F32, "loader/npy/f32", "f32.npy"),
        (Format::Npy, Dtype::F64, "loader/npy/f64", "f64.npy"),
        (Format::Headerless, Dtype::F32, "loader/headerless/f32", "x_65536_768.npy"),
    ] {
        convert(&*store, &dir.join(name), format, dtype, &mut |_| ())?;
        stores.push((id.to_owned(), dir.join(name)));
    }
    Ok(stores)
}
