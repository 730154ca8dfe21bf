//! The `strftime_now` function of chat templates: the current date and time (UTC) in a given format.

const WEEKDAYS: &str = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday";
const MONTHS: &str = "January February March April May June July August September October November December";

/// Seconds since 1970-01-01 00:00 UTC, now.
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// `unix_seconds` in UTC, written by `format`: the directives `%Y %y %m %d %e %j %B %b %A %a %H %I %M %S %p %F %T %%`, a
/// `-` after `%` leaving out leading zeros. Other directives stay as they are.
pub(super) fn format_time(format: &str, unix_seconds: i64) -> String {
    let (days, second_of_day) = (unix_seconds.div_euclid(86_400), unix_seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let hour_of_12 = (hour + 11) % 12 + 1;
    let name = |names: &'static str, index: i64| names.split(' ').nth(index as usize).unwrap_or_default();
    let weekday = name(WEEKDAYS, (days + 4).rem_euclid(7));
    let month_name = name(MONTHS, month - 1);
    let short = |name: &'static str| name.get(..3).unwrap_or(name);

    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut directive = rest.next();
        let padded = directive != Some('-');
        if !padded {
            directive = rest.next();
        }
        let number = |value: i64, width: usize| {
            let width = if padded { width } else { 0 };
            format!("{value:0width$}")
        };
        let text = match directive {
            Some('Y') => number(year, 4),
            Some('y') => number(year.rem_euclid(100), 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('j') => number(days - days_from_civil(year, 1, 1) + 1, 3),
            Some('H') => number(hour, 2),
            Some('I') => number(hour_of_12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('e') => format!("{day:2}"),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => short(month_name).to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => short(weekday).to_owned(),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('F') => format!("{year:04}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => "%".to_owned(),
            other => if padded { "%" } else { "%-" }.chars().chain(other).collect(),
        };
        out.push_str(&text);
    }
    out
}

/// Year, month (1..=12) and day (1..=31) of a day counted from 1970-01-01, in the proleptic Gregorian calendar
/// (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms"; years begin in March, so that the leap day is their last).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // from 0000-03-01
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// Days from 1970-01-01 to a date, the inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    year.div_euclid(400) * 146_097 + day_of_era - 719_468
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
            (951_827_696, "%F %T %a %y %I %e|%%|%Q", "2000-02-29 12:34:56 Tue 00 12 29|%|%Q"),
            (-1, "%Y-%m-%d %H:%M", "1969-12-31 23:59"),
        ];
        for (time, format, expected) in cases {
            assert_eq!(format_time(format, time), expected);
        }
    }

    #[test]
    fn dates_and_days_are_inverse() {
        for days in (-800_000..800_000).step_by(373) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }
}
