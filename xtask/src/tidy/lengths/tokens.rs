//! The words and brackets of Rust, without comments, texts and characters.

/// A word, a bracket or a semicolon.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// Its line, from 1.
    pub(super) line: usize,
}

/// The tokens of a text, in order.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut rest, mut line) = (text, 1);
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let literal = comment(rest).or_else(|| string(rest)).or_else(|| character(rest));
        let length = literal.unwrap_or_else(|| word(rest).max(first.len_utf8()));
        let (text, after) = rest.split_at(length);
        if literal.is_none() && (is_of_word(first) || "(){}[];".contains(first)) {
            tokens.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the word that a text begins with; `r#` belongs to it.
fn word(text: &str) -> usize {
    let raw = if text.starts_with("r#") { 2 } else { 0 };
    raw + text[raw..].find(|c| !is_of_word(c)).unwrap_or(text.len() - raw)
}

/// The length of the comment that a text begins with; comments in comments belong to it.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

/// The length of the string that a text begins with, of whatever kind.
fn string(text: &str) -> Option<usize> {
    let body = text.trim_start_matches(['b', 'c', 'r']);
    let prefix = text.len() - body.len();
    if text[..prefix].ends_with('r') {
        let n_hashes = body.len() - body.trim_start_matches('#').len();
        let content = body[n_hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(n_hashes));
        let n_bytes = content.find(&end).map_or(content.len(), |at| at + end.len());
        return Some(prefix + n_hashes + 1 + n_bytes);
    }
    let content = body.strip_prefix('"')?;
    let mut bytes = content.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(prefix + 1 + at + 1),
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
    Some(text.len())
}

/// The length of the character that a text begins with; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix("b'").or(text.strip_prefix('\''))?;
    let first = body.chars().next()?;
    // What is escaped may be a quote itself.
    let n_bytes = if first == '\\' { 2 + body.get(2..)?.find('\'')? } else { first.len_utf8() };
    let is_closed = body[n_bytes..].starts_with('\'');
    is_closed.then(|| text.len() - body.len() + n_bytes + 1)
}
