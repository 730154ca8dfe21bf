//! Times as text.

const SECONDS_A_DAY: u64 = 86_400;

/// `2023-11-14T22:13:20+00:00` for seconds since 1970.
pub(super) fn iso_time(seconds: u64) -> String {
    let (year, month, day) = civil_date(seconds / SECONDS_A_DAY);
    let of_day = seconds % SECONDS_A_DAY;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}+00:00", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // 400 years have 146 097 days.
    let (mut year, mut left) = (1970 + days / 146_097 * 400, days % 146_097);
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        // From `date -u -d @SECONDS`.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00+00:00"),
            (951_782_399, "2000-02-28T23:59:59+00:00"),
            (951_782_400, "2000-02-29T00:00:00+00:00"),
            (1_700_000_000, "2023-11-14T22:13:20+00:00"),
            (4_107_542_400, "2100-03-01T00:00:00+00:00"),
            (1_735_689_599, "2024-12-31T23:59:59+00:00"),
        ] {
            assert_eq!(iso_time(seconds), expected);
        }
    }
}
