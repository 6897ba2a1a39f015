//! What an endpoint sends back.

use std::io::Read as _;

use serde::Deserialize;
use serde_json::Value;
use ureq::Response;

/// Bytes of an answer at most.
const MAX_BYTES: u64 = 8 << 20;

/// Characters of what an endpoint says of a failure that are shown.
const MAX_SAID: usize = 300;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) text: String,
    /// Tokens of prompt and answer, as the endpoint counts them, else a quarter of the bytes.
    pub(crate) tokens: u64,
    /// Whether it ended at the bound on its tokens: what it says may be half of something.
    pub(crate) is_cut_off: bool,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Content,
    finish_reason: Option<String>,
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

pub(super) fn read(response: Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = response.into_reader().take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("an answer of more than {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "an answer that is no UTF-8".to_owned())
}

/// The beginning of what an endpoint says, on one line.
pub(super) fn said(response: Response) -> String {
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

pub(super) fn reply(text: &str, asked_bytes: usize) -> Result<Reply, String> {
    let completion: Completion = serde_json::from_str(text)
        .map_err(|error| format!("{:?}, which is no chat completion ({error})", shortened(text)))?;
    let counted = completion.usage.and_then(|usage| {
        let sum = || Some(usage.prompt_tokens?.saturating_add(usage.completion_tokens?));
        usage.total_tokens.or_else(sum)
    });
    let choice = completion.choices.into_iter().next();
    let choice = choice.ok_or("a chat completion without choices")?;
    let is_cut_off = choice.finish_reason.is_some_and(|reason| reason == "length");
    let text = choice.message.content.unwrap_or_default();
    let tokens = counted.unwrap_or(((asked_bytes + text.len()) / 4) as u64);
    Ok(Reply { text, tokens, is_cut_off })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_completions_and_nothing_else() {
        let content = r#"{"choices": [{"message": {"content": "hello", "role": "x"}}], "id": 3"#;
        let of = |rest: &str| reply(&format!("{content}{rest}"), 95);
        let expected = |tokens| Ok(Reply { text: "hello".into(), tokens, is_cut_off: false });
        assert_eq!(of(r#", "usage": {"total_tokens": 7}}"#), expected(7));
        assert_eq!(of(r#", "usage": {"prompt_tokens": 7, "completion_tokens": 2}}"#), expected(9));
        assert_eq!(of(r#", "usage": {"prompt_tokens": 7}}"#), expected(25));
        assert_eq!(of(r#", "usage": null}"#), expected(25));
        let empty = reply(r#"{"choices": [{"message": {"content": null}}]}"#, 8).unwrap();
        assert_eq!(empty.text, "");
        for (reason, is_cut_off) in [("\"length\"", true), ("\"stop\"", false), ("null", false)] {
            let text = format!(
                r#"{{"choices": [{{"message": {{"content": "a"}}, "finish_reason": {reason}}}]}}"#
            );
            assert_eq!(reply(&text, 8).unwrap().is_cut_off, is_cut_off, "{reason}");
        }
        for wrong in ["", "<html>", "{}", r#"{"choices": []}"#, r#"{"choices": [{}]}"#] {
            assert!(reply(wrong, 1).is_err(), "{wrong}");
        }
    }
}
