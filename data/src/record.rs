//! One message on the wire, its line form, and the rule for device names.

use std::io::{self, Write};

/// What a message carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The signals of a device at one moment.
    #[default]
    Telemetry,
    /// Something that happened to a device: a failure, an inspection, maintenance.
    Event,
}

impl Kind {
    /// The last level of the message's topic: `telemetry` or `events`.
    pub fn topic_level(self) -> &'static str {
        match self {
            Kind::Telemetry => "telemetry",
            Kind::Event => "events",
        }
    }
}

/// One message of one device, as it is on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The device: one topic level, 1–128 of `A-Za-z0-9_.:-`.
    pub device: String,
    /// Telemetry or event; decides the topic.
    pub kind: Kind,
    /// When the message was truly sent, milliseconds since 1970 UTC. Used to pace a replay; the payload's own `ts` may
    /// differ (a late message, a clock that jumped).
    pub ts: i64,
    /// JSON text.
    pub payload: Vec<u8>,
}

impl Record {
    /// Appends `{"topic":"fleet/{device}/telemetry","payload":{…}}` and a newline: the line form of files, which
    /// [`JsonMapping::Topic`](crate::readers::JsonMapping::Topic) reads back.
    pub fn append_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"topic\":\"fleet/");
        out.extend_from_slice(self.device.as_bytes());
        out.push(b'/');
        out.extend_from_slice(self.kind.topic_level().as_bytes());
        out.extend_from_slice(b"\",\"payload\":");
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(b"}\n");
    }

    /// Writes the line form to `out`. A device name needs no escaping in JSON, as its alphabet has no special character.
    ///
    /// # Errors
    /// What `out` says. Use a buffered writer: a line is written in several pieces.
    pub fn write_line(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"{\"topic\":\"fleet/")?;
        out.write_all(self.device.as_bytes())?;
        out.write_all(b"/")?;
        out.write_all(self.kind.topic_level().as_bytes())?;
        out.write_all(b"\",\"payload\":")?;
        out.write_all(&self.payload)?;
        out.write_all(b"}\n")
    }
}

/// Whether `name` may stand as a device's topic level: 1–128 of `A-Za-z0-9_.:-`.
pub fn is_device_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_topic_and_payload() {
        let record = Record { device: "d-1".into(), kind: Kind::Event, ts: 7, payload: b"{\"ts\":7}".to_vec() };
        let (mut appended, mut written) = (Vec::new(), Vec::new());
        record.append_line(&mut appended);
        record.write_line(&mut written).unwrap();
        assert_eq!(String::from_utf8(appended.clone()).unwrap(), "{\"topic\":\"fleet/d-1/events\",\"payload\":{\"ts\":7}}\n");
        assert_eq!(appended, written);
    }

    #[test]
    fn device_names_are_one_safe_topic_level() {
        for good in ["a", "d-001", "W1F0:x_.", &"x".repeat(128)] {
            assert!(is_device_name(good), "{good}");
        }
        for bad in ["", "+", "#", "a/b", "a b", "ü", &"x".repeat(129)] {
            assert!(!is_device_name(bad), "{bad}");
        }
    }
}
