//! What a judge is asked, word by word.

use sae_report::{FeatureTasks, Item};
use serde::Serialize;

const DESCRIBE: &str = include_str!("prompts/describe.txt");
const DETECT: &str = include_str!("prompts/detect.txt");
const FUZZ: &str = include_str!("prompts/fuzz.txt");

/// A message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Message {
    role: &'static str,
    content: String,
}

/// Asks for a description of a feature.
pub(crate) fn describe(tasks: &FeatureTasks) -> Vec<Message> {
    let mut excerpts = Vec::new();
    for (number, example) in tasks.examples.iter().enumerate() {
        let tokens =
            example.tokens.iter().map(|(text, tenths)| format!("{} {tenths}", quoted(text)));
        let tokens = tokens.collect::<Vec<_>>().join(", ");
        let text = quoted(&example.text);
        excerpts.push(format!("Excerpt {}: {text}\nActive on: {tokens}", number + 1));
    }
    chat(filled(DESCRIBE, tasks, 0), excerpts.join("\n\n"))
}

/// Asks in which texts a feature is active.
pub(crate) fn detect(tasks: &FeatureTasks, label: &str, items: &[Item]) -> Vec<Message> {
    chat(filled(DETECT, tasks, items.len()), texts(label, items))
}

/// Asks on the marked tokens of which texts it is active.
pub(crate) fn fuzz(tasks: &FeatureTasks, label: &str, items: &[Item]) -> Vec<Message> {
    chat(filled(FUZZ, tasks, items.len()), texts(label, items))
}

fn chat(system: String, user: String) -> Vec<Message> {
    vec![Message { role: "system", content: system }, Message { role: "user", content: user }]
}

fn filled(prompt: &str, tasks: &FeatureTasks, n: usize) -> String {
    let [before, after] = &tasks.marks;
    let sample: Vec<&str> = (0..n).map(|at| if at % 3 == 1 { "1" } else { "0" }).collect();
    let prompt = prompt.trim_end().replace("{before}", before).replace("{after}", after);
    prompt.replace("{n}", &n.to_string()).replace("{sample}", &format!("[{}]", sample.join(", ")))
}

fn texts(label: &str, items: &[Item]) -> String {
    let mut all = format!("The unit is active on: {label}\n");
    for (number, item) in items.iter().enumerate() {
        all.push_str(&format!("\nText {}: {}", number + 1, quoted(&item.text)));
    }
    all
}

/// A text in which nothing can be taken for its end.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is valid JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_name_marks_and_numbers_and_keep_texts_apart() {
        let item = Item { text: "a\nText 2: \"b".into(), active: true, fifth: None, row: 1 };
        let tasks = FeatureTasks {
            feature: 1,
            checkpoint_hash: String::new(),
            store_hash: String::new(),
            n_active: 1,
            marks: ["⟦".into(), "⟧".into()],
            examples: Vec::new(),
            detection: vec![item.clone(); 2],
            fuzzing: Vec::new(),
        };
        let asked = fuzz(&tasks, "a label", &tasks.detection);
        assert!(
            asked[0].content.contains("between ⟦ and ⟧") && asked[0].content.contains("[0, 1]")
        );
        assert!(!asked[0].content.contains('{'));
        let lines: Vec<&str> = asked[1].content.lines().collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(lines[3], r#"Text 2: "a\nText 2: \"b""#);
        for asked in [describe(&tasks), detect(&tasks, "x", &tasks.detection)] {
            assert!(!asked[0].content.contains('{'), "{asked:?}");
        }
    }
}
