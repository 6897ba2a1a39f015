//! `softsae convert`: a store in another format.

use sae_config::LABELS_FILE;
use sae_data::{Dtype, Format, PlantedTruth, convert, open_store};

use super::{check_apart, of_store};
use crate::cli::{ConvertArgs, StoreDtype, StoreFormat};
use crate::failure::{Blame as _, Failure};
use crate::output::{note, say};
use crate::progress::Progress;

pub(crate) fn run(args: &ConvertArgs) -> Result<(), Failure> {
    check_apart(&args.out, &[&args.store])?;
    let store = open_store(&args.store).or_usage()?;
    let format = match (args.format, args.compress) {
        (StoreFormat::Native, None) => Format::Native,
        (StoreFormat::Native, Some(compression)) => Format::Compressed(compression),
        (StoreFormat::Npy, None) => Format::Npy,
        (StoreFormat::Headerless, None) => Format::Headerless,
        (StoreFormat::Npy | StoreFormat::Headerless, Some(compression)) => {
            return Err(Failure::usage(anyhow::anyhow!(
                "--compress {compression}: expected --format native, the one that is compressed"
            )));
        }
    };
    let dtype = match args.dtype {
        None => store.dtype(),
        Some(StoreDtype::Int8) => Dtype::Int8,
        Some(StoreDtype::F16) => Dtype::F16,
        Some(StoreDtype::Bf16) => Dtype::BF16,
        Some(StoreDtype::F32) => Dtype::F32,
        Some(StoreDtype::F64) => Dtype::F64,
    };
    let was_there = args.out.exists();
    let mut progress = Progress::new("convert", "rows", store.n_rows());
    let report = &mut |done| progress.at(done, String::new);
    let converted = convert(store.as_ref(), &args.out, format, dtype, report);
    drop(progress);
    if converted.is_err() && !was_there && args.format == StoreFormat::Native {
        // Nothing is to stand in the way of a second try.
        std::fs::remove_dir_all(&args.out).ok();
    }
    converted.map_err(of_store)?;
    if args.format != StoreFormat::Native && store.provenance().is_some() {
        note!(
            "note: tokens, documents, positions, host and hook point have no place in a .npy file"
        );
    }
    let labels = Some(args.store.join(LABELS_FILE)).filter(|file| file.exists());
    for left in [PlantedTruth::file(&args.store), labels].into_iter().flatten() {
        note!("note: {} is of this store, and not copied", left.display());
    }
    say!("{}: {} rows of {dtype}", args.out.display(), store.n_rows());
    Ok(())
}
