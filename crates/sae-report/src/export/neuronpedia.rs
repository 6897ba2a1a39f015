//! The lines that Neuronpedia imports, field by field (`neuronpedia_export.py` of SAEDashboard and
//! `db_models` of Neuronpedia).

use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use sae_config::{Confusion, FeatureLabels, Judged};
use serde::Serialize;
use serde_json::{Value, json};

use super::dashboard::{Activation, Feature, Tables, tokens_in_prompt};
use super::{ExportNames, Staged, text};
use crate::{Result, SavedFeatures};

/// Writes `release.jsonl`, `model.jsonl`, `sourceset.jsonl` and `source.jsonl`.
pub(super) fn write_metadata(
    staged: &Staged,
    pages: &SavedFeatures,
    names: &ExportNames,
    source: &str,
) -> Result<()> {
    let lines = [
        ("release.jsonl", release(names)),
        ("model.jsonl", model(names)),
        ("sourceset.jsonl", source_set(names)),
        ("source.jsonl", of_source(pages, names, source)),
    ];
    for (file, line) in lines {
        let mut bytes = text(&line);
        bytes.push(b'\n');
        staged.write(file, &bytes)?;
    }
    Ok(())
}

fn release(names: &ExportNames) -> Value {
    let urls: Vec<&str> =
        Some(names.url.as_str()).filter(|url| !url.is_empty()).into_iter().collect();
    json!({
        "name": names.release, "description": names.title, "creatorName": names.creator,
        "creatorId": names.creator_id, "visibility": "PUBLIC", "isNewUi": false, "featured": false,
        "descriptionShort": names.title, "urls": urls, "creatorEmail": null,
        "creatorNameShort": names.creator, "defaultSourceSetName": null, "defaultSourceId": null,
        "defaultUmapSourceIds": [], "createdAt": names.created,
    })
}

fn model(names: &ExportNames) -> Value {
    let name = names.model.to_lowercase();
    json!({
        "id": names.model, "instruct": name.ends_with("-it") || name.contains("instruct"),
        "creatorId": names.creator_id, "displayNameShort": names.model, "displayName": names.model,
        "tlensId": null, "dimension": null, "visibility": "PUBLIC", "defaultSourceSetName": null,
        "defaultSourceId": null, "inferenceEnabled": false, "layers": 0, "neuronsPerLayer": 0,
        "createdAt": names.created, "owner": "", "updatedAt": names.created, "website": null,
    })
}

fn source_set(names: &ExportNames) -> Value {
    json!({
        "modelId": names.model, "name": names.set, "creatorId": names.creator_id,
        "hasDashboards": true, "visibility": "PUBLIC", "description": names.description, "type": "",
        "creatorName": names.creator, "urls": [], "creatorEmail": null,
        "releaseName": names.release, "defaultOfModelId": null, "defaultRange": 1,
        "defaultShowBreaks": true, "showDfa": false, "showCorrelated": false,
        "showHeadAttribution": false, "showUmap": false, "createdAt": names.created,
    })
}

fn of_source(pages: &SavedFeatures, names: &ExportNames, source: &str) -> Value {
    let set = pages.set();
    let tokens_in_prompt = tokens_in_prompt(set.n_rows, set.n_contexts);
    json!({
        "id": source, "modelId": names.model, "setName": names.set, "creatorId": names.creator_id,
        "hasDashboards": true, "inferenceEnabled": false, "inferenceHosts": [],
        "saelensConfig": null, "saelensRelease": null, "saelensSaeId": null, "hfRepoId": null,
        "hfFolderId": null, "visibility": "PUBLIC", "defaultOfModelId": null, "hasUmap": false,
        "hasUmapLogSparsity": false, "hasUmapClusters": false, "num_prompts": set.n_contexts,
        "num_tokens_in_prompt": tokens_in_prompt, "dataset": names.dataset, "notes": null,
        "createdAt": names.created,
    })
}

/// Writes `features/batch-N.jsonl.gz` and, where there are any, `activations/batch-N.jsonl.gz`:
/// the importer takes no file without lines.
pub(super) fn write_batch(
    staged: &Staged,
    pages: &SavedFeatures,
    names: &ExportNames,
    source: &str,
    number: usize,
    features: &[Feature],
) -> Result<()> {
    let (mut of_features, mut of_activations) = (Lines::default(), Lines::default());
    for feature in features {
        let index = feature.feature_index.to_string();
        let mut most = 0.0f32;
        for (at, activation) in feature.activations.iter().enumerate() {
            let place = largest(&activation.values);
            most = most.max(activation.values[place]);
            let own = json!({
                "id": id(pages, source, feature.feature_index, &at.to_string()), "index": index, "layer": source,
                "modelId": names.model, "maxValueTokenIndex": place, "creatorId": names.creator_id,
                "dataSource": null, "dataIndex": null, "dfaValues": [], "dfaTargetIndex": null,
                "dfaMaxValue": null, "createdAt": names.created, "lossValues": [],
                "logitContributions": null, "qualifyingTokenIndex": activation.qualifying_token_index,
            });
            of_activations.add(&OfActivation::new(own, activation, place));
        }
        let own = json!({
            "modelId": names.model, "layer": source, "index": index, "creatorId": names.creator_id,
            "createdAt": names.created, "hasVector": false, "vector": [], "vectorLabel": null,
            "vectorDefaultSteerStrength": 10, "topkCosSimIndices": [], "topkCosSimValues": [],
            "hookName": format!("blocks.{}.{}", names.layer, names.hook), "sourceSetName": null,
        });
        of_features.add(&OfFeature { own, most, tables: &feature.tables });
    }
    staged.write(&format!("features/batch-{number}.jsonl.gz"), &of_features.finish())?;
    if of_activations.is_empty() {
        return Ok(());
    }
    staged.write(&format!("activations/batch-{number}.jsonl.gz"), &of_activations.finish())
}

/// Writes `explanations/batch-N.jsonl.gz` for the labels of some features, where there are any.
pub(super) fn write_explanations(
    staged: &Staged,
    pages: &SavedFeatures,
    names: &ExportNames,
    source: &str,
    number: usize,
    labels: &FeatureLabels,
) -> Result<()> {
    let mut lines = Lines::default();
    for (feature, judged) in labels {
        let Some(label) = &judged.label else { continue };
        lines.add(&json!({
            "id": id(pages, source, *feature, "explanation"), "modelId": names.model, "layer": source,
            "index": feature.to_string(), "description": label, "authorId": names.creator_id,
            "triggeredById": null,
            // Both name rows of tables that Neuronpedia has: other names would be refused.
            "typeName": null, "explanationModelName": null,
            "notes": notes(judged), "createdAt": names.created,
        }));
    }
    if lines.is_empty() {
        return Ok(());
    }
    staged.write(&format!("explanations/batch-{number}.jsonl.gz"), &lines.finish())
}

/// Who gave a label, and how well contexts are told by it.
fn notes(judged: &Judged) -> String {
    let score = |name: &str, of: &Option<Confusion>| {
        let of = of.as_ref()?;
        let n = of.true_positives + of.false_negatives + of.false_positives + of.true_negatives;
        Some(format!("; {name}: balanced accuracy {:.3} of {n} texts", of.balanced_accuracy()?))
    };
    let scores = [score("detection", &judged.detection), score("fuzzing", &judged.fuzzing)];
    let scores: String = scores.into_iter().flatten().collect();
    format!("by {}{scores}", judged.model)
}

/// A line of a feature.
#[derive(Serialize)]
struct OfFeature<'a> {
    #[serde(flatten)]
    own: Value,
    #[serde(rename = "maxActApprox")]
    most: f32,
    #[serde(flatten)]
    tables: &'a Tables,
}

/// A line of an activation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfActivation<'a> {
    #[serde(flatten)]
    own: Value,
    tokens: &'a [String],
    values: &'a [f32],
    max_value: f32,
    min_value: f32,
    bin_min: f32,
    bin_max: f32,
    bin_contains: f64,
}

impl<'a> OfActivation<'a> {
    fn new(own: Value, of: &'a Activation, place: usize) -> Self {
        Self {
            own,
            tokens: &of.tokens,
            values: &of.values,
            max_value: of.values[place],
            min_value: of.values.iter().copied().fold(f32::INFINITY, f32::min),
            bin_min: of.bin_min,
            bin_max: of.bin_max,
            bin_contains: of.bin_contains,
        }
    }
}

/// The place of the first of the largest values.
fn largest(values: &[f32]) -> usize {
    let first = |best: usize, at: usize| if values[at] > values[best] { at } else { best };
    (0..values.len()).fold(0, first)
}

/// An id in the form of a cuid, the same whenever the same activation or explanation is exported.
fn id(pages: &SavedFeatures, source: &str, feature: u32, what: &str) -> String {
    let set = pages.set();
    let of = format!("{} {} {source} {feature} {what}", set.checkpoint_hash, set.store_hash);
    format!("c{}", &blake3::hash(of.as_bytes()).to_hex()[..24])
}

/// Lines of JSON.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, line: &impl Serialize) {
        self.0.extend(text(line));
        self.0.push(b'\n');
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines, compressed; the same lines give the same bytes.
    fn finish(self) -> Vec<u8> {
        let mut made = GzBuilder::new().write(Vec::new(), Compression::default());
        made.write_all(&self.0).and_then(|()| made.finish()).expect("memory can be written")
    }
}
