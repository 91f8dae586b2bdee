//! What MQTT allows as a topic name and as a topic filter.

/// Longest topic or filter in bytes: MQTT writes its length in two.
const LONGEST: usize = 65_535;

/// Says what is wrong with `topic` as the name to publish under, if anything.
pub(crate) fn name_fault(topic: &str) -> Option<&'static str> {
    if topic.contains(['+', '#']) {
        return Some("a topic to publish under has no wildcard (+ or #)");
    }
    common_fault(topic)
}

/// Says what is wrong with `filter` as a subscription, if anything.
pub(crate) fn filter_fault(filter: &str) -> Option<&'static str> {
    if let Some(fault) = common_fault(filter) {
        return Some(fault);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Some("# stands alone in the last level of a filter");
        }
        if level.contains('+') && level != "+" {
            return Some("+ stands alone in its level of a filter");
        }
    }
    None
}

fn common_fault(topic: &str) -> Option<&'static str> {
    if topic.is_empty() {
        return Some("a topic has at least one character");
    }
    if topic.contains('\0') {
        return Some("a topic has no NUL character");
    }
    (topic.len() > LONGEST).then_some("a topic has at most 65,535 bytes")
}

#[cfg(test)]
mod tests {
    use super::{filter_fault, name_fault};

    #[test]
    fn filters_are_judged_as_mqtt_does() {
        for good in ["#", "+", "fleet/+/telemetry", "a/#", "/", "$share/g/a"] {
            assert_eq!(filter_fault(good), None, "{good}");
        }
        for bad in ["", "a#", "#/a", "a/b+", "a/++", "a\0"] {
            assert!(filter_fault(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn names_have_no_wildcards() {
        assert_eq!(name_fault("fleet/d-1/telemetry"), None);
        for bad in ["", "a/+", "#", "a\0b"] {
            assert!(name_fault(bad).is_some(), "{bad:?}");
        }
        assert!(name_fault(&"a".repeat(65_536)).is_some());
    }
}
