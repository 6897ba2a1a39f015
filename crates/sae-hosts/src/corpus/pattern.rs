//! Patterns of paths: `*`, `?` and `**`.

/// Whether a path fits a pattern: `*` stands for any characters of a name, `?` for one, `**` for
/// any characters of any names; `**/` for no folder too.
pub(super) fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), path.chars().collect());
    // Which starts of the path the pattern so far fits.
    let mut fitting = vec![false; path.len() + 1];
    fitting[0] = true;
    let mut rest = pattern.as_slice();
    while let Some(&first) = rest.first() {
        let is_deep = rest.starts_with(&['*', '*']);
        let mut next = vec![false; path.len() + 1];
        if first == '*' {
            let into_folder = is_deep && rest.get(2) == Some(&'/');
            for at in 0..=path.len() {
                let passes = |from: usize| is_deep || path[from] != '/';
                next[at] = fitting[at] || at > 0 && next[at - 1] && passes(at - 1);
            }
            if into_folder {
                // `**/` ends behind a slash, or is nothing at all.
                let reached = next;
                next = fitting.clone();
                for at in 1..=path.len() {
                    next[at] |= reached[at - 1] && path[at - 1] == '/';
                }
            }
            rest = &rest[if into_folder { 3 } else { 1 + usize::from(is_deep) }..];
        } else {
            for at in 1..=path.len() {
                let fits = path[at - 1] == first || first == '?' && path[at - 1] != '/';
                next[at] = fitting[at - 1] && fits;
            }
            rest = &rest[1..];
        }
        fitting = next;
    }
    fitting[path.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fits;

    #[test]
    fn patterns_fit_what_they_say() {
        for (pattern, path, expected) in [
            ("data/train-*", "data/train-00000-of-00002.parquet", true),
            ("data/train-*", "data/test-00000-of-00002.parquet", false),
            ("*.parquet", "data/a.parquet", false),
            ("**/*.parquet", "data/en/a.parquet", true),
            ("**/*.parquet", "a.parquet", true),
            ("**.parquet", "data/en/a.parquet", true),
            ("data/**", "data/en/a.parquet", true),
            ("d?ta/*", "data/a", true),
            ("?", "/", false),
            ("**/a", "ba", false),
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
        ] {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
    }

    /// The definition, without anything clever.
    fn slow(pattern: &[char], path: &[char]) -> bool {
        match (pattern, path) {
            (['*', '*', '/', rest @ ..], _) => {
                slow(rest, path)
                    || (1..=path.len()).any(|at| path[at - 1] == '/' && slow(rest, &path[at..]))
            }
            (['*', '*', rest @ ..], _) => (0..=path.len()).any(|at| slow(rest, &path[at..])),
            (['*', rest @ ..], _) => (0..=path.len())
                .take_while(|at| *at == 0 || path[at - 1] != '/')
                .any(|at| slow(rest, &path[at..])),
            (['?', rest @ ..], [first, path @ ..]) => *first != '/' && slow(rest, path),
            ([one, rest @ ..], [first, path @ ..]) => one == first && slow(rest, path),
            ([], path) => path.is_empty(),
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_fit_as_defined(pattern in "[ab*?/]{0,8}", path in "[ab/]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<char>>();
            prop_assert_eq!(fits(&pattern, &path), slow(&chars(&pattern), &chars(&path)));
        }
    }
}
