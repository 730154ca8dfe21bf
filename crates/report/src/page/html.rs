//! Pieces of the page: values with their intervals, tables, figures with their data.

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use crate::plot::{Figure, Medium, to_csv, to_json, to_svg};
use crate::words::{difference, number, reason, reason_of};
use aloud_measure::metric_record::{ConfidenceInterval, MetricRecord};

/// A value with its interval. Without one the number is not printed.
pub(super) fn value_cell(value: f64, interval: Option<&ConfidenceInterval>, unit: &str) -> Markup {
    cell((value, interval, unit), number, false, None)
}

/// A difference with its interval, bold where that leaves out 0.
pub(super) fn difference_cell(value: f64, interval: Option<&ConfidenceInterval>, unit: &str) -> Markup {
    cell((value, interval, unit), difference, true, None)
}

/// A difference with its interval, and a note below it.
pub(super) fn noted_difference_cell(value: f64, interval: Option<&ConfidenceInterval>, note: &str) -> Markup {
    cell((value, interval, ""), difference, true, Some(note))
}

fn cell(
    (value, interval, unit): (f64, Option<&ConfidenceInterval>, &str),
    write: fn(f64, &str) -> String,
    marks: bool,
    note: Option<&str>,
) -> Markup {
    let Some(interval) = interval else { return none_cell("no interval") };
    let decided = marks && (interval.lo > 0.0 || interval.hi < 0.0);
    html! {
        td class=[decided.then_some("decided")] {
            (write(value, unit))
            small { (write(interval.lo, unit)) "\u{2009}…\u{2009}" (write(interval.hi, unit)) }
            @if let Some(note) = note { small { (note) } }
        }
    }
}

/// The cell of a record: its value with its interval, or why there is none.
pub(super) fn record_cell(record: Option<&MetricRecord>) -> Markup {
    match record {
        None => none_cell("not measured"),
        Some(record) => match record.value {
            None => none_cell(&reason_of(record)),
            Some(value) if record.id.ends_with("_minus_base") => {
                difference_cell(value, record.ci.as_ref(), &record.unit)
            }
            Some(value) => value_cell(value, record.ci.as_ref(), &record.unit),
        },
    }
}

/// The cell of something without a value.
pub(super) fn none_cell(why: &str) -> Markup {
    html! { td.none-cell { "–" small { (reason(why)) } } }
}

pub(super) fn text_cell(text: &str) -> Markup {
    html! { td.words { (text) } }
}

/// A row of a table: its name, and its cells.
pub(super) type Row = (String, Vec<Markup>);

/// A table whose first column has names.
pub(super) fn table<Name: AsRef<str>>(columns: &[Name], rows: &[Row]) -> Markup {
    html! {
        div.scroll {
            table.values {
                thead { tr { @for column in columns { th scope="col" { (column.as_ref()) } } } }
                tbody {
                    @for (name, cells) in rows {
                        tr { th scope="row" { (name) } @for cell in cells { (cell) } }
                    }
                }
            }
        }
    }
}

/// What is shown on request.
pub(super) fn on_request(summary: &str, content: &Markup) -> Markup {
    html! { details.on-request { summary { (summary) } (content) } }
}

pub(super) fn figures(figures: &[Figure]) -> Markup {
    html! { @if !figures.is_empty() { div.figures { @for one in figures { (figure(one)) } } } }
}

/// A figure with its caption and links to its data and to itself as a file.
fn figure(figure: &Figure) -> Markup {
    let svg = to_svg(figure, Medium::File);
    let file = |extension: &str| format!("{}.{extension}", figure.name);
    html! {
        figure id=(figure.name) class=[figure.is_wide().then_some("wide")] {
            h3 { (figure.title) }
            div.drawing { (PreEscaped(to_svg(figure, Medium::Page))) }
            figcaption {
                (figure.caption) " "
                span.data {
                    (link(&file("csv"), "text/csv", &to_csv(figure), "CSV")) " "
                    (link(&file("json"), "application/json", &to_json(figure).to_string(), "JSON")) " "
                    (link(&file("svg"), "image/svg+xml", &svg, "SVG"))
                }
            }
        }
    }
}

/// A link that saves `content` as a file; nothing is loaded.
pub(super) fn link(name: &str, kind: &str, content: &str, words: &str) -> Markup {
    let mut address = format!("data:{kind};charset=utf-8,");
    for byte in content.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => address.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b',' | b';' | b'(' | b')' | b'=' | b'*' => {
                address.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            _ => drop(write!(address, "%{byte:02X}")),
        }
    }
    html! { a download=(name) href=(address) { (words) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aloud_measure::metric_record::IntervalMethod;

    #[test]
    fn nothing_is_printed_without_an_interval() {
        let none = "<td class=\"none-cell\">–<small>no interval</small></td>";
        assert_eq!(value_cell(0.1834, None, "fraction").into_string(), none);
        let method = IntervalMethod::Wilson;
        let interval =
            ConfidenceInterval { level: 0.95, lo: 0.17, hi: 0.2, method, b: None, cluster: None, seed: None };
        let [value, difference] =
            [value_cell, difference_cell].map(|cell| cell(0.1834, Some(&interval), "fraction").into_string());
        assert!(value.starts_with("<td>18.3\u{a0}%<small>17.0\u{a0}%"), "{value}");
        assert!(difference.starts_with("<td class=\"decided\">+18.3\u{a0}pp"), "{difference}");
        let gate = none_cell("gate:<b>").into_string();
        assert_eq!(gate, "<td class=\"none-cell\">–<small>gate not met: &lt;b&gt;</small></td>");
    }

    #[test]
    fn links_carry_any_content() {
        let link = link("a.csv", "text/csv", "a,\"ü\"\n#%", "CSV").into_string();
        assert_eq!(link, "<a download=\"a.csv\" href=\"data:text/csv;charset=utf-8,a,%22%C3%BC%22%0A%23%25\">CSV</a>");
    }
}
