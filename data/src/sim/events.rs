//! The events of a drone as JSON, and the queue in which they wait for their time.

use std::collections::VecDeque;

use super::faults::Component;
use super::wire::push_decimal;

/// Events in the order of their time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agenda(VecDeque<(i64, Vec<u8>)>);

impl Agenda {
    /// When the next event is due; `i64::MAX` when there is none.
    pub(crate) fn next_at(&self) -> i64 {
        self.0.front().map_or(i64::MAX, |(at, _)| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<(i64, Vec<u8>)> {
        self.0.pop_front()
    }

    /// Adds an event; it comes after those already there for the same moment.
    pub(crate) fn add(&mut self, at: i64, body: Vec<u8>) {
        let place = self.0.partition_point(|(other, _)| *other <= at);
        self.0.insert(place, (at, body));
    }
}

/// `{"ts":…,"event":"attributes","model":…,"firmware":…,"home":{…}}`
pub(crate) fn attributes(ts: i64, firmware: &str, home: (f64, f64)) -> Vec<u8> {
    let mut body = format!(r#"{{"ts":{ts},"event":"attributes","model":"quad-x4","firmware":"{firmware}","home":{{"lat":"#).into_bytes();
    push_decimal(home.0, 7, &mut body);
    body.extend_from_slice(b",\"lon\":");
    push_decimal(home.1, 7, &mut body);
    body.extend_from_slice(b"}}");
    body
}

/// `{"ts":…,"event":"failure","component":…}`
pub(crate) fn failure(ts: i64, component: Component) -> Vec<u8> {
    format!(r#"{{"ts":{ts},"event":"failure","component":"{}"}}"#, component.as_str()).into_bytes()
}

/// `{"ts":…,"event":"maintenance","component":…}`
pub(crate) fn maintenance(ts: i64, component: Component) -> Vec<u8> {
    format!(r#"{{"ts":{ts},"event":"maintenance","component":"{}"}}"#, component.as_str()).into_bytes()
}

/// An inspection that found a growing fault in `found`, or none; `alert_id` if a call asked for it.
pub(crate) fn inspection(ts: i64, found: Option<Component>, alert_id: Option<&str>) -> Vec<u8> {
    let mut text = format!(r#"{{"ts":{ts},"event":"inspection","finding":"#);
    match found {
        Some(component) => text.push_str(&format!(r#""confirmed","component":"{}""#, component.as_str())),
        None => text.push_str(r#""no_fault_found""#),
    }
    if let Some(id) = alert_id {
        // An alert's name comes from outside and is escaped as JSON.
        text.push_str(&format!(r#","alert_id":{}"#, serde_json::Value::from(id)));
    }
    text.push('}');
    text.into_bytes()
}
