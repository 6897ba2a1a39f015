//! SAEs spliced into a small DINOv2 with random weights that sees four images.

use std::path::{Path, PathBuf};

use sae_config::{ImagePart, ImageScores};
use sae_eval::{Error, ImageSpliceOptions, splice_images};
use sae_hosts::{Background, HookPoint, HostModel, Image, ImagePositions, ImageProcessor};
use sae_models::Sae;
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use crate::models::{linear, soft};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sae-hosts/testdata")
}

pub(crate) fn host() -> HostModel {
    HostModel::load(&testdata().join("golden/hosts/dinov2"), test_device()).unwrap()
}

pub(crate) fn images() -> Vec<Image> {
    Image::find(&testdata().join("images/photos")).unwrap()
}

pub(crate) fn processor() -> ImageProcessor {
    let file = testdata().join("images/dinov2/preprocessor_config.json");
    ImageProcessor::read(&file).unwrap().with_background(Background::White)
}

pub(crate) const WIDTH: usize = 32;

pub(crate) fn options(positions: ImagePositions, batch_size: usize) -> ImageSpliceOptions {
    let mean = (0..WIDTH).map(|i| i as f64 / 50.0 - 0.3).collect();
    ImageSpliceOptions { processor: processor(), positions, mean, batch_size }
}

fn splice(
    sae: &Sae,
    hook: HookPoint,
    options: &ImageSpliceOptions,
) -> sae_eval::Result<ImageScores> {
    splice_images(sae, &host(), hook, &images(), options, &mut |_, _| {})
}

/// The photo that is transparent somewhere, by its number, and what is in its 16 patches.
pub(crate) fn parts_of_transparent(images: &[Image]) -> (usize, Vec<ImagePart>) {
    let opacity = |image: &Image| processor().opacity(image).unwrap();
    let (photo, opacity) =
        images.iter().enumerate().find_map(|(i, image)| Some((i, opacity(image)?))).unwrap();
    let edge = opacity.len().isqrt();
    let patch = edge / 4;
    let share = |at: usize| {
        let (top, left) = (at / 4 * patch, at % 4 * patch);
        let rows = (top..top + patch).map(|y| &opacity[y * edge + left..][..patch]);
        rows.flatten().sum::<f32>() / (patch * patch) as f32
    };
    let part = |at| match share(at) {
        share if share >= 0.95 => ImagePart::Object,
        share if share <= 0.05 => ImagePart::Background,
        _ => ImagePart::Edge,
    };
    (photo, (0..16).map(part).collect())
}

/// What is measured, by its definition: one image after another.
fn by_definition(sae: &Sae, hook: HookPoint, options: &ImageSpliceOptions) -> [f64; 2] {
    let (host, images) = (host(), images());
    let mut cosines = [0.0; 2];
    for image in &images {
        let (pixels, [height, width]) = options.processor.pixels(image).unwrap();
        let pixels = Tensor::from_slice(&pixels).view([1, 3, height as i64, width as i64]);
        let prefix = host.prefix(&pixels.to_device(test_device()), hook).unwrap();
        let x = prefix.activations();
        let replaced = match options.positions {
            ImagePositions::All => 0..17,
            ImagePositions::Class => 0..1,
            ImagePositions::Patches => 1..17,
        };
        let with = |rows: &Tensor| {
            let y = x.copy();
            y.narrow(1, replaced.start, replaced.end - replaced.start).copy_(rows);
            host.image_embeddings_from(&prefix, &y).unwrap().to_kind(Kind::Double)
        };
        let own = x.narrow(1, replaced.start, replaced.end - replaced.start);
        let encoded = sae.encode(&own.reshape([-1, WIDTH as i64])).unwrap();
        let spliced = with(&sae.decode(&encoded).unwrap().view_as(&own));
        let mean = Tensor::from_slice(&options.mean).to_kind(Kind::Float).to_device(test_device());
        let clean = host.image_embeddings(&pixels.to_device(test_device())).unwrap();
        let clean = clean.to_kind(Kind::Double);
        for (sum, other) in cosines.iter_mut().zip([spliced, with(&mean.expand_as(&own))]) {
            let product = (&clean * &other).sum(Kind::Double).double_value(&[]);
            let norms = clean.norm().double_value(&[]) * other.norm().double_value(&[]);
            *sum += product / norms / images.len() as f64;
        }
    }
    cosines
}

#[test]
fn cosines_follow_their_definition_whatever_the_batches() {
    for (positions, hook) in [
        (ImagePositions::All, "resid_post.1"),
        (ImagePositions::Patches, "resid_pre.1"),
        (ImagePositions::Class, "resid_post.2"),
        (ImagePositions::All, "mlp_out.1"),
    ] {
        let (hook, sae) = (hook.parse().unwrap(), soft(WIDTH, 64, 5));
        let scores = splice(&sae, hook, &options(positions, 3)).unwrap();
        let [cosine, with_mean] = by_definition(&sae, hook, &options(positions, 3));
        let close = |got: f64, expected: f64| {
            assert!((got - expected).abs() < 1e-5, "{positions:?} {hook}: {expected}, got {got}");
        };
        close(scores.cosine, cosine);
        close(scores.cosine_mean, with_mean);
        let recovered = (scores.cosine - scores.cosine_mean) / (1.0 - scores.cosine_mean);
        assert_eq!((scores.embedding_recovered, scores.n_images), (recovered, 4));
        let n_rows: u64 = scores.parts.iter().map(|part| part.n_rows).sum();
        let expected = match positions {
            ImagePositions::All => 4 * 17,
            ImagePositions::Class => 4,
            ImagePositions::Patches => 4 * 16,
        };
        assert_eq!(n_rows, expected);
        assert!(scores.parts.iter().all(|part| part.k_hat_mean.is_some()));
        let single = splice(&sae, hook, &options(positions, 1)).unwrap();
        close(single.cosine, scores.cosine);
        assert_eq!(single.labels, scores.labels);
    }
}

#[test]
fn an_identity_keeps_embeddings_and_neighbours() {
    let hook = "resid_post.1".parse().unwrap();
    let options = options(ImagePositions::All, 2);
    let scores = splice(&linear(WIDTH, 1.0, 0.0), hook, &options).unwrap();
    assert!(scores.cosine > 1.0 - 1e-6 && scores.embedding_recovered > 1.0 - 1e-4, "{scores:?}");
    // The folders a and b hold two each.
    let labels = scores.labels.unwrap();
    assert_eq!((labels.n_images, labels.n_labels), (4, 2));
    assert_eq!(labels.clean, labels.spliced);
    for part in &scores.parts {
        assert!(part.r2.unwrap() > 1.0 - 1e-6 && part.k_hat_mean.is_none(), "{part:?}");
    }
    // One image of the four is transparent in part.
    let n = |part: ImagePart| {
        scores.parts.iter().filter(|scores| scores.part == part).map(|s| s.n_rows).sum::<u64>()
    };
    assert_eq!((n(ImagePart::ClassToken), n(ImagePart::Patch)), (4, 3 * 16));
    assert_eq!(n(ImagePart::Object) + n(ImagePart::Edge) + n(ImagePart::Background), 16);
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let hook = "resid_post.1".parse().unwrap();
    let all = || options(ImagePositions::All, 2);
    let sae = soft(WIDTH, 64, 5);
    let none = splice_images(&sae, &host(), hook, &[], &all(), &mut |_, _| {});
    assert!(matches!(none, Err(Error::Empty { what: "images" })));
    let other = splice(&soft(16, 32, 5), hook, &all()).unwrap_err().to_string();
    assert!(other.ends_with("expected 16 as the sae has it, got 32 of the host"), "{other}");
    let short = ImageSpliceOptions { mean: vec![0.0; 3], ..all() };
    let short = splice(&sae, hook, &short).unwrap_err().to_string();
    assert!(short.ends_with("expected 32 as the sae has it, got 3 of the mean"), "{short}");
    let zero = ImageSpliceOptions { batch_size: 0, ..all() };
    assert!(splice(&sae, hook, &zero).is_err());
    // Nothing reads patches after the last layer.
    let last = "resid_post.2".parse().unwrap();
    let patches = splice(&sae, last, &options(ImagePositions::Patches, 2));
    assert!(matches!(patches, Err(Error::SameEmbedding { .. })), "{patches:?}");
    let language = testdata().join("golden/hosts/llama");
    let language = HostModel::load(&language, test_device()).unwrap();
    let d_model = language.info().d_model;
    let options = ImageSpliceOptions { mean: vec![0.0; d_model], ..all() };
    let sae = soft(d_model, 64, 5);
    let error = splice_images(&sae, &language, hook, &images(), &options, &mut |_, _| {});
    assert!(matches!(error, Err(Error::Host(_) | Error::Setting { .. })), "{error:?}");
}
