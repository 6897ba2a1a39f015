//! The chat templates of a host, as its files have them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Templates by their names, and the tokens that they may write.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChatSource {
    /// The file that they are in.
    pub(crate) path: PathBuf,
    /// The one that is meant where none is named is `default`.
    pub(crate) templates: BTreeMap<String, String>,
    /// `bos_token` and the like.
    pub(crate) tokens: BTreeMap<String, String>,
}

impl ChatSource {
    /// The templates of a folder: `chat_template` of `tokenizer_config.json`, and files, which go
    /// before it.
    ///
    /// # Errors
    /// [`Error::File`] for a key of another type; [`Error::Io`].
    pub(super) fn of_folder(
        path: &Path,
        config: &Map<String, Value>,
        tokens: BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut templates = BTreeMap::new();
        let wrong = |got: &Value| {
            let expected = "a template, or a list of objects with `name` and `template`";
            Err(Error::file(path, "chat_template", expected, got))
        };
        match config.get("chat_template") {
            None | Some(Value::Null) => {}
            Some(Value::String(template)) => {
                templates.insert("default".to_owned(), template.clone());
            }
            Some(Value::Array(list)) => {
                for entry in list {
                    match (entry["name"].as_str(), entry["template"].as_str()) {
                        (Some(name), Some(template)) => {
                            templates.insert(name.to_owned(), template.to_owned());
                        }
                        _ => return wrong(entry),
                    }
                }
            }
            Some(other) => return wrong(other),
        }
        let mut source = Self { path: path.to_path_buf(), templates, tokens };
        let folder = path.parent().unwrap_or(Path::new(""));
        source.read_files(folder)?;
        Ok(source)
    }

    fn read_files(&mut self, folder: &Path) -> Result<()> {
        let mut files = vec![("default".to_owned(), folder.join("chat_template.jinja"))];
        let others = folder.join("additional_chat_templates");
        if others.is_dir() {
            for entry in std::fs::read_dir(&others).map_err(Error::io(&others))? {
                let file = entry.map_err(Error::io(&others))?.path();
                let is_template = file.extension().is_some_and(|ending| ending == "jinja");
                let name = file.file_stem().map(|name| name.to_string_lossy().into_owned());
                files.extend(name.filter(|_| is_template).map(|name| (name, file)));
            }
        }
        for (name, file) in files.into_iter().filter(|(_, file)| file.exists()) {
            let template = std::fs::read_to_string(&file).map_err(Error::io(&file))?;
            self.templates.insert(name, template);
            self.path = file;
        }
        Ok(())
    }
}
