//! Folders of files: the order of their rows, and what else may lie in them.

use std::path::Path;

use sae_data::{Dtype, open_store};

use crate::flat::write_npy;
use crate::support::{read_all, rows, spec, write_store};

fn refusal(path: &Path) -> String {
    open_store(path).unwrap_err().to_string()
}

#[test]
fn numbers_in_names_count_by_value() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..12 {
        write_npy(&dir.path().join(format!("acts_{i}.npy")), Dtype::F32, 5 * i..5 * i + 5, 4);
    }
    let store = open_store(dir.path()).unwrap();
    assert_eq!(read_all(&*store), rows(0..60, 4));
    assert_eq!(store.locate(52), (dir.path().join("acts_10.npy"), 2));
}

#[test]
fn hidden_files_and_texts_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_npy(&at("acts.npy"), Dtype::F32, 0..5, 4);
    std::fs::create_dir(at(".ipynb_checkpoints")).unwrap();
    write_npy(&at(".ipynb_checkpoints/acts.npy"), Dtype::F32, 5..10, 4);
    write_store(&at(".trash"), 5, spec(4, 5, Dtype::F32));
    std::fs::create_dir(at("plots")).unwrap();
    std::fs::write(at("plots/norms.png"), "a picture").unwrap();
    for name in ["._acts.npy", ".DS_Store", ".x.safetensors", "README", "notes.TXT", "run.json"] {
        std::fs::write(at(name), [0; 100]).unwrap();
    }
    assert_eq!(read_all(&*open_store(dir.path()).unwrap()), rows(0..5, 4));
}

#[test]
fn what_may_hold_rows_is_not_left_out_silently() {
    for (name, words) in [
        ("acts_1.npy.part", "a file that is not whole"),
        ("acts_1.npy.incomplete", "a file that is not whole"),
        ("acts_1.npy.tmp", "a file that is not whole"),
        ("acts_1.npy.gz", "a packed file (unpack it)"),
        ("acts_1.pt", "torch.load('"),
        ("acts_1.npz", "numpy.load('"),
        ("data-00000-of-00001.arrow", "Dataset.from_file('"),
        ("acts_1.h5", "h5py.File('"),
        ("acts000000.bin", "bytes without sizes"),
        ("acts_1.npy.1", "of no known kind"),
        ("acts_1", "of no known kind"),
        ("ACTS_1.NPY", "a .npy file, or headerless f32"),
        ("acts_1.safetensors", "a safetensors header"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_npy(&dir.path().join("acts_0.npy"), Dtype::F32, 0..5, 4);
        std::fs::write(dir.path().join(name), "12345").unwrap();
        let message = refusal(dir.path());
        assert!(message.contains(name) && message.contains(words), "{message}");
    }
}

#[test]
fn folders_and_links_within_are_followed_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_npy(&at("acts_0.npy"), Dtype::F32, 0..5, 4);
    let elsewhere = tempfile::tempdir().unwrap();
    write_npy(&elsewhere.path().join("blob"), Dtype::F32, 5..10, 4);
    std::os::unix::fs::symlink(elsewhere.path().join("blob"), at("acts_1.npy")).unwrap();
    assert_eq!(read_all(&*open_store(dir.path()).unwrap()), rows(0..10, 4));

    std::os::unix::fs::symlink(elsewhere.path().join("gone"), at("acts_2.npy")).unwrap();
    assert!(refusal(dir.path()).contains("acts_2.npy: expected a file or folder, got a link"));
    std::fs::remove_file(at("acts_2.npy")).unwrap();

    std::fs::create_dir(at("more")).unwrap();
    write_npy(&at("more/acts_2.npy"), Dtype::F32, 5..10, 4);
    let message = refusal(dir.path());
    assert!(message.contains("more: expected") && message.contains("data.stores"), "{message}");
}

#[test]
fn files_of_several_types_are_one_store_of_the_widest() {
    for (others, wide) in [
        (&[Dtype::F16, Dtype::F16][..], Dtype::F16),
        (&[Dtype::F16, Dtype::F32], Dtype::F32),
        (&[Dtype::F32, Dtype::F64, Dtype::F16], Dtype::F64),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (i, dtype) in others.iter().enumerate() {
            write_npy(&dir.path().join(format!("{i}.npy")), *dtype, 0..3, 4);
        }
        let store = open_store(dir.path()).unwrap();
        assert_eq!((store.dtype(), store.n_rows()), (wide, 3 * others.len() as u64));
    }
}
