//! Training of sparse autoencoders: rules, schedules, engines, whole runs.

#![doc = include_str!("../README.md")]

mod batches;
mod checkpoints;
mod data;
mod dead;
mod device;
mod engine;
mod error;
mod events;
mod fast;
mod fault;
mod geometric_median;
mod metrics;
mod optimizer;
mod origin;
mod plan;
mod profile;
mod prolong;
mod reference;
mod report;
mod rules;
mod run;
mod schedule;
mod signs;
mod start;
mod state;
mod trainer;

pub use data::{Filtered, Open, Opened, Stores, open_stores};
pub use device::run_device;
pub use error::{Error, Result};
pub use metrics::{EVENTS_FILE, MetricsLine, read_metrics};
pub use origin::{origin, origin_of};
pub use plan::{MemoryPlan, memory, plan, plan_together};
pub use profile::Profile;
pub use report::{Step, StepReport};
pub use run::{
    CHECKPOINT_FOLDER, CONFIG_FILE, METRICS_FILE, Progress, RunOptions, RunSummary,
    TRAINING_FOLDER, train_run, train_runs,
};
pub use signs::heeds;
pub use trainer::Trainer;
