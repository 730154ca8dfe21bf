//! SVG: shapes and words with their paint.

use std::fmt::Write;

use super::paint::{Medium, Paint};
use crate::text::escape;

/// Size of ordinary words.
pub(super) const TEXT: f64 = 12.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    pub(super) anchor: Anchor,
    pub(super) size: f64,
    pub(super) paint: Paint,
    pub(super) bold: bool,
    /// Turned to the left by this many degrees around their place.
    pub(super) turned: f64,
}

impl Words {
    pub(super) const fn new(anchor: Anchor, paint: Paint, size: f64) -> Self {
        Self { anchor, size, paint, bold: false, turned: 0.0 }
    }
}

/// A line's paint and width, with its dashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    pub(super) paint: Paint,
    pub(super) width: f64,
    pub(super) dashes: &'static str,
}

/// An SVG that is being written.
#[derive(Debug)]
pub(super) struct Drawing {
    pub(super) medium: Medium,
    pub(super) svg: String,
}

impl Drawing {
    pub(super) fn new(medium: Medium) -> Self {
        Self { medium, svg: String::new() }
    }

    /// A filled path, without an outline.
    pub(super) fn fill(&mut self, path: &str, paint: Paint, opacity: f64) {
        let fill = self.medium.colour(paint);
        let opacity = if opacity < 1.0 { format!(" fill-opacity=\"{opacity}\"") } else { String::new() };
        // Writing to a string cannot fail.
        let _ = write!(self.svg, "<path d=\"{path}\" fill=\"{fill}\"{opacity}/>");
    }

    /// A filled path with an outline in the colour of the paper, so that marks on top of each other can be told apart.
    pub(super) fn mark(&mut self, path: &str, paint: Paint) {
        let (fill, paper) = (self.medium.colour(paint), self.medium.colour(Paint::Paper));
        let _ = write!(self.svg, "<path d=\"{path}\" fill=\"{fill}\" stroke=\"{paper}\" stroke-width=\"0.8\"/>");
    }

    /// The outline of a path.
    pub(super) fn stroke(&mut self, path: &str, stroke: Stroke) {
        let colour = self.medium.colour(stroke.paint);
        let dashes = match stroke.dashes {
            "" => String::new(),
            dashes => format!(" stroke-dasharray=\"{dashes}\""),
        };
        let _ = write!(
            self.svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{}\"{dashes} stroke-linejoin=\"round\"/>",
            stroke.width
        );
    }

    /// Words whose baseline is at `y`.
    pub(super) fn words(&mut self, x: f64, y: f64, text: &str, words: Words) {
        let colour = self.medium.colour(words.paint);
        let anchor = match words.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let bold = if words.bold { " font-weight=\"600\"" } else { "" };
        let turned = match words.turned {
            0.0 => String::new(),
            degrees => format!(" transform=\"rotate({:.0} {x:.1} {y:.1})\"", -degrees),
        };
        let _ = write!(
            self.svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{}\" fill=\"{colour}\"{anchor}{bold}{turned}>{}</text>",
            words.size,
            escape(text)
        );
    }

    /// Opens a group that shows this text when it is pointed at.
    pub(super) fn open_named(&mut self, name: &str) {
        let _ = write!(self.svg, "<g><title>{}</title>", escape(name));
    }

    /// Opens a group that is cut to the rectangle.
    pub(super) fn open_cut(&mut self, id: &str, left: f64, top: f64, width: f64, height: f64) {
        let id = escape(id);
        let _ = write!(
            self.svg,
            "<clipPath id=\"{id}\"><rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/></clipPath>\
             <g clip-path=\"url(#{id})\">"
        );
    }

    pub(super) fn close(&mut self) {
        self.svg.push_str("</g>");
    }
}

/// A path from place to place.
pub(super) fn joined(places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (x, y) in places {
        let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
    }
    path
}

/// About how wide words of this size are. Fonts differ: it errs on the wide side.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let ems: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' | '\u{a0}' | '\u{202f}' => 0.33,
            'f' | 'r' | 't' | '(' | ')' | '[' | ']' | '-' | '/' => 0.42,
            'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.95,
            'A'..='Z' | '−' | '+' | '=' | '<' | '>' => 0.72,
            '\0'..='\u{2fff}' => 0.62,
            _ => 1.05,
        })
        .sum();
    ems * size
}

/// The text, shortened with `…` to about this width.
pub(super) fn shortened(text: &str, size: f64, most: f64) -> String {
    if width(text, size) <= most {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if width(&short, size) + size > most {
            short.pop();
            break;
        }
    }
    short.push('…');
    short
}

/// The text in lines of about this width, broken at spaces.
pub(super) fn lines(text: &str, size: f64, most: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line, size) + width(word, size) + width(" ", size) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_broken_and_shortened() {
        assert_eq!(lines("share of tokens at each depth", 10.0, 100.0), ["share of tokens at", "each depth"]);
        assert_eq!(lines("", 10.0, 100.0), Vec::<String>::new());
        assert_eq!(shortened("a short name", 10.0, 200.0), "a short name");
        let short = shortened("a name that is far too long", 10.0, 60.0);
        assert!(short.ends_with('…') && width(&short, 10.0) <= 64.0, "{short}");
        assert_eq!(shortened("wide", 10.0, 1.0), "…");
    }

    #[test]
    fn words_are_escaped() {
        let mut drawing = Drawing::new(Medium::Page);
        drawing.words(1.0, 2.0, "a < b & \"c\"", Words::new(Anchor::Start, Paint::Ink, TEXT));
        drawing.open_named("<script>");
        assert!(drawing.svg.contains(">a &lt; b &amp; &quot;c&quot;</text><g><title>&lt;script&gt;</title>"));
    }
}
