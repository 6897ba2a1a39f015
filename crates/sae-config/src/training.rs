//! How a run is trained: length, batches, learning rate, device.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which code computes a training step; both compute the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Plain libtorch operations and autograd, on any device.
    Reference,
    /// Closed-form gradients, sparse where the codes are: on the CPU, in f32.
    Fast,
}

/// The arithmetic of dense products on the reference engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    F32,
    /// Single precision whose factors a GPU may round to 10 bits after the point; the rest is f32.
    Tf32,
    /// Factors rounded to bfloat16; parameters, their moments and all else stay f32.
    Bf16,
}

/// Whether the defects of the published code that shaped published numbers are reproduced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parity {
    /// The method as the paper means it (`docs/differences.md`).
    #[default]
    None,
    /// The official code's rows P1 to P5, bit for bit where it matters.
    Official,
}

/// Length, batches, learning rate, device and bookkeeping of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Optimiser steps.
    pub steps: u64,
    /// Rows a step.
    pub batch_size: usize,
    /// Peak learning rate; default 2e-4/√(n_features/2¹⁴).
    pub lr: Option<f64>,
    /// Steps of linear warm-up from 0.
    #[serde(default)]
    pub warmup_steps: u64,
    /// First step of the linear decay to 0; default four fifths of `steps`, or the end of a longer
    /// warm-up.
    pub decay_start: Option<u64>,
    /// Seed of initialisation and shuffling.
    #[serde(default)]
    pub seed: u64,
    /// A checkpoint whose weights training starts from, of the same architecture and sizes; its
    /// normalisation is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// `cpu`, `cuda:N`, or `cuda` for the first.
    #[serde(default = "default_device")]
    pub device: String,
    /// Which code computes a step; default the fast one where it computes the architecture.
    pub engine: Option<Engine>,
    /// Rows whose batch × n_features buffers are held at a time; default the whole batch. The step
    /// is the same to rounding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Arithmetic of dense products; default f32. Bfloat16 is for the reference engine, TF32 for a
    /// GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Whether to reproduce the published code's defects.
    #[serde(default)]
    pub parity: Parity,
    /// Steps between two lines of `metrics.jsonl`.
    #[serde(default = "default_log_every")]
    pub log_every: u64,
    /// Steps between two checkpoints; 0 writes none but that of an interruption, which goes when
    /// the run has ended.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// Checkpoints kept while the run lasts, the newest; at least 1.
    #[serde(default = "default_keep_checkpoints")]
    pub keep_checkpoints: usize,
}

fn default_device() -> String {
    "cpu".into()
}

const fn default_log_every() -> u64 {
    50
}

const fn default_checkpoint_every() -> u64 {
    1000
}

const fn default_keep_checkpoints() -> usize {
    2
}

impl TrainingConfig {
    /// Checks what can be checked without data.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |key: &str, expected: &str, got: &dyn std::fmt::Display| {
            Err(Error::value(format!("training.{key}"), expected, got))
        };
        if self.steps == 0 {
            return bad("steps", "at least 1", &self.steps);
        }
        if self.batch_size == 0 {
            return bad("batch_size", "at least 1", &self.batch_size);
        }
        if let Some(rows) = self.micro_batch.filter(|rows| !(1..=self.batch_size).contains(rows)) {
            let expected = format!("from 1 to batch_size = {}", self.batch_size);
            return bad("micro_batch", &expected, &rows);
        }
        if self.log_every == 0 {
            return bad("log_every", "at least 1", &self.log_every);
        }
        if self.keep_checkpoints == 0 {
            return bad("keep_checkpoints", "at least 1", &self.keep_checkpoints);
        }
        if let Some(lr) = self.lr.filter(|lr| !(lr.is_finite() && *lr > 0.0)) {
            return bad("lr", "a positive number", &lr);
        }
        if self.warmup_steps > self.steps {
            return bad(
                "warmup_steps",
                &format!("at most steps = {}", self.steps),
                &self.warmup_steps,
            );
        }
        if let Some(start) = self.decay_start {
            if start > self.steps {
                return bad("decay_start", &format!("at most steps = {}", self.steps), &start);
            }
            if start < self.warmup_steps {
                let expected = format!("at least warmup_steps = {}", self.warmup_steps);
                return bad("decay_start", &expected, &start);
            }
        }
        let device = self.device.as_str();
        let ordinal = device.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok());
        if !["cpu", "cuda"].contains(&device) && ordinal.is_none() {
            return bad("device", "`cpu` or `cuda:N`", &format!("`{device}`"));
        }
        if device == "cpu" && self.precision == Some(Precision::Tf32) {
            let expected = "`f32` or `bf16` on the CPU, which has no TF32";
            return bad("precision", expected, &"`tf32`");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Precision, TrainingConfig};

    fn training(more: &str) -> TrainingConfig {
        toml::from_str(&format!("steps = 100\nbatch_size = 8\n{more}")).unwrap()
    }

    #[test]
    fn every_bad_setting_is_named() {
        let cases = [
            (
                "warmup_steps = 60\ndecay_start = 50",
                "`training.decay_start`: expected at least warmup_steps = 60, got 50",
            ),
            (
                "warmup_steps = 101",
                "`training.warmup_steps`: expected at most steps = 100, got 101",
            ),
            ("decay_start = 101", "`training.decay_start`: expected at most steps = 100, got 101"),
            ("lr = 0.0", "`training.lr`: expected a positive number, got 0"),
            ("log_every = 0", "`training.log_every`: expected at least 1, got 0"),
            ("keep_checkpoints = 0", "`training.keep_checkpoints`: expected at least 1, got 0"),
            ("device = 'gpu'", "`training.device`: expected `cpu` or `cuda:N`, got `gpu`"),
            (
                "precision = 'tf32'",
                "`training.precision`: expected `f32` or `bf16` on the CPU, which has no TF32, got \
                 `tf32`",
            ),
        ];
        for (more, expected) in cases {
            assert_eq!(training(more).check().unwrap_err().to_string(), expected);
        }
        for (text, key) in [
            ("steps = 0\nbatch_size = 8", "`training.steps`"),
            ("steps = 8\nbatch_size = 0", "`training.batch_size`"),
        ] {
            let config: TrainingConfig = toml::from_str(text).unwrap();
            assert!(config.check().unwrap_err().to_string().starts_with(key));
        }
    }

    #[test]
    fn every_precision_is_for_a_gpu() {
        for (name, precision) in
            [("f32", Precision::F32), ("tf32", Precision::Tf32), ("bf16", Precision::Bf16)]
        {
            let config = training(&format!("device = 'cuda'\nprecision = '{name}'"));
            config.check().unwrap();
            assert_eq!(config.precision, Some(precision));
            let text = toml::to_string(&config).unwrap();
            assert!(text.contains(&format!("precision = \"{name}\"")), "{text}");
        }
    }
}
