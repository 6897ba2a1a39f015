//! The settings of a processor, and what transformers takes for those that are absent.

use std::path::Path;

use fast_image_resize::{FilterType, ResizeAlg};
use serde_json::{Value, json};

use crate::Result;
use crate::config::HostConfig;
use crate::images::resize::Size;

/// The processors of transformers that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Vit,
    Clip,
    Siglip,
    Bit,
}

impl Kind {
    /// Of the name of a processor.
    pub(super) const KEYS: [&str; 2] = ["image_processor_type", "feature_extractor_type"];

    /// The processor that a file names, or the model beside it.
    pub(super) fn read(config: &HostConfig, path: &Path) -> Result<Self> {
        for key in Self::KEYS {
            if config.has(key) {
                let name = config.string(key)?;
                let bare = ["Pil", "Fast"].iter().find_map(|end| name.strip_suffix(end));
                let bare = bare.unwrap_or(name);
                let bare =
                    bare.strip_suffix("ImageProcessor").or(bare.strip_suffix("FeatureExtractor"));
                return match bare {
                    Some("ViT") => Ok(Self::Vit),
                    Some("CLIP") => Ok(Self::Clip),
                    Some("Siglip") => Ok(Self::Siglip),
                    Some("Bit") => Ok(Self::Bit),
                    _ => {
                        let expected = "the processor of ViT, CLIP, Siglip or Bit";
                        Err(config.wrong(key, expected, format!("`{name}`")))
                    }
                };
            }
        }
        let model = HostConfig::read(&path.with_file_name("config.json"))?;
        match model.string("model_type")? {
            "vit" => Ok(Self::Vit),
            "clip" | "clip_vision_model" => Ok(Self::Clip),
            "siglip" | "siglip_vision_model" => Ok(Self::Siglip),
            "dinov2" => Ok(Self::Bit),
            _ => Err(config.wrong(Self::KEYS[0], "the name of a processor", "nothing")),
        }
    }

    /// What transformers takes for a key that is absent.
    pub(super) fn defaults(self) -> Value {
        let half = [0.5; 3];
        let clip_mean = [0.481_454_66, 0.457_827_5, 0.408_210_73];
        let clip_deviation = [0.268_629_54, 0.261_302_58, 0.275_777_11];
        let square = json!({"height": 224, "width": 224});
        let (resample, mean, deviation, size, crop) = match self {
            Self::Vit => (2, half, half, square.clone(), false),
            Self::Siglip => (3, half, half, square.clone(), false),
            Self::Clip | Self::Bit => {
                (3, clip_mean, clip_deviation, json!({"shortest_edge": 224}), true)
            }
        };
        json!({
            "resample": resample, "image_mean": mean, "image_std": deviation, "size": size,
            "do_center_crop": crop, "crop_size": square, "rescale_factor": 1.0 / 255.0,
        })
    }
}

/// The size that images are resized to. A single number is that of both edges in the processors of
/// ViT and SigLIP, and that of the shortest in others.
pub(super) fn size(config: &HostConfig, kind: Kind) -> Result<Size> {
    if config.is_number("size") {
        let edge = config.size("size")? as u32;
        let square = matches!(kind, Kind::Vit | Kind::Siglip);
        return Ok(if square {
            Size::Exact { height: edge, width: edge }
        } else {
            Size::ShortestEdge(edge)
        });
    }
    let section = config.section("size")?.unwrap_or_else(|| config.empty());
    if !section.has("shortest_edge") {
        let (height, width) = exact(config, "size")?;
        return Ok(Size::Exact { height, width });
    }
    let edge = section.size("shortest_edge")? as u32;
    section.finish(&[])?;
    Ok(Size::ShortestEdge(edge))
}

/// Height and width under a key; a single number is both.
pub(super) fn exact(config: &HostConfig, key: &str) -> Result<(u32, u32)> {
    if config.is_number(key) {
        let edge = config.size(key)? as u32;
        return Ok((edge, edge));
    }
    let section = config.section(key)?.unwrap_or_else(|| config.empty());
    let edges = (section.size("height")? as u32, section.size("width")? as u32);
    section.finish(&[])?;
    Ok(edges)
}

/// The resampling filter, by Pillow's number.
pub(super) fn algorithm(config: &HostConfig) -> Result<ResizeAlg> {
    Ok(match config.whole_or("resample", 2)? {
        0 => ResizeAlg::Nearest,
        1 => ResizeAlg::Convolution(FilterType::Lanczos3),
        2 => ResizeAlg::Convolution(FilterType::Bilinear),
        3 => ResizeAlg::Convolution(FilterType::CatmullRom),
        other => {
            let expected = "0 (nearest), 1 (Lanczos), 2 (bilinear) or 3 (bicubic)";
            return Err(config.wrong("resample", expected, other));
        }
    })
}
