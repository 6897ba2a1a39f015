//! The table of the keys of a run file in the documentation.

use sae_config::{ArchitectureConfig, RunConfig};

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/run-file.md");
    std::fs::read_to_string(path).unwrap()
}

/// The keys that a section knows, as its refusal of an unknown one lists them.
fn keys(section: &str) -> Vec<String> {
    let section = section.replace("KEY", "zz = 1");
    let message = toml::from_str::<RunConfig>(&section).unwrap_err().message().to_owned();
    let (_, list) = message.split_once("expected ").unwrap_or_else(|| panic!("{message}"));
    let keys: Vec<String> = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(!keys.is_empty(), "{message}");
    keys
}

/// The first cells of the table under a heading.
fn documented(page: &str, heading: &str) -> String {
    let (_, rest) = page.split_once(&format!("## `{heading}`")).expect("a heading");
    let table = rest.split("\n## ").next().unwrap_or(rest);
    let rows = table.lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').nth(1).unwrap_or("")).collect()
}

#[test]
fn every_key_is_in_the_table() {
    let page = page();
    for heading in ["[data]", "[sae]", "[training]"] {
        let text = format!("{heading}\nKEY\n");
        let others = ["[data]\nstore='a'\n", "[sae]\nn_features=1\n"];
        let before = others.iter().filter(|o| !o.starts_with(heading));
        let text = before.copied().chain([text.as_str()]).collect::<String>();
        let table = documented(&page, heading);
        for key in keys(&text) {
            assert!(table.contains(&format!("`{key}`")), "{heading} {key}");
        }
    }
    let table = documented(&page, "[architecture]");
    for name in ArchitectureConfig::NAMES {
        for key in keys(&format!("[architecture]\nname = '{name}'\nKEY\n")) {
            assert!(table.contains(&format!("`{key}`")), "{name} {key}");
        }
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}
