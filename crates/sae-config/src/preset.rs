//! Published settings by name: `preset = "softsae-llm"` in a run.

use toml::{Table, Value};

use crate::{Error, Result};

const PRESETS: [(&str, &str); 5] = [
    ("paper-clip", include_str!("presets/paper-clip.toml")),
    ("paper-llm", include_str!("presets/paper-llm.toml")),
    ("softsae-clip", include_str!("presets/softsae-clip.toml")),
    ("softsae-clip-sweep", include_str!("presets/softsae-clip-sweep.toml")),
    ("softsae-llm", include_str!("presets/softsae-llm.toml")),
];

/// Puts the settings of the preset that `run` names under its own, which win, and takes the key
/// `preset` away. A run without one stays as it is.
///
/// # Errors
/// [`Error::Value`] for a preset that is not known.
pub fn apply_preset(mut run: Table) -> Result<Table> {
    let Some(name) = run.remove("preset") else { return Ok(run) };
    let known = PRESETS.iter().find(|(known, _)| name.as_str() == Some(known));
    let Some((_, text)) = known else {
        let names: Vec<_> = PRESETS.iter().map(|(name, _)| format!("`{name}`")).collect();
        return Err(Error::value("preset", names.join(" or "), name));
    };
    let mut preset: Table = text
        .parse()
        .map_err(|e: toml::de::Error| Error::value("preset", "a preset that parses", e))?;
    merge(&mut preset, run);
    Ok(preset)
}

fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ArchitectureConfig, Parity, RunConfig};

    fn run(text: &str) -> Result<RunConfig> {
        let table = apply_preset(text.parse().unwrap())?;
        Ok(table.try_into::<RunConfig>().unwrap().check()?.settings().clone())
    }

    #[test]
    fn every_preset_is_a_run_once_k_and_the_store_are_set() {
        for (name, _) in PRESETS {
            let text = format!("preset = \"{name}\"\ndata.store = \"s\"\narchitecture.k = 100");
            let config = run(&text).unwrap();
            let ArchitectureConfig::Soft(soft) = &config.architecture else { panic!("{name}") };
            let parity = if name.starts_with("paper") { Parity::None } else { Parity::Official };
            assert_eq!((soft.k, config.training.parity), (100, parity), "{name}");
        }
    }

    #[test]
    fn the_run_wins_over_the_preset() {
        let text = "preset = \"softsae-llm\"\ndata.store = \"s\"\narchitecture.k = 20\n\
                    architecture.auxk.weight = 0.5\ntraining.steps = 500000";
        let config = run(text).unwrap();
        let ArchitectureConfig::Soft(soft) = &config.architecture else { panic!() };
        assert_eq!((soft.auxk.weight, soft.auxk.dead_after_rows), (0.5, 10_000_000));
        assert_eq!((soft.k_max, config.training.steps), (Some(40.0), 500_000));
        assert_eq!(config.training.batch_size, 2048);
    }

    /// The paper's presets are the published code's without its parity, and with what parity decides
    /// of the method itself written out.
    #[test]
    fn the_presets_of_the_paper_are_those_of_its_code_without_its_defects() {
        for (paper, code, k_max) in
            [("paper-clip", "softsae-clip-sweep", 1024.0), ("paper-llm", "softsae-llm", 200.0)]
        {
            let settings = |name: &str, more: &str| {
                let text = format!(
                    "preset = \"{name}\"\ndata.store = \"s\"\narchitecture.k = 100\n\
                     architecture.k_max = {k_max:?}\n{more}"
                );
                toml::Table::try_from(run(&text).unwrap()).unwrap()
            };
            let (mut paper, mut code) = (settings(paper, ""), settings(code, ""));
            for settings in [&mut paper, &mut code] {
                settings["training"].as_table_mut().unwrap().remove("parity").unwrap();
            }
            // In the first step the code of the second sees k itself.
            let k_first = |settings: &mut Table| {
                settings["architecture"].as_table_mut().unwrap().remove("k_first")
            };
            let firsts = (k_first(&mut paper), k_first(&mut code));
            assert!(firsts.0 == firsts.1 || firsts.0.is_none(), "{firsts:?}");
            assert_eq!(paper, code);
        }
    }

    #[test]
    fn an_unknown_preset_is_named() {
        let message = run("preset = \"softsae\"").unwrap_err().to_string();
        assert_eq!(
            message,
            "`preset`: expected `paper-clip` or `paper-llm` or `softsae-clip` or \
             `softsae-clip-sweep` or `softsae-llm`, got \"softsae\""
        );
    }
}
