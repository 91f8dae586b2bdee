//! What names, windows and pointers of a fleet may be.

use super::{Channel, Source};
use crate::ConfigError;
use crate::time::parse_duration;

pub(super) fn shared(mut components: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    let first = components.next()??;
    components.all(|c| c == Some(first)).then_some(first)
}

pub(super) fn claims_overlap(channel: &Channel, tokens: &[String]) -> bool {
    let Source::Measured { tokens: other, .. } = &channel.source else { return false };
    other.starts_with(tokens) || tokens.starts_with(other)
}

pub(super) fn check_name(key: &str, name: &str, most: usize, expected: &str) -> Result<(), ConfigError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if name.is_empty() || name.len() > most || !name.bytes().all(allowed) {
        return Err(ConfigError::new(key, format!("{name:?}"), expected));
    }
    Ok(())
}

pub(super) fn windows(written: &[String]) -> Result<Vec<i64>, ConfigError> {
    let mut windows = Vec::new();
    for text in written {
        let ms = parse_duration("fleet.windows", text)?;
        if ms < 6 {
            return Err(ConfigError::new("fleet.windows", format!("{text:?}"), "at least \"6ms\": a window has six panes"));
        }
        if windows.contains(&ms) {
            return Err(ConfigError::new("fleet.windows", format!("{text:?} twice"), "each length once"));
        }
        windows.push(ms);
    }
    if windows.is_empty() {
        return Err(ConfigError::new("fleet.windows", "[]", "at least one length such as \"60s\""));
    }
    windows.sort_unstable();
    Ok(windows)
}

/// The tokens of a JSON Pointer to a signal's place.
pub(super) fn pointer(key: &str, text: &str) -> Result<Vec<String>, ConfigError> {
    let tokens = tokens(key, text)?;
    if matches!(tokens[0].as_str(), "ts" | "device") {
        return Err(ConfigError::new(key, format!("{text:?}"), "another place: ts and device are the reading's own"));
    }
    Ok(tokens)
}

/// The tokens of a JSON Pointer.
pub(super) fn tokens(key: &str, text: &str) -> Result<Vec<String>, ConfigError> {
    let wrong = |expected: &str| ConfigError::new(key, format!("{text:?}"), expected);
    let rest = text.strip_prefix('/').ok_or_else(|| wrong("a JSON Pointer that begins with /, such as \"/battery/v\""))?;
    let tokens: Vec<String> = rest.split('/').map(|t| t.replace("~1", "/").replace("~0", "~")).collect();
    if tokens.iter().any(String::is_empty) {
        return Err(wrong("a JSON Pointer without empty parts"));
    }
    Ok(tokens)
}

/// A code of events that features may count: not one that labels are made of, which would tell the answer.
pub(super) fn check_event(code: &str, before: &[String]) -> Result<(), ConfigError> {
    let wrong = |expected: &str| Err(ConfigError::new("fleet.events", format!("{code:?}"), expected));
    match code {
        "failure" | "fault" | "inspection" => wrong("another code: labels are made of failure, fault and inspection"),
        "attributes" | "retired" => wrong("another code: attributes are features by fleet.attributes, and nothing follows retired"),
        _ if code.is_empty() || code.len() > 64 => wrong("a code of 1 to 64 bytes"),
        _ if before.iter().any(|b| b == code) => wrong("each code once"),
        _ => Ok(()),
    }
}
