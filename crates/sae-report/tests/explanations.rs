//! Labels of a judge as explanations of Neuronpedia.

use sae_config::{Confusion, Judged};
use sae_report::{ExportFormat, SavedFeatures, export_features};

use crate::exports::{lines, names};
use crate::features::write;

#[test]
fn labels_become_explanations_of_the_batch_that_has_their_features() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let pages = SavedFeatures::open(folder.path()).unwrap();
    let at = |name: &str| folder.path().join(name);
    let without = export_features(&pages, ExportFormat::Neuronpedia, &names(), &at("a")).unwrap();
    assert!(!without.join("explanations").exists());
    let score = Confusion {
        true_positives: 3,
        false_negatives: 1,
        true_negatives: 4,
        unanswered: 2,
        ..Confusion::default()
    };
    let judged = |label: Option<&str>, detection: Option<Confusion>| Judged {
        model: "judge/1".into(),
        label: label.map(str::to_owned),
        detection,
        fuzzing: detection.map(|_| Confusion::default()),
    };
    let hostile = "a \"label\" </script> \u{202e}";
    let labels = [
        (127, judged(Some(hostile), Some(score))),
        (128, judged(Some("x"), None)),
        (129, judged(None, None)),
        (259, judged(None, None)),
    ];
    pages.write_labels(&labels.into()).unwrap();
    let made = export_features(&pages, ExportFormat::Neuronpedia, &names(), &at("b")).unwrap();
    let batch = |number: u32| made.join(format!("explanations/batch-{number}.jsonl.gz"));
    // A batch without a label has no file: the importer takes none without lines.
    assert!(batch(0).exists() && batch(1).exists() && !batch(2).exists());
    let found = [lines(&batch(0)), lines(&batch(1))].concat();
    let keys: Vec<Vec<&String>> =
        found.iter().map(|line| line.as_object().unwrap().keys().collect()).collect();
    assert_eq!(keys[0], keys[1], "the importer reads the columns off the first line");
    let text = |line: usize, key: &str| found[line][key].as_str().unwrap();
    assert_eq!((text(0, "index"), text(0, "description")), ("127", hostile));
    assert_eq!((text(1, "index"), text(1, "description")), ("128", "x"));
    assert_eq!(found.len(), 2);
    for (line, one) in found.iter().enumerate() {
        assert_eq!((text(line, "modelId"), text(line, "layer")), ("tiny-it", "3-mine-res-260"));
        assert_eq!((text(line, "authorId"), text(line, "id").len()), ("c1", 25));
        assert!(one["typeName"].is_null() && one["explanationModelName"].is_null());
    }
    assert_ne!(text(0, "id"), text(1, "id"));
    let notes = "by judge/1; detection: balanced accuracy 0.875 of 8 texts";
    assert_eq!((text(0, "notes"), text(1, "notes")), (notes, "by judge/1"));
    let dashboard = export_features(&pages, ExportFormat::SaeDashboard, &names(), &at("c"));
    assert!(!dashboard.unwrap().join("explanations").exists());
}
