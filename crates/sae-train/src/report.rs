//! What a step was like: tensors that are read only when somebody asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};
use tch_autograd::read;

use crate::Result;
use crate::dead::DeadFeatures;
use crate::engine::{FirstFault, check_finite};
use crate::rules::{Active, Detail, Facts};

/// A step that has been taken.
#[derive(Debug)]
pub struct Step {
    step: u64,
    lr: f64,
    loss: Tensor,
    parts: Vec<(&'static str, Tensor)>,
    features: Active,
    detail: Detail,
    dead: Option<Tensor>,
    /// The first of the steps so far whose loss was not finite, where that was not seen at once.
    fault: Option<FirstFault>,
}

/// A step in numbers; the loss and its parts are those before the update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step, counted from 0.
    pub step: u64,
    /// The loss.
    pub loss: f64,
    /// Its terms, weighted.
    pub parts: BTreeMap<String, f64>,
    /// Mean number of active features a row.
    pub l0: f64,
    /// The k aimed at, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k_target: Option<f64>,
    /// Mean k̂, rounded in the hard phase, where k is estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k_hat: Option<f64>,
    /// Temperature of the soft selection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Whether the selection was hard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard: Option<bool>,
    /// Dead features, where they are revived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead: Option<u64>,
    /// Learning rate.
    pub lr: f64,
}

impl Step {
    pub(crate) fn new(
        step: u64,
        lr: f64,
        facts: Facts,
        dead: &DeadFeatures,
        fault: Option<FirstFault>,
    ) -> Self {
        let Facts { total, parts, features, detail } = facts;
        let detach = |(name, part): (_, Tensor)| (name, part.detach());
        let dead = detail.dead_after_rows.map(|rows| dead.n_silent_for(rows));
        Self {
            step,
            lr,
            loss: total.detach(),
            parts: parts.into_iter().map(detach).collect(),
            features: match features {
                Active::Features(features) => Active::Features(features.detach()),
                known => known,
            },
            detail,
            dead,
            fault,
        }
    }

    /// Reads the numbers; on a GPU that waits for the step.
    ///
    /// # Errors
    /// A loss that is not finite, on a GPU that of an earlier step too.
    pub fn report(&self) -> Result<StepReport> {
        self.fault.as_ref().map_or(Ok(()), FirstFault::check)?;
        let loss = check_finite(&self.loss, self.step)?;
        let read = read::number;
        Ok(StepReport {
            step: self.step,
            loss,
            parts: self.parts.iter().map(|(name, part)| ((*name).into(), read(part))).collect(),
            l0: self.features.read(),
            k_target: self.detail.k_target,
            k_hat: self.detail.k_hat.as_ref().map(|k| read(&k.mean(Kind::Double))),
            alpha: self.detail.alpha,
            hard: self.detail.hard,
            dead: self.dead.as_ref().map(|n| read::whole_number(n) as u64),
            lr: self.lr,
        })
    }
}
