//! Events and answers to calls. They are rare: plain serde maps will do.

use serde_json::{Map, Value};

use super::{check_ts, not_json};
use crate::time::parse_rfc3339;
use crate::{Event, EventKind, Reason, Refused};

/// Decodes one event of `device` not after `latest_ts` (milliseconds since 1970 UTC); fields that an event does not know go to `extra`.
pub fn decode_event(device: &str, payload: &[u8], latest_ts: i64) -> Result<Event, Refused> {
    let mut map = object(payload)?;
    let ts = match map.remove("ts") {
        None => return Err(Refused::new(Reason::NoTs, "found no ts, expected integer milliseconds since 1970 UTC or RFC 3339")),
        Some(value) => instant(&value)?,
    };
    let ts = check_ts(ts, latest_ts)?;
    if let Some(named) = map.remove("device").filter(|d| d.as_str() != Some(device)) {
        return Err(Refused::new(Reason::DeviceMismatch, format!("device: found {named}, expected \"{device}\" as in the topic")));
    }
    let code = text(&mut map, "event")?.ok_or_else(|| bad("event", "nothing", "a code such as \"failure\""))?;
    if code.is_empty() || code.len() > 64 {
        return Err(bad("event", "a code of 0 or more than 64 bytes", "1 to 64 bytes"));
    }
    let finding = if code == "inspection" { text(&mut map, "finding")? } else { None };
    let found = finding.clone().unwrap_or_else(|| "nothing".into());
    let kind =
        EventKind::parse(&code, finding.as_deref()).ok_or_else(|| bad("finding", &found, "confirmed, no_fault_found or deferred"))?;
    let component = text(&mut map, "component")?;
    let alert_id = text(&mut map, "alert_id")?;
    let extra = (!map.is_empty()).then(|| Value::Object(map).to_string());
    Ok(Event { ts, kind, component, alert_id, extra })
}

/// What a device says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckStatus {
    /// It comes.
    Accepted,
    /// It does not; the call is not repeated and the operators are told.
    Rejected,
    /// It came.
    Done,
    /// It tried and could not.
    Failed,
}

/// An answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallAck {
    /// The call answered.
    pub alert_id: String,
    /// Its revision.
    pub revision: u32,
    /// The answer.
    pub status: AckStatus,
    /// `autopilot`, `pilot` or `operator`.
    pub by: String,
    /// Why, if said.
    pub reason: Option<String>,
}

/// Decodes an answer to a call.
pub fn decode_ack(payload: &[u8]) -> Result<CallAck, Refused> {
    let mut map = object(payload)?;
    let status = match text(&mut map, "status")?.as_deref() {
        Some("accepted") => AckStatus::Accepted,
        Some("rejected") => AckStatus::Rejected,
        Some("done") => AckStatus::Done,
        Some("failed") => AckStatus::Failed,
        other => return Err(bad("status", other.unwrap_or("nothing"), "accepted, rejected, done or failed")),
    };
    let revision = map.get("revision").and_then(Value::as_u64).and_then(|r| u32::try_from(r).ok());
    Ok(CallAck {
        alert_id: text(&mut map, "alert_id")?.ok_or_else(|| bad("alert_id", "nothing", "the alert_id of the call"))?,
        revision: revision.ok_or_else(|| bad("revision", "none", "the revision of the call"))?,
        status,
        by: text(&mut map, "by")?.unwrap_or_default(),
        reason: text(&mut map, "reason")?,
    })
}

fn object(payload: &[u8]) -> Result<Map<String, Value>, Refused> {
    match serde_json::from_slice(payload) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Refused::new(Reason::NotAnObject, "found JSON that is no object, expected one object")),
        Err(error) => Err(not_json(payload, &error)),
    }
}

fn instant(value: &Value) -> Result<i64, Refused> {
    let ms = value.as_i64().or_else(|| parse_rfc3339(value.as_str()?));
    ms.ok_or_else(|| Refused::new(Reason::BadTs, format!("ts: found {value}, expected integer milliseconds since 1970 UTC or RFC 3339")))
}

fn text(map: &mut Map<String, Value>, field: &str) -> Result<Option<String>, Refused> {
    match map.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(bad(field, &other.to_string(), "text")),
    }
}

fn bad(field: &str, found: &str, expected: &str) -> Refused {
    Refused::new(Reason::BadEvent, format!("{field}: found {found}, expected {expected}"))
}
