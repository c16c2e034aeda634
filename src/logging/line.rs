//! The text of a log line, and times as people write them.

use std::fmt::Write as _;

/// `seconds` of Unix time as ISO 8601 writes it in UTC, without the final `Z`.
pub fn date_and_time(seconds: u64) -> String {
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// One log line, with its end. `seconds` of Unix time.
pub(super) fn line(seconds: u64, level: &str, text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 32);
    // Writing to a string cannot fail.
    let _ = write!(line, "{}Z {level:<5} ", date_and_time(seconds));
    push_escaped(&mut line, text);
    line.push('\n');
    line
}

/// Appends `text` with its control characters escaped.
pub(super) fn push_escaped(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

/// Year, month and day of a day after 1970-01-01 in the Gregorian calendar. Years begin in March
/// here, so that the leap day is a year's last.
fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    const FROM_MARCH_OF_YEAR_0: u64 = 719_468;
    let days = days_since_1970 + FROM_MARCH_OF_YEAR_0;
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_time_level_and_text() {
        assert_eq!(line(1_795_437_001, "INFO", "text"), "2026-11-23T12:30:01Z INFO  text\n");
        assert_eq!(line(0, "ERROR", "text"), "1970-01-01T00:00:00Z ERROR text\n");
    }

    #[test]
    fn leap_days_and_year_ends_are_right() {
        let days = [(951_782_400, "2000-02-29"), (951_868_800, "2000-03-01")];
        let years = [(1_709_164_800, "2024-02-29"), (1_735_689_599, "2024-12-31")];
        for (seconds, date) in days.into_iter().chain(years) {
            assert_eq!(&line(seconds, "INFO", "")[..10], date);
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let forged = line(0, "WARN", "a\r\n2026-01-01T00:00:00Z INFO  b\u{1b}[2J");
        assert_eq!(forged.matches('\n').count(), 1);
        assert!(forged.contains("a\\r\\n2026"), "{forged}");
        assert!(forged.contains("b\\u{1b}[2J"), "{forged}");
    }
}
