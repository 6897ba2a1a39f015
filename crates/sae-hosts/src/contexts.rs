//! Cuts documents into contexts of tokens.

mod rows;
mod tokens;

use sae_config::{CorpusConfig, Packing, Separator};
use serde::{Deserialize, Serialize};

use crate::corpus::{DocumentPosition, Documents};
use crate::tokenizer::HostTokenizer;
use crate::{Error, HostModel, Result};

pub use rows::ContextRows;
pub(crate) use rows::batch_ids;
use tokens::Tokens;

/// How documents are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Tokens of a context, the prepended one included.
    pub length: usize,
    /// A token at the front of each context.
    pub prepend: Option<u32>,
    /// Whether a context holds tokens of one document or of several.
    pub packing: Packing,
    /// A token before each document of a packed context; not at its front where it is `prepend`.
    pub before: Option<u32>,
    /// A token after each document of a packed context.
    pub after: Option<u32>,
    /// Tokens of each document to take at most.
    pub max_document_tokens: u64,
    /// Tokens of all documents to take at most.
    pub max_tokens: u64,
}

impl Cut {
    /// Contexts of one document each, without limits.
    pub fn new(length: usize, prepend: Option<u32>) -> Self {
        Self {
            length,
            prepend,
            packing: Packing::Documents,
            before: None,
            after: None,
            max_document_tokens: u64::MAX,
            max_tokens: u64::MAX,
        }
    }

    /// Contexts as a corpus wants them.
    ///
    /// # Errors
    /// [`Error::Input`] if the host has no token that is to stand between documents;
    /// [`Error::File`] if it is not clear what the host's own tokenizer does.
    pub fn of_corpus(
        length: usize,
        prepend: Option<u32>,
        corpus: &CorpusConfig,
        tokenizer: &HostTokenizer,
    ) -> Result<Self> {
        let lacks = |name: &str| {
            let expected = format!("a host with an {name} token");
            Error::input("separator", expected, "one without")
        };
        let (before, after) = match (corpus.packing, corpus.separator) {
            (Packing::Documents, _) | (_, Separator::None) => (None, None),
            (Packing::Packed, Separator::Auto) if tokenizer.adds_bos()? => (tokenizer.bos(), None),
            (Packing::Packed, Separator::Auto) => (None, tokenizer.eos()),
            (Packing::Packed, Separator::Bos) => {
                (Some(tokenizer.bos().ok_or_else(|| lacks("bos"))?), None)
            }
            (Packing::Packed, Separator::Eos) => {
                (None, Some(tokenizer.eos().ok_or_else(|| lacks("eos"))?))
            }
        };
        Ok(Self {
            packing: corpus.packing,
            before,
            after,
            max_document_tokens: corpus.max_document_tokens.unwrap_or(u64::MAX),
            max_tokens: corpus.max_tokens.unwrap_or(u64::MAX),
            ..Self::new(length, prepend)
        })
    }
}

/// A run of tokens of one document, or of several where documents are packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Its tokens, with the prepended one if there is one.
    pub ids: Vec<u32>,
    /// The document of each token; of the prepended one that of the next.
    pub documents: Vec<u32>,
    /// Whether each token's row is wanted, as far as its document decides.
    pub counted: Vec<bool>,
}

/// A place between two contexts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextPosition {
    /// The document whose tokens come next.
    pub document: DocumentPosition,
    /// Tokens already taken of it, separators included.
    pub taken: u64,
    /// Tokens of text taken of all documents.
    pub seen: u64,
}

/// All contexts of documents in order. Those of one document each are of full length but for the
/// last of each, which holds what is left; of packed ones the last of all may be short. Documents
/// are tokenised as contexts are asked for.
#[derive(Debug)]
pub struct Contexts<'a> {
    documents: Box<dyn Documents + 'a>,
    cut: Cut,
    current: Option<Tokens>,
    /// The share of the corpus before the current document.
    before: f64,
    /// Tokens of text taken.
    seen: u64,
}

impl<'a> Contexts<'a> {
    /// Cuts documents from their present position on.
    ///
    /// # Errors
    /// [`Error::Input`] if a context has no room for a token of text.
    pub fn new(documents: Box<dyn Documents + 'a>, cut: Cut) -> Result<Self> {
        let shortest = 1 + usize::from(cut.prepend.is_some());
        if cut.length < shortest {
            return Err(Error::input("context_length", format!("at least {shortest}"), cut.length));
        }
        let before = documents.fraction();
        Ok(Self { documents, cut, current: None, before, seen: 0 })
    }

    /// Returns the next context, or `None` at the end of the documents.
    ///
    /// # Errors
    /// As [`Documents::next`]; [`Error::Tokenizer`]; [`Error::Input`] for a token that the host
    /// lacks.
    pub fn next(&mut self, host: &HostModel) -> Result<Option<Context>> {
        let tokenizer = host.tokenizer()?;
        let length = self.cut.length - usize::from(self.cut.prepend.is_some());
        let mut context = Context::default();
        loop {
            let left = usize::try_from(self.cut.max_tokens - self.seen).unwrap_or(usize::MAX);
            let wanted = (length - context.ids.len()).min(left);
            if wanted == 0 {
                break;
            }
            if let Some(tokens) = &mut self.current {
                if context.ids.is_empty() {
                    tokens.leave_out_lead(self.cut.prepend);
                }
                self.seen += tokens.take(tokenizer, wanted, &mut context)?;
                // A limit that was reached by separators too leaves room that is asked for again.
                if context.ids.len() == length {
                    break;
                }
                if !tokens.is_over() {
                    continue;
                }
                if self.cut.packing == Packing::Documents && !context.ids.is_empty() {
                    break;
                }
            }
            if !self.advance()? {
                break;
            }
        }
        if context.ids.is_empty() {
            return Ok(None);
        }
        if let Some(lead) = self.cut.prepend {
            context.ids.insert(0, lead);
            context.documents.insert(0, context.documents[0]);
            context.counted.insert(0, context.counted[0]);
        }
        host.check_ids(&context.ids).map_err(|error| of_document(error, &context))?;
        Ok(Some(context))
    }

    /// Goes to the next document; false after the last.
    fn advance(&mut self) -> Result<bool> {
        self.current = None;
        self.before = self.documents.fraction();
        let start = self.documents.position();
        let Some(document) = self.documents.next()? else { return Ok(false) };
        self.current = Some(Tokens::new(document, start, &self.cut));
        Ok(true)
    }

    /// Returns where the next context begins.
    pub fn position(&self) -> ContextPosition {
        let (document, taken) = match &self.current {
            Some(tokens) => (tokens.start(), tokens.n_taken()),
            None => (self.documents.position(), 0),
        };
        ContextPosition { document, taken, seen: self.seen }
    }

    /// Goes to a position of the same documents, cut in the same way; the default one is the
    /// first context.
    ///
    /// # Errors
    /// As [`Documents::resume`]; [`Error::Input`] for a position that the documents do not have.
    pub fn resume(&mut self, position: &ContextPosition, host: &HostModel) -> Result<()> {
        self.documents.resume(&position.document)?;
        self.current = None;
        self.before = self.documents.fraction();
        self.seen = position.seen;
        if position.taken == 0 {
            return Ok(());
        }
        let has_document = self.advance()?;
        if let Some(tokens) = self.current.as_mut().filter(|_| has_document)
            && tokens.pass(host.tokenizer()?, position.taken)?
        {
            return Ok(());
        }
        let expected = "a document of so many tokens as when it was saved";
        Err(Error::input("position", expected, format!("{position:?}")))
    }

    /// The documents.
    pub fn documents(&self) -> &dyn Documents {
        &*self.documents
    }

    /// Tokens of text taken so far.
    pub fn tokens_seen(&self) -> u64 {
        self.seen
    }

    /// Tokens of text there are in all, once every document is tokenised.
    pub fn n_tokens(&self) -> Option<u64> {
        let left = match &self.current {
            Some(tokens) => tokens.n_left()?,
            None => 0,
        };
        let total = self.seen.saturating_add(left).min(self.cut.max_tokens);
        self.documents.is_last().then_some(total)
    }

    /// The share of the documents that is tokenised.
    pub fn fraction(&self) -> f64 {
        let after = self.documents.fraction();
        let within = self.current.as_ref().map_or(1.0, Tokens::fraction);
        let of_corpus = self.before + (after - self.before) * within;
        let of_limit = self.seen as f64 / self.cut.max_tokens as f64;
        of_corpus.max(of_limit).min(1.0)
    }
}

/// The error of a context names the documents that it is of.
fn of_document(error: Error, context: &Context) -> Error {
    match error {
        Error::Input { name, expected, got } => {
            let (first, last) = (context.documents.first(), context.documents.last());
            let documents = match (first, last) {
                (Some(first), Some(last)) if first != last => {
                    format!("documents {first} to {last}")
                }
                _ => format!("document {}", first.copied().unwrap_or_default()),
            };
            Error::Input { name, expected, got: format!("{got} in {documents}") }
        }
        other => other,
    }
}
