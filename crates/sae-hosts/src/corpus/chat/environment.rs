//! What templates of chats find around them, as transformers gives it to them.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::TEMPLATE;
use super::python::{self, Day};

/// An environment with the template in it; else why it is none.
pub(super) fn build(template: &str, date: Option<&str>) -> Result<Environment<'static>, String> {
    let day = date.map(Day::parse).transpose()?;
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| message(&error))?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(|state, value, method, arguments| {
        match (value.as_str(), method, arguments) {
            // Words begin behind every sign that is no letter, as they do not there.
            (Some(text), "title", []) => Ok(Value::from(python::title(text))),
            _ => unknown_method_callback(state, value, method, arguments),
        }
    });
    environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, text))
    });
    environment.add_function("strftime_now", move |format: String| match day {
        Some(day) => day.format(&format).map_err(invalid),
        None => Err(invalid("the date, which `chat.date` has to name".to_owned())),
    });
    environment.add_filter("tojson", |value: Value, options: Kwargs| {
        let indent: Option<usize> = options.get("indent")?;
        let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
        options.assert_all_used()?;
        if ensure_ascii == Some(true) {
            return Err(invalid("`tojson` with `ensure_ascii`, which is off here".to_owned()));
        }
        python::dumps(&value, indent).map_err(invalid)
    });
    environment.set_formatter(|out, _state, value| {
        let text = match value.kind() {
            ValueKind::Undefined => return Ok(()),
            ValueKind::None => "None".to_owned(),
            ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
            ValueKind::Number => python::number(value).map_err(invalid)?,
            ValueKind::String => value.to_string(),
            other => return Err(invalid(format!("a {other} that is written as Python writes it"))),
        };
        out.write_str(&text).map_err(Error::from)
    });
    environment
        .add_template_owned(TEMPLATE, without_generation(template))
        .map_err(|error| message(&error))?;
    Ok(environment)
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, text)
}

/// What went wrong, and in which line of the template.
pub(super) fn message(error: &Error) -> String {
    let text = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("line {line} of the template: {text}"),
        None => text,
    }
}

/// The template without `{% generation %}` and `{% endgeneration %}`, which write nothing: a
/// condition that always holds takes their place, so that white space is trimmed as around them.
fn without_generation(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + length];
        let name = tag.trim_matches(['-', '+']).trim();
        let instead = match name {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        text.push_str(&rest[..start + 2]);
        match instead {
            Some(instead) => text.push_str(&tag.replacen(name, &format!(" {instead} "), 1)),
            None => text.push_str(tag),
        }
        text.push_str("%}");
        rest = &rest[start + length + 2..];
    }
    text.push_str(rest);
    text
}
