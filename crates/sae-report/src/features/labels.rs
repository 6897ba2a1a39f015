//! What judges say of features, as the page reads it.

use std::collections::BTreeMap;

use sae_config::{Confusion, FeatureLabels, Judged};
use serde::{Deserialize, Serialize};

use super::record::{Answers, answers};

/// Which judge, the label, detection, fuzzing.
type Told = (usize, Option<String>, Option<Answers>, Option<Answers>);

/// `labels.js`: the judges, and of each feature that one has seen what it said.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    judges: Vec<String>,
    features: BTreeMap<u32, Told>,
}

impl File {
    pub(super) fn new(labels: &FeatureLabels) -> Self {
        let mut judges: Vec<String> = labels.values().map(|one| one.model.clone()).collect();
        judges.sort_unstable();
        judges.dedup();
        let number = |one: &Judged| judges.partition_point(|name| *name < one.model);
        let told = |of: &Option<Confusion>| of.as_ref().map(answers);
        let one = |(feature, one): (&u32, &Judged)| {
            (*feature, (number(one), one.label.clone(), told(&one.detection), told(&one.fuzzing)))
        };
        let features = labels.iter().map(one).collect();
        Self { judges, features }
    }

    /// None where a feature or a judge is named that is not there.
    pub(super) fn expand(self, n_features: usize) -> Option<FeatureLabels> {
        let Self { judges, features } = self;
        let told = |of: Option<Answers>| of.map(super::record::confusion);
        let one = |(feature, judged): (u32, Told)| {
            let (judge, label, detection, fuzzing) = judged;
            let model = judges.get(judge)?.clone();
            let is_there = (feature as usize) < n_features;
            let judged =
                Judged { model, label, detection: told(detection), fuzzing: told(fuzzing) };
            is_there.then_some((feature, judged))
        };
        features.into_iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_back_as_they_were() {
        let judged = |model: &str, label: Option<&str>| Judged {
            model: model.into(),
            label: label.map(str::to_owned),
            detection: label.map(|_| Confusion { true_positives: 3, ..Confusion::default() }),
            fuzzing: None,
        };
        let labels: FeatureLabels = [
            (3, judged("b", Some("words </script>"))),
            (7, judged("a", None)),
            (9, judged("b", Some("x"))),
        ]
        .into();
        let text = serde_json::to_string(&File::new(&labels)).unwrap();
        let read = || serde_json::from_str::<File>(&text).unwrap();
        assert_eq!(read().judges, ["a", "b"]);
        assert_eq!(read().expand(10), Some(labels));
        assert_eq!(read().expand(9), None);
        assert_eq!(File { judges: vec![], ..read() }.expand(10), None);
    }
}
