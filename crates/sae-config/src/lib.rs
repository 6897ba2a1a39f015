//! Typed TOML configuration of softsae: runs, sweeps and results.
//!
#![doc = include_str!("../README.md")]

mod architectures;
mod checked;
mod code;
mod comparison;
mod corpus;
mod data;
mod error;
mod evaluation;
mod features;
mod file;
mod groups;
mod identity;
mod images;
mod judged;
mod live;
mod preset;
mod recipe;
mod results;
mod role;
mod run;
mod sweep;
#[cfg(test)]
mod tests;
mod timing;
mod training;

pub use architectures::*;
pub use checked::{CheckedRun, CheckedTraining};
pub use code::{Code, EstimatorNetwork, Kept, Rounding, SoftCode};
pub use comparison::{Comparison, Fate, Fates, FeatureMatch, SharedFeatures};
pub use corpus::{
    ChatConfig, CorpusConfig, CorpusFormat, Damaged, HUB_PREFIX, Packing, Separator, ShuffleConfig,
    Split, TokenType,
};
pub use data::{DataConfig, WeightedStore};
pub use error::{Error, Result};
pub use evaluation::{
    Allocation, Complexity, CrossEntropy, Evaluation, GroundTruth, ImagePart, ImageScores,
    KHatStatistics, LabelScores, LatentScores, PartScores, Profile, Reconstruction, Sparsity,
    Spent, SpentText, TokenText,
};
pub use features::{
    Attribution, Component, ContextToken, FeatureContext, FeatureKHat, FeatureRecord, FeatureSet,
    Histogram, Neighbor, Patch, PictureSet, Quantile, TokenLogit,
};
pub use file::{read_json, read_toml, write_json, write_text, write_toml};
pub use identity::{TRAINING_VERSION, difference, run_id};
pub use images::{ImageBackground, ImagePositions};
pub use judged::{Confusion, HeldOut, Judged, Labels};
pub use live::LiveConfig;
pub use preset::apply_preset;
pub use recipe::{KTarget, Recipe, SoftRecipe, TopKRecipe};
pub use results::{Provenance, RunResult, RunStatus, SweepResults};
pub use role::Role;
pub use run::{Normalization, RunConfig, SaeConfig};
pub use sweep::{
    BosPolicy, EvaluationConfig, FeaturesConfig, HalvingConfig, HarvestConfig, HostConfig,
    ImagesConfig, Metric, PlantedStoresConfig, SearchConfig, SlurmConfig, SpecialTokens,
    StoresConfig, SweepConfig, SweepPoint, TextsConfig, dotted_key, run_at_rung, run_keys,
};
pub use timing::Timing;
pub use training::{Engine, Parity, Precision, TrainingConfig};
