//! Chats written out by the host's own template.

mod environment;
mod python;

use std::ops::Range;

use minijinja::{Environment, Value, context};
use sae_config::ChatConfig;

use super::Content;
use super::json::{self, Json, Object};
use crate::tokenizer::HostTokenizer;
use crate::{Error, Result};

const TEMPLATE: &str = "chat_template";

/// Stands for a message's content where its place in the text is looked for.
const MARK: &str = "\u{f8ff}content\u{f8ff}";

/// Writes chats out as texts.
#[derive(Debug)]
pub(super) struct ChatRenderer {
    environment: Environment<'static>,
    source: String,
    config: ChatConfig,
    /// `bos_token` and the like.
    tokens: Value,
}

impl ChatRenderer {
    /// # Errors
    /// [`Error::Input`] if the host has no such template; [`Error::File`] with the line if it is
    /// no template.
    pub(super) fn new(tokenizer: &HostTokenizer, config: &ChatConfig) -> Result<Self> {
        let source = tokenizer.chat();
        let wanted = config.template.as_deref().unwrap_or("default");
        let Some(template) = source.templates.get(wanted) else {
            let names: Vec<String> =
                source.templates.keys().map(|name| format!("`{name}`")).collect();
            let got = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let expected = format!("a host with a chat template `{wanted}`");
            return Err(Error::input("chat", expected, got));
        };
        let environment = environment::build(template, config.date.as_deref())
            .map_err(|got| Error::file(&source.path, "chat_template", "a template", got))?;
        let tokens = source.tokens.iter();
        let tokens = tokens.map(|(role, token)| (role.as_str(), token.as_str()));
        let tokens = Value::from_pairs(tokens);
        Ok(Self { environment, source: template.clone(), config: config.clone(), tokens })
    }

    /// The text of a chat, and which parts of it count; else what was expected and what came.
    pub(super) fn render(&self, messages: &[Object]) -> Result<Content, (String, String)> {
        let wrong = |expected: &str, got: String| (expected.to_owned(), got);
        for message in messages {
            if !matches!(json::get(message, "role"), Some(Json::Text(_))) {
                let got = json::keys(message);
                return Err(wrong("messages with a text `role`", got));
            }
            if let Some(got) = json::get(message, "content").and_then(not_of_text) {
                return Err(wrong("`content` of text alone, which is all that is read", got));
            }
        }
        let text = self.text(messages)?;
        if self.config.roles.is_empty() {
            return Ok(Content::Text(text));
        }
        let mut counted: Vec<Range<usize>> = Vec::new();
        for at in 0..messages.len() {
            if let Some(range) = self.content_of(messages, at, &text)? {
                if counted.last().is_some_and(|before| before.end > range.start) {
                    let got = format!("that of message {at} before one that comes earlier");
                    return Err(wrong("contents in the order of the messages", got));
                }
                counted.push(range);
            }
        }
        Ok(Content::Parts { text, counted })
    }

    /// Where the content of a message stands in the text, if its role counts: found by writing the
    /// chat out with another content there.
    fn content_of(
        &self,
        messages: &[Object],
        at: usize,
        text: &str,
    ) -> Result<Option<Range<usize>>, (String, String)> {
        let role = json::get(&messages[at], "role");
        if !self.config.roles.iter().any(|wanted| role == Some(&Json::Text(wanted.clone()))) {
            return Ok(None);
        }
        self.check_nothing_beside(messages, at, text)?;
        let content = messages[at].iter().position(|(key, _)| key == "content");
        let Some(content) = content else { return Ok(None) };
        match &messages[at][content].1 {
            Json::Text(text) if text.trim().is_empty() => return Ok(None),
            Json::Null => return Ok(None),
            Json::Text(_) => {}
            other => {
                let expected = "a text as `content` of a message that counts".to_owned();
                return Err((expected, other.brief()));
            }
        }
        let mut marked = messages.to_vec();
        marked[at][content].1 = Json::Text(MARK.to_owned());
        let marked = self.text(&marked)?;
        // A template may leave a message out.
        let Some(start) = marked.find(MARK) else { return Ok(None) };
        let after = &marked[start + MARK.len()..];
        let is_same = text.get(..start) == Some(&marked[..start])
            && text.len() >= start + after.len()
            && text.ends_with(after);
        if is_same {
            return Ok(Some(start..text.len() - after.len()));
        }
        let expected = "a chat template that writes a message's content in one place".to_owned();
        Err((expected, format!("another text around message {at}")))
    }

    /// Refuses a message that counts of which the template writes more than the content, such as the
    /// calls of tools: where that stands is not known. The name of who speaks is markup.
    fn check_nothing_beside(
        &self,
        messages: &[Object],
        at: usize,
        text: &str,
    ) -> Result<(), (String, String)> {
        for (key, value) in &messages[at] {
            if ["role", "content", "name"].contains(&key.as_str()) || *value == Json::Null {
                continue;
            }
            let mut without = messages.to_vec();
            without[at].retain(|(name, _)| name != key);
            if self.text(&without).is_ok_and(|without| without == text) {
                continue;
            }
            let expected =
                "a chat template that writes of messages that count the `content` alone".to_owned();
            return Err((expected, format!("one that writes `{key}` of message {at} too")));
        }
        Ok(())
    }

    fn text(&self, messages: &[Object]) -> Result<String, (String, String)> {
        let messages: Vec<Value> = messages.iter().map(json::of_object).collect();
        let template = self.environment.get_template(TEMPLATE);
        let rendered = template.and_then(|template| {
            template.render(context! {
                messages => messages,
                add_generation_prompt => false,
                tools => (),
                documents => (),
                ..self.tokens.clone()
            })
        });
        rendered.map_err(|error| {
            ("a chat that the host's template writes out".to_owned(), environment::message(&error))
        })
    }

    /// A hash of the template and of the day that it is told.
    pub(super) fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.source.as_bytes());
        if let Some(date) = &self.config.date {
            hasher.update(b"\0").update(date.as_bytes());
        }
        hasher.finalize().to_string()
    }

    /// The roles that count, for provenance.
    pub(super) fn roles(&self) -> String {
        match self.config.roles.as_slice() {
            [] => "all".to_owned(),
            roles => roles.join(", "),
        }
    }
}

/// What a content holds that is no text: of a list of parts the first that is of another type.
fn not_of_text(content: &Json) -> Option<String> {
    let Json::List(parts) = content else { return None };
    parts.iter().find_map(|part| {
        let Json::Object(of) = part else {
            return (!matches!(part, Json::Text(_)))
                .then(|| format!("{} among its parts", part.brief()));
        };
        match json::get(of, "type") {
            Some(Json::Text(kind)) if kind == "text" => None,
            Some(Json::Text(kind)) => Some(format!("a part of type `{kind}`")),
            _ => Some(format!("a part of {}", json::keys(of))),
        }
    })
}
