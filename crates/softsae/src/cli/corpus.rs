//! Arguments that describe a corpus.

use clap::{Args, ValueEnum};
use sae_config::{
    ChatConfig, CorpusConfig, CorpusFormat, Damaged, Packing, Separator, ShuffleConfig, Split,
    TokenType,
};

/// The arguments that say how a corpus is harvested.
const OF_CORPUS: [&str; 17] = [
    "files",
    "format",
    "field",
    "token_type",
    "document_end",
    "chat",
    "roles",
    "chat_template",
    "date",
    "packed",
    "separator",
    "shuffle",
    "window",
    "split",
    "held_out",
    "skip_damaged",
    "total_tokens",
];

/// A corpus to harvest.
#[derive(Debug, Args)]
#[command(next_help_heading = "Corpus")]
#[command(group(
    // An argument that is required is not asked for beside one that it conflicts with.
    clap::ArgGroup::new("of_corpus")
        .multiple(true)
        .args(OF_CORPUS)
        .conflicts_with_all(["text", "images"])
))]
pub(crate) struct CorpusArgs {
    #[command(flatten)]
    pub(crate) documents: DocumentArgs,
    /// Documents that are held and shuffled at a time; default: 10000
    #[arg(long, value_name = "N", requires = "shuffle")]
    pub(crate) window: Option<usize>,
}

impl CorpusArgs {
    /// The corpus, if one is given; `max_document_tokens` is the limit for each document.
    pub(crate) fn config(&self, max_document_tokens: Option<u64>) -> Option<CorpusConfig> {
        let mut config = self.documents.config()?;
        config.max_document_tokens = max_document_tokens;
        if let (Some(shuffle), Some(window)) = (&mut config.shuffle, self.window) {
            shuffle.window = window;
        }
        Some(config)
    }
}

/// The documents of a corpus, and how a host reads them.
#[derive(Debug, Args)]
pub(crate) struct DocumentArgs {
    /// Files or folders of documents (text, JSON lines, Parquet, token ids), local or
    /// hf:OWNER/NAME or hf:OWNER/NAME@REVISION; may be given several times
    #[arg(long, value_name = "PATH", requires = "host")]
    pub(crate) corpus: Vec<String>,
    /// Read only the files of a folder that fit a pattern, such as "data/train-*"
    #[arg(long, value_name = "PATTERN", requires = "corpus")]
    pub(crate) files: Option<String>,
    /// Format of the files; default: by their endings
    #[arg(long, value_enum, value_name = "FORMAT", requires = "corpus")]
    pub(crate) format: Option<Format>,
    /// Field or column of the document; default: text, or messages with --chat
    #[arg(long, value_name = "NAME", requires = "corpus")]
    pub(crate) field: Option<String>,
    /// Width of the token ids in .bin files
    #[arg(long, value_enum, value_name = "TYPE", requires = "corpus")]
    pub(crate) token_type: Option<Width>,
    /// Token that ends a document in files of token ids; default: the host's end-of-text token
    #[arg(long, value_name = "ID", requires = "corpus")]
    pub(crate) document_end: Option<u32>,
    /// Documents are chats, written out by the host's chat template
    #[arg(long, requires = "corpus")]
    pub(crate) chat: bool,
    /// Roles whose turns are stored, such as assistant; the host reads the others; default: all
    #[arg(long, value_name = "ROLE", value_delimiter = ',', requires = "chat")]
    pub(crate) roles: Vec<String>,
    /// Name of the chat template, where the host has several
    #[arg(long, value_name = "NAME", requires = "chat")]
    pub(crate) chat_template: Option<String>,
    /// Day that chat templates which write the date are told
    #[arg(long, value_name = "YYYY-MM-DD", requires = "chat")]
    pub(crate) date: Option<String>,
    /// Let documents follow one another in a context
    #[arg(long, requires = "corpus")]
    pub(crate) packed: bool,
    /// What stands between the documents of a packed context
    #[arg(long, value_enum, value_name = "WHAT", requires = "packed")]
    pub(crate) separator: Option<Between>,
    /// Take the documents in a random order of this seed
    #[arg(long, value_name = "SEED", requires = "corpus")]
    pub(crate) shuffle: Option<u64>,
    /// Read one part of the documents; their content decides which are held out
    #[arg(long, value_enum, value_name = "PART", requires = "corpus")]
    pub(crate) split: Option<Part>,
    /// Share of the documents that is held out; default: 0.05
    #[arg(long, value_name = "SHARE", requires = "split")]
    pub(crate) held_out: Option<f64>,
    /// Leave out damaged files and documents, and count them, instead of stopping
    #[arg(long, requires = "corpus")]
    pub(crate) skip_damaged: bool,
    /// Tokens read of the whole corpus at most; default: all
    #[arg(long, value_name = "N", requires = "corpus")]
    pub(crate) total_tokens: Option<u64>,
}

impl DocumentArgs {
    /// The corpus, if one is given.
    pub(crate) fn config(&self) -> Option<CorpusConfig> {
        if self.corpus.is_empty() {
            return None;
        }
        let chat = self.chat.then(|| ChatConfig {
            roles: self.roles.clone(),
            template: self.chat_template.clone(),
            date: self.date.clone(),
        });
        let shuffle = self.shuffle.map(|seed| ShuffleConfig { seed, ..ShuffleConfig::default() });
        Some(CorpusConfig {
            path: self.corpus.clone(),
            files: self.files.clone(),
            format: self.format.map(Format::into),
            field: self.field.clone(),
            token_type: self.token_type.map(Width::into),
            document_end: self.document_end,
            chat,
            packing: if self.packed { Packing::Packed } else { Packing::Documents },
            separator: self.separator.map_or_else(Separator::default, Between::into),
            shuffle,
            split: self.split.map(Part::into),
            held_out: self.held_out,
            damaged: if self.skip_damaged { Damaged::Skip } else { Damaged::Stop },
            max_document_tokens: None,
            max_tokens: self.total_tokens,
        })
    }
}

/// A format of corpora.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// Plain UTF-8, a file a document
    Text,
    /// A JSON object a line, also .gz and .zst
    Jsonl,
    /// Parquet
    Parquet,
    /// NumPy arrays of token ids
    Npy,
    /// Token ids without a header
    Bin,
}

impl From<Format> for CorpusFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Jsonl => Self::Jsonl,
            Format::Parquet => Self::Parquet,
            Format::Npy => Self::Npy,
            Format::Bin => Self::Bin,
        }
    }
}

/// Width of token ids.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Width {
    U16,
    U32,
}

impl From<Width> for TokenType {
    fn from(width: Width) -> Self {
        match width {
            Width::U16 => Self::U16,
            Width::U32 => Self::U32,
        }
    }
}

/// What stands between two documents.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Between {
    /// The beginning-of-text token where the host's own tokenizer puts it, else the end-of-text token
    Auto,
    /// The beginning-of-text token before each
    Bos,
    /// The end-of-text token after each
    Eos,
    /// Nothing
    None,
}

impl From<Between> for Separator {
    fn from(what: Between) -> Self {
        match what {
            Between::Auto => Self::Auto,
            Between::Bos => Self::Bos,
            Between::Eos => Self::Eos,
            Between::None => Self::None,
        }
    }
}

/// A part of the documents.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Part {
    /// What is not held out
    Train,
    /// What is held out
    #[value(alias = "held_out")]
    HeldOut,
}

impl From<Part> for Split {
    fn from(part: Part) -> Self {
        match part {
            Part::Train => Self::Train,
            Part::HeldOut => Self::HeldOut,
        }
    }
}
