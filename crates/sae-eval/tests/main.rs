//! Metrics against golden numbers and definitions, SAEs over stores and spliced into hosts.

mod features;
mod golden;
mod ground_truth;
mod hosts;
mod images;
mod interventions;
mod models;
mod probing;
mod profile;
mod properties;
mod special_tokens;
mod stability;
mod steering;
mod stores;
mod suites;
mod vision;
