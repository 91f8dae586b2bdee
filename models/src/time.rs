//! Times and durations as text: RFC 3339 instants, `10m` durations, UTC milliseconds everywhere else.

use crate::ConfigError;

/// 2000-01-01T00:00:00Z. A reading before it comes from a clock that was never set.
pub const EARLIEST_MS: i64 = 946_684_800_000;
/// 2200-01-01T00:00:00Z. A reading after it comes from a clock that lies.
pub const LATEST_MS: i64 = 7_258_118_400_000;

/// Milliseconds since 1970 UTC of an RFC 3339 text, or `None`.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_millis())
}

/// `2026-11-22T13:15:00.123Z` for milliseconds since 1970 UTC.
pub fn rfc3339(ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(ms) {
        Some(t) => t.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        None => format!("{ms} ms"),
    }
}

/// Milliseconds of a duration text such as `500ms`, `10s`, `10m`, `24h`, `7d`; `key` names it in the error.
pub fn parse_duration(key: &str, text: &str) -> Result<i64, ConfigError> {
    let wrong = || ConfigError::new(key, format!("{text:?}"), "a duration such as \"500ms\", \"10s\", \"10m\", \"24h\" or \"7d\"");
    let parsed = humantime::parse_duration(text).map_err(|_| wrong())?;
    i64::try_from(parsed.as_millis()).ok().filter(|ms| *ms <= 100 * 365 * 86_400_000).ok_or_else(wrong)
}

/// The short form of a duration, as features are named: the largest unit of which it holds a whole number, but seconds up to
/// 120 s, minutes up to 120 min and hours up to 48 h, so that the defaults read `10s`, `60s`, `10m`.
pub fn duration_name(ms: i64) -> String {
    match ms {
        _ if ms % 1_000 != 0 => format!("{ms}ms"),
        _ if ms % 60_000 != 0 || ms < 120_000 => format!("{}s", ms / 1_000),
        _ if ms % 3_600_000 != 0 || ms < 7_200_000 => format!("{}m", ms / 60_000),
        _ if ms % 86_400_000 != 0 || ms < 172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let cases = [
            (500, "500ms"),
            (10_000, "10s"),
            (60_000, "60s"),
            (600_000, "10m"),
            (3_600_000, "60m"),
            (86_400_000, "24h"),
            (604_800_000, "7d"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration_name(ms), text);
            assert_eq!(parse_duration("k", text).unwrap(), ms);
        }
        let error = parse_duration("fleet.windows", "soon").unwrap_err().to_string();
        assert!(error.starts_with("fleet.windows: found \"soon\", expected a duration"), "{error}");
    }

    #[test]
    fn instants_read_rfc_3339() {
        assert_eq!(parse_rfc3339("2025-11-24T16:00:00.123Z"), Some(1_764_000_000_123));
        assert_eq!(parse_rfc3339("2025-11-24T17:00:00.123+01:00"), Some(1_764_000_000_123));
        assert_eq!(parse_rfc3339("yesterday"), None);
        assert_eq!(rfc3339(1_764_000_000_123), "2025-11-24T16:00:00.123Z");
    }
}
