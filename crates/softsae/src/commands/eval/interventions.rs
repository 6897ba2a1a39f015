//! The suite `interventions`: a language model with other activations in the place of its own, and with
//! features moved between inputs.

use std::cell::OnceCell;

use sae_config::{AttributeScores, Evaluation, Interventions, Scores};
use sae_eval::{
    AttributeOptions, AttributeTable, CrossEntropyOptions, Error, FirstLetterOptions, FirstLetters,
    LossOptions, disentanglement, intervention_scores, rebuilt_scores, splice_losses,
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
         vocabulary once to the hook point; prompts about cities and countries"
    )
}

/// Measures, and adds what was found to an evaluation.
pub(super) fn measure(
    sae: &Sae,
    (host, hook): (&HostModel, HookPoint),
    texts: &[Text],
    reading: CrossEntropyOptions,
    letters: &Letters,
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
    let first_letter = letters.read(host, hook, reading).and_then(|letters| letters.scores(sae));
    found.first_letter = or_note(first_letter, &mut found.notes)?;
    let mut attributes = |what, table| -> Result<Option<AttributeScores>, Failure> {
        or_note(moved(sae, (host, hook), what, &table, reading), &mut found.notes)
    };
    let cities = attributes("cities", AttributeTable::cities())?;
    let countries = attributes("countries", AttributeTable::countries())?;
    (found.attributes, found.countries) = (cities, countries);
    found.notes.iter().for_each(|note| note!("note: suite interventions: {note}"));
    evaluation.cross_entropy = Some(report.cross_entropy);
    evaluation.scores.extend(report.scores);
    evaluation.scores.extend(intervention_scores(&found));
    evaluation.interventions = Some(found);
    Ok(())
}

/// The scores of worthless dictionaries, of what they rebuild and of first letters, where the host gives
/// these.
pub(super) fn floors(
    others: &[&Sae],
    (host, hook): (&HostModel, HookPoint),
    texts: &[Text],
    reading: CrossEntropyOptions,
    letters: &Letters,
) -> Result<Vec<Scores>, Failure> {
    let texts: Vec<&str> = texts.iter().map(|text| text.content.as_str()).collect();
    let all = told("worthless", "contexts", |progress| {
        rebuilt_scores(others, host, hook, &texts, reading, progress)
    });
    let mut all = all.or_run()?;
    for (other, scores) in others.iter().zip(&mut all) {
        let first_letter = letters.read(host, hook, reading).and_then(|of| of.scores(other));
        let first_letter = or_note(first_letter, &mut Vec::new())?;
        let found = Interventions { first_letter, ..Interventions::default() };
        scores.extend(intervention_scores(&found));
    }
    Ok(all)
}

/// The words of a host's vocabulary, read once.
#[derive(Debug, Default)]
pub(super) struct Letters(OnceCell<FirstLetters>);

impl Letters {
    fn read(
        &self,
        host: &HostModel,
        hook: HookPoint,
        reading: CrossEntropyOptions,
    ) -> sae_eval::Result<&FirstLetters> {
        if let Some(letters) = self.0.get() {
            return Ok(letters);
        }
        let options = FirstLetterOptions { bos: reading.bos, ..FirstLetterOptions::default() };
        let read = told("first letters", "words", |progress| {
            FirstLetters::read(host, hook, options, progress)
        });
        let read = read?;
        Ok(self.0.get_or_init(|| read))
    }
}

/// What moving features does to the attributes of a table.
fn moved(
    sae: &Sae,
    (host, hook): (&HostModel, HookPoint),
    what: &'static str,
    table: &AttributeTable,
    reading: CrossEntropyOptions,
) -> sae_eval::Result<AttributeScores> {
    let options =
        AttributeOptions { bos: reading.bos, ..AttributeOptions::of(sae.config().n_features) };
    told(what, "pairs", |progress| disentanglement(sae, host, hook, table, &options, progress))
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
