//! `softsae probe-data`: labelled texts or images into a store with labels.

mod texts;

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sae_config::{LABELS_FILE, Labels, write_json};
use sae_data::{
    ActivationStore, OutputLock, RowMeta, Selection, StoreSpec, StoreWriter, open_store,
};
use sae_hosts::corpus::Texts;
use sae_hosts::{
    Bos, Cut, Error, HarvestOptions, HarvestProgress, HookPoint, HostModel, Image, ImageOptions,
    ImagePositions, Text, harvest_at, harvest_images,
};

use super::{check_apart, device, locked};
use crate::cli::{ProbeDataArgs, ProbeRows};
use crate::failure::{Blame as _, Failure};
use crate::interrupt;
use crate::output::{note, say};
use crate::progress::Progress;

/// Rows copied at a time.
const AT_ONCE: u64 = 4096;

/// The first positions of a text, whose activations can be hundreds of times larger than all others.
const SKIPPED: usize = 1;

pub(crate) fn run(args: &ProbeDataArgs) -> Result<(), Failure> {
    let device = device(&args.device)?;
    let inputs = args.texts.iter().chain(&args.images).map(PathBuf::as_path);
    let inputs: Vec<&Path> = inputs.chain([&*args.host]).collect();
    check_apart(&args.out, &inputs)?;
    if args.out.join(LABELS_FILE).exists() {
        let error = anyhow::anyhow!("--out: expected a new store, got {}", args.out.display());
        return Err(Failure::usage(error));
    }
    let _lock = locked(OutputLock::file(&args.out))?;
    let host = HostModel::load(&args.host, device).or_usage()?;
    let data = Data::read(args, &host)?;
    let hook = args.hook.parse::<HookPoint>().or_usage()?;
    let store = match (&data.documents, args.rows) {
        (Documents::Texts(texts), ProbeRows::All) => {
            harvest_texts(args, &host, hook, texts, &args.out)?;
            open_store(&args.out).or_run()?
        }
        (Documents::Texts(texts), ProbeRows::One) => {
            // Rows of all tokens first: the host computes them anyway.
            let mut tokens = args.out.clone().into_os_string();
            tokens.push(".tokens");
            let tokens = PathBuf::from(tokens);
            if !is_whole(&tokens) {
                harvest_texts(args, &host, hook, texts, &tokens)?;
            }
            let store = keep_last(&tokens, &args.out)?;
            std::fs::remove_dir_all(&tokens).or_run()?;
            store
        }
        (Documents::Images(images), rows) => {
            let positions = match rows {
                ProbeRows::One => ImagePositions::Class,
                ProbeRows::All => ImagePositions::Patches,
            };
            if !is_whole(&args.out) {
                let options = ImageOptions { positions, ..ImageOptions::default() };
                let mut progress = Progress::new("harvest", "images", images.len() as u64);
                let report = &mut |now: &HarvestProgress| go_on(&mut progress, now);
                harvest_images(&host, images, hook, &options, &args.out, report).map_err(blame)?;
            }
            open_store(&args.out).or_run()?
        }
    };
    data.finish(args, &*store)
}

/// Labelled documents.
struct Data {
    name: String,
    documents: Documents,
    labels: Vec<String>,
}

enum Documents {
    Texts(Vec<Text>),
    Images(Vec<Image>),
}

impl Data {
    fn read(args: &ProbeDataArgs, host: &HostModel) -> Result<Self, Failure> {
        let most = args.max_per_label.map_or(usize::MAX, Into::into);
        let path = args.texts.as_ref().or(args.images.as_ref()).expect("one is required");
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (documents, labels) = match &args.texts {
            Some(path) => {
                let n = own_tokens(args, host)?;
                let read_of = |text: &str| -> Result<Vec<u8>, Failure> {
                    let ids = host.tokenizer().or_usage()?.encode(text).or_usage()?;
                    Ok(ids.iter().take(n).flat_map(|id| id.to_le_bytes()).collect())
                };
                let (texts, labels) = texts::read(path, most, read_of)?;
                (Documents::Texts(texts), labels)
            }
            None => {
                let (images, labels) = labelled_images(path, most)?;
                (Documents::Images(images), labels)
            }
        };
        // What cannot be probed is refused before the host reads anything.
        Labels::new(&name, &labels, "").or_usage()?;
        Ok(Self { name, documents, labels })
    }

    /// Writes the labels, which make the store whole, and says what there is.
    fn finish(&self, args: &ProbeDataArgs, store: &dyn ActivationStore) -> Result<(), Failure> {
        let hash = store.content_hash().or_run()?;
        let labels = Labels::new(&self.name, &self.labels, &hash).or_run()?;
        write_json(&args.out.join(LABELS_FILE), &labels).or_run()?;
        let mut meta = vec![RowMeta::default(); store.n_rows() as usize];
        store.read_meta(0, &mut meta).or_run()?;
        let mut documents: Vec<u32> = meta.iter().map(|meta| meta.document).collect();
        documents.dedup();
        let without = self.labels.len() - documents.len();
        let (rows, n) = (store.n_rows(), self.labels.len());
        say!("{}: {rows} rows of {n} documents", args.out.display());
        if without > 0 {
            say!("{without} documents are too short to have a row, and are not probed");
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.labels.iter().for_each(|label| *counts.entry(label).or_default() += 1);
        counts.iter().for_each(|(label, n)| say!("  {label}: {n}"));
        Ok(())
    }
}

/// The images of a folder, with the folders in it that they are in as labels.
fn labelled_images(folder: &Path, most: usize) -> Result<(Vec<Image>, Vec<String>), Failure> {
    let mut kept: Vec<(Image, String, String)> = Vec::new();
    for image in Image::find(folder).or_usage()? {
        let Some((label, _)) = image.name.rsplit_once('/') else {
            return Err(Failure::usage(anyhow::anyhow!(
                "--images {}: expected images in folders, which are their labels, got {}",
                folder.display(),
                image.name
            )));
        };
        let label = label.to_owned();
        let hash = blake3::hash(&std::fs::read(&image.path).or_usage()?).to_hex().to_string();
        kept.push((image, label, hash));
    }
    let n = kept.len();
    // One that comes again could be trained on and tested.
    let mut seen = HashSet::new();
    kept.retain(|(_, _, hash)| seen.insert(hash.clone()));
    if kept.len() < n {
        note!("{} of {n} images come again and are left out", n - kept.len());
    }
    let n = kept.len();
    texts::keep_most(&mut kept, most, |(_, label, hash)| (label.clone(), hash.clone()));
    if kept.len() < n {
        note!("{} images kept of {n}", kept.len());
    }
    Ok(kept.into_iter().map(|(image, label, _)| (image, label)).unzip())
}

/// Tokens of a text that are read at most, beside the one that leads it.
fn own_tokens(args: &ProbeDataArgs, host: &HostModel) -> Result<usize, Failure> {
    let lead = Bos::Auto.resolve(host.tokenizer().or_usage()?).or_usage()?;
    Ok(args.max_tokens.saturating_sub(usize::from(lead.is_some())))
}

/// Harvests texts, a context each.
fn harvest_texts(
    args: &ProbeDataArgs,
    host: &HostModel,
    hook: HookPoint,
    texts: &[Text],
    out: &Path,
) -> Result<(), Failure> {
    if is_whole(out) {
        return Ok(());
    }
    let prepend = Bos::Auto.resolve(host.tokenizer().or_usage()?).or_usage()?;
    let options = HarvestOptions {
        context_length: args.max_tokens,
        skip_positions: SKIPPED,
        max_tokens: Some(own_tokens(args, host)? as u64),
        ..HarvestOptions::default()
    };
    let cut = Cut::new(options.context_length, prepend);
    let mut progress = Progress::new("harvest", "tokens", 0);
    let report = &mut |now: &HarvestProgress| {
        progress.set_total(now.n_total.unwrap_or(0));
        go_on(&mut progress, now)
    };
    harvest_at(host, Box::new(Texts::new(texts)), cut, &[(hook, out)], &options, report)
        .map_err(blame)?;
    Ok(())
}

fn go_on(progress: &mut Progress, now: &HarvestProgress) -> ControlFlow<()> {
    progress.at(now.n_seen, || format!("{} rows", now.n_rows));
    if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn blame(error: Error) -> Failure {
    match error {
        Error::Interrupted { .. } => Failure::Interrupted(error.to_string()),
        Error::Input { .. }
        | Error::Io { .. }
        | Error::File { .. }
        | Error::NotUtf8 { .. }
        | Error::HookLayer { .. }
        | Error::HookName { .. }
        | Error::Store(sae_data::Error::Locked { .. } | sae_data::Error::OtherStore { .. }) => {
            Failure::usage(error)
        }
        other => Failure::run(other),
    }
}

/// Whether a store is there and finished.
fn is_whole(place: &Path) -> bool {
    place.exists() && open_store(place).is_ok()
}

/// Copies the last row of each document into a store of its own.
fn keep_last(tokens: &Path, out: &Path) -> Result<Arc<dyn ActivationStore>, Failure> {
    let all = open_store(tokens).or_run()?;
    let mut meta = vec![RowMeta::default(); all.n_rows() as usize];
    all.read_meta(0, &mut meta).or_run()?;
    let is_last =
        |row: &usize| meta.get(row + 1).is_none_or(|next| next.document != meta[*row].document);
    let last: Vec<u64> = (0..meta.len()).filter(is_last).map(|row| row as u64).collect();
    let kept = Selection::by_index(Arc::clone(&all), last).or_run()?;
    let mut spec = StoreSpec::new(kept.d_model(), kept.dtype());
    spec.provenance = all.provenance().cloned().unwrap_or_default();
    spec.provenance.settings.insert("rows".into(), "last of each document".into());
    if let Some(mut writer) = StoreWriter::resume_unfinished(out, spec).or_run()? {
        let mut done = writer.n_rows();
        while done < kept.n_rows() {
            let n = AT_ONCE.min(kept.n_rows() - done) as usize;
            let (mut rows, mut of) = (vec![0.0; n * kept.d_model()], vec![RowMeta::default(); n]);
            kept.read_rows(done, &mut rows).or_run()?;
            kept.read_meta(done, &mut of).or_run()?;
            writer.append(&rows, &of).or_run()?;
            done += n as u64;
        }
        writer.finish().or_run()?;
    }
    open_store(out).or_run()
}
