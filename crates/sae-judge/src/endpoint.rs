//! An endpoint that speaks OpenAI's chat interface.

mod retries;

use std::io::Read as _;
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::{Agent, AgentBuilder, Response};

use crate::budget::Spent;
use crate::prompts::Message;
use crate::{Error, Result};
pub use retries::Patience;
use retries::wanted_wait;

/// Bytes of an answer at most.
const MAX_BYTES: u64 = 8 << 20;

/// Characters of what an endpoint says of a failure that are shown.
const MAX_SAID: usize = 300;

/// Where a judge is and how it is asked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address, with or without `/chat/completions`.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// Sent as a bearer token, if there is one.
    pub key: Option<String>,
    /// Tokens of an answer at most (1024).
    pub answer_tokens: u32,
    /// How long is waited for it.
    pub patience: Patience,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: String::new(),
            model: String::new(),
            key: None,
            answer_tokens: 1024,
            patience: Patience::default(),
        }
    }
}

/// An endpoint to ask.
#[derive(Debug)]
pub struct Endpoint {
    settings: Settings,
    agent: Agent,
    dialect: Mutex<Dialect>,
}

/// What endpoints differ in; found out by what they refuse.
#[derive(Debug, Clone, Copy)]
struct Dialect {
    /// The name of the bound on tokens of an answer.
    bound: &'static str,
    /// Whether a temperature may be named.
    has_temperature: bool,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) text: String,
    /// Tokens of prompt and answer, as the endpoint counts them, else a quarter of the bytes.
    pub(crate) tokens: u64,
}

/// Why an attempt failed.
enum Failure {
    /// Another attempt may do better, after a wait that the endpoint may name.
    Passing(String, Option<Duration>),
    /// Another attempt in another dialect may do better.
    Dialect(Dialect),
    Lasting(Error),
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Content,
}

#[derive(Deserialize)]
struct Content {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: Option<u64>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

impl Endpoint {
    /// An endpoint; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn new(mut settings: Settings) -> Result<Self> {
        let url = &mut settings.url;
        let rest = ["http://", "https://"].iter().find_map(|start| url.strip_prefix(start));
        let wrong = |got: &str| Error::Address { url: url.clone(), got: got.to_owned() };
        let host = match rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default()) {
            None => return Err(wrong("another beginning")),
            Some("") => return Err(wrong("no host")),
            Some(host) if host.contains('@') => return Err(wrong("a user before the host")),
            Some(host) => host.to_owned(),
        };
        let path = url.trim_end_matches('/');
        *url = match path.ends_with("/chat/completions") {
            true => path.to_owned(),
            false => format!("{path}/chat/completions"),
        };
        let patience = settings.patience;
        let builder = AgentBuilder::new()
            // The proxy is for what is not on this machine.
            .try_proxy_from_env(!is_own(&host))
            .timeout_connect(patience.silence)
            .timeout_read(patience.silence)
            .timeout_write(patience.silence)
            .redirects(0)
            .user_agent(concat!("softsae/", env!("CARGO_PKG_VERSION")));
        let dialect = Mutex::new(Dialect { bound: "max_tokens", has_temperature: true });
        Ok(Self { settings, agent: builder.build(), dialect })
    }

    /// The name of the model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.settings.model
    }

    /// The answer to a chat.
    pub(crate) fn ask(&self, messages: &[Message], spent: &Spent) -> Result<Reply> {
        let mut n_failed = 0;
        loop {
            spent.request()?;
            let dialect = *self.dialect.lock().expect("no holder panics");
            let (got, wanted) = match self.attempt(messages, dialect) {
                Ok(reply) => {
                    spent.tokens(reply.tokens);
                    return Ok(reply);
                }
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Dialect(other)) => {
                    *self.dialect.lock().expect("no holder panics") = other;
                    continue;
                }
                Err(Failure::Passing(got, wanted)) => (got, wanted),
            };
            n_failed += 1;
            let (url, patience) = (self.settings.url.clone(), self.settings.patience);
            if n_failed >= patience.attempts {
                return Err(Error::Unreachable { url, got, attempts: n_failed });
            }
            let longest = patience.longest_asked;
            if let Some(wanted) = wanted.filter(|wanted| *wanted > longest) {
                return Err(Error::Wait { url, wanted, longest });
            }
            patience.wait(n_failed, wanted);
        }
    }

    fn attempt(&self, messages: &[Message], dialect: Dialect) -> Result<Reply, Failure> {
        let Settings { url, model, key, answer_tokens, .. } = &self.settings;
        let mut body = json!({"model": model, "messages": messages, "stream": false});
        body[dialect.bound] = json!(answer_tokens);
        if dialect.has_temperature {
            body["temperature"] = json!(0);
        }
        let body = body.to_string();
        let mut request = self.agent.post(url).set("Content-Type", "application/json");
        if let Some(key) = key {
            request = request.set("Authorization", &format!("Bearer {key}"));
        }
        let response = match request.send_string(&body) {
            Ok(response) => response,
            Err(ureq::Error::Status(status, response)) => {
                return Err(self.refusal(status, response, dialect));
            }
            Err(ureq::Error::Transport(error)) => {
                return Err(Failure::Passing(error.to_string(), None));
            }
        };
        let status = response.status();
        if status != 200 {
            let said = said(response);
            return Err(Failure::Lasting(Error::Refused { url: url.clone(), status, said }));
        }
        let text = read(response).map_err(|got| Failure::Passing(got, None))?;
        reply(&text, body.len()).map_err(|got| Failure::Passing(got, None))
    }

    /// What an answer of another status than 200 means.
    fn refusal(&self, status: u16, response: Response, dialect: Dialect) -> Failure {
        let wanted = response.header("Retry-After").and_then(wanted_wait);
        let said = said(response);
        let is_spent = said.contains("insufficient_quota");
        match status {
            429 if !is_spent => Failure::Passing(format!("status 429: {said}"), wanted),
            408 | 409 | 425 | 500..=599 => {
                Failure::Passing(format!("status {status}: {said}"), wanted)
            }
            400 if dialect.bound == "max_tokens" && said.contains("max_completion_tokens") => {
                Failure::Dialect(Dialect { bound: "max_completion_tokens", ..dialect })
            }
            400 if dialect.has_temperature && said.contains("temperature") => {
                Failure::Dialect(Dialect { has_temperature: false, ..dialect })
            }
            _ => Failure::Lasting(Error::Refused { url: self.settings.url.clone(), status, said }),
        }
    }
}

/// Whether a host is this machine.
fn is_own(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| name == "localhost" || name == "::1" || name.starts_with("127."))
}

fn read(response: Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = response.into_reader().take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("an answer of more than {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "an answer that is no UTF-8".to_owned())
}

/// The beginning of what an endpoint says, on one line.
fn said(response: Response) -> String {
    let text = read(response).unwrap_or_default();
    let message = serde_json::from_str::<Value>(&text).ok().and_then(|value| {
        let error = value.get("error")?;
        let texts = ["code", "message"].map(|key| error.get(key).and_then(Value::as_str));
        let texts: Vec<&str> = texts.into_iter().flatten().collect();
        (!texts.is_empty()).then(|| texts.join(": "))
    });
    shortened(message.as_deref().unwrap_or(&text))
}

/// The beginning of a text, on one line and without characters that terminals obey.
pub(crate) fn shortened(text: &str) -> String {
    let seen = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.trim().chars().take(MAX_SAID).map(seen).collect();
    if line.is_empty() { "nothing".to_owned() } else { line }
}

fn reply(text: &str, asked_bytes: usize) -> Result<Reply, String> {
    let completion: Completion = serde_json::from_str(text)
        .map_err(|error| format!("{:?}, which is no chat completion ({error})", shortened(text)))?;
    let counted = completion.usage.and_then(|usage| {
        let sum = || Some(usage.prompt_tokens?.saturating_add(usage.completion_tokens?));
        usage.total_tokens.or_else(sum)
    });
    let choice = completion.choices.into_iter().next();
    let choice = choice.ok_or("a chat completion without choices")?;
    let text = choice.message.content.unwrap_or_default();
    let tokens = counted.unwrap_or(((asked_bytes + text.len()) / 4) as u64);
    Ok(Reply { text, tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_chats() {
        let url = |url: &str| {
            let settings = Settings { url: url.into(), ..Settings::default() };
            Endpoint::new(settings).map(|endpoint| endpoint.settings.url)
        };
        let expected = "https://a.b/v1/chat/completions";
        for given in ["https://a.b/v1", "https://a.b/v1/", "https://a.b/v1/chat/completions/"] {
            assert_eq!(url(given).unwrap(), expected);
        }
        for wrong in ["a.b/v1", "ftp://a.b", "http://", "https:///v1", "http://me:secret@a.b"] {
            assert!(matches!(url(wrong), Err(Error::Address { .. })), "{wrong}");
        }
        for (host, own) in [
            ("localhost:80", true),
            ("127.0.0.1", true),
            ("[::1]:8080", true),
            ("localhost.example.org", false),
            ("10.0.0.1:127", false),
        ] {
            assert_eq!(is_own(host), own, "{host}");
        }
    }

    #[test]
    fn answers_are_completions_and_nothing_else() {
        let content = r#"{"choices": [{"message": {"content": "hello", "role": "x"}}], "id": 3"#;
        let of = |rest: &str| reply(&format!("{content}{rest}"), 95);
        let expected = |tokens| Ok(Reply { text: "hello".into(), tokens });
        assert_eq!(of(r#", "usage": {"total_tokens": 7}}"#), expected(7));
        assert_eq!(of(r#", "usage": {"prompt_tokens": 7, "completion_tokens": 2}}"#), expected(9));
        assert_eq!(of(r#", "usage": {"prompt_tokens": 7}}"#), expected(25));
        assert_eq!(of(r#", "usage": null}"#), expected(25));
        let empty = reply(r#"{"choices": [{"message": {"content": null}}]}"#, 8).unwrap();
        assert_eq!(empty.text, "");
        for wrong in ["", "<html>", "{}", r#"{"choices": []}"#, r#"{"choices": [{}]}"#] {
            assert!(reply(wrong, 1).is_err(), "{wrong}");
        }
    }
}
