//! Why a message, or one element of it, goes to quarantine: a closed set of words, and a detail for people.

/// Why something was not archived as telemetry or as an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The payload is no JSON, or no JSON that a number can be read from.
    NotJson,
    /// The payload is not UTF-8.
    InvalidUtf8,
    /// The payload is JSON, but neither an object nor an array of objects.
    NotAnObject,
    /// No `ts`.
    NoTs,
    /// `ts` is neither integer milliseconds nor RFC 3339.
    BadTs,
    /// `ts` lies before 2000 or after 2200.
    TsOutOfRange,
    /// `ts` lies further ahead of the arrival than `max_clock_skew`.
    TsInFuture,
    /// Text, an array or an object in a signal's place.
    NotANumber,
    /// A field that a signal, `ts` or `device` claims stands there twice.
    DuplicateField,
    /// The device in the topic has a forbidden name.
    BadDevice,
    /// The payload names another device than the topic.
    DeviceMismatch,
    /// The topic is none that the fleet uses.
    UnknownTopic,
    /// The payload is larger than `max_message_bytes`.
    TooLarge,
    /// The event's fields are not those of an event.
    BadEvent,
}

/// Every reason, in the order of its declaration.
pub const ALL: [Reason; 14] = [
    Reason::NotJson,
    Reason::InvalidUtf8,
    Reason::NotAnObject,
    Reason::NoTs,
    Reason::BadTs,
    Reason::TsOutOfRange,
    Reason::TsInFuture,
    Reason::NotANumber,
    Reason::DuplicateField,
    Reason::BadDevice,
    Reason::DeviceMismatch,
    Reason::UnknownTopic,
    Reason::TooLarge,
    Reason::BadEvent,
];

impl Reason {
    /// The word in the archive's `reason` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::NotAnObject => "not_an_object",
            Self::NoTs => "no_ts",
            Self::BadTs => "bad_ts",
            Self::TsOutOfRange => "ts_out_of_range",
            Self::TsInFuture => "ts_in_future",
            Self::NotANumber => "not_a_number",
            Self::DuplicateField => "duplicate_field",
            Self::BadDevice => "bad_device",
            Self::DeviceMismatch => "device_mismatch",
            Self::UnknownTopic => "unknown_topic",
            Self::TooLarge => "too_large",
            Self::BadEvent => "bad_event",
        }
    }
}

/// A refused message or element: the reason and a sentence with place, what was found and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.word())]
pub struct Refused {
    /// The word that goes to the archive.
    pub reason: Reason,
    /// The sentence for people.
    pub detail: String,
}

impl Refused {
    /// Refused for `reason`, with `detail` for people.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_snake_case_word() {
        let words: std::collections::BTreeSet<_> = ALL.iter().map(|r| r.word()).collect();
        assert_eq!(words.len(), ALL.len());
        assert!(words.iter().all(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())));
    }
}
