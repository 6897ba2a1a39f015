//! `softsae harvest`: a host's activations on texts or images, into a store.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sae_config::{CorpusConfig, HUB_PREFIX};
use sae_hosts::corpus::{self, Documents, Texts};
use sae_hosts::{
    Cut, Error, HarvestOptions, HarvestProgress, HookPoint, HostModel, Image, ImageOptions,
    harvest_at, harvest_images_at,
};

use super::{check_apart, device, is_input, of_store, read_texts};
use crate::cli::HarvestArgs;
use crate::failure::{Blame as _, Failure};
use crate::interrupt;
use crate::output::{note, say};
use crate::progress::Progress;

pub(crate) fn run(args: &HarvestArgs) -> Result<(), Failure> {
    let device = device(&args.device)?;
    let corpus_paths =
        args.corpus.documents.corpus.iter().filter(|path| !path.starts_with(HUB_PREFIX));
    let inputs = args.text.iter().chain(&args.images).map(PathBuf::as_path);
    let inputs = inputs.chain([&*args.host]).chain(corpus_paths.map(Path::new));
    check_apart(&args.out, &inputs.collect::<Vec<_>>())?;
    let texts = read_texts(&args.text)?;
    let images = args.images.as_deref().map(|dir| images(dir, args.max_images)).transpose()?;
    let host = HostModel::load(&args.host, device).or_usage()?;
    let images = images.map(|images| readable(args, &host, images)).transpose()?;
    let places = places(args, &host)?;
    let stores: Vec<(HookPoint, &Path)> = places.iter().map(|(h, out)| (*h, &**out)).collect();
    let corpus = args.corpus.config(args.max_tokens);
    let documents = corpus.as_ref().map(|corpus| documents(corpus, &host)).transpose()?;
    let what = if images.is_some() { "images" } else { "tokens" };
    let of_what = if corpus.is_some() { "corpus" } else { "texts" };
    let mut progress = Progress::new("harvest", what, 0);
    let observer = &mut |now: &HarvestProgress| {
        progress.set_total(now.n_total.unwrap_or(0));
        progress.at(now.n_seen, || status(now, of_what));
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let harvested = match (images, corpus.as_ref().zip(documents)) {
        (Some((images, skipped)), _) => {
            let options = image_options(args, skipped);
            harvest_images_at(&host, &images, &stores, &options, observer)
        }
        (None, Some((corpus, documents))) => {
            let options = HarvestOptions { max_tokens: None, ..options(args, &host) };
            let tokenizer = host.tokenizer().or_usage()?;
            let prepend = options.bos.resolve(tokenizer).or_usage()?;
            let cut = Cut::of_corpus(options.context_length, prepend, corpus, tokenizer);
            harvest_at(&host, documents, cut.or_usage()?, &stores, &options, observer)
        }
        (None, None) => {
            let options = options(args, &host);
            let prepend = options.bos.resolve(host.tokenizer().or_usage()?).or_usage()?;
            let cut = Cut::new(options.context_length, prepend);
            harvest_at(&host, Box::new(Texts::new(&texts)), cut, &stores, &options, observer)
        }
    };
    drop(progress);
    let done = harvested.map_err(failure)?;
    for (_, out) in &stores {
        say!("{}: {} rows from {} {what}", out.display(), done.n_rows, done.n_seen);
    }
    if done.skipped.count > 0 {
        say!("{} damaged files and documents were left out, such as", done.skipped.count);
        done.skipped.examples.iter().for_each(|example| say!("  {example}"));
    }
    Ok(())
}

/// How far a harvest is, in words.
fn status(now: &HarvestProgress, of_what: &str) -> String {
    let skipped = match now.skipped.count {
        0 => String::new(),
        n => format!(", {n} damaged left out"),
    };
    match now.n_total {
        Some(_) => format!("{} rows{skipped}", now.n_rows),
        None => {
            let share = 100.0 * now.fraction;
            format!("{share:.0} % of the {of_what}, {} rows{skipped}", now.n_rows)
        }
    }
}

/// Whose failure an error of a harvest is.
fn failure(error: Error) -> Failure {
    match error {
        Error::Interrupted { .. } => Failure::Interrupted(error.to_string()),
        Error::Store(error) => of_store(error),
        other if is_input(&other) => Failure::usage(other),
        other => Failure::run(other),
    }
}

/// The hook points and the store of each: the folder of `--out`, or where there are several a folder
/// in it that is named as the hook point.
fn places(args: &HarvestArgs, host: &HostModel) -> Result<Vec<(HookPoint, PathBuf)>, Failure> {
    let all = args.hook.iter().map(|text| HookPoint::all_of(text, host.info()).or_usage());
    let hooks = all.collect::<Result<Vec<_>, _>>()?.concat();
    let is_single = matches!(&args.hook[..], [text] if !text.contains('*'));
    let place = |hook: HookPoint| match is_single {
        true => args.out.clone(),
        false => args.out.join(hook.to_string()),
    };
    Ok(hooks.into_iter().map(|hook| (hook, place(hook))).collect())
}

/// The documents of a corpus.
fn documents(corpus: &CorpusConfig, host: &HostModel) -> Result<Box<dyn Documents>, Failure> {
    corpus::open(corpus, host.tokenizer().or_usage()?).or_usage()
}

fn options(args: &HarvestArgs, host: &HostModel) -> HarvestOptions {
    HarvestOptions {
        context_length: args.context_length.unwrap_or(host.info().context_length()),
        skip_positions: args.skip_positions,
        bos: args.bos.into(),
        special_tokens: args.special_tokens.into(),
        max_tokens: args.max_tokens,
        dtype: args.dtype.into(),
        compression: args.compress,
        ..HarvestOptions::default()
    }
}

fn image_options(args: &HarvestArgs, skipped: Vec<String>) -> ImageOptions {
    ImageOptions {
        positions: args.positions.into(),
        background: args.background.into(),
        skipped,
        dtype: args.dtype.into(),
        compression: args.compress,
        ..ImageOptions::default()
    }
}

/// The first images of a folder.
fn images(folder: &Path, most: Option<NonZeroUsize>) -> Result<Vec<Image>, Failure> {
    let mut images = Image::find(folder).or_usage()?;
    images.truncate(most.map_or(usize::MAX, NonZeroUsize::get));
    Ok(images)
}

/// The images that are harvested, and the names of those that are left out since they cannot be
/// decoded, which is said.
fn readable(
    args: &HarvestArgs,
    host: &HostModel,
    images: Vec<Image>,
) -> Result<(Vec<Image>, Vec<String>), Failure> {
    let processor = host.image_processor().or_usage()?;
    if !args.skip_broken {
        return Ok((images, Vec::new()));
    }
    let n_images = images.len();
    let mut progress = Progress::new("decode", "images", n_images as u64);
    let (mut kept, mut skipped) = (Vec::new(), Vec::new());
    for (image, done) in images.into_iter().zip(1..) {
        match processor.pixels(&image) {
            Ok(_) => kept.push(image),
            Err(error) => skipped.push((image.name, error)),
        }
        progress.at(done, String::new);
    }
    drop(progress);
    for (_, error) in &skipped {
        note!("skipped: {error}");
    }
    if !skipped.is_empty() {
        note!("skipped {} of {n_images} images", skipped.len());
    }
    if kept.is_empty() {
        let error = anyhow::anyhow!("--images: expected an image that can be decoded, got none");
        return Err(Failure::usage(error));
    }
    Ok((kept, skipped.into_iter().map(|(name, _)| name).collect()))
}
