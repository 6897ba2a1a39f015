//! The truth of planted data: dictionary, active features and intrinsic dimension of each row.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::{Error, Result};

/// The file's name within the store.
const FILE_NAME: &str = "truth.safetensors";

/// The tensors in it.
const TENSORS: [&str; 5] =
    ["activations", "dictionary", "features", "intrinsic_dimension", "offsets"];

/// What planted rows are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct PlantedTruth {
    n_features: usize,
    d_model: usize,
    dictionary: Vec<f32>,
    /// Where each row's features begin, and the end of the last: `[n_rows + 1]`.
    offsets: Vec<u64>,
    features: Vec<u32>,
    activations: Vec<f32>,
    intrinsic_dimension: Vec<u32>,
}

impl PlantedTruth {
    pub(crate) fn new(n_features: usize, d_model: usize, dictionary: Vec<f32>) -> Self {
        Self {
            n_features,
            d_model,
            dictionary,
            offsets: vec![0],
            features: Vec::new(),
            activations: Vec::new(),
            intrinsic_dimension: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, active: &[(u32, f32)], intrinsic_dimension: u32) {
        self.features.extend(active.iter().map(|(feature, _)| feature));
        self.activations.extend(active.iter().map(|(_, activation)| activation));
        self.offsets.push(self.features.len() as u64);
        self.intrinsic_dimension.push(intrinsic_dimension);
    }

    /// Reads the truth of a planted store.
    ///
    /// # Errors
    /// A store without one, or a file that does not hold it.
    pub fn load(store: &Path) -> Result<Self> {
        let path = store.join(FILE_NAME);
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|e| Error::format(&path, "a safetensors file", e))?;
        if let Some(unknown) = tensors.names().iter().find(|name| !TENSORS.contains(name)) {
            return Err(Error::format(&path, format!("tensors {}", TENSORS.join(", ")), unknown));
        }
        let dictionary = tensor::<f32>(&tensors, "dictionary", Dtype::F32, &path)?;
        let shape = tensors.tensor("dictionary").map(|t| t.shape().to_vec()).unwrap_or_default();
        let &[n_features, d_model] = &shape[..] else {
            return Err(Error::format(
                &path,
                "dictionary [n_features, d_model]",
                format!("{shape:?}"),
            ));
        };
        let truth = Self {
            n_features,
            d_model,
            dictionary,
            offsets: tensor(&tensors, "offsets", Dtype::U64, &path)?,
            features: tensor(&tensors, "features", Dtype::U32, &path)?,
            activations: tensor(&tensors, "activations", Dtype::F32, &path)?,
            intrinsic_dimension: tensor(&tensors, "intrinsic_dimension", Dtype::U32, &path)?,
        };
        let whole = truth.offsets.first() == Some(&0)
            && truth.offsets.is_sorted()
            && truth.offsets.last() == Some(&(truth.features.len() as u64))
            && truth.offsets.len() == truth.intrinsic_dimension.len() + 1
            && truth.activations.len() == truth.features.len()
            && truth.features.iter().all(|&feature| (feature as usize) < n_features);
        if !whole {
            return Err(Error::format(&path, "tensors that belong together", "other sizes"));
        }
        Ok(truth)
    }

    /// As [`Self::load`], but none for a store without a truth.
    ///
    /// # Errors
    /// A file that does not hold it.
    pub fn find(store: &Path) -> Result<Option<Self>> {
        Self::file(store).map(|_| Self::load(store)).transpose()
    }

    /// The file of a store's truth, where it has one.
    #[must_use]
    pub fn file(store: &Path) -> Option<PathBuf> {
        Some(store.join(FILE_NAME)).filter(|file| file.exists())
    }

    pub(crate) fn write(&self, store: &Path) -> Result<()> {
        let path = store.join(FILE_NAME);
        let matrix = vec![self.n_features, self.d_model];
        let tensors: HashMap<&str, (Dtype, Vec<usize>, &[u8])> = [
            ("dictionary", (Dtype::F32, matrix, bytemuck::cast_slice(&self.dictionary))),
            ("offsets", column(Dtype::U64, &self.offsets)),
            ("features", column(Dtype::U32, &self.features)),
            ("activations", column(Dtype::F32, &self.activations)),
            ("intrinsic_dimension", column(Dtype::U32, &self.intrinsic_dimension)),
        ]
        .into();
        let fail = |e: safetensors::SafeTensorError| Error::format(&path, "tensors to write", e);
        let views = tensors
            .into_iter()
            .map(|(name, (dtype, shape, data))| Ok((name, TensorView::new(dtype, shape, data)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(fail)?;
        let bytes = safetensors::serialize(views, None).map_err(fail)?;
        let mut file = AtomicWriteFile::open(&path).map_err(Error::io(&path))?;
        file.write_all(&bytes).map_err(Error::io(&path))?;
        file.commit().map_err(Error::io(&path))
    }

    /// Number of rows.
    #[must_use]
    pub const fn n_rows(&self) -> usize {
        self.intrinsic_dimension.len()
    }

    /// Features of the dictionary.
    #[must_use]
    pub const fn n_features(&self) -> usize {
        self.n_features
    }

    /// Dimension of a row.
    #[must_use]
    pub const fn d_model(&self) -> usize {
        self.d_model
    }

    /// The features' directions, `[n_features, d_model]`, unit rows.
    #[must_use]
    pub fn dictionary(&self) -> &[f32] {
        &self.dictionary
    }

    /// The features active in a row, ascending, and the activation of each.
    ///
    /// # Panics
    /// If `row` is not below [`Self::n_rows`].
    #[must_use]
    pub fn active(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.offsets[row] as usize..self.offsets[row + 1] as usize;
        (&self.features[range.clone()], &self.activations[range])
    }

    /// Number of active features of each row: the true k.
    #[must_use]
    pub fn true_k(&self) -> Vec<u32> {
        self.offsets.windows(2).map(|pair| (pair[1] - pair[0]) as u32).collect()
    }

    /// Active features plus dimension of the manifold, of each row.
    #[must_use]
    pub fn intrinsic_dimension(&self) -> &[u32] {
        &self.intrinsic_dimension
    }
}

fn column<T: bytemuck::NoUninit>(dtype: Dtype, values: &[T]) -> (Dtype, Vec<usize>, &[u8]) {
    (dtype, vec![values.len()], bytemuck::cast_slice(values))
}

fn tensor<T: bytemuck::AnyBitPattern>(
    tensors: &SafeTensors<'_>,
    name: &str,
    dtype: Dtype,
    path: &Path,
) -> Result<Vec<T>> {
    let fail = |got: String| Error::format(path, format!("tensor {name} of {dtype}"), got);
    let tensor = tensors.tensor(name).map_err(|e| fail(e.to_string()))?;
    if tensor.dtype() != dtype {
        return Err(fail(tensor.dtype().to_string()));
    }
    Ok(tensor.data().chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
}
