//! Text on the page: escaped for HTML, and token text with its invisible characters made visible.

use std::fmt::Write;

/// Text for an element or a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        push_escaped(&mut escaped, c);
    }
    escaped
}

fn push_escaped(escaped: &mut String, c: char) {
    match c {
        '&' => escaped.push_str("&amp;"),
        '<' => escaped.push_str("&lt;"),
        '>' => escaped.push_str("&gt;"),
        '"' => escaped.push_str("&quot;"),
        '\'' => escaped.push_str("&#39;"),
        // HTML has no reference for these.
        '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f'..='\u{9f}' => {
            escaped.push(char::REPLACEMENT_CHARACTER);
        }
        // The browser would turn it into a line end.
        '\r' => escaped.push_str("&#13;"),
        _ => escaped.push(c),
    }
}

/// The text of a token for an element with preserved white space. What cannot be seen stands in an `<i>`: `⏎` before a line
/// end, `⇥` before a tab, `∅` for no text, pictures of control characters, code points of invisible and direction-changing
/// ones.
pub(crate) fn visible(text: &str) -> String {
    if text.is_empty() {
        return "<i>∅</i>".to_owned();
    }
    let mut html = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' | '\u{2028}' | '\u{2029}' => html.push_str("<i>⏎</i>\n"),
            '\t' => html.push_str("<i>⇥</i>\t"),
            '\u{a0}' => html.push_str("<i>⍽</i>"),
            '\0'..='\x1f' => {
                let picture = char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER);
                // Writing to a string cannot fail.
                let _ = write!(html, "<i>{picture}</i>");
            }
            '\x7f'..='\u{9f}'
            | '\u{ad}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' => {
                let _ = write!(html, "<i>U+{:04X}</i>", u32::from(c));
            }
            _ => push_escaped(&mut html, c),
        }
    }
    html
}

/// JSON for a `<script>` element: no `<` can end the element or open a comment.
pub(crate) fn script_json(value: &impl serde::Serialize) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string(value)?.replace('<', "\\u003c"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn invisible_characters_are_shown() {
        for (text, expected) in [
            (" four", " four"),
            ("", "<i>∅</i>"),
            ("\n\n", "<i>⏎</i>\n<i>⏎</i>\n"),
            ("a\tb", "a<i>⇥</i>\tb"),
            ("\x1b[31m", "<i>␛</i>[31m"),
            ("\r", "<i>␍</i>"),
            ("\u{202e}x", "<i>U+202E</i>x"),
            ("\u{feff}", "<i>U+FEFF</i>"),
            ("</script>&\"'", "&lt;/script&gt;&amp;&quot;&#39;"),
            ("👩\u{200d}🚀 é", "👩\u{200d}🚀 é"),
        ] {
            assert_eq!(visible(text), expected);
        }
    }

    fn unescape(html: &str) -> String {
        html.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&#13;", "\r")
            .replace("&amp;", "&")
    }

    proptest! {
        #[test]
        fn escaping_is_complete_and_loses_nothing(text in "(\\PC|[<>&\"'\r\n]|&lt;|</script>|<!--){0,30}") {
            let html = escape(&text);
            prop_assert!(!html.contains(['<', '>', '"', '\'', '\r']));
            prop_assert_eq!(unescape(&html), text);
        }

        #[test]
        fn token_text_brings_no_elements_but_its_marks(text: String) {
            let html = visible(&text);
            let bare = html.replace("<i>", "").replace("</i>", "");
            prop_assert!(!bare.contains(['<', '>', '"', '\'']));
            prop_assert!(!bare.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        }

        #[test]
        fn json_in_scripts_cannot_end_them(text in "(\\PC|</script>|<!--|]]>){0,20}") {
            let json = script_json(&text).unwrap();
            prop_assert!(!json.contains('<'));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
