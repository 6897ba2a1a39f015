//! What can be checked of a sweep without expanding its runs.

use super::{FeaturesConfig, PlantedStoresConfig, SlurmConfig, SweepConfig};
use crate::{Error, Result};

impl SweepConfig {
    /// Checks what can be checked without expanding the runs.
    pub(super) fn check(&self) -> Result<()> {
        self.slurm.as_ref().map_or(Ok(()), SlurmConfig::check)?;
        self.halving.as_ref().map_or(Ok(()), |halving| halving.check(self))?;
        self.features.as_ref().map_or(Ok(()), FeaturesConfig::check)?;
        if self.is_live() {
            return self.check_live();
        }
        if self.held_out.is_some() {
            let expected = "nothing without a live host (`base.data.host`)";
            return Err(Error::value("held_out", expected, "a table"));
        }
        let source = match (&self.stores, &self.planted) {
            (None, None) => return self.check_harvest(),
            (Some(_), None) => "stores",
            (_, Some(_)) => "planted",
        };
        for (key, present) in [
            ("host", self.host.is_some()),
            ("harvest", self.harvest.is_some()),
            ("texts", self.texts.is_some()),
            ("images", self.images.is_some()),
            ("stores", self.stores.is_some() && source != "stores"),
        ] {
            if present {
                let got = format!("`{key}` beside `{source}`");
                return Err(Error::value(key, format!("nothing where `{source}` is given"), got));
            }
        }
        self.planted.as_ref().map_or(Ok(()), PlantedStoresConfig::check)
    }

    fn check_harvest(&self) -> Result<()> {
        let missing = |key: &str| {
            Error::value(
                key,
                "`host`, `harvest` and `texts` or `images`, or `stores`, `planted` or \
                 `base.data.host` alone",
                "nothing",
            )
        };
        let host = self.host.as_ref().ok_or_else(|| missing("host"))?;
        let harvest = self.harvest.as_ref().ok_or_else(|| missing("harvest"))?;
        if host.name.is_some() == host.path.is_some() {
            let got = if host.name.is_some() { "both" } else { "neither" };
            return Err(Error::value("host", "one of `name` and `path`", got));
        }
        if let Some(images) = &self.images {
            if self.texts.is_some() {
                let expected = "nothing where `images` is given";
                return Err(Error::value("texts", expected, "`texts` beside `images`"));
            }
            if self.evaluation.max_tokens.is_some() {
                let expected = "nothing where `images` is given";
                return Err(Error::value("evaluation.max_tokens", expected, "a value"));
            }
            return images.check(harvest);
        }
        let texts = self.texts.as_ref().ok_or_else(|| missing("texts"))?;
        let context_length = harvest.context_length.unwrap_or(128);
        if harvest.skip_positions >= context_length {
            let expected = format!("less than context_length = {context_length}");
            return Err(Error::value("harvest.skip_positions", expected, harvest.skip_positions));
        }
        for (key, files) in [("texts.train", &texts.train), ("texts.held_out", &texts.held_out)] {
            if files.is_empty() {
                return Err(Error::value(key, "at least one file", "an empty list"));
            }
        }
        if let Some(both) = texts.train.iter().find(|t| texts.held_out.contains(t)) {
            let expected = "files that are not trained on";
            return Err(Error::value("texts.held_out", expected, both.display()));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::super::{ImagesConfig, StoresConfig};
    use super::*;

    pub(in crate::sweep) const SWEEP: &str = r#"
        host.name = "smollm2-135m"
        harvest.hook = "resid_post.15"
        texts.train = ["a.txt"]
        texts.held_out = ["b.txt"]
        [base]
    "#;

    fn error(change: impl FnOnce(&mut SweepConfig)) -> String {
        let mut sweep: SweepConfig = toml::from_str(SWEEP).unwrap();
        change(&mut sweep);
        sweep.check().unwrap_err().to_string()
    }

    #[test]
    fn a_source_of_activations_is_required_once() {
        let stores = StoresConfig { train: "a".into(), held_out: "b".into() };
        assert!(error(|s| s.stores = Some(stores.clone())).starts_with("`host`: expected nothing"));
        assert!(error(|s| s.host = None).starts_with("`host`: expected"));
        assert!(error(|s| s.harvest = None).starts_with("`harvest`: expected"));
        assert!(error(|s| s.texts = None).starts_with("`texts`: expected"));
        let both = error(|s| s.host.as_mut().unwrap().path = Some("m".into()));
        assert_eq!(both, "`host`: expected one of `name` and `path`, got both");
        let neither = error(|s| s.host.as_mut().unwrap().name = None);
        assert_eq!(neither, "`host`: expected one of `name` and `path`, got neither");
    }

    #[test]
    fn planted_stores_are_checked() {
        let planted = |text: &str| {
            let planted: PlantedStoresConfig = toml::from_str(text).unwrap();
            error(|s| {
                *s = SweepConfig { planted: Some(planted), ..toml::from_str("[base]").unwrap() }
            })
        };
        let rows = "train_rows = 9\nheld_out_rows = ";
        assert_eq!(
            planted(&format!("{rows}0")),
            "`planted.held_out_rows`: expected at least 1, got 0"
        );
        let numbered = planted(&format!("{rows}4\ndata.first_row = 3"));
        assert!(numbered.starts_with("`planted.data.first_row`: expected nothing"), "{numbered}");
        let both = error(|s| s.planted = toml::from_str(&format!("{rows}4")).ok());
        assert_eq!(
            both,
            "`host`: expected nothing where `planted` is given, got `host` beside `planted`"
        );
    }

    #[test]
    fn harvest_and_texts_are_checked() {
        let skip = error(|s| s.harvest.as_mut().unwrap().skip_positions = 128);
        assert_eq!(
            skip,
            "`harvest.skip_positions`: expected less than context_length = 128, got 128"
        );
        let none = error(|s| s.texts.as_mut().unwrap().held_out.clear());
        assert_eq!(none, "`texts.held_out`: expected at least one file, got an empty list");
        let leak = error(|s| s.texts.as_mut().unwrap().held_out.push("a.txt".into()));
        assert_eq!(leak, "`texts.held_out`: expected files that are not trained on, got a.txt");
    }

    #[test]
    fn images_are_named_or_two_folders_and_read_as_no_text() {
        let with = |text: &str| {
            let images: ImagesConfig = toml::from_str(text).unwrap();
            move |sweep: &mut SweepConfig| {
                sweep.texts = None;
                sweep.images = Some(images);
            }
        };
        let mut sweep: SweepConfig = toml::from_str(SWEEP).unwrap();
        for text in ["name = 'stamps'", "train = 'a'\nheld_out = 'b'"] {
            with(text)(&mut sweep);
            sweep.check().unwrap();
        }
        let expected = "`images`: expected `name`, or `train` and `held_out`, got ";
        for (text, got) in [
            ("", "neither"),
            ("train = 'a'", "`train`"),
            ("name = 'x'\nheld_out = 'b'", "`name` and `held_out`"),
        ] {
            assert_eq!(error(with(text)), format!("{expected}{got}"));
        }
        let leak = error(with("train = 'a'\nheld_out = 'a'"));
        assert_eq!(leak, "`images.held_out`: expected a folder that is not trained on, got a");
        let both = error(|s| s.images = toml::from_str("name = 'x'").ok());
        assert!(both.starts_with("`texts`: expected nothing where `images` is given"), "{both}");
        let with_length = error(|s| {
            with("name = 'x'")(s);
            s.harvest.as_mut().unwrap().context_length = Some(9);
        });
        assert!(with_length.starts_with("`harvest.context_length`: expected nothing"));
        let with_tokens = error(|s| {
            with("name = 'x'")(s);
            s.evaluation.max_tokens = Some(9);
        });
        assert!(with_tokens.starts_with("`evaluation.max_tokens`: expected nothing"));
        let folder = Path::new("sweeps");
        let mut sweep: SweepConfig = toml::from_str(SWEEP).unwrap();
        with("train = 'a'\nheld_out = 'b'")(&mut sweep);
        sweep.root_paths(folder);
        assert_eq!(sweep.images.unwrap().held_out, Some(folder.join("b")));
    }
}
