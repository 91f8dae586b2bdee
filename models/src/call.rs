//! What goes out: the call to a device, its health, and word to the operators, as JSON.

use serde::Serialize;

use crate::decision::Standing;

/// What a device is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Fly home.
    Return,
    /// Land where it is.
    Land,
    /// Stay on the ground.
    NoTakeoff,
}

/// Whether a call raises or clears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Come home.
    Raised,
    /// Never mind.
    Cleared,
}

/// A horizon and the risk within it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HorizonRisk {
    /// Seconds ahead.
    pub horizon_s: f64,
    /// Probability of a failure within it; of a novelty model a score from 0 to below 1 that is none.
    pub risk: f64,
}

/// The model that spoke.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ModelName<'a> {
    /// Its name in the registry.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
}

/// One reason for a risk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallReason<'a> {
    /// The feature.
    pub feature: &'a str,
    /// Its value; none if it is missing.
    pub value: Option<f64>,
    /// Its median in training.
    pub typical: Option<f64>,
    /// What it adds to the score.
    pub contribution: f64,
}

/// Expected money of the ways to go on; `null` where the risk is no probability to weigh it by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ExpectedCost {
    /// Of coming home.
    #[serde(rename = "return")]
    pub come_home: f64,
    /// Of flying on.
    #[serde(rename = "continue")]
    pub fly_on: f64,
    /// Of landing where it is, where that is a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub land: Option<f64>,
}

/// The call: an advice that expires. Autopilot failsafes and the pilot outrank it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Call<'a> {
    /// Names the alert over repeats, restarts and replicas.
    pub alert_id: &'a str,
    /// From 1, one more a repeat.
    pub revision: u32,
    /// Raises or clears.
    pub state: State,
    /// What to do.
    pub action: Action,
    /// Who is called.
    pub device: &'a str,
    /// What is about to fail, by [`naming`](crate::naming), if it can be told.
    pub component: Option<&'a str>,
    /// `ts` of the reading, milliseconds since 1970 UTC by the device's clock.
    pub ts: i64,
    /// When the call ends, by the device's clock.
    pub expires_at: i64,
    /// One a horizon.
    pub risks: Vec<HorizonRisk>,
    /// The risk that raises.
    pub threshold: f64,
    /// The model that spoke.
    pub model: ModelName<'a>,
    /// Why, largest first.
    pub reasons: Vec<CallReason<'a>>,
    /// Expected money.
    pub cost: ExpectedCost,
}

/// What a device should do, by its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Nothing is wrong.
    Fly,
    /// Come home.
    Return,
    /// Land.
    Land,
    /// Stay on the ground.
    NoTakeoff,
}

/// The standing alert in a device's health.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthAlert<'a> {
    /// Its name.
    pub alert_id: &'a str,
    /// Its last call.
    pub revision: u32,
    /// `ts` of the reading that raised it.
    pub since: i64,
    /// When its last call ends.
    pub expires_at: i64,
    /// Whether the call has ended with no answer from the device.
    pub expired: bool,
    /// What is about to fail.
    pub component: Option<&'a str>,
    /// The device's answer.
    pub answer: Option<&'static str>,
}

/// The retained state of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health<'a> {
    /// Who.
    pub device: &'a str,
    /// `ts` of the reading.
    pub ts: i64,
    /// One a horizon.
    pub risks: Vec<HorizonRisk>,
    /// The standing alert, or none.
    pub alert: Option<HealthAlert<'a>>,
    /// What to do.
    pub advice: Advice,
    /// The model that spoke.
    pub model: ModelName<'a>,
}

/// Word to the operators: what people must hear.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperatorNote<'a> {
    /// `call_rejected`, `call_failed`, `too_many_raised` or `drift`.
    pub note: &'static str,
    /// Whose; none for what concerns the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<&'a str>,
    /// Which alert, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_id: Option<&'a str>,
    /// More, for people.
    pub detail: String,
}

impl<'a> HealthAlert<'a> {
    /// The health's view of a standing alert.
    pub fn of(standing: &'a Standing, expires_at: i64, expired: bool) -> Self {
        use crate::wire::AckStatus::{Accepted, Done, Failed, Rejected};
        let answer = standing.answer.map(|a| match a {
            Accepted => "accepted",
            Rejected => "rejected",
            Done => "done",
            Failed => "failed",
        });
        let component = standing.component.as_deref();
        Self {
            alert_id: &standing.alert_id,
            revision: standing.revision,
            since: standing.raised_ts,
            expires_at,
            expired,
            component,
            answer,
        }
    }
}
