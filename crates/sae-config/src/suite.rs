//! Suites of scores (`softsae eval --suite`): what each measures, by stable names.

use serde::{Deserialize, Serialize};

/// Scores that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// Fidelity, sparsity and decoder of the SAE on a store.
    Core,
    /// What is found of the features of a planted store.
    Truth,
    /// What can be read off a few features, on labelled data.
    Probing,
    /// How far other runs find the same features.
    Stability,
    /// What other activations in the place of the host's, and features moved or added, do to it.
    Interventions,
    /// What the features of a vision SAE are of.
    Vision,
}

impl Suite {
    /// All of them, in the order in which they are measured and shown.
    pub const ALL: [Self; 6] = [
        Self::Core,
        Self::Truth,
        Self::Probing,
        Self::Stability,
        Self::Interventions,
        Self::Vision,
    ];

    /// The name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Truth => "truth",
            Self::Probing => "probing",
            Self::Stability => "stability",
            Self::Interventions => "interventions",
            Self::Vision => "vision",
        }
    }

    /// The version of its scores: another where one of them is computed otherwise, so that a sweep
    /// measures anew what an earlier version has measured.
    #[must_use]
    pub const fn version(self) -> u32 {
        match self {
            Self::Core | Self::Truth | Self::Probing | Self::Stability | Self::Vision => 1,
            // Of 2, letters are told by regressions that weight classes alike, whatever the units of
            // features, and attributes are moved by more features.
            Self::Interventions => 2,
        }
    }

    /// What it needs beside an SAE and a store.
    #[must_use]
    pub const fn needs(self) -> &'static str {
        match self {
            Self::Core => "nothing",
            Self::Truth => "a planted store, with its truth beside it",
            Self::Probing => "--probes, labelled stores that `softsae probe-data` makes",
            Self::Stability => "--against, checkpoints of other seeds, runs or widths",
            Self::Interventions => "--host, a language model, and --text",
            Self::Vision => "--host, a vision model, and --images",
        }
    }

    /// What it measures, in the order in which it is shown.
    #[must_use]
    pub const fn scores(self) -> &'static [ScoreInfo] {
        match self {
            Self::Core => &CORE,
            Self::Truth => &TRUTH,
            Self::Probing => &PROBING,
            Self::Stability => &STABILITY,
            Self::Interventions => &INTERVENTIONS,
            Self::Vision => &VISION,
        }
    }

    /// The suite of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }
}

/// What a score is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreInfo {
    /// Its name in result files: the suite's, a dot, its own. It never changes its meaning.
    pub name: &'static str,
    /// Which values are better.
    pub better: Better,
    /// What its n counts.
    pub over: &'static str,
}

/// Which values of a score are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// High ones.
    High,
    /// Low ones.
    Low,
    /// Neither: it describes.
    Neither,
}

const fn high(name: &'static str, over: &'static str) -> ScoreInfo {
    ScoreInfo { name, better: Better::High, over }
}

const fn low(name: &'static str, over: &'static str) -> ScoreInfo {
    ScoreInfo { name, better: Better::Low, over }
}

const fn neither(name: &'static str, over: &'static str) -> ScoreInfo {
    ScoreInfo { name, better: Better::Neither, over }
}

const CORE: [ScoreInfo; 8] = [
    high("core.r2", "rows"),
    high("core.fve", "rows"),
    high("core.cosine", "rows"),
    neither("core.l0", "rows"),
    neither("core.relative_bias", "rows"),
    low("core.dead_fraction", "features"),
    low("core.decoder_projection", "rows"),
    low("core.decoder_cosine", "features"),
];

const TRUTH: [ScoreInfo; 9] = [
    high("truth.f1", "features"),
    high("truth.precision", "features"),
    high("truth.recall", "features"),
    high("truth.mcc", "features"),
    high("truth.uniqueness", "features"),
    high("truth.matched_cosine", "true features"),
    high("truth.recovered", "true features"),
    high("truth.support_precision", "rows"),
    high("truth.support_recall", "rows"),
];

const PROBING: [ScoreInfo; 12] = [
    high("probing.auc_k1", "tasks"),
    high("probing.auc_k2", "tasks"),
    high("probing.auc_k5", "tasks"),
    high("probing.auc_k16", "tasks"),
    high("probing.f1_k1", "tasks"),
    high("probing.f1_k2", "tasks"),
    high("probing.f1_k5", "tasks"),
    high("probing.f1_k16", "tasks"),
    high("probing.accuracy_k1", "tasks"),
    high("probing.accuracy_k2", "tasks"),
    high("probing.accuracy_k5", "tasks"),
    high("probing.accuracy_k16", "tasks"),
];

const STABILITY: [ScoreInfo; 2] =
    [high("stability.pw_mcc", "features"), high("stability.shared", "features")];

const INTERVENTIONS: [ScoreInfo; 13] = [
    high("interventions.ce_recovered", "predictions"),
    high("interventions.kl_recovered", "predictions"),
    low("interventions.kl_over_random", "predictions"),
    high("interventions.ce_recovered_n1", "predictions"),
    high("interventions.ce_recovered_n4", "predictions"),
    high("interventions.ce_recovered_n16", "predictions"),
    high("interventions.ce_recovered_n64", "predictions"),
    low("interventions.absorption", "letters"),
    low("interventions.full_absorption", "letters"),
    low("interventions.features_per_letter", "letters"),
    high("interventions.f1_one_feature", "letters"),
    high("interventions.disentanglement", "pairs"),
    high("interventions.disentanglement_countries", "pairs"),
];

const VISION: [ScoreInfo; 7] = [
    high("vision.embedding_recovered", "images"),
    high("vision.monosemanticity", "features"),
    high("vision.label_purity", "features"),
    high("vision.part_purity", "features"),
    high("vision.label_auc_k1", "labels"),
    high("vision.label_auc_k5", "labels"),
    neither("vision.object_over_background", "images"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files_and_scores_those_of_their_suite() {
        let mut names = Vec::new();
        for suite in Suite::ALL {
            assert_eq!(serde_json::to_value(suite).unwrap(), suite.name());
            assert_eq!(Suite::find(suite.name()), Some(suite));
            for score in suite.scores() {
                assert_eq!(score.name.split_once('.').unwrap().0, suite.name());
                names.push(score.name);
            }
        }
        let n = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n, "no name comes twice");
        assert_eq!(Suite::find("all"), None);
    }
}
