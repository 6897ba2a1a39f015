//! The rule of reads: code of a training step reads a device through `tch_autograd::read` alone,
//! whose counts the tests of sae-train hold it to.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::files::walk;

/// Code of a step on any device.
const ON_A_DEVICE: [&str; 5] = [
    "crates/sae-train/src/",
    "crates/sae-models/src/architectures",
    "crates/sae-models/src/codes.rs",
    "crates/sae-models/src/parameters.rs",
    "crates/sae-models/src/select",
];

/// Code of the CPU, and of tests.
const ELSEWHERE: [&str; 2] =
    ["crates/sae-train/src/fast/", "crates/sae-train/src/rules/gradients.rs"];

/// Methods of tensors that wait for the device.
const READS: [&str; 3] = [".double_value(", ".int64_value(", ".nonzero("];

/// Every fault of the files of the workspace at `root`.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for folder in ["crates/sae-train/src", "crates/sae-models/src"] {
        for path in walk(&root.join(folder))? {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let starts = |place: &&str| name.starts_with(place);
            if ON_A_DEVICE.iter().any(starts) && !ELSEWHERE.iter().any(starts) {
                let text = std::fs::read_to_string(&path).with_context(|| name.clone())?;
                faults.extend(check_text(&name, &text));
            }
        }
    }
    Ok(faults)
}

fn check_text(name: &str, text: &str) -> Vec<String> {
    let code = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    let found = code.filter_map(|(index, line)| {
        let read = READS.iter().find(|read| line.contains(**read))?;
        let method = read.trim_matches(|c| c == '.' || c == '(');
        Some(format!(
            "{name}:{}: expected a function of `tch_autograd::read`, got {method}",
            index + 1
        ))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_past_the_count_are_faults() {
        for read in READS {
            let line = format!("let k = x.max(){read}&[]);\n");
            assert_eq!(check_text("a.rs", &line).len(), 1, "{line}");
            assert!(check_text("a.rs", &format!("#[cfg(test)]\n{line}")).is_empty());
        }
        assert!(check_text("a.rs", "let k = read::number(&x.max());\n").is_empty());
    }
}
