//! `results.csv`: a line for each run, whatever its status.

use anyhow::{Context as _, Result};
use sae_config::{
    Allocation, CrossEntropy, Evaluation, GroundTruth, ImagePart, ImageScores, LabelScores,
    LatentScores, PartScores, Provenance, RunResult, SweepResults,
};
use sae_report::Groups;

/// A column: name, and value of a run where it has one.
type Column = (&'static str, fn(&RunResult) -> Option<String>);

const COLUMNS: [Column; 62] = [
    ("run_id", |r| Some(r.run_id.clone())),
    ("architecture", |r| Some(r.config.architecture.name().into())),
    ("k", |r| r.config.architecture.target_l0().map(|k| k.to_string())),
    ("seed", |r| Some(r.config.training.seed.to_string())),
    ("status", |r| Some(r.status.name().into())),
    ("l0", |r| Some(evaluation(r)?.sparsity.l0_mean.to_string())),
    ("r2", |r| Some(evaluation(r)?.reconstruction.r2.to_string())),
    ("fve", |r| Some(evaluation(r)?.reconstruction.frac_variance_explained.to_string())),
    ("ce_recovered", |r| Some(spliced(r)?.ce_recovered.to_string())),
    ("dead_fraction", |r| Some(evaluation(r)?.sparsity.dead_fraction.to_string())),
    ("train_seconds", |r| (r.train_seconds > 0.0).then(|| r.train_seconds.to_string())),
    ("n_features", |r| Some(r.config.sae.n_features.to_string())),
    ("steps", |r| Some(r.config.training.steps.to_string())),
    ("lr", |r| r.config.training.lr.map(|lr| lr.to_string())),
    ("l0_sd_rows", |r| Some(evaluation(r)?.sparsity.l0_sd.to_string())),
    ("ce_spliced", |r| Some(spliced(r)?.spliced.to_string())),
    ("kl_recovered", |r| Some(spliced(r)?.kl_recovered.to_string())),
    ("k_hat_mean", |r| Some(evaluation(r)?.k_hat.as_ref()?.mean.to_string())),
    ("k_hat_sd_rows", |r| Some(evaluation(r)?.k_hat.as_ref()?.sd.to_string())),
    ("spearman_true_k", |r| Some(spearman(truth(r)?)?.to_string())),
    ("matched_cosine", |r| Some(truth(r)?.mean_matched_cosine.to_string())),
    ("recovered_above_0_9", |r| Some(truth(r)?.recovered_above_0_9.to_string())),
    ("support_precision", |r| Some(truth(r)?.support_precision.to_string())),
    ("support_recall", |r| Some(truth(r)?.support_recall.to_string())),
    ("slope_l0", |r| Some(truth(r)?.slope_l0?.to_string())),
    ("slope_k_hat", |r| Some(truth(r)?.slope_k_hat?.to_string())),
    ("true_l0", |r| Some(latents(r)?.true_l0.to_string())),
    ("latent_f1", |r| Some(latents(r)?.f1.to_string())),
    ("latent_precision", |r| Some(latents(r)?.precision.to_string())),
    ("latent_recall", |r| Some(latents(r)?.recall.to_string())),
    ("latent_accuracy", |r| Some(latents(r)?.accuracy.to_string())),
    ("mcc", |r| Some(latents(r)?.mcc.to_string())),
    ("uniqueness", |r| Some(latents(r)?.uniqueness.to_string())),
    ("r2_uniform", |r| Some(allocation(r)?.r2_uniform.to_string())),
    ("r2_threshold", |r| Some(allocation(r)?.r2_threshold.to_string())),
    ("r2_oracle", |r| Some(allocation(r)?.r2_oracle.to_string())),
    ("spearman_l0_dimension", |r| {
        Some(evaluation(r)?.complexity.as_ref()?.spearman_l0_dimension?.to_string())
    }),
    ("spearman_l0_next_loss", |r| Some(spliced(r)?.spearman_l0_next_loss?.to_string())),
    ("spearman_l0_own_loss", |r| Some(spliced(r)?.spearman_l0_own_loss?.to_string())),
    ("embedding_recovered", |r| Some(images(r)?.embedding_recovered.to_string())),
    ("embedding_cosine", |r| Some(images(r)?.cosine.to_string())),
    ("embedding_cosine_mean", |r| Some(images(r)?.cosine_mean.to_string())),
    ("nearest_label", |r| Some(labels(r)?.spliced.to_string())),
    ("nearest_label_clean", |r| Some(labels(r)?.clean.to_string())),
    ("nearest_label_mean", |r| Some(labels(r)?.mean.to_string())),
    ("l0_class_token", |r| Some(part(r, ImagePart::ClassToken)?.l0_mean.to_string())),
    ("r2_class_token", |r| Some(part(r, ImagePart::ClassToken)?.r2?.to_string())),
    ("l0_object", |r| Some(part(r, ImagePart::Object)?.l0_mean.to_string())),
    ("r2_object", |r| Some(part(r, ImagePart::Object)?.r2?.to_string())),
    ("l0_edge", |r| Some(part(r, ImagePart::Edge)?.l0_mean.to_string())),
    ("r2_edge", |r| Some(part(r, ImagePart::Edge)?.r2?.to_string())),
    ("l0_background", |r| Some(part(r, ImagePart::Background)?.l0_mean.to_string())),
    ("r2_background", |r| Some(part(r, ImagePart::Background)?.r2?.to_string())),
    ("variant", |r| r.variant.clone()),
    ("failure", |r| r.failure.clone()),
    ("version", |r| Some(provenance(r)?.version.clone())),
    ("revision", |r| provenance(r)?.revision.clone()),
    ("libtorch", |r| provenance(r)?.libtorch.clone()),
    ("device", |r| Some(provenance(r)?.device.clone())),
    ("host", |r| Some(provenance(r)?.host.clone())),
    ("started", |r| Some(provenance(r)?.started.clone())),
    ("ended", |r| Some(provenance(r)?.ended.clone())),
];

fn evaluation(run: &RunResult) -> Option<&Evaluation> {
    run.evaluation.as_ref()
}

fn spliced(run: &RunResult) -> Option<&CrossEntropy> {
    evaluation(run)?.cross_entropy.as_ref()
}

fn images(run: &RunResult) -> Option<&ImageScores> {
    evaluation(run)?.images.as_ref()
}

fn labels(run: &RunResult) -> Option<&LabelScores> {
    images(run)?.labels.as_ref()
}

fn part(run: &RunResult, part: ImagePart) -> Option<&PartScores> {
    images(run)?.parts.iter().find(|scores| scores.part == part)
}

fn truth(run: &RunResult) -> Option<&GroundTruth> {
    evaluation(run)?.ground_truth.as_ref()
}

fn latents(run: &RunResult) -> Option<&LatentScores> {
    truth(run)?.latents.as_ref()
}

fn allocation(run: &RunResult) -> Option<&Allocation> {
    evaluation(run)?.allocation.as_ref()
}

fn provenance(run: &RunResult) -> Option<&Provenance> {
    run.provenance.as_ref()
}

/// Rank correlation with the true k: of k̂ where the architecture has one, else of L0.
pub(super) fn spearman(truth: &GroundTruth) -> Option<f64> {
    truth.spearman_k_hat.or(truth.spearman_l0_true_l0)
}

/// A line for each run; after the fixed columns one for each setting that differs between runs,
/// by its dotted key, and the steps that unfinished runs have done.
pub(super) fn csv(results: &SweepResults) -> Result<String> {
    let groups = Groups::of(&results.runs);
    let fixed = COLUMNS.iter().map(|(name, _)| *name);
    let header = fixed.chain(["steps_done"]).chain(groups.keys.iter().map(String::as_str));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header)?;
    for (run, settings) in results.runs.iter().zip(&groups.values) {
        let steps = results.steps_done.get(&run.run_id).map(u64::to_string);
        let fixed = COLUMNS.iter().map(|(_, value)| value(run).unwrap_or_default());
        let more = std::iter::once(steps).chain(settings.iter().cloned());
        writer.write_record(fixed.chain(more.map(Option::unwrap_or_default)))?;
    }
    String::from_utf8(writer.into_inner()?).context("results.csv")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sae_config::RunStatus;

    use super::super::tests::result;
    use super::*;

    fn read(results: &SweepResults) -> Vec<BTreeMap<String, String>> {
        let text = csv(results).unwrap();
        csv::Reader::from_reader(text.as_bytes()).deserialize().map(Result::unwrap).collect()
    }

    #[test]
    fn every_run_has_a_line_and_every_setting_that_differs_a_column() {
        let mut other = result("b,\"b");
        other.config.training.lr = Some(0.1 + 0.2);
        other.config.training.warmup_steps = 3;
        other.variant = Some("wide, \"warm\"\nand slow".into());
        let failed = RunResult {
            status: RunStatus::Failed,
            evaluation: None,
            failure: Some("training: killed by signal 9".into()),
            ..result("c")
        };
        let runs = vec![result("abc"), other.clone(), failed];
        let steps_done = [("c".to_owned(), 7)].into();
        let lines = read(&SweepResults { name: "x".into(), runs, steps_done });
        assert_eq!(lines.len(), 3);
        let of = |line: usize, key: &str| lines[line][key].as_str();
        assert_eq!((of(0, "r2"), of(0, "status"), of(0, "ce_recovered")), ("0.75", "done", ""));
        assert_eq!(of(1, "run_id"), other.run_id);
        assert_eq!(of(1, "variant"), other.variant.as_deref().unwrap());
        assert_eq!(of(1, "training.lr").parse::<f64>().unwrap(), 0.1 + 0.2);
        assert_eq!((of(0, "training.warmup_steps"), of(1, "training.warmup_steps")), ("0", "3"));
        assert_eq!((of(2, "status"), of(2, "r2"), of(2, "steps_done")), ("failed", "", "7"));
        assert_eq!(of(2, "failure"), "training: killed by signal 9");
        assert!(!lines[0].contains_key("training.steps"), "no run has others");
    }

    #[test]
    fn columns_have_names_of_their_own() {
        let mut names = COLUMNS.map(|(name, _)| name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
