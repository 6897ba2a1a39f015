//! Linear probes: what can be read off a few features, or off all dimensions.

use tch::{Device, Kind, Tensor};
use tch_autograd::matmul_into;

use crate::{Error, Result, cholesky};

/// Newton steps of a regression at most; it takes about ten.
const MAX_STEPS: usize = 100;

/// Norm of the gradient, by the number of rows, at which a regression ends.
pub(crate) const TOLERANCE: f64 = 1e-12;

/// Fall of the loss by a step, by the loss, after which a regression ends as well: where rows are long or
/// weights differ the gradient's norm may stay above [`TOLERANCE`] by rounding alone. Newton's method
/// doubles the digits that are right with each step.
const LEAST_FALL: f64 = 1e-15;

/// What is added to the curvature of each weight, by the number of rows: it changes steps, not where
/// they end.
const LEAST_CURVATURE: f64 = 1e-13;

/// A probe of two classes: w·x + b above 0 says that a row belongs to the class.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// w.
    pub weights: Vec<f64>,
    /// b.
    pub bias: f64,
}

/// How well a probe tells the rows of the class from the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeScores {
    /// Share of rows that are told right.
    pub accuracy: f64,
    /// 2·TP/(2·TP + FP + FN); 0 where no row is of the class or said to be.
    pub f1: f64,
    /// Probability that a row of the class scores above one of the others, equal scores counting
    /// one half; none where one of the two has no rows.
    pub auc: Option<f64>,
}

/// A probe on the features that differ most between the classes.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseProbe {
    /// The features, the one that differs most first.
    pub features: Vec<usize>,
    /// A probe on them, in this order.
    pub probe: Probe,
    /// Its scores on the test rows.
    pub scores: ProbeScores,
}

impl Probe {
    /// Logistic regression with an L2 penalty on the weights (C = 1), by Newton's method in f64:
    /// minimises Σ ln(1 + e^(−y(w·x + b))) + ‖w‖²/2.
    ///
    /// # Shapes
    /// x `[rows, n]`; one label a row.
    ///
    /// # Errors
    /// Another number of labels; labels that are all the same; values that are not finite.
    pub fn fit(x: &Tensor, labels: &[bool]) -> Result<Self> {
        let x = rows("x", x, labels.len())?;
        let w = fit_logistic(&with_ones(&x)?, labels, Weights::Equal, 1.0, None, TOLERANCE)?;
        Self::of(&w)
    }

    /// As [`Self::fit`], with rows weighted so that each class counts as half of them: a class of few
    /// rows is told as well as one of many, which the likeliest answer for each row alone is not.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_balanced(x: &Tensor, labels: &[bool]) -> Result<Self> {
        let x = rows("x", x, labels.len())?;
        let w = fit_logistic(&with_ones(&x)?, labels, Weights::Balanced, 1.0, None, TOLERANCE)?;
        Self::of(&w)
    }

    /// Of the weights of [`fit_logistic`], the bias last.
    pub(crate) fn of(w: &Tensor) -> Result<Self> {
        let mut weights = Vec::<f64>::try_from(w)?;
        let bias = weights.pop().unwrap_or(0.0);
        Ok(Self { weights, bias })
    }

    /// How well it tells these rows apart.
    ///
    /// # Shapes
    /// x `[rows, n]` with n weights; one label a row.
    ///
    /// # Errors
    /// Another shape or number of labels; values that are not finite.
    pub fn scores(&self, x: &Tensor, labels: &[bool]) -> Result<ProbeScores> {
        let x = rows("x", x, labels.len())?;
        let expected = vec![x.size()[0], self.weights.len() as i64];
        if x.size() != expected {
            return Err(Error::Shape { name: "x", expected, got: x.size() });
        }
        let scores = x.mv(&Tensor::from_slice(&self.weights)) + self.bias;
        Ok(ProbeScores::of(&Vec::<f64>::try_from(scores)?, labels))
    }
}

/// x with a last column of ones.
pub(crate) fn with_ones(x: &Tensor) -> Result<Tensor> {
    let ones = Tensor::f_ones([x.size()[0], 1], (Kind::Double, x.device()))?;
    Ok(Tensor::f_cat(&[x, &ones], 1)?)
}

/// How much rows count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weights {
    /// 1 each.
    Equal,
    /// n/(2·n_c) for a row of a class of n_c rows.
    Balanced,
}

impl Weights {
    /// One a row.
    fn of(self, labels: &[bool], n_of_class: usize) -> Tensor {
        let n = labels.len() as f64;
        let of_class = |n_of: usize| match self {
            Self::Equal => 1.0,
            Self::Balanced => n / (2.0 * n_of as f64),
        };
        let [own, others] = [n_of_class, labels.len() - n_of_class].map(of_class);
        let all: Vec<f64> = labels.iter().map(|&label| if label { own } else { others }).collect();
        Tensor::from_slice(&all)
    }
}

/// Minimises Σ v·ln(1 + e^(−y·x·w)) + ‖w‖²/(2C) with weights v of rows, the last weight, that of the
/// column of ones, without a penalty, by Newton's method from `start` or 0 on, until the gradient's norm
/// is at most `tolerance`·rows or a step changes nothing that counts.
///
/// # Shapes
/// x `[rows, n + 1]` on the CPU in f64, finite; one label a row; the weights are `[n + 1]`.
pub(crate) fn fit_logistic(
    x: &Tensor,
    labels: &[bool],
    weights: Weights,
    c: f64,
    start: Option<&Tensor>,
    tolerance: f64,
) -> Result<Tensor> {
    let n_of_class = labels.iter().filter(|label| **label).count();
    if n_of_class == 0 || n_of_class == labels.len() {
        return Err(Error::Empty { what: "rows of each class" });
    }
    let (y, n) = (target(labels), x.size()[1]);
    let weights = weights.of(labels, n_of_class);
    let penalty = Tensor::f_full([n], 1.0 / c, (Kind::Double, x.device()))?;
    let _ = penalty.get(n - 1).fill_(0.0);
    let loss = |w: &Tensor| -> f64 {
        let score = x.mv(w);
        let of_rows = score.softplus() - &y * &score;
        (of_rows * &weights).sum(Kind::Double).double_value(&[])
            + (&penalty * w.square()).sum(Kind::Double).double_value(&[]) / 2.0
    };
    // Where all rows are told with certainty no curvature is left for the bias.
    let least = &penalty + LEAST_CURVATURE * labels.len() as f64;
    let mut w = match start {
        Some(start) => start.copy(),
        None => Tensor::f_zeros([n], (Kind::Double, x.device()))?,
    };
    let mut before = loss(&w);
    let mut hessian = Tensor::f_zeros([n, n], (Kind::Double, x.device()))?;
    for _ in 0..MAX_STEPS {
        let p = x.mv(&w).sigmoid();
        let gradient = x.tr().mv(&((&p - &y) * &weights)) + &penalty * &w;
        if gradient.norm().double_value(&[]) <= tolerance * labels.len() as f64 {
            break;
        }
        let curvature = ((&p - p.square()) * &weights).unsqueeze(1);
        matmul_into(&x.tr(), &x.f_mul(&curvature)?, &mut hessian, false)?;
        let _ = hessian.f_diagonal(0, 0, 1)?.f_add_(&least)?;
        let step = newton_step(&hessian, &gradient)?;
        if (&gradient * &step).sum(Kind::Double).double_value(&[]) / 2.0 <= LEAST_FALL * before {
            w -= step;
            break;
        }
        let mut share = 1.0;
        loop {
            let next = &w - &step * share;
            let after = loss(&next);
            if after <= before || share < 1e-9 {
                (w, before) = (next, after);
                break;
            }
            share /= 2.0;
        }
    }
    Ok(w)
}

/// H⁻¹·g.
fn newton_step(hessian: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    Ok(match cholesky::solve(hessian, &Vec::<f64>::try_from(gradient)?)? {
        Some(step) => Tensor::f_from_slice(&step)?,
        // Of no curvature but rounding's.
        None => Tensor::f_linalg_solve(hessian, &gradient.unsqueeze(1), true)?.squeeze_dim(1),
    })
}

impl ProbeScores {
    /// Of rows with these scores, which say what is above 0 to be of the class.
    pub(crate) fn of(scores: &[f64], labels: &[bool]) -> Self {
        let both = || scores.iter().map(|score| *score > 0.0).zip(labels.iter().copied());
        let count = |said: bool, is: bool| both().filter(|pair| *pair == (said, is)).count() as f64;
        let (tp, fp, false_negative) = (count(true, true), count(true, false), count(false, true));
        let right = tp + count(false, false);
        let in_f1 = 2.0 * tp + fp + false_negative;
        Self {
            accuracy: right / (labels.len().max(1)) as f64,
            f1: if in_f1 > 0.0 { 2.0 * tp / in_f1 } else { 0.0 },
            auc: auc(scores, labels),
        }
    }
}

/// From the mean rank of the rows of the class.
pub(crate) fn auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let n_of_class = labels.iter().filter(|label| **label).count() as f64;
    let n_others = labels.len() as f64 - n_of_class;
    let ranks = crate::correlation::ranks(scores);
    let of_class: f64 = ranks.iter().zip(labels).filter(|(_, l)| **l).map(|(rank, _)| rank).sum();
    let least = n_of_class * (n_of_class - 1.0) / 2.0;
    (n_of_class > 0.0 && n_others > 0.0).then(|| (of_class - least) / (n_of_class * n_others))
}

/// Probes on the k features whose means differ most between the rows of a class and the others
/// (sparse probing, SAEBench), for each k.
///
/// # Shapes
/// Features `[rows, n_features]` and one label a row, of the rows that probes are fitted to and of
/// those that they are scored on.
///
/// # Errors
/// As [`Probe::fit`]; a k of 0 or above the number of features.
pub fn sparse_probing(
    train: (&Tensor, &[bool]),
    test: (&Tensor, &[bool]),
    ks: &[usize],
) -> Result<Vec<SparseProbe>> {
    let features = rows("features", train.0, train.1.len())?;
    let test_features = test.0.f_to_device(Device::Cpu)?;
    let difference = class_difference(&features, train.1)?;
    let mut order: Vec<usize> = (0..difference.len()).collect();
    // Of features that differ alike but for rounding, which units decide, the first.
    let size = |feature: usize| difference[feature].abs() as f32;
    order.sort_by(|&a, &b| size(b).total_cmp(&size(a)));
    let probe = |&k: &usize| {
        if k == 0 || k > order.len() {
            let expected = format!("1 to {}, the number of features", order.len());
            return Err(Error::Setting { name: "k", expected, got: k.to_string() });
        }
        let chosen = order[..k].to_vec();
        let indices: Vec<i64> = chosen.iter().map(|f| *f as i64).collect();
        let of_chosen = |x: &Tensor| x.f_index_select(1, &Tensor::from_slice(&indices));
        let probe = Probe::fit(&of_chosen(&features)?, train.1)?;
        let scores = probe.scores(&of_chosen(&test_features)?, test.1)?;
        Ok(SparseProbe { features: chosen, probe, scores })
    };
    ks.iter().map(probe).collect()
}

/// Mean over the rows of the class less the mean over the others, of each column.
pub(crate) fn class_difference(x: &Tensor, labels: &[bool]) -> Result<Vec<f64>> {
    let y = target(labels);
    let n_of_class = y.sum(Kind::Double).double_value(&[]);
    let n_others = labels.len() as f64 - n_of_class;
    if n_of_class == 0.0 || n_others == 0.0 {
        return Err(Error::Empty { what: "rows of each class" });
    }
    let difference = x.tr().mv(&(&y / n_of_class - (1.0 - &y) / n_others));
    Ok(difference.try_into()?)
}

/// A matrix of this many rows on the CPU in f64, checked to be finite.
pub(crate) fn rows(name: &'static str, x: &Tensor, n_rows: usize) -> Result<Tensor> {
    let size = x.size();
    if size.len() != 2 || size[0] != n_rows as i64 {
        let expected = vec![n_rows as i64, *size.get(1).unwrap_or(&0)];
        return Err(Error::Shape { name, expected, got: size });
    }
    let x = x.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
    let sums = Vec::<f64>::try_from(x.sum_dim_intlist(1, false, Kind::Double))?;
    match sums.iter().position(|sum| !sum.is_finite()) {
        Some(row) => Err(Error::NotFinite { name, row: row as u64, got: sums[row] }),
        None => Ok(x),
    }
}

fn target(labels: &[bool]) -> Tensor {
    Tensor::from_slice(labels).to_kind(Kind::Double)
}
