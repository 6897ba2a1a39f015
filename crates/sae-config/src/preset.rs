//! Published settings by name: `preset = "softsae-llm"` in a run.

use toml::{Table, Value};

use crate::{Error, Result};

const PRESETS: [(&str, &str); 3] = [
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
            assert_eq!((soft.k, config.training.parity), (100, Parity::Official), "{name}");
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

    #[test]
    fn an_unknown_preset_is_named() {
        let message = run("preset = \"softsae\"").unwrap_err().to_string();
        assert_eq!(
            message,
            "`preset`: expected `softsae-clip` or `softsae-clip-sweep` or `softsae-llm`, got \
             \"softsae\""
        );
    }
}
