//! Activations that a run takes straight from a host while it trains.

use std::path::{Path, PathBuf};

use crate::{BosPolicy, CorpusConfig, Error, HUB_PREFIX, Result, SpecialTokens};

/// Tokens of a context where a run names none.
const CONTEXT_LENGTH: usize = 128;

/// Bytes of a window where a run names none: those of a store's loader.
const WINDOW_BYTES: u64 = 128 << 20;

/// A host that reads a corpus while a run trains on its activations.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveConfig {
    /// The host model: a file or folder, or `hf:owner/name[@revision]`.
    pub host: PathBuf,
    /// The hook point, such as `resid_post.15`.
    pub hook: String,
    /// The hook point of what is to be rebuilt, from the same pass: the run trains a transcoder.
    pub target_hook: Option<String>,
    /// What the host reads, again and again.
    pub corpus: CorpusConfig,
    /// Tokens the host sees at once.
    pub context_length: usize,
    /// First positions of each context that are left out.
    pub skip_positions: usize,
    /// Whether the host's beginning-of-text token leads each context.
    pub bos: BosPolicy,
    /// What is done with special tokens that stand in the texts.
    pub special_tokens: SpecialTokens,
    /// Bytes of f32 of the rows of the input that are harvested and shuffled at a time.
    pub window_bytes: u64,
    /// Rows at the start of the corpus that mean and scale are taken of; those of the first window
    /// if absent.
    pub statistics_rows: Option<u64>,
}

/// The names of [`LiveKeys`].
pub(crate) const LIVE_KEYS: [&str; 10] = [
    "host",
    "hook",
    "target_hook",
    "corpus",
    "context_length",
    "skip_positions",
    "bos",
    "special_tokens",
    "window_bytes",
    "statistics_rows",
];

/// The keys of `[data]` that a live run has, as they are written.
#[derive(Debug, Default)]
pub(crate) struct LiveKeys {
    pub(crate) host: Option<PathBuf>,
    pub(crate) hook: Option<String>,
    pub(crate) target_hook: Option<String>,
    pub(crate) corpus: Option<CorpusConfig>,
    pub(crate) context_length: Option<usize>,
    pub(crate) skip_positions: Option<usize>,
    pub(crate) bos: Option<BosPolicy>,
    pub(crate) special_tokens: Option<SpecialTokens>,
    pub(crate) window_bytes: Option<u64>,
    pub(crate) statistics_rows: Option<u64>,
}

impl LiveKeys {
    /// The first key that is written.
    fn first(&self) -> Option<&'static str> {
        let Self { host, hook, target_hook, corpus, context_length, .. } = self;
        let Self { skip_positions, bos, special_tokens, window_bytes, statistics_rows, .. } = self;
        let written = [
            host.is_some(),
            hook.is_some(),
            target_hook.is_some(),
            corpus.is_some(),
            context_length.is_some(),
            skip_positions.is_some(),
            bos.is_some(),
            special_tokens.is_some(),
            window_bytes.is_some(),
            statistics_rows.is_some(),
        ];
        LIVE_KEYS.into_iter().zip(written).find(|(_, is_written)| *is_written).map(|(key, _)| key)
    }

    /// What they say, with defaults filled in; nothing where none is written.
    pub(crate) fn decide(self) -> Result<Option<LiveConfig>, String> {
        let Some(first) = self.first() else { return Ok(None) };
        let lacks = |key: &str| format!("expected `{key}` beside `{first}`, got none");
        Ok(Some(LiveConfig {
            host: self.host.ok_or_else(|| lacks("host"))?,
            hook: self.hook.ok_or_else(|| lacks("hook"))?,
            target_hook: self.target_hook,
            corpus: self.corpus.ok_or_else(|| lacks("corpus"))?,
            context_length: self.context_length.unwrap_or(CONTEXT_LENGTH),
            skip_positions: self.skip_positions.unwrap_or(1),
            bos: self.bos.unwrap_or_default(),
            special_tokens: self.special_tokens.unwrap_or_default(),
            window_bytes: self.window_bytes.unwrap_or(WINDOW_BYTES),
            statistics_rows: self.statistics_rows,
        }))
    }
}

impl From<LiveConfig> for LiveKeys {
    fn from(live: LiveConfig) -> Self {
        Self {
            host: Some(live.host),
            hook: Some(live.hook),
            target_hook: live.target_hook,
            corpus: Some(live.corpus),
            context_length: Some(live.context_length),
            skip_positions: Some(live.skip_positions),
            bos: Some(live.bos),
            special_tokens: Some(live.special_tokens),
            window_bytes: Some(live.window_bytes),
            statistics_rows: live.statistics_rows,
        }
    }
}

impl LiveConfig {
    /// Checks what can be checked without host and corpus.
    pub(crate) fn check(&self) -> Result<()> {
        let value = |key: &str, expected: String, got: &dyn std::fmt::Display| {
            Err(Error::value(format!("data.{key}"), expected, got))
        };
        if self.host.as_os_str().is_empty() {
            return value("host", "a file or folder".into(), &"nothing");
        }
        if self.context_length == 0 {
            return value("context_length", "at least 1".into(), &0);
        }
        if self.skip_positions >= self.context_length {
            let expected = format!("less than context_length = {}", self.context_length);
            return value("skip_positions", expected, &self.skip_positions);
        }
        if self.window_bytes == 0 {
            return value("window_bytes", "at least 1".into(), &0);
        }
        if let Some(n @ 0..2) = self.statistics_rows {
            // A row alone has no distance from its mean.
            return value("statistics_rows", "at least 2".into(), &n);
        }
        if self.target_hook.as_ref() == Some(&self.hook) {
            let expected = "another hook point than `hook`; without it the rows rebuild themselves";
            return value("target_hook", expected.into(), &self.hook);
        }
        self.corpus.check("data.corpus")
    }

    /// Lets relative local paths start at `folder`.
    pub(crate) fn root_paths(&mut self, folder: &Path) {
        if !self.host.to_string_lossy().starts_with(HUB_PREFIX) {
            self.host = folder.join(&self.host);
        }
        self.corpus.root_paths(folder);
    }

    /// Bytes of a window with the rows of the target, where those of the input and of the target
    /// have these dimensions.
    #[must_use]
    pub fn window_memory(&self, d_in: usize, d_target: Option<usize>) -> u64 {
        let n_rows = (self.window_bytes / (4 * d_in as u64)).max(1);
        // Each row's place in the order is a u32.
        4 * n_rows * (d_in as u64 + d_target.unwrap_or(0) as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use crate::DataConfig;

    fn parse(text: &str) -> Result<DataConfig, String> {
        toml::from_str(text).map_err(|e| e.message().to_owned())
    }

    const LEAST: &str = "host = 'a.gguf'\nhook = 'resid_post.3'\ncorpus = { path = 'texts' }";

    #[test]
    fn a_live_run_is_written_with_its_defaults_and_read_again() {
        let data = parse(LEAST).unwrap();
        let live = data.live.as_ref().unwrap();
        assert_eq!(
            (live.context_length, live.skip_positions, live.window_bytes),
            (128, 1, 128 << 20)
        );
        let text = toml::to_string(&data).unwrap();
        assert!(text.contains("window_bytes = 134217728\n"), "{text}");
        assert!(!text.contains("store"), "{text}");
        assert_eq!(parse(&text).unwrap(), data);
        let more = format!(
            "target_hook = 'mlp_out.3'\nbos = 'never'\nspecial_tokens = 'keep'\nmin_position = 2\n\
             statistics_rows = 9\n{LEAST}"
        );
        let data = parse(&more).unwrap();
        assert_eq!(parse(&toml::to_string(&data).unwrap()).unwrap(), data);
        // Rows of 4 bytes a value, and one more for their place.
        assert_eq!(live.window_memory(1 << 20, None), 32 * 4 * ((1 << 20) + 1));
        assert_eq!(live.window_memory(1 << 20, Some(7)), 32 * 4 * ((1 << 20) + 8));
    }

    #[test]
    fn keys_that_contradict_are_refused_by_name() {
        for (text, words) in [
            ("host = 'a'\nhook = 'x'", "expected `corpus` beside `host`"),
            ("hook = 'x'\ncorpus = { path = 'c' }", "expected `host` beside `hook`"),
            ("store = 's'\nbos = 'auto'", "expected `host` beside `bos`"),
            (&format!("store = 's'\n{LEAST}"), "`host` beside `store`"),
            (&format!("stores = [{{ path = 's' }}]\n{LEAST}"), "`host` beside `stores`"),
            (&format!("target = 's'\n{LEAST}"), "`target_hook`"),
            (&format!("rows = 's'\n{LEAST}"), "`rows` beside `store`"),
            (&format!("max_norm_ratio = 9\n{LEAST}"), "`max_norm_ratio` beside `store`"),
            (&format!("{LEAST}\nhooks = ['x']"), "unknown field"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (more, key) in [
            ("context_length = 0", "context_length"),
            ("skip_positions = 128", "skip_positions"),
            ("window_bytes = 0", "window_bytes"),
            ("statistics_rows = 1", "statistics_rows"),
            ("target_hook = 'resid_post.3'", "target_hook"),
        ] {
            let message = parse(&format!("{more}\n{LEAST}")).unwrap().check().unwrap_err();
            assert!(message.to_string().starts_with(&format!("`data.{key}`")), "{message}");
        }
        let corpus = LEAST.replace("'texts'", "''");
        let message = parse(&corpus).unwrap().check().unwrap_err().to_string();
        assert!(message.starts_with("`data.corpus.path`"), "{message}");
    }
}
