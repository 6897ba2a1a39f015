//! `.npy` with and without a header, directories, and conversion between formats.

use std::path::{Path, PathBuf};

use sae_data::{
    Concatenation, Dtype, Error, Format, NpyWriter, RowMeta, Selection, convert, open_store,
};

use crate::support::{meta, read_all, rows, spec, store, write_store};

pub(crate) fn write_npy(path: &Path, dtype: Dtype, range: std::ops::Range<u64>, d_model: usize) {
    let mut writer = NpyWriter::create(path, dtype, range.end - range.start, d_model).unwrap();
    writer.append(&rows(range, d_model)).unwrap();
    writer.finish().unwrap();
}

#[test]
fn npy_comes_back_in_every_type() {
    let dir = tempfile::tempdir().unwrap();
    for dtype in [Dtype::F16, Dtype::F32, Dtype::F64] {
        let path = dir.path().join(format!("{dtype}.npy"));
        write_npy(&path, dtype, 0..30, 5);
        let store = open_store(&path).unwrap();
        assert_eq!((store.n_rows(), store.d_model(), store.dtype()), (30, 5, dtype));
        assert_eq!(read_all(&*store), rows(0..30, 5));
        assert!(store.provenance().is_none());
        let none = store.read_meta(0, &mut [RowMeta::default()]).unwrap_err();
        assert!(matches!(none, Error::NoMetadata { .. }));
    }
}

/// The bytes that NumPy 2 writes for `np.arange(6, dtype='<f2').reshape(3, 2)`.
#[test]
fn reads_a_file_of_numpy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let mut bytes = b"\x93NUMPY\x01\x00v\x00".to_vec();
    bytes.extend_from_slice(b"{'descr': '<f2', 'fortran_order': False, 'shape': (3, 2), }");
    bytes.resize(127, b' ');
    bytes.push(b'\n');
    for half in [0x0000_u16, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500] {
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(read_all(&*open_store(&path).unwrap()), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn headerless_takes_its_shape_from_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip_train_12_3.npy");
    let bytes: Vec<u8> = rows(0..12, 3).iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(&path, &bytes).unwrap();
    let store = open_store(&path).unwrap();
    assert_eq!(read_all(&*store), rows(0..12, 3));
    let other = dir.path().join("clip_train_9_4.npy");
    std::fs::write(&other, &bytes).unwrap();
    let other = open_store(&other).unwrap();
    assert_ne!(store.content_hash().unwrap(), other.content_hash().unwrap(), "other rows");

    for (name, expected) in [
        ("clip_13_3.npy", "expected 156 bytes, got 144"),
        ("clip_11_3.npy", "expected 132 bytes, got 144"),
        ("clip_0_3.npy", "expected 0 bytes, got 144"),
        ("clip_x_3.npy", "headerless f32 named *_N_D.npy"),
        ("clip_99999999999_99999999999.npy", "size fits 64 bits"),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let error = open_store(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
    }
}

#[test]
fn directories_are_read_in_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    write_npy(&dir.path().join("b.npy"), Dtype::F32, 20..30, 4);
    write_npy(&dir.path().join("a.npy"), Dtype::F64, 0..20, 4);
    write_store(&dir.path().join("c"), 15, spec(4, 8, Dtype::F32));
    std::fs::write(dir.path().join("notes.txt"), "not activations").unwrap();
    let store = open_store(dir.path()).unwrap();
    let mut expected = rows(0..30, 4);
    expected.extend(rows(0..15, 4));
    assert_eq!(read_all(&*store), expected);
    assert_eq!(store.locate(25), (dir.path().join("b.npy"), 5));

    write_npy(&dir.path().join("d.npy"), Dtype::F32, 0..2, 3);
    let error = open_store(dir.path()).unwrap_err().to_string();
    assert!(error.contains("d.npy: expected d_model 4") && error.ends_with("got 3"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(open_store(empty.path()).unwrap_err().to_string().contains("with none of them"));
}

#[test]
fn converts_between_all_formats() {
    let dir = tempfile::tempdir().unwrap();
    let native = store(&dir.path().join("native"), 50, 4, 16);
    let outputs = [
        (Format::Npy, Dtype::F64, "x.npy"),
        (Format::Headerless, Dtype::F32, "x_50_4.npy"),
        (Format::Native, Dtype::BF16, "again"),
    ];
    for (format, dtype, name) in outputs {
        let out = dir.path().join(name);
        let mut behind = 0;
        convert(&*native, &out, format, dtype, &mut |n| behind = n).unwrap();
        assert_eq!(behind, 50);
        let copy = open_store(&out).unwrap();
        assert_eq!((copy.dtype(), read_all(&*copy)), (dtype, rows(0..50, 4)));
    }
    let documents = |path: PathBuf| {
        let mut meta = [RowMeta::default(); 50];
        open_store(&path).unwrap().read_meta(0, &mut meta).unwrap();
        meta
    };
    assert_eq!(documents(dir.path().join("again"))[..], meta(0..50));
    let from_npy = open_store(&dir.path().join("x.npy")).unwrap();
    let out = dir.path().join("from npy");
    convert(&*from_npy, &out, Format::Native, Dtype::F32, &mut |_| ()).unwrap();
    let copy = open_store(&out).unwrap();
    assert_eq!(read_all(&*copy), rows(0..50, 4));
    let mixed = Concatenation::new(vec![(native, 1.0), (from_npy, 1.0)]).unwrap();
    convert(&mixed, &dir.path().join("mixed"), Format::Native, Dtype::F32, &mut |_| ()).unwrap();
    let mixed = open_store(&dir.path().join("mixed")).unwrap();
    assert!(mixed.read_meta(0, &mut [RowMeta::default()]).is_err() && mixed.n_rows() == 100);
    let none = copy.read_meta(0, &mut [RowMeta::default()]).unwrap_err();
    assert!(matches!(none, Error::NoMetadata { .. }), "positions that nobody knew: {none}");
    let selected = Selection::by_meta(copy, |meta| meta.position == 0).unwrap_err();
    assert!(matches!(selected, Error::NoMetadata { .. }), "{selected}");
}

#[test]
fn conversion_refuses_what_a_format_cannot_hold() {
    let dir = tempfile::tempdir().unwrap();
    let native = store(&dir.path().join("native"), 5, 4, 16);
    let fail = |format, dtype, name: &str| {
        let out = dir.path().join(name);
        let error = convert(&*native, &out, format, dtype, &mut |_| ()).unwrap_err().to_string();
        assert!(name == "native" || !out.exists());
        error
    };
    assert!(fail(Format::Npy, Dtype::BF16, "x.npy").starts_with("dtype: expected f16"));
    assert!(fail(Format::Headerless, Dtype::F16, "x_5_4.npy").starts_with("dtype: expected f32"));
    assert!(fail(Format::Headerless, Dtype::F32, "x.npy").contains("ends in _5_4.npy"));
    assert!(fail(Format::Native, Dtype::F32, "native").contains("expected no store"));
}

#[test]
fn an_npy_writer_wants_all_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let mut writer = NpyWriter::create(&path, Dtype::F32, 3, 2).unwrap();
    assert!(writer.append(&[0.0; 3]).is_err());
    assert!(writer.append(&[0.0; 8]).is_err());
    writer.append(&[0.0; 4]).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("1 fewer"));
    assert!(!path.exists());
}
