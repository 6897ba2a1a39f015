//! Files that hold activations in a way that is not read: they are refused by name, with what to do.

use std::path::Path;

use crate::Error;

/// A kind of file that is not read.
struct Kind {
    what: &'static str,
    /// Extensions, lower case.
    extensions: &'static [&'static str],
    /// How such a file begins, where that tells it.
    magic: &'static [u8],
    /// Python that writes `OUT` from `IN`, or other advice.
    remedy: &'static str,
}

const KINDS: &[Kind] = &[
    Kind {
        what: "an archive, as .npz is",
        extensions: &["npz"],
        magic: b"PK\x03\x04",
        remedy: "import numpy; numpy.save('OUT', numpy.load('IN')['NAME'])",
    },
    Kind {
        what: "a PyTorch file",
        extensions: &["pt", "pth", "ckpt"],
        magic: b"",
        remedy: "import torch, numpy; \
                 numpy.save('OUT', torch.load('IN', weights_only=True).float().numpy())",
    },
    Kind {
        what: "an Arrow file of Hugging Face datasets",
        extensions: &["arrow", "feather"],
        magic: b"ARROW1",
        remedy: "import datasets, numpy; x = datasets.Dataset.from_file('IN')\
                 .with_format('numpy')[:]['COLUMN']; numpy.save('OUT', x.reshape(-1, x.shape[-1]))",
    },
    Kind {
        what: "a Parquet file",
        extensions: &["parquet"],
        magic: b"PAR1",
        remedy: "import datasets, numpy; x = datasets.Dataset.from_parquet('IN')\
                 .with_format('numpy')[:]['COLUMN']; numpy.save('OUT', x.reshape(-1, x.shape[-1]))",
    },
    Kind {
        what: "an HDF5 file",
        extensions: &["h5", "hdf5"],
        magic: b"\x89HDF\r\n",
        remedy: "import h5py, numpy; numpy.save('OUT', h5py.File('IN')['NAME'][:])",
    },
    Kind {
        what: "a pickle, which runs what it likes when it is read",
        extensions: &["pkl", "pickle", "joblib"],
        magic: b"\x80\x04",
        remedy: "import pickle, numpy; \
                 numpy.save('OUT', numpy.asarray(pickle.load(open('IN', 'rb')), 'float32'))",
    },
    Kind {
        what: "a packed file",
        extensions: &["zip", "gz", "bz2", "xz", "zst", "lz4", "tar", "tgz", "7z"],
        magic: b"\x1f\x8b",
        remedy: "unpack it",
    },
    Kind {
        what: "a file that is not whole",
        extensions: &[
            "part",
            "partial",
            "incomplete",
            "tmp",
            "temp",
            "crdownload",
            "download",
            "aria2",
        ],
        magic: b"",
        remedy: "finish what was writing it",
    },
    Kind {
        what: "bytes without sizes",
        extensions: &["bin", "raw", "dat", "f32"],
        magic: b"",
        remedy: "name rows of f32 *_N_D.npy, with N rows of D",
    },
];

/// Refuses a file whose extension is one of a kind that is not read.
pub(crate) fn by_name(path: &Path) -> Option<Error> {
    let extension = path.extension()?.to_ascii_lowercase();
    let kind = KINDS.iter().find(|kind| kind.extensions.iter().any(|e| *e == extension))?;
    Some(kind.refuse(path))
}

/// Refuses a file that begins as those of a kind that is not read.
pub(crate) fn by_start(path: &Path, start: &[u8]) -> Option<Error> {
    let begins = |kind: &&Kind| !kind.magic.is_empty() && start.starts_with(kind.magic);
    Some(KINDS.iter().find(begins)?.refuse(path))
}

impl Kind {
    fn refuse(&self, path: &Path) -> Error {
        let mut remedy = self.remedy.to_owned();
        if remedy.contains("OUT") {
            let out = path.with_extension("npy").display().to_string();
            let file = path.display().to_string();
            let [before, after] = ["IN", "OUT"].map(|word| format!("'{word}'"));
            remedy = remedy.replace(&after, &format!("'{out}'"));
            remedy = remedy.replace(&before, &format!("'{file}'"));
            remedy = format!("`python3 -c \"{remedy}\"`");
        }
        let got = format!("{} ({remedy})", self.what);
        Error::format(path, ".npy, safetensors or a native store", got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_named_with_what_to_do() {
        for kind in KINDS {
            for extension in kind.extensions {
                let path = format!("a/x.{}", extension.to_uppercase());
                let message = by_name(Path::new(&path)).unwrap().to_string();
                assert!(message.starts_with(&path) && message.contains(kind.what), "{message}");
                if kind.remedy.contains("OUT") {
                    assert!(message.contains("python3 -c"), "{message}");
                    assert!(
                        message.contains("'a/x.npy'") && message.contains(&format!("'{path}'"))
                    );
                }
            }
            if !kind.magic.is_empty() {
                let message = by_start(Path::new("x"), kind.magic).unwrap().to_string();
                assert!(message.contains(kind.what), "{message}");
            }
        }
        assert!(by_name(Path::new("x.npy")).is_none() && by_name(Path::new("x")).is_none());
        assert!(by_start(Path::new("x"), b"").is_none());
    }
}
