//! What a run trains on: the source that its caller opens, and the stores that a configuration names.

use std::sync::Arc;

use sae_config::{CheckedRun, DataConfig, WeightedStore};
use sae_data::{
    ActivationStore, BatchSource, Concatenation, Loader, LoaderConfig, Port, Ports, RowMeta,
    Selection, open_store, read_row_list, zip,
};

use crate::Result;

/// The store of a run, and that of its target.
pub type Stores = Ports<Arc<dyn ActivationStore>>;

/// What a filter of the configuration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filtered {
    /// Its key, or keys, in the configuration.
    pub key: &'static str,
    /// Rows before it.
    pub before: u64,
    /// Rows that it kept.
    pub kept: u64,
}

/// The source of a run's batches at its start, and what each filter of the data kept.
#[derive(Debug)]
pub struct Opened {
    /// The source.
    pub source: Box<dyn BatchSource>,
    /// What each filter kept.
    pub filtered: Vec<Filtered>,
    /// The rows of an epoch, where they are of stores.
    pub stores: Option<Stores>,
}

/// Opens what a run trains on; [`open_stores`] is one.
pub type Open<'a> = dyn Fn(&CheckedRun) -> Result<Opened> + 'a;

/// Opens the stores that a run names, shuffled by its seed.
///
/// # Errors
/// A store or a list of rows that cannot be read or does not fit; a filter that leaves nothing; live
/// data, which are no store.
pub fn open_stores(config: &CheckedRun) -> Result<Opened> {
    if let Some(live) = &config.data.live {
        let expected = "`data.store` or `data.stores`: a host is opened by who starts the run";
        return Err(sae_config::Error::value("data.host", expected, live.host.display()).into());
    }
    let (stores, filtered) = open_data(&config.data)?;
    let training = &config.training;
    let loader = LoaderConfig {
        batch_size: training.batch_size,
        seed: training.seed,
        ..LoaderConfig::default()
    };
    let source = Box::new(Loader::open(stores.clone(), loader)?);
    Ok(Opened { source, filtered, stores: Some(stores) })
}

/// Opens the stores of a configuration and leaves out the rows that it does not want, with their
/// targets; tells what each filter kept.
///
/// # Errors
/// A store or a list of rows that cannot be read or does not fit; a filter that leaves nothing.
fn open_data(config: &DataConfig) -> Result<(Stores, Vec<Filtered>)> {
    let store = if config.stores.is_empty() {
        open_store(&config.store)?
    } else {
        let open = |part: &WeightedStore| Ok((open_store(&part.path)?, part.weight));
        let parts = config.stores.iter().map(open).collect::<Result<_>>()?;
        Arc::new(Concatenation::new(parts)?)
    };
    if let Some(hook) = &config.hook {
        check_hook(&*store, hook)?;
    }
    let mut stores = match &config.target {
        Some(target) => zip(store, open_store(target)?).map_err(of_target)?,
        None => store.into(),
    };
    let mut filtered = Vec::new();
    let mut apply = |stores: &mut Stores, key, selection: Selection| {
        let before = stores.input.n_rows();
        filtered.push(Filtered { key, before, kept: selection.n_rows() });
        if let Some(target) = &mut stores.target {
            *target = Arc::new(selection.of_same_rows(Arc::clone(target))?);
        }
        stores.input = Arc::new(selection);
        Ok::<_, crate::Error>(())
    };
    if let Some(path) = &config.rows {
        let rows = read_row_list(path, stores.input.n_rows())
            .map_err(|e| sae_config::Error::Setting { message: format!("data.rows: {e}") })?;
        let selection = Selection::by_index(Arc::clone(&stores.input), rows)?;
        apply(&mut stores, "rows", selection)?;
    }
    if config.min_position.is_some() || config.max_position.is_some() {
        let wanted = config.min_position.unwrap_or(0)..=config.max_position.unwrap_or(u32::MAX);
        let keep = |meta: &RowMeta| wanted.contains(&meta.position);
        let selection = Selection::by_meta(Arc::clone(&stores.input), keep)?;
        apply(&mut stores, "min_position, max_position", selection)?;
    }
    if config.max_norm_ratio > 0.0 {
        let selection = Selection::by_norm(Arc::clone(&stores.input), config.max_norm_ratio)?;
        apply(&mut stores, "max_norm_ratio", selection)?;
    }
    Ok((stores, filtered))
}

/// Refuses a store that is known to be of another hook point.
fn check_hook(store: &dyn ActivationStore, hook: &str) -> Result<()> {
    let Port { place, provenances, .. } = Port::of_store(store);
    let other = |of: &&sae_data::Provenance| !of.hook_point.is_empty() && of.hook_point != hook;
    match provenances.iter().find(other) {
        None => Ok(()),
        Some(of) => {
            let expected = format!("`{}`, that of {}", of.hook_point, place.display());
            Err(sae_config::Error::value("data.hook", expected, format!("`{hook}`")).into())
        }
    }
}

/// What says that a target does not belong to its input names the key.
fn of_target(error: sae_data::Error) -> crate::Error {
    match error {
        sae_data::Error::Format { .. } | sae_data::Error::NoMetadata { .. } => {
            sae_config::Error::Setting { message: format!("data.target: {error}") }.into()
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sae_data::{Dtype, StoreSpec, StoreWriter};

    use super::*;

    /// Rows `[from, from]` and so on; positions 0 to 4 again and again.
    fn write(path: &Path, from: u32, n_rows: u32) {
        let mut writer = StoreWriter::create(path, StoreSpec::new(2, Dtype::F32)).unwrap();
        for i in 0..n_rows {
            let meta = RowMeta { token_id: 0, document: i / 5, position: i % 5 };
            writer.append(&[(from + i) as f32; 2], &[meta]).unwrap();
        }
        writer.finish().unwrap();
    }

    fn rows(text: &str) -> std::result::Result<Vec<u32>, String> {
        let (stores, _) = open_data(&toml::from_str(text).unwrap()).map_err(|e| e.to_string())?;
        let store = stores.output();
        let mut values = vec![0.0; 2 * store.n_rows() as usize];
        store.read_rows(0, &mut values).unwrap();
        Ok(values.chunks(2).map(|row| row[0] as u32).collect())
    }

    #[test]
    fn live_data_are_refused_by_their_key() {
        let text = "data = { host = 'h.gguf', hook = 'embed', corpus = { path = 'c' } }\n\
                    sae.n_features = 8\narchitecture = { name = 'topk', k = 2 }\n\
                    training = { steps = 1, batch_size = 4 }";
        let config: sae_config::RunConfig = toml::from_str(text).unwrap();
        let error = open_stores(&config.check().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("`data.host`: expected `data.store` or"), "{error}");
    }

    #[test]
    fn stores_are_joined_and_filtered_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, list) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("l.txt"));
        write(&a, 1, 10);
        write(&b, 100, 6);
        std::fs::write(&list, "1\n\n 3\n12\n9\n").unwrap();
        let both = format!("stores = [{{ path = {a:?} }}, {{ path = {b:?}, weight = 0.5 }}]\n");
        let joined: Vec<u32> = (1..=10).chain([100, 102, 104]).collect();
        assert_eq!(rows(&both).unwrap(), joined);
        assert_eq!(rows(&format!("{both}rows = {list:?}")).unwrap(), [2, 4, 104, 10]);
        let filtered = format!("{both}rows = {list:?}\nmin_position = 2\nmax_position = 4");
        assert_eq!(rows(&filtered).unwrap(), [4, 104, 10], "positions 1, 3, 4, 4");
        // The median of what is left is 10.
        assert_eq!(rows(&format!("{filtered}\nmax_norm_ratio = 2")).unwrap(), [4, 10]);
        let all = toml::from_str(&format!("{filtered}\nmax_norm_ratio = 2")).unwrap();
        let counts: Vec<_> =
            open_data(&all).unwrap().1.iter().map(|f| (f.key, f.before, f.kept)).collect();
        let positions = ("min_position, max_position", 4, 3);
        assert_eq!(counts, [("rows", 13, 4), positions, ("max_norm_ratio", 3, 2)]);
        let first = format!("store = {a:?}\nmax_position = 0");
        assert_eq!(rows(&first).unwrap(), [1, 6]);
    }

    #[test]
    fn a_store_of_another_hook_point_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, hook) in [("a", "embed"), ("unknown", "")] {
            let mut spec = StoreSpec::new(2, Dtype::F32);
            spec.provenance.hook_point = hook.into();
            let mut writer = StoreWriter::create(&dir.path().join(name), spec).unwrap();
            writer.append(&[1.0; 2], &[RowMeta::default()]).unwrap();
            writer.finish().unwrap();
        }
        let data = |name: &str, hook: &str| {
            rows(&format!("store = {:?}\nhook = '{hook}'", dir.path().join(name)))
        };
        assert_eq!(data("a", "embed").unwrap(), [1]);
        assert_eq!(data("unknown", "mlp_in.2").unwrap(), [1]);
        let message = data("a", "mlp_in.2").unwrap_err();
        assert!(message.starts_with("`data.hook`: expected `embed`, that of "), "{message}");
    }

    #[test]
    fn lists_of_rows_of_any_editor_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (a, list) = (dir.path().join("a"), dir.path().join("l.txt"));
        write(&a, 1, 10);
        for (text, expected) in
            [("\u{feff}9\r\n3\r\n\r\n3", vec![10, 4, 4]), ("8\n7\n6\n", vec![9, 8, 7])]
        {
            std::fs::write(&list, text).unwrap();
            assert_eq!(rows(&format!("store = {a:?}\nrows = {list:?}")).unwrap(), expected);
        }
        for text in ["1.0", "-1", "1 2", "0x1", "1\n\u{feff}2", "99999999999999999999"] {
            std::fs::write(&list, text).unwrap();
            let message = rows(&format!("store = {a:?}\nrows = {list:?}")).unwrap_err();
            assert!(message.contains("l.txt: line"), "{message}");
        }
    }

    #[test]
    fn filters_take_the_rows_of_the_target_along() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, list) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("l.txt"));
        write(&a, 1, 10);
        write(&b, 100, 20);
        let both = format!("store = {a:?}\ntarget = {b:?}\n");
        assert_eq!(rows(&both).unwrap(), (100..110).collect::<Vec<_>>());
        std::fs::write(&list, "9\n1\n3\n1\n6\n").unwrap();
        let more = format!("{both}rows = {list:?}\nmin_position = 1\n");
        assert_eq!(rows(&more).unwrap(), [109, 101, 103, 101, 106]);
        // The norms are those of the input: 10, 2, 4, 2, 7.
        assert_eq!(rows(&format!("{more}max_norm_ratio = 1.8")).unwrap(), [101, 103, 101, 106]);
        let turned = format!("store = {b:?}\ntarget = {a:?}");
        let message = rows(&turned).unwrap_err();
        let expected = "none for row 10, document 2, position 0";
        assert!(message.starts_with("data.target: ") && message.contains(expected), "{message}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (a, list) = (dir.path().join("a"), dir.path().join("l.txt"));
        write(&a, 1, 10);
        let with_list = format!("store = {a:?}\nrows = {list:?}");
        assert!(rows(&with_list).unwrap_err().contains("l.txt"));
        std::fs::write(&list, "\n").unwrap();
        let message = rows(&with_list).unwrap_err();
        assert!(message.starts_with("data.rows: ") && message.contains("at least one row number"));
        std::fs::write(&list, "1\nx\n").unwrap();
        let message = rows(&with_list).unwrap_err();
        assert!(message.contains("l.txt: line 2") && message.contains("a row number"), "{message}");
        std::fs::write(&list, "1\n10\n").unwrap();
        let message = rows(&with_list).unwrap_err();
        assert!(message.contains("l.txt: line 2") && message.contains("at most 10 rows"));
        let none = rows(&format!("store = {a:?}\nmin_position = 9")).unwrap_err();
        assert!(none.contains("at least one row"), "{none}");
        let plain = dir.path().join("x_2_2.npy");
        std::fs::write(&plain, [0; 16]).unwrap();
        let message = rows(&format!("store = {plain:?}\nmin_position = 1")).unwrap_err();
        assert!(message.contains("token, document and position"), "{message}");
    }
}
