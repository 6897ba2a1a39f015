//! Features and activations of documents, as means over their rows.

use sae_data::{ActivationStore, RowMeta};
use tch::{Device, Kind, Tensor};

use crate::metrics::to_f64s;
use crate::{Error, EvalBatch, Features, Observer, Result};

/// Takes the mean over the rows of each document. Memory is that of one vector of activations and of
/// the features that are not 0 a document.
#[derive(Debug)]
pub struct PoolingObserver {
    /// The document of each row.
    of_rows: Vec<u32>,
    scratch: Scratch,
    done: PooledFeatures,
}

/// The document in hand.
#[derive(Debug)]
struct Scratch {
    document: Option<u32>,
    n_rows: f64,
    /// `[n_features]`, 0 but for those that were touched.
    features: Vec<f64>,
    touched: Vec<u32>,
    activations: Vec<f64>,
}

/// Means over the rows of documents.
#[derive(Debug, Clone, PartialEq)]
pub struct PooledFeatures {
    n_features: usize,
    documents: Vec<u32>,
    /// Where the features of each document end.
    ends: Vec<usize>,
    /// Features that are not 0, document by document.
    features: Vec<(u32, f64)>,
    d_model: usize,
    activations: Vec<f64>,
}

impl PoolingObserver {
    /// To observe a pass of an SAE of so many features over `store`.
    ///
    /// # Errors
    /// [`Error::Data`] of a store that does not know the documents of its rows.
    pub fn new(store: &dyn ActivationStore, n_features: usize) -> Result<Self> {
        let mut meta = vec![RowMeta::default(); store.n_rows() as usize];
        store.read_meta(0, &mut meta)?;
        let d_model = store.d_model();
        Ok(Self {
            of_rows: meta.iter().map(|meta| meta.document).collect(),
            scratch: Scratch {
                document: None,
                n_rows: 0.0,
                features: vec![0.0; n_features],
                touched: Vec::new(),
                activations: vec![0.0; d_model],
            },
            done: PooledFeatures {
                n_features,
                documents: Vec::new(),
                ends: Vec::new(),
                features: Vec::new(),
                d_model,
                activations: Vec::new(),
            },
        })
    }

    /// The means of all documents.
    ///
    /// # Errors
    /// [`Error::Setting`] where the rows of a document do not follow one another.
    pub fn finish(mut self) -> Result<PooledFeatures> {
        self.close();
        let mut seen = self.done.documents.clone();
        seen.sort_unstable();
        match seen.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(self.done),
            Some(pair) => Err(Error::Setting {
                name: "documents",
                expected: "rows of a document that follow one another".into(),
                got: format!("document {} in two places", pair[0]),
            }),
        }
    }

    /// Ends the document in hand.
    fn close(&mut self) {
        let Some(document) = self.scratch.document.take() else { return };
        let (scratch, done) = (&mut self.scratch, &mut self.done);
        scratch.touched.sort_unstable();
        scratch.touched.dedup();
        for &feature in &scratch.touched {
            let sum = std::mem::take(&mut scratch.features[feature as usize]);
            if sum != 0.0 {
                done.features.push((feature, sum / scratch.n_rows));
            }
        }
        scratch.touched.clear();
        for sum in &mut scratch.activations {
            done.activations.push(std::mem::take(sum) / scratch.n_rows);
        }
        done.documents.push(document);
        done.ends.push(done.features.len());
        scratch.n_rows = 0.0;
    }

    fn add_row(&mut self, row: usize, x: &[f64], features: &mut dyn Iterator<Item = (u32, f64)>) {
        let document = self.of_rows[row];
        if self.scratch.document != Some(document) {
            self.close();
            self.scratch.document = Some(document);
        }
        let scratch = &mut self.scratch;
        scratch.n_rows += 1.0;
        scratch.activations.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        for (feature, value) in features {
            scratch.features[feature as usize] += value;
            scratch.touched.push(feature);
        }
    }
}

impl Observer for PoolingObserver {
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()> {
        let x = to_f64s(batch.x)?;
        let rows = x.chunks_exact(self.done.d_model).zip(batch.first_row as usize..);
        match batch.features {
            Features::Sparse(codes) => {
                for (i, (x, row)) in rows.enumerate() {
                    let (indices, values) = codes.row(i);
                    let values = values.iter().map(|value| f64::from(*value));
                    self.add_row(row, x, &mut indices.iter().copied().zip(values));
                }
            }
            Features::Dense(features) => {
                for (i, (x, row)) in rows.enumerate() {
                    let values = to_f64s(&features.f_get(i as i64)?)?;
                    let active = (0..).zip(values).filter(|(_, value)| *value != 0.0);
                    self.add_row(row, x, &mut active.into_iter());
                }
            }
        }
        Ok(())
    }
}

impl PooledFeatures {
    /// The documents that have rows, in their order.
    #[must_use]
    pub fn documents(&self) -> &[u32] {
        &self.documents
    }

    /// Features that are not 0 of a document, by its place.
    fn row(&self, place: usize) -> &[(u32, f64)] {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.features[start..self.ends[place]]
    }

    /// The features by how far the means of the two answers are apart over the training documents,
    /// |mean⁺ − mean⁻| over the mean size where the feature is not 0, each with that size; features that
    /// are 0 in all of them last. So a feature's unit does not decide its rank.
    pub(super) fn ranked(&self, train: &[usize], labels: &[bool]) -> Result<Vec<(usize, f64)>> {
        let n_positive = labels.iter().filter(|label| **label).count() as f64;
        let (for_positive, for_negative) =
            (1.0 / n_positive, -1.0 / (labels.len() as f64 - n_positive));
        let mut difference = vec![0.0; self.n_features];
        let (mut size, mut count) = (vec![0.0; self.n_features], vec![0.0; self.n_features]);
        for (&place, &label) in train.iter().zip(labels) {
            let weight = if label { for_positive } else { for_negative };
            for &(feature, value) in self.row(place) {
                difference[feature as usize] += weight * value;
                size[feature as usize] += value.abs();
                count[feature as usize] += 1.0;
            }
        }
        let mean = |feature: usize| match size[feature] > 0.0 {
            true => size[feature] / count[feature],
            false => 1.0,
        };
        let apart = |feature: usize| difference[feature].abs() / mean(feature);
        if let Some(feature) = (0..self.n_features).find(|feature| !apart(*feature).is_finite()) {
            let got = difference[feature];
            return Err(Error::NotFinite { name: "features", row: 0, got });
        }
        let mut order: Vec<usize> = (0..self.n_features).collect();
        order.sort_by(|&a, &b| apart(b).total_cmp(&apart(a)));
        Ok(order.into_iter().map(|feature| (feature, mean(feature))).collect())
    }

    /// Some features of all documents, each over its size.
    ///
    /// # Shapes
    /// `[documents, features]`.
    pub(super) fn columns(&self, features: &[(usize, f64)]) -> Result<Tensor> {
        let (n, k) = (self.documents.len(), features.len());
        let mut values = vec![0.0; n * k];
        for (place, row) in values.chunks_exact_mut(k.max(1)).enumerate() {
            let of = self.row(place);
            for (column, (feature, size)) in features.iter().enumerate() {
                if let Ok(at) = of.binary_search_by_key(&(*feature as u32), |entry| entry.0) {
                    row[column] = of[at].1 / size;
                }
            }
        }
        Ok(Tensor::f_from_slice(&values)?.f_reshape([n as i64, k as i64])?)
    }

    /// The activations of all documents, less the mean of those that train and over one factor, so that
    /// their variance a dimension is 1 on average: the unit of activations decides nothing.
    ///
    /// # Shapes
    /// `[documents, d_model]`.
    pub(super) fn scaled_activations(&self, train: &[usize]) -> Result<Tensor> {
        let shape = [self.documents.len() as i64, self.d_model as i64];
        let x = Tensor::f_from_slice(&self.activations)?.f_reshape(shape)?;
        let train: Vec<i64> = train.iter().map(|place| *place as i64).collect();
        let of_train =
            x.f_index_select(0, &Tensor::f_from_slice(&train)?.f_to_device(Device::Cpu)?)?;
        let mean = of_train.f_mean_dim([0i64].as_slice(), true, Kind::Double)?;
        let variance = of_train.f_sub(&mean)?.f_square()?.f_mean(Kind::Double)?;
        let scale = variance.f_double_value(&[])?.sqrt();
        let scale = if scale > 0.0 { scale } else { 1.0 };
        Ok(x.f_sub(&mean)?.f_div_scalar(scale)?)
    }
}
