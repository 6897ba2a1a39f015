//! Any bytes are either an image whose pixels are all there, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sae_hosts::{Image, ImageProcessor};

fuzz_target!(|bytes: &[u8]| {
    let folder = std::env::temp_dir().join(format!("sae-hosts-fuzz-image-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let settings = folder.join("preprocessor_config.json");
    std::fs::write(
        &settings,
        r#"{"image_processor_type": "ViTImageProcessor", "do_resize": false}"#,
    )
    .unwrap();
    let image = Image { name: "image".into(), path: folder.join("image") };
    std::fs::write(&image.path, bytes).unwrap();
    let processor = ImageProcessor::read(&settings).expect("good settings");
    if let Ok((pixels, [height, width])) = processor.pixels(&image) {
        assert_eq!(pixels.len(), 3 * height * width);
    }
    std::fs::remove_dir_all(&folder).unwrap();
});
