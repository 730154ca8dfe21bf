//! What all pages share: one HTML document that loads nothing from anywhere, and colours for light and dark paper and print.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::palette::Theme;

const STYLE: &str = include_str!("document.css");

/// Nothing is loaded.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// A whole page; `styles` follow the style of all pages.
pub(crate) fn document(title: &str, styles: &[&str], body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) @for style in styles { (PreEscaped(style)) "\n" } }
            }
            body { (body) }
        }
    };
    page.into_string()
}

/// The button that turns light paper dark.
pub(crate) fn theme_button() -> Markup {
    html! { button.theme type="button" title="Light or dark paper" { "Dark" } }
}

/// CSS that sets variables to their values for each theme: the reader's, the chosen one, and light paper for print.
pub(crate) fn themed(variables: impl Fn(Theme) -> String) -> String {
    let [light, dark] = [Theme::Light, Theme::Dark].map(variables);
    format!(
        ":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n\
         :root[data-theme=dark]{{{dark}}}\n@media print{{:root:root:root{{{light}}}}}\n"
    )
}
