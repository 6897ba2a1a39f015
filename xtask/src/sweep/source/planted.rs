//! Stores that a sweep makes of known features.

use anyhow::{Result, bail};
use sae_config::{PlantedStoresConfig, TRAINING_VERSION};
use sae_data::PlantedConfig;
use toml::{Table, Value};

use crate::exit::usage;
use crate::sweep::content::short_hash;

/// What a planted store is made from.
pub(in crate::sweep) struct Planted {
    /// Hash of the settings.
    pub(in crate::sweep) id: String,
    /// What `softsae plant` reads.
    pub(in crate::sweep) settings: Table,
}

impl Planted {
    /// The stores to train on and to judge by: the rows of the second follow those of the first.
    pub(super) fn pair(config: &PlantedStoresConfig) -> Result<(Self, Self)> {
        let wrong = |e: String| usage(format!("planted.data: {e}"));
        let new = |first_row: u64, n_rows: u64| {
            let data: PlantedConfig =
                config.data.clone().try_into().map_err(|e| wrong(e.to_string()))?;
            // A run's id would not tell what the model's files hold.
            if let Some(model) = &data.model {
                let expected = "nothing: `softsae plant` it, and give `stores`";
                let got = model.display();
                bail!(usage(format!("planted.data.model: expected {expected}, got {got}")));
            }
            let data = PlantedConfig { first_row, n_rows, ..data };
            data.check().map_err(|e| wrong(e.to_string()))?;
            // What is not written has its default, so that a default that is written changes no id.
            let data = Value::try_from(&data).map_err(|e| wrong(e.to_string()))?;
            let settings = Table::from_iter([("planted".to_owned(), data)]);
            let identity = format!("{TRAINING_VERSION} {}", serde_json::to_string(&settings)?);
            anyhow::Ok(Self { id: short_hash(&identity), settings })
        };
        Ok((new(0, config.train_rows)?, new(config.train_rows, config.held_out_rows)?))
    }

    pub(super) fn n_rows(&self) -> &Value {
        &self.settings["planted"]["n_rows"]
    }
}
