//! What features of a small DINOv2 with random weights are of, against counting one by one.

use sae_config::{ImagePart, VisionScores};
use sae_eval::{Error, ImageEncoder, ImageSpliceOptions, monosemanticity, vision_scores};
use sae_hosts::{HookPoint, Image, ImagePositions};
use sae_models::Sae;
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use crate::images::{WIDTH, host, images, options, parts_of_transparent, processor};
use crate::models::{linear, soft};

fn hook() -> HookPoint {
    "resid_post.1".parse().unwrap()
}

/// Each photo under five names; two photos have one label, two the other.
fn many() -> Vec<Image> {
    let all = images();
    (0..20)
        .map(|i| {
            let label = ["x", "y"][i / 2 % 2];
            Image { name: format!("{label}/{i}"), path: all[i % all.len()].path.clone() }
        })
        .collect()
}

fn scores(
    sae: &Sae,
    images: &[Image],
    options: &ImageSpliceOptions,
    encoded: bool,
) -> VisionScores {
    let host = host();
    let encoder = ImageEncoder { host: &host, processor: processor() };
    let encoder = encoded.then_some(&encoder);
    vision_scores(sae, &host, hook(), images, options, encoder, &mut |_, _| {}).unwrap()
}

/// Greatest activation of each feature over the patches of each image, `[images, features]`, and k̂
/// of every patch.
fn greatest(sae: &Sae, images: &[Image]) -> (Vec<Vec<f32>>, Vec<Vec<f64>>) {
    let of = |image: &Image| {
        let (pixels, [height, width]) = processor().pixels(image).unwrap();
        let pixels = Tensor::from_slice(&pixels).view([1, 3, height as i64, width as i64]);
        let x = host().activations(&pixels.to_device(test_device()), hook()).unwrap().get(0);
        let encoded = sae.encode(&x.narrow(0, 1, 16)).unwrap();
        let most = encoded.features.amax([0i64].as_slice(), false);
        let k_hat = encoded.k_hat.unwrap().to_kind(Kind::Double);
        (Vec::<f32>::try_from(most).unwrap(), Vec::<f64>::try_from(k_hat).unwrap())
    };
    images.iter().map(of).unzip()
}

#[test]
fn scores_are_those_of_counting_one_by_one() {
    let (sae, images) = (soft(WIDTH, 64, 5), many());
    let all = scores(&sae, &images, &options(ImagePositions::Patches, 3), true);
    let (activations, k_hat) = greatest(&sae, &images);
    let features: Vec<usize> = (0..64)
        .filter(|&f| activations.iter().filter(|image| image[f] > 0.0).count() >= 5)
        .collect();
    assert_eq!((all.n_images, all.n_features), (20, features.len() as u64));
    assert!(features.len() > 5);
    let purity = |f: usize| {
        let active: Vec<usize> = (0..20).filter(|&i| activations[i][f] > 0.0).collect();
        let of = |label: &str| {
            active.iter().filter(|&&i| images[i].name.starts_with(label)).count() as f64
        };
        of("x").max(of("y")) / active.len() as f64
    };
    let expected = features.iter().map(|&f| purity(f)).sum::<f64>() / features.len() as f64;
    let label = all.label_purity.unwrap();
    assert!((label.value - expected).abs() < 1e-9, "{label:?} {expected}");
    assert!(label.chance >= 0.5 && label.chance < 1.0);
    // Alike are images to the host itself as to any encoder.
    let flat: Vec<f32> =
        activations.iter().flat_map(|of| features.iter().map(|&f| of[f])).collect();
    let flat = Tensor::from_slice(&flat).view([20, -1]);
    let embeddings: Vec<Tensor> = images
        .iter()
        .map(|image| {
            let (pixels, [height, width]) = processor().pixels(image).unwrap();
            let pixels = Tensor::from_slice(&pixels).view([1, 3, height as i64, width as i64]);
            host().image_embeddings(&pixels.to_device(test_device())).unwrap()
        })
        .collect();
    let alike = monosemanticity(&flat, &Tensor::cat(&embeddings, 0)).unwrap();
    let alike: Vec<f64> = alike.into_iter().flatten().collect();
    let mean = alike.iter().sum::<f64>() / alike.len() as f64;
    let got = all.monosemanticity.unwrap();
    assert!((got.value - mean).abs() < 1e-4 && got.n == alike.len() as u64, "{got:?} {mean}");
    // One photo in four is transparent in part; what is spent is of images with both parts.
    let (photo, parts) = parts_of_transparent(&images[..4]);
    let mean = |part: ImagePart| {
        let own: Vec<f64> =
            (0..16).filter(|&i| parts[i] == part).map(|i| k_hat[photo][i]).collect();
        (!own.is_empty()).then(|| own.iter().sum::<f64>() / own.len() as f64)
    };
    let expected = mean(ImagePart::Object).zip(mean(ImagePart::Background));
    assert_eq!(all.spent.is_some(), expected.is_some());
    if let Some((spent, (object, background))) = all.spent.zip(expected) {
        assert!((spent.object - object).abs() < 1e-4, "{spent:?}");
        assert!((spent.background - background).abs() < 1e-4, "{spent:?}");
        assert!(spent.standard_error < 1e-4, "the same photo again and again");
    }
    // Every photo is among those that train.
    let probing = all.label_probing.unwrap();
    assert_eq!((probing.n_labels, probing.auc.len(), probing.auc_dense), (2, 2, 1.0));
}

#[test]
fn batches_change_nothing_and_what_is_missing_is_left_out() {
    let (sae, images) = (soft(WIDTH, 64, 5), many());
    let one = scores(&sae, &images, &options(ImagePositions::All, 1), false);
    let three = scores(&sae, &images, &options(ImagePositions::All, 3), false);
    assert_eq!(one.n_features, three.n_features);
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
    close(one.label_purity.unwrap().value, three.label_purity.unwrap().value);
    assert_eq!(one.monosemanticity, None);
    // Few images: no feature is active on five, no label has ten.
    let few = scores(&sae, &images[..4], &options(ImagePositions::All, 2), true);
    assert_eq!((few.n_features, few.label_purity, few.label_probing), (0, None, None));
    let silent =
        scores(&linear(WIDTH, 1.0, 0.0), &images[..1], &options(ImagePositions::All, 2), false);
    assert_eq!((silent.part_purity, silent.n_images), (None, 1));
    let none = vision_scores(
        &sae,
        &host(),
        hook(),
        &[],
        &options(ImagePositions::All, 2),
        None,
        &mut |_, _| {},
    );
    assert!(matches!(none, Err(Error::Empty { what: "images" })));
}
