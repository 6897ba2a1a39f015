//! An evaluation in words.

use sae_config::{
    AttributeScores, CrossEntropy, Evaluation, GroundTruth, ImageScores, Reconstruction, Sparsity,
    Suite, VisionScores, scores_of,
};

use crate::output::say;

pub(super) fn print(evaluation: &Evaluation) {
    if evaluation.elsewhere {
        say!("elsewhere       {}", evaluation.differences.join("; "));
    }
    say!("rows            {}", evaluation.n_rows);
    print_fidelity(&evaluation.reconstruction);
    print_sparsity(&evaluation.sparsity);
    if let Some(k_hat) = &evaluation.k_hat {
        say!(
            "k̂               {:.2} (sd {:.2}; {:.2} to {:.2})",
            k_hat.mean,
            k_hat.sd,
            k_hat.min,
            k_hat.max
        );
    }
    if let Some(of) = &evaluation.allocation {
        say!(
            "R² if shared out uniformly {:.4}, by a threshold {:.4}, at best {:.4} (sd {:.2})",
            of.r2_uniform,
            of.r2_threshold,
            of.r2_oracle,
            of.l0_sd_oracle
        );
    }
    if let Some(of) = &evaluation.complexity {
        say!(
            "dimension       {:.2} (TwoNN); Spearman of L0 and that of a row's neighbourhood {}",
            of.dimension,
            number(of.spearman_l0_dimension)
        );
    }
    if let Some(ce) = &evaluation.cross_entropy {
        print_cross_entropy(ce);
    }
    if let Some(images) = &evaluation.images {
        print_images(images);
    }
    if let Some(truth) = &evaluation.ground_truth {
        print_truth(truth);
    }
    if let Some(vision) = &evaluation.vision {
        print_vision(vision);
    }
    if let Some(found) = &evaluation.interventions {
        for (name, moved) in [("cities", &found.attributes), ("countries", &found.countries)] {
            moved.iter().for_each(|of| print_attributes(name, of));
        }
    }
    print_scores(evaluation);
}

/// What features are of, beside what chance gives.
fn print_vision(vision: &VisionScores) {
    for (name, of) in [
        ("alike images", vision.monosemanticity),
        ("label purity", vision.label_purity),
        ("part purity", vision.part_purity),
    ] {
        if let Some(of) = of {
            say!("{name:<15} {:.4}, by chance {:.4}, over {} features", of.value, of.chance, of.n);
        }
    }
    if let Some(spent) = vision.spent {
        say!(
            "spent           {:.2} on objects, {:.2} on background",
            spent.object,
            spent.background
        );
    }
}

fn print_attributes(name: &str, of: &AttributeScores) {
    say!("{name:<15} {} that the host knows, {} pairs", of.n_things, of.n_pairs);
    let moved = of.by_features.iter().map(|of| (format!("{} features", of.n_features), of));
    for (what, of) in moved.chain([("whole activation".to_owned(), &of.whole)]) {
        say!("  {what:<16}  cause {:.3}, isolation {:.3}", of.cause, of.isolation);
    }
}

/// A line for each score: its interval, the best of the worthless dictionaries, the ceiling.
fn print_scores(evaluation: &Evaluation) {
    if evaluation.scores.is_empty() {
        return;
    }
    say!("{:<26} {:>9}  {:<19} {:>8}  {:<31} ceiling", "score", "value", "95 %", "n", "floor");
    for (info, score) in
        Suite::ALL.into_iter().flat_map(|suite| scores_of(suite, &evaluation.scores))
    {
        let interval = score.interval.map_or_else(String::new, |interval| {
            format!("{:.4} to {:.4}", interval.low, interval.high)
        });
        let floor = score
            .floor(info)
            .map_or_else(String::new, |(kind, value)| format!("{value:.4} ({})", kind.name()));
        let ceiling = score.ceiling.map_or_else(String::new, |ceiling| format!("{ceiling:.4}"));
        let (name, value, n) = (info.name, score.value, score.n);
        say!("{name:<26} {value:>9.4}  {interval:<19} {n:>8}  {floor:<31} {ceiling}");
    }
}

fn print_fidelity(fidelity: &Reconstruction) {
    say!("R²              {:.4}", fidelity.r2);
    say!("FVE (official)  {:.4}", fidelity.frac_variance_explained);
    say!("cosine          {:.4}", fidelity.cosine);
    say!("norm ratio      {:.4}", fidelity.norm_ratio);
    say!("relative bias   {:.4}", fidelity.relative_bias);
}

fn print_sparsity(sparsity: &Sparsity) {
    say!(
        "L0              {:.2} (sd {:.2}; 5/50/95 %: {:.0}/{:.0}/{:.0})",
        sparsity.l0_mean,
        sparsity.l0_sd,
        sparsity.l0_p5,
        sparsity.l0_p50,
        sparsity.l0_p95
    );
    say!("L1              {:.4}", sparsity.l1);
    say!("dead            {:.2} %", 100.0 * sparsity.dead_fraction);
    say!(
        "dense           {:.2} % above 1 %, {:.2} % above 10 %",
        100.0 * sparsity.dense_fraction_1e2,
        100.0 * sparsity.dense_fraction_1e1
    );
}

fn print_images(images: &ImageScores) {
    say!(
        "embeddings      cosine {:.4} spliced, {:.4} with the mean, over {} images",
        images.cosine,
        images.cosine_mean,
        images.n_images
    );
    say!("recovered       {:.4}", images.embedding_recovered);
    if let Some(labels) = &images.labels {
        say!(
            "nearest image   of the label {:.4} clean, {:.4} spliced, {:.4} with the mean ({} labels)",
            labels.clean,
            labels.spliced,
            labels.mean,
            labels.n_labels
        );
    }
    for of in &images.parts {
        let k_hat = of.k_hat_mean.map_or_else(String::new, |k_hat| format!(", k̂ {k_hat:.2}"));
        say!(
            "  {:<12}  R² {}, L0 {:.2} (sd {:.2}){k_hat}, Spearman with contrast {}, {} rows",
            of.part.name(),
            number(of.r2),
            of.l0_mean,
            of.l0_sd,
            number(of.spearman_l0_contrast),
            of.n_rows
        );
    }
}

fn print_cross_entropy(ce: &CrossEntropy) {
    say!(
        "cross-entropy   clean {:.4}, spliced {:.4}, zero {:.4} nats over {} tokens",
        ce.clean,
        ce.spliced,
        ce.zero,
        ce.n_tokens
    );
    say!("CE recovered    {:.4}", ce.ce_recovered);
    say!("KL recovered    {:.4}", ce.kl_recovered);
    say!(
        "L0 on the loss  Spearman {} of the next token, {} of the token itself",
        number(ce.spearman_l0_next_loss),
        number(ce.spearman_l0_own_loss)
    );
}

fn print_truth(truth: &GroundTruth) {
    say!(
        "dictionary      {:.4} mean cosine, {:.2} % of {} features above 0.9",
        truth.mean_matched_cosine,
        100.0 * truth.recovered_above_0_9,
        truth.n_true_features
    );
    say!(
        "support         precision {:.4}, recall {:.4}",
        truth.support_precision,
        truth.support_recall
    );
    if let Some(latents) = &truth.latents {
        say!(
            "detectors       F1 {:.4}, precision {:.4}, recall {:.4}, MCC {:.4}, uniqueness {:.4}",
            latents.f1,
            latents.precision,
            latents.recall,
            latents.mcc,
            latents.uniqueness
        );
    }
    say!(
        "L0 on true k    Spearman {}, slope {}",
        number(truth.spearman_l0_true_l0),
        number(truth.slope_l0)
    );
    if truth.spearman_k_hat.or(truth.slope_k_hat).is_some() {
        say!(
            "k̂ on true k     Spearman {}, slope {}",
            number(truth.spearman_k_hat),
            number(truth.slope_k_hat)
        );
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or("none".to_owned(), |value| format!("{value:.4}"))
}
