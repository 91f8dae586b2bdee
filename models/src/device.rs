//! The name of a device: one topic level that is safe in topics, object keys and tables.

use std::fmt;
use std::sync::Arc;

/// A device's name: 1 to 128 characters of `A-Za-z0-9_.:-`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DeviceId(Arc<str>);

/// Why a text is no device name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device name {found:?} is not 1 to 128 characters of A-Z a-z 0-9 _ . : -")]
pub struct BadDevice {
    /// What was found, cut to 40 characters.
    pub found: String,
}

impl DeviceId {
    /// Checks `name` without making a `DeviceId`.
    pub fn check(name: &str) -> Result<&str, BadDevice> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-');
        if !name.is_empty() && name.len() <= 128 && name.bytes().all(allowed) {
            return Ok(name);
        }
        Err(BadDevice { found: name.chars().take(40).collect() })
    }

    /// The device named `name`, or why there can be none.
    pub fn parse(name: &str) -> Result<Self, BadDevice> {
        Self::check(name).map(|n| Self(n.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for DeviceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_widen_a_topic_or_a_path_are_refused() {
        for bad in ["", "a/b", "+", "#", "d 1", "d\u{e9}", "..\\x", &"x".repeat(129)] {
            assert!(DeviceId::parse(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["d-017", "a", "A.b:c_d-1", &"x".repeat(128)] {
            assert_eq!(DeviceId::parse(good).unwrap().as_str(), good);
        }
    }
}
