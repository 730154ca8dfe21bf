//! Text without its markup, to see how much style alone moves a judge.

/// Removes tags (`<think>`), code fences, heading, quote and list marks at the start of lines, and bold or italic marks
/// (`**`, `__`). Words, numbers and order stay.
pub(super) fn strip_markup(text: &str) -> String {
    let mut stripped: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("```") || line.starts_with("~~~") {
            continue;
        }
        let line = without_tags(without_line_marks(line)).replace("**", "").replace("__", "");
        stripped.push(line.trim().to_owned());
    }
    stripped.join("\n").trim().to_owned()
}

/// The line without `#`, `>`, `-`, `*` and `+` marks before its text. A mark without a space behind it is no mark: `-5` and
/// `#### 18` differ in that, and the answer marker stays.
fn without_line_marks(line: &str) -> &str {
    let mut rest = line;
    loop {
        let marks = rest.bytes().take_while(|byte| b"#>-*+".contains(byte)).count();
        let is_answer = rest.starts_with("####");
        match rest[marks..].strip_prefix(' ') {
            Some(text) if marks > 0 && !is_answer => rest = text.trim_start(),
            _ => return rest,
        }
    }
}

/// The line without `<name ...>` and `</name>`. `a < b` is no tag.
fn without_tags(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('<') {
        kept.push_str(before);
        let name = after.strip_prefix(['/', '|']).unwrap_or(after);
        match after.split_once('>') {
            Some((tag, behind))
                if name.starts_with(|first: char| first.is_ascii_alphabetic()) && !tag.contains('<') =>
            {
                rest = behind;
            }
            _ => {
                kept.push('<');
                rest = after;
            }
        }
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_stay_and_marks_go() {
        let text = "<think>\n## Plan\n- **Add** 5 and 3\n> 5 + 3 = 8\n```python\nprint(8)\n```\na < b and c > d\n</think>\n\
                    -5 is less\n#### 8";
        let expected = "Plan\nAdd 5 and 3\n5 + 3 = 8\nprint(8)\na < b and c > d\n\n-5 is less\n#### 8";
        assert_eq!(strip_markup(text), expected);
    }

    proptest! {
        #[test]
        fn stripping_keeps_letters_and_digits_outside_tags(text in "[a-z0-9 #>*_\n-]{0,60}") {
            let word = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
            prop_assert_eq!(word(&strip_markup(&text)), word(&text));
        }
    }
}
