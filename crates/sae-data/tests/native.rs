//! The native format: what is written comes back, and an interruption changes nothing.

use std::path::Path;

use sae_data::{Dtype, Error, Provenance, RowMeta, StoreSpec, StoreWriter, open_store};

use crate::support::{append, meta, read_all, rows, spec, write_store};

#[test]
fn rows_and_metadata_come_back_in_every_type() {
    for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32] {
        let dir = tempfile::tempdir().unwrap();
        write_store(dir.path(), 50, spec(6, 16, dtype));
        let store = open_store(dir.path()).unwrap();
        assert_eq!((store.n_rows(), store.d_model(), store.dtype()), (50, 6, dtype));
        assert_eq!(read_all(&*store), rows(0..50, 6));
        let mut found = vec![RowMeta::default(); 20];
        store.read_meta(10, &mut found).unwrap();
        assert_eq!(found, meta(10..30));
        assert_eq!(store.locate(40), (dir.path().join("shard-00002.safetensors"), 8));
        store.verify().unwrap();
    }
}

#[test]
fn provenance_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let provenance = Provenance {
        host: "a host".to_owned(),
        hook_point: "resid_post.3".to_owned(),
        text_hashes: vec!["abc".to_owned()],
        settings: [("context_length".to_owned(), "128".to_owned())].into(),
        ..Provenance::default()
    };
    let spec = StoreSpec { provenance: provenance.clone(), ..spec(4, 8, Dtype::F32) };
    write_store(dir.path(), 9, spec);
    assert_eq!(open_store(dir.path()).unwrap().provenance(), Some(&provenance));
}

#[test]
fn shards_are_plain_safetensors() {
    let dir = tempfile::tempdir().unwrap();
    write_store(dir.path(), 5, spec(4, 8, Dtype::F32));
    let bytes = std::fs::read(dir.path().join("shard-00000.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let activations = tensors.tensor("activations").unwrap();
    assert_eq!(activations.shape(), [5, 4]);
    assert_eq!(activations.data(), bytemuck::cast_slice::<f32, u8>(&rows(0..5, 4)));
    let document: Vec<u32> = meta(0..5).iter().map(|m| m.document).collect();
    assert_eq!(
        tensors.tensor("document").unwrap().data(),
        bytemuck::cast_slice::<u32, u8>(&document)
    );
}

#[test]
fn an_interrupted_store_resumes_to_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    write_store(whole.path(), 50, spec(4, 16, Dtype::F16));
    for cut in [0, 3, 16, 21, 47, 50] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = StoreWriter::create(dir.path(), spec(4, 16, Dtype::F16)).unwrap();
        append(&mut writer, 0..cut, 4);
        drop(writer);
        assert!(
            matches!(open_store(dir.path()), Err(Error::Incomplete { n_rows, .. }) if n_rows == cut / 16 * 16)
        );
        // What kills in the middle of writing leave.
        for name in [".shard-00000.safetensors.6yucnL", ".manifest.json.KWOzt0"] {
            std::fs::write(dir.path().join(name), "half").unwrap();
        }
        let mut writer = StoreWriter::resume(dir.path(), spec(4, 16, Dtype::F16)).unwrap();
        assert_eq!(writer.n_rows(), cut / 16 * 16);
        let from = writer.n_rows();
        append(&mut writer, from..50, 4);
        writer.finish().unwrap();
        assert_eq!(files(dir.path()), files(whole.path()), "cut after {cut} rows");
    }
}

#[test]
fn resume_refuses_what_it_cannot_continue() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::create(dir.path(), spec(4, 16, Dtype::F16)).unwrap();
    append(&mut writer, 0..20, 4);
    let busy = StoreWriter::resume(dir.path(), spec(4, 16, Dtype::F16)).unwrap_err();
    assert!(matches!(busy, Error::Locked { .. }), "{busy}");
    drop(writer);
    let other = StoreWriter::resume(dir.path(), spec(4, 16, Dtype::BF16)).unwrap_err();
    assert!(other.to_string().contains("expected dtype bf16, got f16"), "{other}");
    let exists = StoreWriter::create(dir.path(), spec(4, 16, Dtype::F16)).unwrap_err();
    assert!(exists.to_string().contains("expected no store"), "{exists}");
    StoreWriter::resume(dir.path(), spec(4, 16, Dtype::F16)).unwrap().finish().unwrap();
    let done = StoreWriter::resume(dir.path(), spec(4, 16, Dtype::F16)).unwrap_err();
    assert!(done.to_string().contains("unfinished"), "{done}");
}

#[test]
fn a_writer_refuses_bad_arguments() {
    let dir = tempfile::tempdir().unwrap();
    for bad in [spec(0, 1, Dtype::F32), spec(1, 0, Dtype::F32), spec(1, 1, Dtype::F64)] {
        assert!(matches!(StoreWriter::create(dir.path(), bad), Err(Error::Value { .. })));
    }
    let huge = spec(usize::MAX, 2, Dtype::F32);
    assert!(matches!(StoreWriter::create(dir.path(), huge), Err(Error::Value { .. })));
    let mut writer = StoreWriter::create(dir.path(), spec(4, 16, Dtype::F16)).unwrap();
    assert!(matches!(writer.append(&[0.0; 7], &meta(0..2)), Err(Error::Value { .. })));
    let overflow = writer.append(&[0.0, 0.0, 1e6, 0.0], &meta(0..1)).unwrap_err();
    assert!(matches!(overflow, Error::Range { row: 0, column: 2, got: 1e6, .. }));
    assert!(writer.append(&[0.0; 4], &meta(0..1)).is_err(), "a failed writer takes no more");
}

/// Names and bytes of all files that are not hidden.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| !name.starts_with('.'))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}
