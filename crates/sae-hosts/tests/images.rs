//! Images: prepared as transformers does, and harvested.

mod processors;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sae_data::{RowMeta, open_store};
use sae_hosts::{
    Error, HarvestProgress, HookPoint, HostModel, Image, ImageOptions, ImagePositions,
    ImageProcessor, harvest_images, harvest_images_at,
};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/images").join(name)
}

/// The golden folders that the processors beside them are for, whatever `SOFTSAE_GOLDEN` names.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden").join(name)
}

fn photos() -> Vec<Image> {
    Image::find(&testdata("photos")).unwrap()
}

/// A golden vision host with its processor.
fn host_in(folder: &Path, family: &str) -> HostModel {
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("hosts").join(family).join(name), folder.join(name)).unwrap();
    }
    let processor = "preprocessor_config.json";
    std::fs::copy(testdata(family).join(processor), folder.join(processor)).unwrap();
    HostModel::load(folder, Device::Cpu).unwrap()
}

fn hook() -> HookPoint {
    "resid_post.1".parse().unwrap()
}

#[test]
fn images_are_found_by_name() {
    let names: Vec<String> = photos().into_iter().map(|image| image.name).collect();
    assert_eq!(names, ["a/grey.png", "a/wide.png", "b/tall.png", "b/transparent.png"]);
    let empty = TempDir::new().unwrap();
    std::fs::write(empty.path().join("notes.txt"), "no image").unwrap();
    let error = Image::find(empty.path()).unwrap_err().to_string();
    assert!(
        error
            .contains("expected files that end in apng, bmp, dib, jfif, jpe, jpeg, jpg, png, webp"),
        "{error}"
    );
}

/// The rows and metadata of a store.
fn contents(path: &Path) -> (Vec<f32>, Vec<RowMeta>) {
    let store = open_store(path).unwrap();
    let n = store.n_rows() as usize;
    let mut rows = vec![0.0; n * store.d_model()];
    store.read_rows(0, &mut rows).unwrap();
    let mut meta = vec![RowMeta::default(); n];
    store.read_meta(0, &mut meta).unwrap();
    (rows, meta)
}

fn goes_on(_: &HarvestProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_harvest_holds_the_positions_that_were_asked_for() {
    for (family, class_token) in [("dinov2", true), ("siglip_vision", false)] {
        let folder = TempDir::new().unwrap();
        let host = host_in(folder.path(), family);
        let processor =
            ImageProcessor::read(&folder.path().join("preprocessor_config.json")).unwrap();
        let images = photos();
        let pixels: Vec<f32> =
            images.iter().flat_map(|image| processor.pixels(image).unwrap().0).collect();
        let pixels = Tensor::from_slice(&pixels).view([4, 3, 32, 32]);
        let all = host.activations(&pixels, hook()).unwrap();
        let first_patch = usize::from(class_token);
        let n_positions = 16 + first_patch;
        for (positions, stored) in [
            (ImagePositions::All, 0..n_positions),
            (ImagePositions::Patches, first_patch..n_positions),
            (ImagePositions::Class, 0..1),
        ] {
            let out = folder.path().join(format!("{positions:?}"));
            // Batches of three leave one over.
            let options = ImageOptions { positions, batch_size: 3, ..ImageOptions::default() };
            let done = harvest_images(&host, &images, hook(), &options, &out, &mut goes_on);
            if positions == ImagePositions::Class && !class_token {
                let error = done.unwrap_err().to_string();
                assert!(
                    error.starts_with("positions: expected a host with a class token"),
                    "{error}"
                );
                continue;
            }
            let done = done.unwrap();
            assert_eq!((done.n_seen, done.n_rows), (4, 4 * stored.len() as u64));
            let (rows, meta) = contents(&out);
            let expected =
                all.narrow(1, stored.start as i64, stored.len() as i64).contiguous().view(-1);
            let off = (Tensor::from_slice(&rows) - expected).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{family} {positions:?}: off by {off}");
            let expected: Vec<(u32, u32)> =
                (0..4).flat_map(|d| stored.clone().map(move |p| (d, p as u32))).collect();
            let got: Vec<(u32, u32)> = meta.iter().map(|m| (m.document, m.position)).collect();
            assert_eq!(got, expected);
            let store = open_store(&out).unwrap();
            let provenance = store.provenance().unwrap();
            assert_eq!(provenance.image_names[2], "b/tall.png");
            assert_eq!(provenance.image_hashes.len(), 4);
        }
    }
}

#[test]
fn an_interrupted_harvest_of_images_ends_in_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    let host = host_in(folder.path(), "vit");
    let images = photos();
    let options =
        ImageOptions { batch_size: 1, rows_per_shard: Some(7), ..ImageOptions::default() };
    let whole = folder.path().join("whole");
    harvest_images(&host, &images, hook(), &options, &whole, &mut goes_on).unwrap();
    for stop_at in 1..4 {
        let out = folder.path().join(format!("stopped-{stop_at}"));
        let mut stop = |now: &HarvestProgress| {
            if now.n_seen == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let stopped = harvest_images(&host, &images, hook(), &options, &out, &mut stop);
        assert!(matches!(stopped, Err(Error::Interrupted { .. })));
        harvest_images(&host, &images, hook(), &options, &out, &mut goes_on).unwrap();
        assert_eq!(contents(&out), contents(&whole));
        let hash = |path: &Path| open_store(path).unwrap().content_hash().unwrap();
        assert_eq!(hash(&out), hash(&whole));
    }
}

#[test]
fn dinov2_reads_images_of_other_sizes() {
    let host = HostModel::load(&golden("hosts/dinov2"), Device::Cpu).unwrap();
    let expected = Tensor::read_safetensors(testdata("dinov2/other_sizes.safetensors")).unwrap();
    let get = |name: &str| &expected.iter().find(|(n, _)| n == name).unwrap().1;
    for size in ["24x24", "48x32", "32x40"] {
        let pixels = get(&format!("{size}.pixels"));
        for (hook, state) in [("resid_pre.0", 0), ("resid_post.1", 2)] {
            let got = host.activations(pixels, hook.parse().unwrap()).unwrap();
            let off = (got - get(&format!("{size}.hidden_states.{state}"))).abs().max();
            assert!(off.double_value(&[]) < 1e-4, "{size} {hook}: off by {off:?}");
        }
        let off = host.image_embeddings(pixels).unwrap() - get(&format!("{size}.pooler_output"));
        assert!(off.abs().max().double_value(&[]) < 1e-4, "{size}");
    }
    let odd = Tensor::zeros([1, 3, 30, 32], (Kind::Float, Device::Cpu));
    let error = host.activations(&odd, hook()).unwrap_err().to_string();
    assert!(
        error.contains("multiple of 8, multiple of 8] on Cpu, got Float [1, 3, 30, 32]"),
        "{error}"
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = TempDir::new().unwrap();
    let host = host_in(folder.path(), "dinov2");
    let processor = folder.path().join("preprocessor_config.json");
    let text = std::fs::read_to_string(&processor).unwrap();
    let harvest = |images: &[Image]| {
        let (options, out) = (ImageOptions::default(), TempDir::new().unwrap());
        let done = harvest_images(&host, images, hook(), &options, out.path(), &mut goes_on);
        done.unwrap_err().to_string()
    };
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        std::fs::write(&processor, text.replace(from, to)).unwrap();
        harvest(&photos())
    };
    let error = with("\"height\": 32", "\"height\": 30");
    assert!(error.contains("size of a/grey.png: expected multiples of 8, got 30 × 32"), "{error}");
    let error = with("\"do_center_crop\": true", "\"do_center_crop\": false");
    assert!(error.contains("size of a/grey.png: expected multiples of 8, got 36 × 38"), "{error}");
    let error = with("\"height\": 32", "\"height\": 37");
    assert!(error.contains("expected at least 37 × 32 pixels after resizing"), "{error}");
    let error = with("\"resample\": 3", "\"resample\": 9");
    assert!(error.contains("`resample`: expected 0 (nearest)"), "{error}");
    let error = with("0.485,", "");
    assert!(error.contains("`image_mean`: expected three numbers"), "{error}");
    std::fs::write(&processor, &text).unwrap();
    let bad = folder.path().join("bad.png");
    std::fs::write(&bad, b"\x89PNG\r\n\x1a\nnothing").unwrap();
    let error = harvest(&[Image { name: "bad.png".into(), path: bad }]);
    assert!(error.contains("bad.png: image: expected one that can be decoded"), "{error}");
}

#[test]
fn several_hook_points_are_harvested_in_one_pass_with_the_same_rows() {
    let folder = TempDir::new().unwrap();
    let host = host_in(folder.path(), "dinov2");
    let images = photos();
    let options =
        ImageOptions { batch_size: 3, rows_per_shard: Some(7), ..ImageOptions::default() };
    let hooks = ["resid_post.1", "resid_pre.0", "mlp_in.0"].map(|hook| hook.parse().unwrap());
    let place = |within: &str, hook: &HookPoint| folder.path().join(within).join(hook.to_string());
    let hash = |path: &Path| open_store(path).unwrap().content_hash().unwrap();
    for hook in &hooks {
        let out = place("alone", hook);
        harvest_images(&host, &images, *hook, &options, &out, &mut goes_on).unwrap();
    }
    let harvest = |within: &str, progress: &mut dyn FnMut(&HarvestProgress) -> ControlFlow<()>| {
        let places: Vec<_> = hooks.iter().map(|hook| (*hook, place(within, hook))).collect();
        let stores: Vec<_> = places.iter().map(|(hook, out)| (*hook, out.as_path())).collect();
        harvest_images_at(&host, &images, &stores, &options, progress)
    };
    assert_eq!(harvest("together", &mut goes_on).unwrap().n_rows, 4 * 16);
    assert!(harvest("stopped", &mut |_| ControlFlow::Break(())).is_err());
    harvest("stopped", &mut goes_on).unwrap();
    let meta = contents(&place("alone", &hooks[0])).1;
    for hook in &hooks {
        let alone = place("alone", hook);
        for within in ["together", "stopped"] {
            assert_eq!(hash(&place(within, hook)), hash(&alone), "{within} {hook}");
        }
        assert_eq!(contents(&alone).1, meta, "rows of all stores are aligned");
    }
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let twice = [(hooks[0], a.as_path()), (hooks[0], b.as_path())];
    let error = harvest_images_at(&host, &images, &twice, &options, &mut goes_on).unwrap_err();
    assert!(error.to_string().contains("hook points that differ"), "{error}");
    assert!(!a.exists() && !b.exists(), "nothing is begun");
}
