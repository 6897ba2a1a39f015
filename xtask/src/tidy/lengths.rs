//! The rule of lengths: a file of Rust has at most 300 lines, a front page 120, a function 60.

mod tokens;

use std::path::Path;

use anyhow::{Context as _, Result};

use super::files::walk;
use tokens::tokens;

const MAX_LINES: usize = 300;
const MAX_LIB_LINES: usize = 120;
const MAX_FUNCTION_LINES: usize = 60;

/// What may be longer, and why: a file by its path, a function as `path: name`.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// Every fault of the files of the workspace at `root`.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for folder in ["crates", "xtask", "benches"] {
        for path in walk(&root.join(folder))? {
            if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                let text = std::fs::read_to_string(&path).with_context(|| name.clone())?;
                faults.extend(check_text(&name, &text));
            }
        }
    }
    faults.sort();
    Ok(faults)
}

fn check_text(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |place: &str, limit: usize, n_lines: usize| {
        if n_lines > limit && !EXCEPTIONS.iter().any(|(exception, _)| *exception == place) {
            faults.push(format!("{place}: expected at most {limit} lines, got {n_lines}"));
        }
    };
    let limit = if name.ends_with("/lib.rs") { MAX_LIB_LINES } else { MAX_LINES };
    check(name, limit, text.lines().count());
    for (function, n_lines) in functions(text) {
        check(&format!("{name}: {function}"), MAX_FUNCTION_LINES, n_lines);
    }
    faults
}

/// A function whose body has not been closed.
struct Open<'a> {
    name: &'a str,
    line: usize,
    /// Brackets around it.
    depth: usize,
}

/// The functions of a text in the order of their ends, and the lines of each from `fn` to its last
/// brace. The lines of a function in another count for both.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    // Of each bracket that is open, the function whose body it begins.
    let mut brackets: Vec<Option<Open<'_>>> = Vec::new();
    let mut declared: Option<Open<'_>> = None;
    let mut fn_line = None;
    for token in tokens(text) {
        let depth = brackets.len();
        // A type such as `fn(usize)` has no name.
        let line = fn_line.take();
        match token.text {
            "fn" => fn_line = Some(token.line),
            "{" => brackets.push(declared.take_if(|open| open.depth == depth)),
            "(" | "[" => brackets.push(None),
            "}" | ")" | "]" => {
                if let Some(Some(Open { name, line, .. })) = brackets.pop() {
                    found.push((name, token.line - line + 1));
                }
            }
            ";" => declared = declared.filter(|open| open.depth != depth),
            name => {
                if let Some(line) = line {
                    declared = Some(Open { name, line, depth });
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn files_and_functions_that_are_too_long_are_faults() {
        let text = |n_lines: usize| format!("//! A file.\n{}", "\n".repeat(n_lines - 1));
        let check = |name: &str, text: &str| check_text(name, text);
        for (name, limit) in [
            ("a/src/b.rs", MAX_LINES),
            ("a/tests/c.rs", MAX_LINES),
            ("a/src/lib.rs", MAX_LIB_LINES),
        ] {
            assert_eq!(check(name, &text(limit)), [""; 0]);
            let fault = format!("{name}: expected at most {limit} lines, got {}", limit + 1);
            assert_eq!(check(name, &text(limit + 1)), [fault]);
        }
        let function = |n_lines: usize| format!("fn long() {{\n{}}}\n", "\n".repeat(n_lines - 2));
        assert_eq!(check("b.rs", &function(MAX_FUNCTION_LINES)), [""; 0]);
        assert_eq!(
            check("b.rs", &function(MAX_FUNCTION_LINES + 1)),
            ["b.rs: long: expected at most 60 lines, got 61"]
        );
    }

    #[test]
    fn functions_are_measured_from_their_name_to_their_last_brace() {
        assert_eq!(functions("/// Documented.\n#[test]\npub fn a() {}\n"), [("a", 1)]);
        assert_eq!(functions("fn a(\n    b: [u8; 2],\n) -> u8 {\n    0\n}\n"), [("a", 5)]);
        assert_eq!(
            functions("fn outer() {\n    fn inner() {\n    }\n}"),
            [("inner", 2), ("outer", 4)]
        );
        // Neither a type nor a method without a body is one.
        let text =
            "trait T {\n    fn a(&self);\n    fn b(&self) {\n    }\n}\ntype F = fn(u8) -> u8;\n";
        assert_eq!(functions(text), [("b", 2)]);
        assert_eq!(functions("fn a(b: fn(u8)) {\n    b(1);\n    S { c: 1 };\n}\n"), [("a", 4)]);
    }

    #[test]
    fn braces_in_texts_and_comments_open_nothing() {
        for inside in [
            "\"{\"",
            r#""\"{""#,
            r##"r"\{""##,
            r###"r#"{"{"#"###,
            "b\"{\"",
            "br#\"{\"#",
            "c\"{\"",
            "'{'",
            r"'\''; '{'",
            r"'\u{7b}'",
            "b'{'",
            "// {",
            "/* { /* { */ { */",
            "/// It's {",
            "x as &'static str",
            "'outer: loop {}",
            "r#fn",
        ] {
            let text = format!("fn a<'a>() {{\n    {inside}\n}}\nfn b() {{}}\n");
            assert_eq!(functions(&text), [("a", 3), ("b", 1)], "{inside}");
        }
    }

    #[test]
    fn brackets_of_all_files_of_the_workspace_are_understood() {
        let workspace = Workspace::find();
        let mut n_functions = 0;
        for path in walk(&workspace.root().join("crates")).unwrap() {
            if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let mut open = Vec::new();
                for token in tokens(&text) {
                    match token.text {
                        "(" | "[" | "{" => open.push(token.text),
                        ")" => assert_eq!(open.pop(), Some("("), "{path:?}:{}", token.line),
                        "]" => assert_eq!(open.pop(), Some("["), "{path:?}:{}", token.line),
                        "}" => assert_eq!(open.pop(), Some("{"), "{path:?}:{}", token.line),
                        _ => {}
                    }
                }
                assert!(open.is_empty(), "{path:?}");
                n_functions += functions(&text).len();
            }
        }
        assert!(n_functions > 1000, "{n_functions}");
    }
}
