//! Topics: templates with one `{device}` level, and what a topic that arrives is about.

use serde::{Deserialize, Serialize};

use crate::{ConfigError, DeviceId};

/// The topic templates as written in the configuration; the defaults are those of the README.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenTopics {
    /// Readings, default `fleet/{device}/telemetry`.
    pub telemetry: String,
    /// Events, default `fleet/{device}/events`.
    pub events: String,
    /// Calls, default `fleet/{device}/return-to-base`.
    pub return_to_base: String,
    /// Answers to calls, default `fleet/{device}/return-to-base/ack`.
    pub ack: String,
    /// Retained state, default `fleet/{device}/health`.
    pub health: String,
    /// What people must hear (a rejected call, too many devices raised at once), no device level, default `fleet/operators`.
    pub operators: String,
}

impl Default for WrittenTopics {
    fn default() -> Self {
        Self {
            telemetry: "fleet/{device}/telemetry".into(),
            events: "fleet/{device}/events".into(),
            return_to_base: "fleet/{device}/return-to-base".into(),
            ack: "fleet/{device}/return-to-base/ack".into(),
            health: "fleet/{device}/health".into(),
            operators: "fleet/operators".into(),
        }
    }
}

/// A topic with one level for the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    prefix: String,
    suffix: String,
}

const SLOT: &str = "{device}";

impl Template {
    /// Reads a template; `{device}` must be one whole level, and there are no wildcards.
    pub fn parse(key: &str, text: &str) -> Result<Self, ConfigError> {
        let wrong = || {
            ConfigError::new(
                key,
                format!("{text:?}"),
                "a topic with {device} as one whole level and no wildcard, such as \"fleet/{device}/telemetry\"",
            )
        };
        let (prefix, suffix) = text.split_once(SLOT).ok_or_else(wrong)?;
        let whole_level = (prefix.is_empty() || prefix.ends_with('/')) && (suffix.is_empty() || suffix.starts_with('/'));
        if !whole_level || suffix.contains(SLOT) || text.contains(['+', '#', '\0']) || text.starts_with('$') {
            return Err(wrong());
        }
        Ok(Self { prefix: prefix.into(), suffix: suffix.into() })
    }

    /// The subscription that matches every device.
    pub fn filter(&self) -> String {
        format!("{}+{}", self.prefix, self.suffix)
    }

    /// The topic of one device.
    pub fn of(&self, device: &str) -> String {
        format!("{}{device}{}", self.prefix, self.suffix)
    }

    /// The text in the device's level, if `topic` is of this template (the text may still be no valid name).
    pub fn device_in<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(self.prefix.as_str())?.strip_suffix(self.suffix.as_str()).filter(|d| !d.contains('/'))
    }
}

/// What a message is about, by its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// Readings of the device named.
    Telemetry(&'a str),
    /// An event of the device named.
    Events(&'a str),
    /// An answer to a call.
    Ack(&'a str),
    /// None of the fleet's topics.
    Unknown,
}

/// The fleet's topics, checked: no two of them can be the same topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Readings.
    pub telemetry: Template,
    /// Events.
    pub events: Template,
    /// Calls.
    pub return_to_base: Template,
    /// Answers to calls.
    pub ack: Template,
    /// Retained state.
    pub health: Template,
    /// The operators' topic.
    pub operators: String,
}

impl Topics {
    /// Checks the written templates; errors name `topics.…`.
    pub fn check(w: &WrittenTopics) -> Result<Self, ConfigError> {
        let all = [
            ("topics.telemetry", &w.telemetry),
            ("topics.events", &w.events),
            ("topics.return_to_base", &w.return_to_base),
            ("topics.ack", &w.ack),
            ("topics.health", &w.health),
        ];
        for (i, (key, text)) in all.iter().enumerate() {
            if let Some((other, _)) = all[..i].iter().find(|(_, t)| t == text) {
                return Err(ConfigError::new(*key, format!("{text:?}"), format!("another topic than that of {other}")));
            }
        }
        if w.operators.is_empty() || w.operators.contains(['+', '#', '{', '\0']) {
            return Err(ConfigError::new("topics.operators", format!("{:?}", w.operators), "a plain topic such as \"fleet/operators\""));
        }
        Ok(Self {
            telemetry: Template::parse("topics.telemetry", &w.telemetry)?,
            events: Template::parse("topics.events", &w.events)?,
            return_to_base: Template::parse("topics.return_to_base", &w.return_to_base)?,
            ack: Template::parse("topics.ack", &w.ack)?,
            health: Template::parse("topics.health", &w.health)?,
            operators: w.operators.clone(),
        })
    }

    /// What `topic` is about.
    pub fn route<'a>(&self, topic: &'a str) -> Route<'a> {
        if let Some(device) = self.telemetry.device_in(topic) {
            return Route::Telemetry(device);
        }
        if let Some(device) = self.events.device_in(topic) {
            return Route::Events(device);
        }
        self.ack.device_in(topic).map_or(Route::Unknown, Route::Ack)
    }

    /// The call topic of `device`.
    pub fn call_to(&self, device: &DeviceId) -> String {
        self.return_to_base.of(device.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_route_and_print_back() {
        let topics = Topics::check(&WrittenTopics::default()).unwrap();
        assert_eq!(topics.route("fleet/d-017/telemetry"), Route::Telemetry("d-017"));
        assert_eq!(topics.route("fleet/d-017/events"), Route::Events("d-017"));
        assert_eq!(topics.route("fleet/d-017/return-to-base/ack"), Route::Ack("d-017"));
        assert_eq!(topics.route("fleet/a/b/telemetry"), Route::Unknown);
        assert_eq!(topics.route("other"), Route::Unknown);
        assert_eq!(topics.telemetry.of("x"), "fleet/x/telemetry");
        assert_eq!(topics.telemetry.filter(), "fleet/+/telemetry");
    }

    #[test]
    fn templates_that_would_widen_or_collide_are_refused() {
        for bad in ["fleet/telemetry", "fleet/x{device}/t", "fleet/{device}/#", "{device}/{device}", "$sys/{device}"] {
            assert!(Template::parse("topics.telemetry", bad).is_err(), "{bad}");
        }
        let same = WrittenTopics { events: WrittenTopics::default().telemetry, ..WrittenTopics::default() };
        assert_eq!(Topics::check(&same).unwrap_err().key, "topics.events");
    }
}
