//! Requests to the hub, tried again where that may help.

use std::io::Read as _;
use std::time::Duration;

use ureq::{Agent, AgentBuilder, ErrorKind, RedirectAuthHeaders, Response};

use crate::{Error, Result};

/// Bytes of a list of files at most; what is longer is no JSON where it is cut off.
const MAX_BODY: u64 = 1 << 30;

/// How long is waited for the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Failures in a row after which nothing more is tried.
    pub attempts: u32,
    /// The wait after the first failure; it doubles with each that follows.
    pub first_wait: Duration,
    /// The longest wait, also where the hub asks for a longer one.
    pub longest_wait: Duration,
    /// How long a connection may be silent.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            silence: Duration::from_secs(60),
        }
    }
}

impl Patience {
    /// Waits after the `n`-th failure in a row; `wanted` is what the hub asked for.
    pub(crate) fn wait(&self, n: u32, wanted: Option<Duration>) {
        let own = self.first_wait.saturating_mul(1 << n.saturating_sub(1).min(16));
        std::thread::sleep(wanted.unwrap_or(own).min(self.longest_wait));
    }
}

/// What a request is for.
pub(crate) struct Request<'a> {
    pub(crate) url: &'a str,
    /// The repository or file, for messages.
    pub(crate) what: &'a str,
    /// The first byte that is wanted.
    pub(crate) from: u64,
}

/// Sends requests with the user's token.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Follows redirects; the token goes to the hub alone.
    following: Agent,
    /// Shows redirects.
    plain: Agent,
    token: Option<String>,
    pub(crate) patience: Patience,
}

/// Why an attempt failed.
enum Failure {
    /// Another attempt may do better, after a wait that the hub may name.
    Passing(String, Option<Duration>),
    Lasting(Error),
}

impl Client {
    pub(crate) fn new(token: Option<String>, patience: Patience) -> Self {
        let builder = || {
            AgentBuilder::new()
                .try_proxy_from_env(true)
                .timeout_connect(patience.silence)
                .timeout_read(patience.silence)
                .redirect_auth_headers(RedirectAuthHeaders::SameHost)
                .user_agent(concat!("softsae/", env!("CARGO_PKG_VERSION")))
        };
        let plain = builder().redirects(0).build();
        Self { following: builder().build(), plain, token, patience }
    }

    /// The answer to a request.
    pub(crate) fn get(&self, request: &Request<'_>) -> Result<Response> {
        self.retried(request.what, || self.ask(request))
    }

    /// The whole body of the answer to a request; one that breaks off is asked for again.
    pub(crate) fn body(&self, request: &Request<'_>) -> Result<Vec<u8>> {
        self.retried(request.what, || {
            let mut body = Vec::new();
            let read = self.ask(request)?.into_reader().take(MAX_BODY).read_to_end(&mut body);
            read.map(|_| body).map_err(|error| Failure::Passing(error.to_string(), None))
        })
    }

    fn ask(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let mut sent = self.following.get(request.url).set("Accept-Encoding", "identity");
        if request.from > 0 {
            sent = sent.set("Range", &format!("bytes={}-", request.from));
        }
        self.send(sent, request.what)
    }

    /// The headers of a file as the hub itself gives them, not the place that it leads on to.
    pub(crate) fn head(&self, url: &str, what: &str) -> Result<Response> {
        let mut url = url.to_owned();
        for _ in 0..8 {
            let response = self.retried(what, || {
                let sent = self.plain.head(&url).set("Accept-Encoding", "identity");
                self.send(sent, what)
            })?;
            // The hub leads from old names of repositories to new ones by paths, and to the
            // contents of large files by whole addresses.
            let next = response.header("Location").filter(|next| next.starts_with('/'));
            match next {
                Some(next) if (300..400).contains(&response.status()) => {
                    url = format!("{}{next}", origin(&url));
                }
                _ => return Ok(response),
            }
        }
        Err(Error::answer(what, "Location", "an end of the redirects", "another"))
    }

    fn send(&self, request: ureq::Request, what: &str) -> Result<Response, Failure> {
        let request = match &self.token {
            Some(token) => request.set("Authorization", &format!("Bearer {token}")),
            None => request,
        };
        match request.call() {
            Ok(response) => Ok(response),
            Err(ureq::Error::Status(status, response)) => {
                Err(self.refusal(status, &response, what))
            }
            Err(ureq::Error::Transport(error)) => Err(match error.kind() {
                // The settings of this machine say so as often as they are asked.
                ErrorKind::InvalidUrl | ErrorKind::UnknownScheme | ErrorKind::InvalidProxyUrl => {
                    Failure::Lasting(Error::answer(what, "address", "one of http or https", error))
                }
                _ => Failure::Passing(error.to_string(), None),
            }),
        }
    }

    fn refusal(&self, status: u16, response: &Response, what: &str) -> Failure {
        let what = what.to_owned();
        // The hub hides what a token may not see behind 401, and says so in a header.
        let is_absent = response.header("X-Error-Code").is_some_and(|code| {
            matches!(code, "RepoNotFound" | "RevisionNotFound" | "EntryNotFound")
        });
        match status {
            404 => Failure::Lasting(Error::NotFound { what }),
            401 if is_absent && self.token.is_some() => Failure::Lasting(Error::NotFound { what }),
            401 | 403 => {
                let token = if self.token.is_some() { "this token" } else { "no token" };
                let code = response
                    .header("X-Error-Code")
                    .map_or(String::new(), |code| format!(", {code}"));
                Failure::Lasting(Error::Access {
                    what,
                    got: format!("{token} (status {status}{code})"),
                })
            }
            408 | 425 | 429 | 500..=599 => {
                let seconds = response.header("Retry-After").and_then(|wait| wait.parse().ok());
                Failure::Passing(format!("status {status}"), seconds.map(Duration::from_secs))
            }
            _ => Failure::Lasting(Error::answer(what, "status", "200", status)),
        }
    }

    fn retried<T>(&self, what: &str, attempt: impl Fn() -> Result<T, Failure>) -> Result<T> {
        let mut n = 0;
        loop {
            match attempt() {
                Ok(answer) => return Ok(answer),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(got, wanted)) => {
                    n += 1;
                    if n >= self.patience.attempts {
                        return Err(Error::Unreachable { what: what.to_owned(), got, attempts: n });
                    }
                    self.patience.wait(n, wanted);
                }
            }
        }
    }
}

/// Scheme and host of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    &url[..url[host..].find('/').map_or(url.len(), |at| host + at)]
}
