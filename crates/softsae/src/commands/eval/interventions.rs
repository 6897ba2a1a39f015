//! The suite `interventions`: a language model with other activations in the place of its own, and with
//! features moved between inputs.

use sae_config::{Evaluation, Interventions};
use sae_eval::{
    AttributeOptions, AttributeTable, CrossEntropyOptions, Error, FirstLetterOptions, LossOptions,
    disentanglement, first_letter, intervention_scores, splice_losses,
};
use sae_hosts::{HookPoint, HostModel, Text};
use sae_models::Sae;

use crate::failure::{Blame as _, Failure};
use crate::output::note;
use crate::progress::Progress;

/// What the suite will cost, in words.
pub(super) fn cost() -> String {
    let passes = LossOptions::default().n_passes();
    format!(
        "the texts through the host {passes} times, all but once from the hook point on; the words of its \
         vocabulary once to the hook point; prompts about cities"
    )
}

/// Measures, and adds what was found to an evaluation.
pub(super) fn measure(
    sae: &Sae,
    (host, hook): (&HostModel, HookPoint),
    texts: &[Text],
    reading: CrossEntropyOptions,
    evaluation: &mut Evaluation,
) -> Result<(), Failure> {
    let texts: Vec<(&str, &str)> =
        texts.iter().map(|text| (text.name.as_str(), text.content.as_str())).collect();
    let options = LossOptions { reading, ..LossOptions::default() };
    let report = told("splice", "contexts", |progress| {
        splice_losses(sae, host, hook, &texts, &options, progress)
    });
    let report = report.or_run()?;
    let mut found = Interventions { losses: Some(report.losses), ..Interventions::default() };
    let words = FirstLetterOptions { bos: reading.bos, ..FirstLetterOptions::default() };
    let letters =
        told("first letters", "words", |progress| first_letter(sae, host, hook, words, progress));
    found.first_letter = or_note(letters, &mut found.notes)?;
    let table = AttributeTable::cities();
    let moved = AttributeOptions { bos: reading.bos, ..AttributeOptions::default() };
    let attributes = told("attributes", "pairs", |progress| {
        disentanglement(sae, host, hook, &table, &moved, progress)
    });
    found.attributes = or_note(attributes, &mut found.notes)?;
    found.notes.iter().for_each(|note| note!("note: suite interventions: {note}"));
    evaluation.cross_entropy = Some(report.cross_entropy);
    evaluation.scores.extend(report.scores);
    evaluation.scores.extend(intervention_scores(&found));
    evaluation.interventions = Some(found);
    Ok(())
}

/// What a part measured, or a note that says why this host gives it nothing to measure.
fn or_note<T>(part: sae_eval::Result<T>, notes: &mut Vec<String>) -> Result<Option<T>, Failure> {
    match part {
        Ok(part) => Ok(Some(part)),
        Err(error @ (Error::Setting { .. } | Error::Empty { .. })) => {
            notes.push(error.to_string());
            Ok(None)
        }
        Err(other) => Err(Failure::run(other)),
    }
}

/// Runs `job` with a progress that begins when its total is known.
fn told<T>(
    what: &'static str,
    unit: &'static str,
    job: impl FnOnce(&mut dyn FnMut(u64, u64)) -> T,
) -> T {
    let mut progress = None;
    job(&mut |done, total| {
        let progress = progress.get_or_insert_with(|| Progress::new(what, unit, total));
        progress.at(done, String::new);
    })
}
