//! Pieces of the page: values with their intervals, tables, figures with their data.

use std::fmt::Write;

use crate::palette::Theme;
use crate::plot::{Figure, Medium, to_csv, to_json, to_svg};
use crate::text::{escape, grouped};
use aloud_measure::metric_record::{ConfidenceInterval, MetricRecord};

/// A value with its interval, as it stands in a cell.
#[derive(Clone, Debug)]
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) interval: Option<ConfidenceInterval>,
    pub(super) unit: String,
}

/// A number in its unit: fractions in per cent, others with three significant digits.
pub(super) fn number(value: f64, unit: &str) -> String {
    if unit == "fraction" {
        return format!("{:.1}\u{a0}%", 100.0 * value).replace('-', "−");
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = (2.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    if value.abs() >= 1000.0 {
        let sign = if value < 0.0 { "−" } else { "" };
        return format!("{sign}{}", grouped(value.abs().round() as usize));
    }
    format!("{value:.decimals$}").replace('-', "−")
}

/// A difference: like a number, always with its sign; fractions in percentage points.
pub(super) fn difference(value: f64, unit: &str) -> String {
    let written = number(value, unit).replace("\u{a0}%", "\u{a0}pp");
    if value > 0.0 { format!("+{written}") } else { written }
}

/// The cell of an estimate. Without an interval the number is not printed.
pub(super) fn estimate_cell(estimate: &Estimate, write: fn(f64, &str) -> String) -> String {
    let Some(interval) = &estimate.interval else { return none_cell("no interval") };
    let ends = [interval.lo, interval.hi].map(|end| write(end, &estimate.unit));
    let decided = if interval.lo > 0.0 || interval.hi < 0.0 { " class=\"decided\"" } else { "" };
    format!(
        "<td{decided}>{}<small>{}\u{2009}…\u{2009}{}</small></td>",
        write(estimate.value, &estimate.unit),
        ends[0],
        ends[1]
    )
}

/// The cell of a record: its value with its interval, or why there is none.
pub(super) fn record_cell(record: Option<&MetricRecord>) -> String {
    let Some(record) = record else { return none_cell("not measured") };
    match record.value {
        None => none_cell(record.null_reason.as_deref().unwrap_or("no value")),
        Some(value) => {
            let estimate = Estimate { value, interval: record.ci.clone(), unit: record.unit.clone() };
            estimate_cell(&estimate, number).replace(" class=\"decided\"", "")
        }
    }
}

/// The cell of something without a value. Codes become words; what is words already stays.
pub(super) fn none_cell(reason: &str) -> String {
    let words = if reason.contains(' ') {
        reason.to_owned()
    } else {
        reason.replace("gate:", "gate not met: ").replace('_', " ")
    };
    format!("<td class=\"none-cell\">–<small>{}</small></td>", escape(&words))
}

/// A cell of words.
pub(super) fn text_cell(text: &str) -> String {
    format!("<td class=\"words\">{}</td>", escape(text))
}

/// A table whose first column has names. Cells are written as they are.
pub(super) fn table(columns: &[String], rows: &[(String, Vec<String>)]) -> String {
    let (mut head, mut body) = (String::new(), String::new());
    for column in columns {
        // Writing to a string cannot fail.
        let _ = write!(head, "<th scope=\"col\">{}</th>", escape(column));
    }
    for (name, cells) in rows {
        let _ = write!(body, "<tr><th scope=\"row\">{}</th>{}</tr>", escape(name), cells.concat());
    }
    format!(
        "<div class=\"scroll\"><table class=\"values\"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
}

/// A paragraph of escaped words.
pub(super) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>", escape(text))
}

/// A figure with its caption and links to its data and to itself as a file.
pub(super) fn figure(figure: &Figure) -> String {
    let csv = link(&format!("{}.csv", figure.name), "text/csv", &to_csv(figure), "CSV");
    let json = link(&format!("{}.json", figure.name), "application/json", &to_json(figure).to_string(), "JSON");
    let svg = to_svg(figure, Medium::File(Theme::Light));
    let svg = link(&format!("{}.svg", figure.name), "image/svg+xml", &svg, "SVG");
    let wide = if figure.is_wide() { " class=\"wide\"" } else { "" };
    format!(
        "<figure id=\"{}\"{wide}><h3>{}</h3>{}<figcaption>{} <span class=\"data\">{csv} {json} {svg}</span></figcaption></figure>",
        escape(&figure.name),
        escape(&figure.title),
        to_svg(figure, Medium::Page),
        escape(&figure.caption),
    )
}

/// A link that saves `content` under this name.
pub(super) fn link(name: &str, kind: &str, content: &str, words: &str) -> String {
    let mut encoded = String::with_capacity(content.len() * 2);
    for byte in content.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b',' | b';' | b'(' | b')' | b'=' | b'*' => {
                encoded.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    format!("<a download=\"{}\" href=\"data:{kind};charset=utf-8,{encoded}\">{words}</a>", escape(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aloud_measure::metric_record::IntervalMethod;

    fn interval(lo: f64, hi: f64) -> ConfidenceInterval {
        let method = IntervalMethod::Wilson;
        ConfidenceInterval { level: 0.95, lo, hi, method, b: None, cluster: None, seed: None }
    }

    #[test]
    fn numbers_have_their_units() {
        assert_eq!(number(0.1834, "fraction"), "18.3\u{a0}%");
        assert_eq!(number(-0.5, "nats"), "−0.500");
        assert_eq!(number(312.4, "tokens"), "312");
        assert_eq!(number(61_240.0, "tokens"), "61\u{202f}240");
        assert_eq!(number(0.0, "bits"), "0");
        assert_eq!(difference(0.02, "fraction"), "+2.0\u{a0}pp");
        assert_eq!(difference(-12.0, "tokens"), "−12.0");
    }

    #[test]
    fn nothing_is_printed_without_an_interval() {
        let alone = Estimate { value: 0.1834, interval: None, unit: "fraction".to_owned() };
        assert_eq!(estimate_cell(&alone, number), "<td class=\"none-cell\">–<small>no interval</small></td>");
        let whole = Estimate { interval: Some(interval(0.17, 0.2)), ..alone };
        assert!(estimate_cell(&whole, number).contains("18.3\u{a0}%<small>17.0\u{a0}%"));
        assert_eq!(none_cell("gate:<b>"), "<td class=\"none-cell\">–<small>gate not met: &lt;b&gt;</small></td>");
    }

    #[test]
    fn links_carry_any_content() {
        let link = link("a.csv", "text/csv", "a,\"ü\"\n#%", "CSV");
        assert_eq!(link, "<a download=\"a.csv\" href=\"data:text/csv;charset=utf-8,a,%22%C3%BC%22%0A%23%25\">CSV</a>");
    }
}
