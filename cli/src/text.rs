//! How times and values are written for people.

/// A duration in the unit that suits it: `0.3 s`, `12.3 s`, `5 min`, `3.0 h`, `89 days`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..120_000 => format!("{:.1} s", ms as f64 / 1e3),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{:.1} h", ms as f64 / 3.6e6),
        _ => format!("{} days", ms / 86_400_000),
    }
}

/// A text of somebody else's, without what would drive a terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default().collect::<String>());
            escaped.unwrap_or_else(|| c.to_string()).chars().collect::<Vec<_>>()
        })
        .collect()
}

/// A moment in Unix seconds, seen from `now_s`: `2027-01-31, in 71 days`.
pub fn moment(s: u64, now_s: u64) -> String {
    let (year, month, day) = date(s / 86_400);
    let far = |s: u64| duration(s.saturating_mul(1000));
    let when = if s >= now_s {
        format!("in {}", far(s - now_s))
    } else {
        format!("{} ago", far(now_s - s))
    };
    format!("{year:04}-{month:02}-{day:02}, {when}")
}

/// A moment in Unix seconds, UTC: `2027-01-31 14:05`.
pub fn minute(s: u64) -> String {
    let (year, month, day) = date(s / 86_400);
    let (hour, minute) = (s / 3_600 % 24, s / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

/// The Gregorian date of a day counted from 1970-01-01 (H. Hinnant's days-to-civil).
fn date(days: u64) -> (u64, u64, u64) {
    // A peer's number may be anything; years beyond 9999 are all the same.
    let z = days.min(2_932_896) + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

/// The wall clock, Unix time in s.
pub fn now_s() -> u64 {
    krg_sys::clock::wall_ns() / 1_000_000_000
}

/// A value on one line: what would end the line or steer the terminal is written as `\n`, `\t`,
/// `\u{1b}`; a backslash is doubled.
pub fn one_line(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times() {
        let written = [0, 12_340, 119_900, 300_000, 10_800_000, 7_689_600_000].map(duration);
        assert_eq!(written, ["0.0 s", "12.3 s", "119.9 s", "5 min", "3.0 h", "89 days"]);
        assert_eq!(minute(1_238_510_040), "2009-03-31 14:34");
        assert_eq!(moment(0, 0), "1970-01-01, in 0.0 s");
        assert_eq!(moment(951_782_400, 951_782_400 + 86_400 * 3), "2000-02-29, 3 days ago");
        assert_eq!(moment(1_798_761_599, 1_798_761_599 - 60), "2026-12-31, in 60.0 s");
        assert!(moment(u64::MAX, 0).starts_with("9999-12-31"));
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(one_line("a\nb\\n\x1b[31m\tü"), "a\\nb\\\\n\\u{1b}[31m\\tü");
    }

    proptest! {
        #[test]
        fn a_date_follows_the_one_of_the_day_before(day in 1u64..2_900_000) {
            let (before, after) = (date(day - 1), date(day));
            let next_day = after.2 == before.2 + 1 && after.1 == before.1;
            let next_month = after.2 == 1 && before.2 >= 28;
            prop_assert!(before < after && (next_day || next_month));
        }
    }
}
