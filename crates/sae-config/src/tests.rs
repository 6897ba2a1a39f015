//! What several tests need, and the runs of before [`crate::CheckedRun`].

use std::path::Path;

use crate::{ArchitectureConfig, CheckedRun, RunConfig, run_id};

/// A run; each line is `key = value`.
pub(crate) fn run(lines: &str) -> CheckedRun {
    let mut table: toml::Table = "data.store = 's'\nsae.n_features = 64\n\
                                  architecture = { name = 'topk', k = 4 }\n\
                                  training = { steps = 100, batch_size = 8 }"
        .parse()
        .unwrap();
    for (key, value) in lines.parse::<toml::Table>().unwrap() {
        if key == "architecture" {
            table.remove(&key);
        }
        crate::sweep::set_key(&mut table, &key, &value).unwrap();
    }
    table.try_into::<RunConfig>().unwrap().check().unwrap()
}

/// Every architecture, with the settings that it needs.
pub(crate) fn architectures() -> Vec<ArchitectureConfig> {
    let least = |name: &str| match name {
        "jumprelu" => "target_l0 = 4.0",
        "gated" | "standard" | "standard_april" => "l1_penalty = 0.1",
        "p_anneal" => "initial_sparsity_penalty = 0.1\nanneal_start = 4",
        // Beside a window, α may not be annealed.
        "soft" => "k = 2\nk_gradient_window = 0",
        _ => "k = 1",
    };
    let of = |name| toml::from_str(&format!("name = '{name}'\n{}", least(name))).unwrap();
    ArchitectureConfig::NAMES.map(of).into()
}

/// The files of version 0.1.0 (revision 73dada4): as written, as it filled them in, and its ids.
#[test]
fn run_files_and_ids_are_those_of_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/runs");
    let ids: toml::Table = crate::read_toml(&folder.join("ids.toml")).unwrap();
    let mut missing = ArchitectureConfig::NAMES.to_vec();
    for (name, id) in &ids {
        let run = RunConfig::read(&folder.join(format!("{name}.toml"))).unwrap();
        let mut settings = run.check().unwrap().settings().clone();
        // Paths were written as they stood in the files.
        let unrooted = |path: &mut std::path::PathBuf| {
            *path = path.strip_prefix(&folder).unwrap_or(path).to_owned();
        };
        let stores = settings.data.stores.iter_mut().map(|store| &mut store.path);
        let others = settings.data.rows.iter_mut().chain(&mut settings.training.init);
        stores.chain(others).chain([&mut settings.data.store]).for_each(unrooted);
        let checked = settings.check().unwrap();
        missing.retain(|name| *name != checked.architecture());
        assert_eq!(run_id(&checked, "data"), id.as_str().unwrap(), "{name}");

        let filled = std::fs::read_to_string(folder.join(format!("{name}.resolved.toml"))).unwrap();
        let written = toml::to_string_pretty(checked.settings()).unwrap();
        assert_eq!(written, filled, "{name}");
        let again: RunConfig = toml::from_str(&filled).unwrap();
        assert_eq!(again.check().unwrap(), checked, "{name}");
    }
    assert!(missing.is_empty(), "{missing:?}");
}
