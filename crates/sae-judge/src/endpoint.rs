//! An endpoint that speaks OpenAI's chat interface.

mod reply;
mod retries;

use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;
use ureq::{Agent, AgentBuilder, Response};

use crate::budget::Spent;
use crate::prompts::Message;
use crate::{Error, Result};
pub(crate) use reply::shortened;
use reply::{Reply, read, reply, said};
pub use retries::Patience;
use retries::wanted_wait;

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

/// Why an attempt failed.
enum Failure {
    /// Another attempt may do better, after a wait that the endpoint may name.
    Passing(String, Option<Duration>),
    /// Another attempt in another dialect may do better.
    Dialect(Dialect),
    Lasting(Error),
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
}
