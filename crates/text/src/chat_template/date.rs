//! The `strftime_now` function of chat templates: the current date and time (UTC) in a given format.

use jiff::Timestamp;
use jiff::fmt::strtime::{BrokenDownTime, Config};
use jiff::tz::TimeZone;

/// Seconds since 1970-01-01 00:00 UTC, now.
pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// `unix_seconds` in UTC, written by `format` as C's `strftime` does it (the directives of
/// [`jiff::fmt::strtime`]; others stay as they are). Times beyond the year 9999 are taken as 1970.
pub(super) fn format_time(format: &str, unix_seconds: i64) -> String {
    let time = Timestamp::from_second(unix_seconds).unwrap_or_default().to_zoned(TimeZone::UTC);
    let lenient = Config::new().lenient(true);
    BrokenDownTime::from(&time).to_string_with_config(&lenient, format).unwrap_or_else(|_| format.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        // Expected values from Python: datetime.fromtimestamp(t, UTC).strftime(f).
        let cases = [
            (0, "%d %b %Y", "01 Jan 1970"),
            (1_721_952_000, "%d %b %Y", "26 Jul 2024"),
            (1_709_210_096, "%A, %-d %B %Y %H:%M:%S %j %p", "Thursday, 29 February 2024 12:34:56 060 PM"),
            (951_827_696, "%F %T %a %y %I %e|%%|%!", "2000-02-29 12:34:56 Tue 00 12 29|%|%!"),
            (-1, "%Y-%m-%d %H:%M", "1969-12-31 23:59"),
            (0, "%", "%"),
            (0, "%-", "%-"),
            (0, "%e|%-m|%h", " 1|1|Jan"),
        ];
        for (time, format, expected) in cases {
            assert_eq!(format_time(format, time), expected);
        }
    }
}
