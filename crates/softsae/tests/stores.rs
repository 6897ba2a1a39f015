//! Stores that others wrote: what is right comes out, and what cannot be read is exit code 2.

use std::fs;
use std::path::Path;

use crate::{fail, run_toml, softsae, str, succeed, text};

/// Writes rows without a header, under a name with their sizes.
fn write_rows(folder: &Path, name: &str, rows: &[f32], d_model: usize) -> std::path::PathBuf {
    let path = folder.join(format!("{name}_{}_{d_model}.npy", rows.len() / d_model));
    fs::write(&path, rows.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
        .expect("writes");
    path
}

#[test]
fn a_folder_is_converted_in_the_order_of_its_numbers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (parts, out) = (folder.path().join("parts"), folder.path().join("all_24_2.npy"));
    fs::create_dir(&parts).expect("a folder");
    fs::write(parts.join("._acts_0_2_2.npy"), "of a Mac").expect("writes");
    for i in 0..12_u8 {
        write_rows(&parts, &format!("acts_{i}"), &[f32::from(i); 4], 2);
    }
    succeed(["convert", str(&parts), "--out", str(&out), "--format", "headerless"]);
    let bytes = fs::read(&out).expect("the copy");
    let firsts: Vec<f32> = bytes
        .as_chunks::<16>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    assert_eq!(firsts, (0..12_u8).map(f32::from).collect::<Vec<_>>());

    fs::write(parts.join("acts_12_2_2.npy.part"), "half").expect("writes");
    fail(["inspect", str(&parts)], 2, &["acts_12_2_2.npy.part", "not whole"]);
}

#[test]
fn a_value_that_the_copy_cannot_hold_is_a_mistake_of_usage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = write_rows(folder.path(), "x", &[1.0, 2.0, 3.0, 7e4], 2);
    let out = folder.path().join("half.npy");
    let args = ["convert", str(&store), "--out", str(&out), "--format", "npy", "--dtype", "f16"];
    fail(args, 2, &["half.npy: row 1, column 1", "f16 can hold", "7e4"]);
    assert!(!out.exists());
}

#[test]
fn files_of_other_tools_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, words) in [("acts.pt", "torch.load"), ("acts.npz", "numpy.load")] {
        let path = folder.path().join(name);
        fs::write(&path, "PK").expect("writes");
        let config = folder.path().join("run.toml");
        fs::write(&config, run_toml(&path, "name = \"topk\"\nk = 4", 10)).expect("writes");
        let out = folder.path().join("out");
        for args in [&["inspect", str(&path)][..], &["train", str(&config), "--out", str(&out)]] {
            fail(args.iter().copied(), 2, &[name, "python3 -c", words]);
        }
        assert!(!out.exists(), "nothing may be started");
    }
}

#[test]
fn rows_of_zeros_do_not_drive_out_the_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut rows = vec![0.0; 600 * 8];
    rows.extend((0..400 * 8_u16).map(|i| (f32::from(i) * 0.37).sin()));
    let store = write_rows(folder.path(), "x", &rows, 8);
    let (config, out) = (folder.path().join("run.toml"), folder.path().join("out"));
    let run = run_toml(&store, "name = \"topk\"\nk = 3", 3)
        .replace("[sae]", "max_norm_ratio = 10\n\n[sae]");
    fs::write(&config, run).expect("writes");
    let output = softsae(["train", str(&config), "--out", str(&out)]);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("data.max_norm_ratio: kept 1000 of 1000 rows"), "{stderr}");
    let inspected = succeed(["inspect", str(&store)]);
    assert!(inspected.contains("rows of zeros             600\n"), "{inspected}");
    assert!(inspected.contains("of the rows that are not zero"), "{inspected}");
}

#[test]
fn what_a_command_finds_in_its_place_is_a_mistake_of_usage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let store = write_rows(folder.path(), "x", &[1.0, 2.0, 3.0, 4.0], 2);
    let out = at("copy");
    let convert = ["convert", str(&store), "--out", str(&out)];
    succeed(convert);
    fail(convert, 2, &["copy: expected no store, got one that exists"]);
    // As a kill leaves it.
    let manifest = out.join("manifest.json");
    let text = fs::read_to_string(&manifest).expect("reads");
    let mut begun: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    (begun["complete"], begun["shards"]) = (false.into(), serde_json::json!([]));
    fs::write(&manifest, begun.to_string()).expect("writes");
    fail(convert, 2, &["copy: expected no store, got an unfinished one", "delete it"]);
    let config = at("planted.toml");
    fs::write(&config, "[planted]\nn_rows = 20\nd_model = 8\nn_features = 16\nk_max = 3\n")
        .expect("writes");
    let (planted, plant) = (at("planted"), ["plant", str(&config), "--out"]);
    succeed(plant.into_iter().chain([str(&planted)]));
    fail(plant.into_iter().chain([str(&planted)]), 2, &["planted", "a finished one"]);
}
