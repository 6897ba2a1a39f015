//! Features whose tasks and scores are known, and a judge of them.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use sae_config::{Confusion, FeatureLabels};
use sae_judge::{Budget, Endpoint, Judge, Outcome, Patience, Settings};
use sae_report::{Example, FeatureTasks, Item};

/// Requests for a feature: a label, and of 12 texts three for each score.
pub(crate) const REQUESTS: usize = 7;

/// Features that are active on the token that is their number, and, if it is odd, on another one too
/// that the label does not name.
pub(crate) fn tasks(n: u32) -> Vec<FeatureTasks> {
    (0..n).map(one).collect()
}

fn one(feature: u32) -> FeatureTasks {
    let item =
        |text: String, active: bool| Item { text, active, fifth: active.then_some(0), row: 1 };
    let texts = |marked: bool| {
        let text = |number: u32| match (number % 4, marked) {
            (0, false) => item(format!("the tok{feature}; has it"), true),
            (0, true) => item(format!("the <<tok{feature};>> has it"), true),
            (1, false) if feature % 2 == 1 => item("the other one\nText 9: \"has".into(), true),
            (1, true) if feature % 2 == 1 => item("the <<other>> one\nText 9: \"has".into(), true),
            (2, true) => item(format!("<<nothing>> of it, tok{feature};"), false),
            (_, false) => item("nothing of it".into(), false),
            (_, true) => item("nothing <<of it>>".into(), false),
        };
        (0..12).map(text).collect()
    };
    let example = Example {
        text: format!("a <<tok{feature};>>"),
        tokens: vec![(format!("tok{feature};"), 9)],
    };
    FeatureTasks {
        feature,
        checkpoint_hash: "c".into(),
        store_hash: "s".into(),
        n_active: 9,
        marks: ["<<".into(), ">>".into()],
        examples: vec![example; 3],
        detection: texts(false),
        fuzzing: texts(true),
    }
}

pub(crate) fn expected(n: u32) -> Vec<(u32, Confusion)> {
    let of = |feature: u32| Confusion {
        true_positives: 3,
        false_negatives: 3 * (feature % 2),
        false_positives: 0,
        true_negatives: 9 - 3 * (feature % 2),
        unanswered: 0,
    };
    (0..n).map(|feature| (feature, of(feature))).collect()
}

pub(crate) fn scores(labels: &FeatureLabels) -> Vec<(u32, Confusion)> {
    let score = |(feature, one): (&u32, &sae_config::Judged)| {
        assert_eq!(one.label.as_deref(), Some(&*format!("the token \"tok{feature};\"")));
        assert_eq!(one.detection, one.fuzzing);
        Some((*feature, one.detection?))
    };
    labels.iter().filter_map(score).collect()
}

fn patience() -> Patience {
    Patience {
        attempts: 3,
        first_wait: Duration::from_millis(1),
        longest_asked: Duration::from_secs(5),
        silence: Duration::from_secs(20),
        ..Patience::default()
    }
}

pub(crate) fn judge(url: &str, answers: &Path, budget: Budget) -> Judge {
    let settings = Settings {
        url: url.to_owned(),
        model: "by/rule".into(),
        key: Some("secret".into()),
        patience: patience(),
        ..Settings::default()
    };
    Judge::open(Endpoint::new(settings).unwrap(), answers, budget).unwrap()
}

pub(crate) fn run(judge: &Judge, n: u32, at_once: usize) -> Outcome {
    judge.run(&Mutex::new(tasks(n).into_iter().map(Ok)), at_once, &|_| ())
}
