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
mod interventions;
mod judged;
mod labels;
mod live;
mod preset;
mod recipe;
mod results;
mod role;
mod run;
mod scores;
mod steering;
mod suite;
mod sweep;
#[cfg(test)]
mod tests;
mod timing;
mod training;
mod unique;
mod vision;

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
pub use file::{json_from_slice, read_json, read_toml, write_json, write_text, write_toml};
pub use identity::{TRAINING_VERSION, difference, run_id, stream_difference};
pub use images::{ImageBackground, ImagePositions};
pub use interventions::{
    AttributeScores, FirstLetter, Interventions, LetterScores, LossGroup, Moved, ReplacedLoss,
    SplicedLosses,
};
pub use judged::{Confusion, FeatureLabels, HeldOut, Judged};
pub use labels::{LABELS_FILE, LabelTask, Labels, ProbeResult, TaskProbes};
pub use live::LiveConfig;
pub use preset::apply_preset;
pub use recipe::{KTarget, Recipe, SoftRecipe, TopKRecipe};
pub use results::{Provenance, RunResult, RunStatus, SweepResults};
pub use role::Role;
pub use run::{Normalization, RunConfig, SaeConfig};
pub use scores::{Interval, IntervalKind, Score, Scores, Worthless, scores_of};
pub use steering::{Continuation, Steering};
pub use suite::{Better, ScoreInfo, Suite};
pub use sweep::{
    BosPolicy, EvaluationConfig, FeaturesConfig, HalvingConfig, HarvestConfig, HeldOutConfig,
    HostConfig, ImagesConfig, Metric, PlantedStoresConfig, SearchConfig, SlurmConfig,
    SpecialTokens, StoresConfig, SweepConfig, SweepPoint, TextsConfig, dotted_key, run_at_rung,
    run_keys,
};
pub use timing::Timing;
pub use training::{Engine, Parity, Precision, TrainingConfig};
pub use vision::{AgainstChance, AucOf, LabelProbing, SpentOnParts, VisionScores};
