//! A small server that speaks OpenAI's chat interface: it answers by rule, and fails as told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Answers with these statuses first, the last of them first, and these headers and bodies.
    pub(crate) statuses: Vec<(u16, &'static str, &'static str)>,
    /// Breaks so many answers off in their middle.
    pub(crate) breaks: usize,
    /// Answers so many times with a page in place of JSON.
    pub(crate) pages: usize,
    /// Refuses `max_tokens` and `temperature`, as some models do.
    pub(crate) is_strict: bool,
    /// Answers with this text in place of what it is asked for.
    pub(crate) nonsense: Option<&'static str>,
    /// Says that answers ended at the bound on their tokens.
    pub(crate) is_cut_off: bool,
    /// Says nothing of the tokens used.
    pub(crate) is_silent: bool,
    /// Takes so long for an answer.
    pub(crate) delay: Duration,
}

/// A request as it came: its path, its key, its body.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) key: Option<String>,
    pub(crate) body: Value,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) faults: Arc<Mutex<Faults>>,
}

impl Server {
    pub(crate) fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let (seen, faults) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(faults)));
        let server = Self { address, seen: Arc::clone(&seen), faults: Arc::clone(&faults) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, faults) = (Arc::clone(&seen), Arc::clone(&faults));
                std::thread::spawn(move || answer(stream, &seen, &faults));
            }
        });
        server
    }

    pub(crate) fn n_seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut key) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => key = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { path, key, body: serde_json::from_slice(&body).ok()? })
}

fn answer(mut stream: TcpStream, seen: &Mutex<Vec<Seen>>, faults: &Mutex<Faults>) {
    let Some(request) = read(&stream) else { return };
    seen.lock().unwrap().push(request.clone());
    let (delay, response) = respond(&request, &mut faults.lock().unwrap());
    std::thread::sleep(delay);
    // A client that has gone is tested elsewhere.
    let _ = stream.write_all(response.as_bytes());
}

fn respond(request: &Seen, faults: &mut Faults) -> (Duration, String) {
    let http = |status: u16, headers: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let delay = faults.delay;
    if let Some((status, headers, body)) = faults.statuses.pop() {
        return (delay, http(status, headers, body));
    }
    let refusal = |key: &str, instead: &str| {
        let message = format!("Unsupported parameter: '{key}'. {instead}");
        http(400, "", &json!({"error": {"message": message}}).to_string())
    };
    if faults.is_strict && request.body.get("max_tokens").is_some() {
        return (delay, refusal("max_tokens", "Use 'max_completion_tokens' instead."));
    }
    if faults.is_strict && request.body.get("temperature").is_some() {
        return (delay, refusal("temperature", "Only the default is supported."));
    }
    if faults.pages > 0 {
        faults.pages -= 1;
        return (delay, http(200, "", "<html>Bad gateway</html>"));
    }
    let text = match faults.nonsense {
        Some(nonsense) => nonsense.to_owned(),
        None => by_rule(&request.body),
    };
    let message = json!({"role": "assistant", "content": text});
    let reason = if faults.is_cut_off { "length" } else { "stop" };
    let choice = json!({"index": 0, "message": message, "finish_reason": reason});
    let mut body = json!({"object": "chat.completion", "choices": [choice]});
    if !faults.is_silent {
        body["usage"] = json!({"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100});
    }
    let mut response = http(200, "Content-Type: application/json\r\n", &body.to_string());
    if faults.breaks > 0 {
        faults.breaks -= 1;
        response.truncate(response.len() - 20);
    }
    (delay, response)
}

/// The token that is listed first most often is the label; a text has the feature if it has the label in
/// it, marked where tokens are.
fn by_rule(body: &Value) -> String {
    let content = |at: usize| body["messages"][at]["content"].as_str().expect("a text");
    let (system, user) = (content(0), content(1));
    if system.contains("LABEL:") {
        let first = |line: &str| -> Option<String> {
            let listed = line.strip_prefix("Active on: ")?;
            serde_json::Deserializer::from_str(listed).into_iter().next()?.ok()
        };
        let tokens: Vec<String> = user.lines().filter_map(first).collect();
        let count = |token: &str| tokens.iter().filter(|other| *other == token).count();
        let most = tokens.iter().max_by_key(|token| (count(token), *token)).expect("tokens");
        return format!("I have looked at them.\nLABEL: the token {}", json!(most));
    }
    let label = user.lines().next().expect("a label");
    let (_, token) = label.split_once("the token ").expect("a label by rule");
    let token: String = serde_json::from_str(token).expect("a quoted token");
    let marks = system.split_once(" stand between ").and_then(|(_, rest)| {
        let (before, rest) = rest.split_once(" and ")?;
        Some([before, rest.split_once('.')?.0])
    });
    let has = |text: &str| match marks {
        Some([before, after]) => text
            .split(before)
            .skip(1)
            .filter_map(|rest| rest.split_once(after))
            .any(|(marked, _)| marked.contains(&token)),
        None => text.contains(&token),
    };
    let texts = user.lines().filter(|line| line.starts_with("Text "));
    let text = |line: &str| -> String {
        serde_json::from_str(line.split_once(": ").expect("a text").1).expect("a quoted text")
    };
    let list: Vec<&str> = texts.map(|line| if has(&text(line)) { "1" } else { "0" }).collect();
    format!("[{}]", list.join(", "))
}
