//! What a model's answer says.

/// Longer labels are none.
const MAX_LABEL: usize = 500;

/// What the last line that begins with `LABEL:` says.
pub(crate) fn label(answer: &str) -> Option<String> {
    let answer = said(answer);
    let is_sign = |c: char| "*_#>`".contains(c) || c.is_whitespace();
    let of_line = |line: &str| {
        let line = line.trim_matches(is_sign);
        let (start, rest) = line.split_at_checked(6)?;
        let label = start.eq_ignore_ascii_case("label:").then(|| rest.trim_matches(is_sign))?;
        Some(label.to_owned())
    };
    let label = answer.lines().rev().find_map(of_line)?;
    (!label.is_empty() && label.chars().count() <= MAX_LABEL).then_some(label)
}

/// The last list of `n` times yes or no.
pub(crate) fn list(answer: &str, n: usize) -> Option<Vec<bool>> {
    let answer = said(answer);
    let starts = answer.rmatch_indices('[').map(|(at, _)| &answer[at + 1..]);
    let inside = starts.filter_map(|rest| Some(&rest[..rest.find(']')?]));
    let of_list = |text: &str| {
        let answers = text.split(',').map(|one| match one.trim().to_lowercase().as_str() {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        });
        answers.collect::<Option<Vec<bool>>>()
    };
    inside.filter_map(of_list).find(|found| found.len() == n)
}

/// An answer without what the model has thought before it, where the endpoint leaves that in.
fn said(answer: &str) -> &str {
    answer.rsplit_once("</think>").map_or(answer, |(_, said)| said)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_are_told_from_what_stands_around_them() {
        for (answer, expected) in [
            ("LABEL: a verb", Some("a verb")),
            ("I think.\n\n**Label:** *a verb*\n", Some("a verb")),
            ("label: first\nLABEL: second\nThat is all.", Some("second")),
            ("## LABEL: x: y", Some("x: y")),
            ("a verb", None),
            ("LABEL:", None),
            ("", None),
            ("é", None),
            ("The LABEL: is hard", None),
            ("<think>\nLABEL: a draft\n</think>\nLABEL: a verb", Some("a verb")),
            ("<think>\nLABEL: a draft\n</think>\nI cannot tell.", None),
        ] {
            assert_eq!(label(answer).as_deref(), expected, "{answer:?}");
        }
        assert!(label(&format!("LABEL: {}", "é".repeat(MAX_LABEL))).is_some());
        assert!(label(&format!("LABEL: {}", "é".repeat(MAX_LABEL + 1))).is_none());
    }

    #[test]
    fn lists_are_as_long_as_what_was_asked() {
        let (yes, no) = (true, false);
        for (answer, n, expected) in [
            ("[1, 0, 1]", 3, Some(vec![yes, no, yes])),
            ("Text [1] has it.\n[0,1]", 2, Some(vec![no, yes])),
            ("[0, 1] since text [2] does", 2, Some(vec![no, yes])),
            ("```\n[True, false]\n```", 2, Some(vec![yes, no])),
            ("[1, 0]", 3, None),
            ("[1, 2]", 2, None),
            ("[1, 0", 2, None),
            ("1, 0", 2, None),
            ("[]", 1, None),
            ("<think>[1, 0]?</think>[0, 1]", 2, Some(vec![no, yes])),
            ("<think>[1, 0]?</think>none", 2, None),
        ] {
            assert_eq!(list(answer, n), expected, "{answer:?}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_not(answer in "(LABEL:|\\[|\\]|,|0|1|é|\\n|.){0,30}", n in 1usize..4) {
            if let Some(found) = list(&answer, n) {
                prop_assert_eq!(found.len(), n);
            }
            if let Some(found) = label(&answer) {
                prop_assert!(!found.is_empty() && !found.contains('\n'));
            }
        }

        #[test]
        fn a_list_comes_back_whatever_stands_before_it(
            before in "[a-z\\[ ,1]{0,12}", expected in prop::collection::vec(any::<bool>(), 1..6),
        ) {
            let text: Vec<&str> = expected.iter().map(|one| if *one { "1" } else { "0" }).collect();
            let answer = format!("{before}[{}]", text.join(", "));
            prop_assert_eq!(list(&answer, expected.len()), Some(expected));
        }
    }
}
