//! Numbers as tables for people show them.

use aloud_report::table::Align;

/// The columns of a table: words, then numbers.
pub fn columns<'a>(words: &[&'a str], numbers: &[&'a str]) -> Vec<(&'a str, Align)> {
    let words = words.iter().map(|name| (*name, Align::Left));
    words.chain(numbers.iter().map(|name| (*name, Align::Right))).collect()
}

/// A number in words of its own; `-` where there is none.
pub fn or_dash(number: Option<f64>, words: impl FnOnce(f64) -> String) -> String {
    number.map_or_else(|| "-".to_owned(), words)
}

/// A share in per cent.
pub fn percent(share: impl Into<Option<f64>>) -> String {
    or_dash(share.into(), |share| format!("{:.1} %", 100.0 * share))
}

/// The ends of an interval of shares, in per cent.
pub(crate) fn interval(interval: impl Into<Option<[f64; 2]>>) -> String {
    let interval: Option<[f64; 2]> = interval.into();
    let end = |at: usize| or_dash(interval.map(|ends| ends[at]), |share| format!("{:.1}", 100.0 * share));
    format!("{} to {}", end(0), end(1))
}

/// A depth in blocks.
pub(crate) fn blocks(depth: Option<f64>) -> String {
    or_dash(depth, |depth| format!("{depth:.1}"))
}
