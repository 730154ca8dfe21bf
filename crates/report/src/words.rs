//! Numbers, differences and reasons as a reader sees them.

use serde::Serialize;

use aloud_measure::metric_record::{ConfidenceInterval, MetricRecord};

/// A share as per cent with one decimal: `27.6 %` with a no-break space, or `–` if there is none.
pub(crate) fn per_cent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}\u{a0}%", 100.0 * share))
}

/// A whole number with narrow spaces between thousands, at which no line breaks.
pub(crate) fn grouped(number: usize) -> String {
    let digits: Vec<char> = number.to_string().chars().collect();
    let groups: Vec<String> = digits.rchunks(3).rev().map(|group| group.iter().collect()).collect();
    groups.join("\u{202f}")
}

/// A number in its unit: fractions in per cent, others with three significant digits.
pub(crate) fn number(value: f64, unit: &str) -> String {
    if unit == "fraction" {
        // No sign for what is rounded to 0.
        let percent = (1000.0 * value).round() / 10.0 + 0.0;
        return format!("{percent:.1}\u{a0}%").replace('-', "−");
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
pub(crate) fn difference(value: f64, unit: &str) -> String {
    let written = number(value, unit).replace("\u{a0}%", "\u{a0}pp");
    let is_zero = !written.contains(|c: char| ('1'..='9').contains(&c));
    if value > 0.0 && !is_zero { format!("+{written}") } else { written }
}

/// A value with its interval, `24.3 % (23.5 to 25.1)`, written by [`number`] or [`difference`].
pub(crate) fn estimate(
    value: f64,
    ci: Option<&ConfidenceInterval>,
    unit: &str,
    write: fn(f64, &str) -> String,
) -> String {
    let end = |end: f64| write(end, unit).replace("\u{a0}%", "").replace("\u{a0}pp", "");
    let interval = ci.map(|ci| format!(" ({} to {})", end(ci.lo), end(ci.hi)));
    write(value, unit) + &interval.unwrap_or_default()
}

/// The word that a value is written as in JSON.
pub(crate) fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Each of these once, in the order in which they come first.
pub(crate) fn distinct<T: PartialEq>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// Why there is no value: codes become words; what is words already stays.
pub(crate) fn reason(code: &str) -> String {
    if code.contains(' ') {
        return code.to_owned();
    }
    code.replace("gate:", "gate not met: ").replace('_', " ")
}

/// Why a record has no value.
pub(crate) fn reason_of(record: &MetricRecord) -> String {
    reason(record.null_reason.as_deref().unwrap_or("no_value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aloud_measure::metric_record::IntervalMethod;

    #[test]
    fn numbers_have_their_units() {
        assert_eq!([grouped(7), grouped(1234), grouped(1_234_567)], ["7", "1\u{202f}234", "1\u{202f}234\u{202f}567"]);
        assert_eq!([per_cent(Some(0.2764)), per_cent(None)], ["27.6\u{a0}%", "–"]);
        assert_eq!(number(0.1834, "fraction"), "18.3\u{a0}%");
        assert_eq!(number(-0.5, "nats"), "−0.500");
        assert_eq!(number(312.4, "tokens"), "312");
        assert_eq!(number(61_240.0, "tokens"), "61\u{202f}240");
        assert_eq!(number(0.0, "bits"), "0");
        assert_eq!(difference(0.02, "fraction"), "+2.0\u{a0}pp");
        assert_eq!(difference(-12.0, "tokens"), "−12.0");
        assert_eq!([-0.0004, 0.0004].map(|share| difference(share, "fraction")), ["0.0\u{a0}pp", "0.0\u{a0}pp"]);
    }

    #[test]
    fn estimates_have_one_unit_and_reasons_are_words() {
        let method = IntervalMethod::Wilson;
        let ci = ConfidenceInterval { level: 0.95, lo: -0.016, hi: 0.002, method, b: None, cluster: None, seed: None };
        assert_eq!(estimate(-0.01, Some(&ci), "fraction", difference), "−1.0\u{a0}pp (−1.6 to +0.2)");
        assert_eq!(estimate(12.0, None, "blocks", number), "12.0");
        assert_eq!(reason("gate:anchor_stability"), "gate not met: anchor stability");
        assert_eq!(reason("no run of base_noise"), "no run of base_noise");
    }
}
