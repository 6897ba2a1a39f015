//! A host whose activations runs take while they train, and the rows that they are judged by.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use sae_config::{
    ChatConfig, CorpusConfig, Damaged, HUB_PREFIX, HeldOutConfig, LiveConfig, Packing,
    ShuffleConfig, Split, SweepConfig, TRAINING_VERSION,
};
use serde_json::json;

use super::content::{Contents, short_hash};
use super::pair;
use super::source::Ids;
use crate::exit::usage;

/// A host that reads a corpus while runs train.
pub(super) struct LiveSource {
    /// How it reads; its hook point is that of one run.
    live: LiveConfig,
    held_out: HeldOut,
    max_tokens: u64,
    /// Texts to measure cross-entropy on.
    pub(super) texts: Vec<PathBuf>,
}

/// What runs are judged by.
enum HeldOut {
    /// A store that is there.
    Given(PathBuf),
    /// Stores of the held-out part: what that of each hook point is made from.
    Made(Ids),
}

impl LiveSource {
    /// The source of a checked sweep, of which one run reads `live`, and what stands for its data in
    /// the ids of the runs of each hook point.
    pub(super) fn new(
        config: &SweepConfig,
        live: &LiveConfig,
        hooks: &BTreeSet<&str>,
        contents: &Contents,
    ) -> Result<(Self, Ids)> {
        let HeldOutConfig { store, texts, .. } = config.held_out.clone().unwrap_or_default();
        let max_tokens = config.held_out.clone().unwrap_or_default().max_tokens();
        let host = match live.host.to_str().filter(|host| host.starts_with(HUB_PREFIX)) {
            Some(host) => pinned("base.data.host", host)?,
            None => contents.tree("base.data.host", &live.host)?,
        };
        let corpus = live.corpus.path.iter().map(|path| match path.starts_with(HUB_PREFIX) {
            true => pinned("base.data.corpus.path", path),
            false => contents.tree("base.data.corpus.path", Path::new(path)),
        });
        let corpus = corpus.collect::<Result<Vec<_>>>()?.join(" ");
        let mut judged = String::new();
        for text in &texts {
            judged += &format!(", text {}", contents.file("held_out.texts", text)?);
        }
        if let Some(n) = config.evaluation.max_tokens {
            judged += &format!(", {n} tokens of each text");
        }
        let (held_out, ids) = match store {
            Some(store) => {
                let hash = given(&store, hooks)?;
                let ids = hooks.iter().map(|hook| ((*hook).to_owned(), hash.clone())).collect();
                (HeldOut::Given(store), ids)
            }
            None => {
                let id = |hook: &&str| (*hook).to_owned();
                let made = |hook: &&str| made_from(live, hook, &host, &corpus, max_tokens);
                let ids: Ids = hooks.iter().map(|hook| (id(hook), made(hook))).collect();
                (HeldOut::Made(ids.clone()), ids)
            }
        };
        let data = |(hook, held_out): (String, String)| {
            (hook, format!("host {host}, corpus {corpus}, held out {held_out}{judged}"))
        };
        let data = ids.into_iter().map(data).collect();
        Ok((Self { live: live.clone(), held_out, max_tokens, texts }, data))
    }

    /// The store that runs are judged by, where it is given.
    pub(super) fn given(&self) -> Option<&Path> {
        match &self.held_out {
            HeldOut::Given(store) => Some(store),
            HeldOut::Made(_) => None,
        }
    }

    /// What the stores are made from that runs are judged by, by hook point.
    pub(super) fn made(&self) -> &Ids {
        static NONE: Ids = Ids::new();
        match &self.held_out {
            HeldOut::Given(_) => &NONE,
            HeldOut::Made(ids) => ids,
        }
    }

    /// Where the host is: a file or folder, or its name on the hub.
    pub(super) fn host(&self) -> &Path {
        &self.live.host
    }

    /// The hook point of one of the runs: of all where the store to judge by is given.
    pub(super) fn hook(&self) -> &str {
        &self.live.hook
    }

    /// Prints where the activations come from.
    pub(super) fn print(&self) -> Result<()> {
        let (host, corpus) = (self.live.host.display(), self.live.corpus.path.join(", "));
        say!("train activations: {host} reads {corpus} while runs train");
        if let Some(store) = self.given() {
            say!("held-out activations: {}", store.display());
        }
        for (hook, id) in self.made() {
            say!(
                "held-out activations {id}: {hook} of {} held-out tokens at most",
                self.max_tokens
            );
        }
        Ok(())
    }

    /// The process that harvests the held-out part at hook points.
    pub(super) fn harvest(&self, program: &Path, device: &str, hooks: &[&str]) -> Command {
        let live = &self.live;
        let mut command = Command::new(program);
        command.args(["harvest", "--device", device, "--host"]).arg(&live.host);
        for hook in hooks {
            command.args(["--hook", hook]);
        }
        command.args(["--context-length", &live.context_length.to_string()]);
        command.args(["--skip-positions", &live.skip_positions.to_string()]);
        command.args(["--bos", live.bos.name(), "--special-tokens", live.special_tokens.name()]);
        corpus_arguments(&mut command, &live.corpus);
        command.args(["--split", "held-out", "--total-tokens", &self.max_tokens.to_string()]);
        command
    }
}

/// The hash of a store that is given to judge by, which has to be of the one hook point of the runs.
fn given(store: &Path, hooks: &BTreeSet<&str>) -> Result<String> {
    let (hash, of) = pair::held_out(("held_out.store", store))?;
    let names: Vec<&str> = hooks.iter().copied().collect();
    let [hook] = names[..] else {
        let names = names.join(", ");
        bail!(usage(format!("held_out.store: expected runs of one hook point, got {names}")));
    };
    match of.filter(|of| of != hook) {
        None => Ok(hash),
        Some(of) => {
            let store = store.display();
            bail!(usage(format!("held_out.store: {store}: expected rows of {hook}, got {of}")))
        }
    }
}

/// Hash of everything that shapes the held-out store of a hook point.
fn made_from(live: &LiveConfig, hook: &str, host: &str, corpus: &str, max_tokens: u64) -> String {
    let settings =
        CorpusConfig { path: vec![], split: Some(Split::HeldOut), ..live.corpus.clone() };
    let identity = json!({
        "version": TRAINING_VERSION, "host": host, "hook": hook, "corpus": corpus,
        "settings": settings, "context_length": live.context_length,
        "skip_positions": live.skip_positions, "bos": live.bos,
        "special_tokens": live.special_tokens, "max_tokens": max_tokens,
    });
    short_hash(&identity.to_string())
}

/// A name of the hub that stands for its content: one with a commit.
fn pinned(key: &str, text: &str) -> Result<String> {
    let revision = text.rsplit_once('@').map_or("", |(_, revision)| revision);
    let is_commit = revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
    if is_commit {
        return Ok(text.to_owned());
    }
    bail!(usage(format!(
        "{key}: expected a commit as the revision (`hf:owner/name@COMMIT`), which ids \
                         of runs stand for, got `{text}`"
    )))
}

/// What `softsae harvest` reads of a corpus; of which split and how many tokens is the caller's.
fn corpus_arguments(command: &mut Command, corpus: &CorpusConfig) {
    let CorpusConfig {
        path,
        files,
        format,
        field,
        token_type,
        document_end,
        chat,
        packing,
        separator,
        shuffle,
        split: _,
        held_out,
        damaged,
        max_document_tokens,
        max_tokens: _,
    } = corpus;
    for path in path {
        command.args(["--corpus", path]);
    }
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command.arg(format!("--{name}={value}"));
        }
    };
    option("files", files.clone());
    option("format", format.map(|of| of.name().to_owned()));
    option("field", field.clone());
    option("token-type", token_type.map(|of| of.name().to_owned()));
    option("document-end", document_end.map(|id| id.to_string()));
    if let Some(ShuffleConfig { seed, window }) = shuffle {
        option("shuffle", Some(seed.to_string()));
        option("window", Some(window.to_string()));
    }
    option("held-out", held_out.map(|share| share.to_string()));
    option("max-tokens", max_document_tokens.map(|n| n.to_string()));
    if let Some(ChatConfig { roles, template, date }) = chat {
        option("roles", (!roles.is_empty()).then(|| roles.join(",")));
        option("chat-template", template.clone());
        option("date", date.clone());
        command.arg("--chat");
    }
    if *packing == Packing::Packed {
        command.args(["--packed", "--separator", separator.name()]);
    }
    if *damaged == Damaged::Skip {
        command.arg("--skip-damaged");
    }
}

#[cfg(test)]
mod tests;
