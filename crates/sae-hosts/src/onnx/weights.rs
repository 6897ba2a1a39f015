//! The weights of a graph by the names that Hugging Face gives them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::graph::Sizes;
use super::proto::{Model, Tensor};
use crate::Result;
use crate::weights::TensorSource;

/// A weight, as it is asked for.
#[derive(Debug)]
struct Weight {
    shape: Vec<u64>,
    values: Vec<f32>,
}

/// The weights of a file.
#[derive(Debug)]
pub(super) struct OnnxWeights {
    path: PathBuf,
    weights: BTreeMap<String, Weight>,
}

impl OnnxWeights {
    /// Takes them out of a graph that was checked.
    pub(super) fn new(path: &Path, model: &Model<'_>, sizes: &Sizes) -> Result<Self, String> {
        let mut weights = BTreeMap::new();
        for (name, tensor) in &model.tensors {
            let is_of_backbone = ["embeddings.", "encoder.", "layernorm."];
            if let Some(name) = name.strip_prefix("backbone.")
                && is_of_backbone.iter().any(|part| name.starts_with(part))
            {
                weights.insert(name.to_owned(), plain(name, tensor)?);
            }
        }
        let input = |node: &str, place: usize| {
            let found = model.nodes.iter().find(|other| other.name == node);
            let name = found.and_then(|node| node.inputs.get(place));
            let tensor = name.and_then(|name| model.tensors.get(name));
            tensor.ok_or_else(|| format!("no weight in `{node}`"))
        };
        for layer in 0..sizes.n_layers {
            for part in [
                "attention.attention.query",
                "attention.attention.key",
                "attention.attention.value",
                "attention.output.dense",
                "mlp.fc1",
                "mlp.fc2",
            ] {
                let name = format!("encoder.layer.{layer}.{part}.weight");
                let path = part.replace('.', "/");
                let node = format!("/backbone/encoder/layer.{layer}/{path}/MatMul");
                weights.insert(name.clone(), transposed(&name, input(&node, 1)?)?);
            }
        }
        let name = "embeddings.position_embeddings";
        let class = plain(name, input("/backbone/embeddings/Concat_6", 0)?)?;
        let patches = plain(name, input("/backbone/embeddings/Reshape_1", 0)?)?;
        let shape = vec![1, 1 + sizes.grid * sizes.grid, sizes.d_model];
        let values = [class.values, patches.values].concat();
        weights.insert(name.to_owned(), Weight { shape, values });
        Ok(Self { path: path.to_owned(), weights })
    }
}

/// A tensor as it is.
fn plain(name: &str, tensor: &Tensor<'_>) -> Result<Weight, String> {
    let values = tensor.floats();
    let values = values.ok_or_else(|| format!("`{name}` of type {}, not of f32", tensor.kind))?;
    Ok(Weight { shape: tensor.shape.clone(), values })
}

/// A matrix with rows in place of columns.
fn transposed(name: &str, tensor: &Tensor<'_>) -> Result<Weight, String> {
    let Weight { shape, values } = plain(name, tensor)?;
    let [rows, columns] = shape[..] else { return Err(format!("`{name}` of shape {shape:?}")) };
    let (n_rows, n_columns) = (rows as usize, columns as usize);
    let value = |i: usize| values[i % n_rows * n_columns + i / n_rows];
    Ok(Weight { shape: vec![columns, rows], values: (0..values.len()).map(value).collect() })
}

impl TensorSource for OnnxWeights {
    fn path(&self) -> &Path {
        &self.path
    }

    fn stored_names(&self) -> Vec<String> {
        self.weights.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        Some(self.weights.get(name)?.shape.clone())
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.weights.get(name).map(|weight| weight.values.clone()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_turned_about_its_diagonal() {
        let raw: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let tensor = Tensor { shape: vec![2, 3], kind: 1, raw: &raw };
        let turned = transposed("x", &tensor).unwrap();
        assert_eq!(turned.shape, [3, 2]);
        assert_eq!(turned.values, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert!(transposed("x", &Tensor { shape: vec![6], ..tensor.clone() }).is_err());
        assert!(plain("x", &Tensor { kind: 10, ..tensor }).unwrap_err().contains("type 10"));
    }
}
