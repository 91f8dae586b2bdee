//! Times as data sets write them, made milliseconds since 1970 UTC.

/// How a column or field writes its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    /// A number of seconds since 1970 UTC, fractions allowed.
    Seconds,
    /// A number of milliseconds since 1970 UTC.
    #[default]
    Millis,
    /// A number of microseconds since 1970 UTC.
    Micros,
    /// A number of nanoseconds since 1970 UTC.
    Nanos,
    /// RFC 3339 and its loose relatives: `2018-07-18T20:00:31.350Z`, a blank for the `T`, an offset such as `+09:00` or
    /// none (then UTC), a date alone (then midnight).
    Text,
}

impl TimeUnit {
    /// What a right value looks like, for a message.
    pub(super) fn example(self) -> &'static str {
        match self {
            TimeUnit::Seconds => "seconds since 1970, e.g. 1764000000.123",
            TimeUnit::Millis => "milliseconds since 1970, e.g. 1764000000123",
            TimeUnit::Micros => "microseconds since 1970, e.g. 1764000000123000",
            TimeUnit::Nanos => "nanoseconds since 1970, e.g. 1764000000123000000",
            TimeUnit::Text => "a time such as 2025-11-24T16:00:00.123Z",
        }
    }

    /// Milliseconds since 1970 UTC, cut downwards; none if `text` is no time of this unit.
    pub(super) fn parse(self, text: &str) -> Option<i64> {
        let text = text.trim();
        match self {
            TimeUnit::Seconds => decimal(text, 3),
            TimeUnit::Millis => decimal(text, 0),
            TimeUnit::Micros => decimal(text, 0).map(|us| us.div_euclid(1_000)),
            TimeUnit::Nanos => decimal(text, 0).map(|ns| ns.div_euclid(1_000_000)),
            TimeUnit::Text => civil(text),
        }
    }
}

/// A decimal number times 10^`shift`, cut downwards, exactly where its digits allow it.
fn decimal(text: &str, shift: usize) -> Option<i64> {
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().ok()?;
        let scaled = value * if shift == 3 { 1000.0 } else { 1.0 };
        return (scaled.abs() < 9e18).then_some(scaled.floor() as i64);
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut value: i64 = whole.parse().ok()?;
    for i in 0..shift {
        let digit = fraction.as_bytes().get(i).map_or(0, |b| i64::from(b - b'0'));
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    let cut = fraction.bytes().skip(shift).any(|b| b != b'0');
    Some(if negative { -value - i64::from(cut) } else { value })
}

fn civil(text: &str) -> Option<i64> {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(i) => (&text[..i], text[i + 1..].trim_start()),
        None => (text, ""),
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let exact = parts.next().is_none() && year.len() == 4 && month.len() == 2 && day.len() == 2;
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    if !exact || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400_000 + clock(time)?)
}

/// `20:00:31.350+09:00` as milliseconds of the UTC day; may lie outside it.
fn clock(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let (text, offset) = match text.find(['Z', 'z', '+', '-']) {
        Some(i) => (text[..i].trim_end(), offset(&text[i..])?),
        None => (text, 0),
    };
    let mut parts = text.split(':');
    let (hour, minute, second) = (number(parts.next()?)?, number(parts.next()?)?, parts.next().unwrap_or("0"));
    let millis = decimal(second, 3)?;
    let right = hour < 24 && minute < 60 && millis < 61_000 && !second.starts_with('-') && parts.next().is_none();
    right.then_some((hour * 60 + minute) * 60_000 + millis - offset)
}

fn offset(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = text[1..].split_once(':').or_else(|| text[1..].split_at_checked(2))?;
    Some(sign * (number(hours)? * 60 + number(minutes)?) * 60_000)
}

fn number(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the Gregorian calendar, counted in years that begin in March (Hinnant's `days_from_civil`).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_unit() {
        for (unit, text, ms) in [
            (TimeUnit::Millis, "1764000000123", 1_764_000_000_123),
            (TimeUnit::Millis, "-5", -5),
            (TimeUnit::Seconds, "1764000000.1234", 1_764_000_000_123),
            (TimeUnit::Seconds, "-0.0005", -1),
            (TimeUnit::Seconds, "1.764e9", 1_764_000_000_000),
            (TimeUnit::Micros, "1764000000123999", 1_764_000_000_123),
            (TimeUnit::Nanos, "1531944031350000001", 1_531_944_031_350),
            (TimeUnit::Text, "1970-01-01", 0),
            (TimeUnit::Text, "2013-04-10", 1_365_552_000_000),
            (TimeUnit::Text, "2018-07-18 20:00:31.350", 1_531_944_031_350),
            (TimeUnit::Text, "2018-07-18T20:00:31.350Z", 1_531_944_031_350),
            (TimeUnit::Text, "2018-07-19T05:00:31.35+09:00", 1_531_944_031_350),
            (TimeUnit::Text, "2018-07-18 13:00:31.35-0700", 1_531_944_031_350),
            (TimeUnit::Text, "2024-02-29T00:00", 1_709_164_800_000),
            (TimeUnit::Text, "1969-12-31T23:59:59Z", -1_000),
        ] {
            assert_eq!(unit.parse(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for (unit, text) in [
            (TimeUnit::Millis, ""),
            (TimeUnit::Millis, "soon"),
            (TimeUnit::Millis, "NaN"),
            (TimeUnit::Millis, "1e300"),
            (TimeUnit::Millis, "99999999999999999999"),
            (TimeUnit::Seconds, ".5"),
            (TimeUnit::Text, "2023-02-29"),
            (TimeUnit::Text, "2018-13-01"),
            (TimeUnit::Text, "18-07-2018"),
            (TimeUnit::Text, "2018-07-18 25:00:00"),
            (TimeUnit::Text, "2018-07-18 20:00:-1"),
            (TimeUnit::Text, "2018-07-18T20:00:31+x"),
            (TimeUnit::Text, "2018-07-18T20:00:31+é9:00"),
        ] {
            assert_eq!(unit.parse(text), None, "{text}");
        }
    }
}
