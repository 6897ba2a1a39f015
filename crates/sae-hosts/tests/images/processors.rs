//! How images are prepared, beside transformers and Pillow.

use sae_hosts::{Image, ImageProcessor};
use tch::{Kind, Tensor};
use tempfile::TempDir;

use super::{golden, photos, testdata};

/// One level of a byte, in the units of the smallest deviation: resampling may round otherwise.
const LEVEL: f64 = 1.0 / 255.0 / 0.224;

#[test]
fn pixels_are_those_of_transformers() {
    for family in ["vit", "dinov2", "clip_vision", "siglip_vision"] {
        let folder = testdata(family);
        let processor = ImageProcessor::read(&folder.join("preprocessor_config.json")).unwrap();
        let expected = Tensor::read_safetensors(folder.join("expected.safetensors")).unwrap();
        for image in photos() {
            let (pixels, size) = processor.pixels(&image).unwrap();
            assert_eq!(size, [32, 32]);
            let (_, expected) = expected.iter().find(|(name, _)| *name == image.name).unwrap();
            let got = Tensor::from_slice(&pixels).view([3, 32, 32]);
            let off = (got - expected).abs();
            let (most, mean) =
                (off.max().double_value(&[]), off.mean(Kind::Double).double_value(&[]));
            assert!(most < 1.01 * LEVEL, "{family} {}: off by up to {most}", image.name);
            // Recent versions of Pillow resize some images in rows first, older ones none.
            assert!(mean < 0.1 * LEVEL, "{family} {}: off by {mean} on average", image.name);
        }
    }
}

/// A processor of these settings that changes nothing else.
fn processor(settings: &serde_json::Value) -> Result<ImageProcessor, String> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("preprocessor_config.json");
    let mut all = serde_json::json!({
        "image_processor_type": "ViTImageProcessor", "do_resize": false, "do_rescale": false,
        "do_normalize": false,
    });
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    std::fs::write(&path, all.to_string()).unwrap();
    ImageProcessor::read(&path).map_err(|error| error.to_string())
}

#[test]
fn images_of_every_kind_have_the_colours_that_pillow_gives_them() {
    let folder = testdata("kinds");
    let expected = Tensor::read_safetensors(folder.join("expected.safetensors")).unwrap();
    let same = processor(&serde_json::json!({})).unwrap();
    for (name, colours) in &expected {
        let image = Image { name: name.clone(), path: folder.join(name) };
        let (pixels, [height, width]) = same.pixels(&image).unwrap();
        assert_eq!(colours.size(), [height as i64, width as i64, 3], "{name}");
        let got = Tensor::from_slice(&pixels).view([3, height as i64, width as i64]);
        let off = (got.permute([1, 2, 0]) - colours.to_kind(Kind::Float)).abs();
        // Decoders of lossy formats round otherwise.
        let (most, mean) = match name.as_str() {
            "subsampled.jpg" => (6.0, 0.6),
            lossy if lossy.ends_with(".jpg") => (3.0, 0.05),
            _ => (0.0, 0.0),
        };
        let (most_off, mean_off) =
            (off.max().double_value(&[]), off.mean(Kind::Double).double_value(&[]));
        assert!(most_off <= most && mean_off <= mean, "{name}: off by {most_off}, {mean_off}");
    }
    assert_eq!(expected.len(), Image::find(&folder).unwrap().len() - 4);
}

#[test]
fn images_that_cannot_be_read_as_they_are_are_refused_by_name() {
    let same = processor(&serde_json::json!({})).unwrap();
    let images = Image::find(&testdata("kinds/refused")).unwrap();
    for (image, reason) in images.iter().zip(["an animation", "cut off", "Raw profile", "16 bits"])
    {
        let error = same.pixels(image).unwrap_err().to_string();
        assert!(error.contains(&image.name) && error.contains(reason), "{error}");
    }
    assert_eq!(images.len(), 4);
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("a.gif"), "").unwrap();
    let error = Image::find(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("a.gif: image: expected PNG, JPEG, WebP or BMP, got gif"), "{error}");
}

#[test]
fn every_setting_of_a_processor_is_done_or_refused() {
    for (settings, part) in [
        (serde_json::json!({"do_pad": true}), "`do_pad`: expected false, got true"),
        (serde_json::json!({"crop_pct": 0.9}), "`crop_pct`: expected no such key"),
        (serde_json::json!({"do_flip_channel_order": true}), "expected false, got true"),
        (serde_json::json!({"rescale_offset": true}), "expected false, got true"),
        (serde_json::json!({"do_thumbnail": true}), "`do_thumbnail`: expected no such key"),
        (serde_json::json!({"size": {"longest_edge": 9}}), "`size.height`: expected"),
        (
            serde_json::json!({"size": {"shortest_edge": 8, "longest_edge": 9}}),
            "`size.longest_edge`: expected no such key in this model, got 9",
        ),
        (
            serde_json::json!({"image_processor_type": "ConvNextImageProcessor"}),
            "`image_processor_type`: expected the processor of ViT, CLIP, Siglip or Bit",
        ),
    ] {
        let error = processor(&settings).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    for settings in [
        serde_json::json!({"do_convert_rgb": true, "size": 8, "crop_pct": null}),
        serde_json::json!({"image_processor_type": null, "feature_extractor_type": "CLIPFeatureExtractor"}),
        serde_json::json!({"image_processor_type": "SiglipImageProcessorFast", "return_tensors": "pt"}),
    ] {
        assert!(processor(&settings).is_ok(), "{settings}");
    }
}

#[test]
fn absent_settings_are_those_of_the_processor_of_the_model() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("preprocessor_config.json");
    std::fs::write(&path, "{}").unwrap();
    let wide = &photos()[1];
    for (family, first) in [("vit", 0.5), ("siglip_vision", 0.5), ("clip_vision", 0.48145466)] {
        let config = golden("hosts").join(family).join("config.json");
        std::fs::copy(config, folder.path().join("config.json")).unwrap();
        let (pixels, size) = ImageProcessor::read(&path).unwrap().pixels(wide).unwrap();
        assert_eq!(size, [224, 224], "{family}");
        let lowest = pixels.iter().copied().fold(f32::INFINITY, f32::min);
        assert!(f64::from(lowest) >= -first / 0.26, "{family}: {lowest}");
    }
    std::fs::write(&path, "{\"do_resize\": true}").unwrap();
    let other = folder.path().join("processor_config.json");
    std::fs::write(other, r#"{"image_processor": {"do_resize": false}}"#).unwrap();
    let error = ImageProcessor::read(&path).unwrap_err().to_string();
    assert!(error.contains("processor_config.json: `image_processor`: expected"), "{error}");
}
