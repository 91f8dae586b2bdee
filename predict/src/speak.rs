//! Putting calls, health and notes to operators into words: JSON payloads with their topics.

use homeward_broker::Outgoing;
use homeward_models::DeviceId;
use homeward_models::call::{
    Action, Advice, Call, CallReason, ExpectedCost, Health, HealthAlert, HorizonRisk, ModelName, OperatorNote, State,
};
use homeward_models::decision::{Rules, Standing};
use homeward_models::ensemble::explain::largest;
use homeward_models::naming;
use homeward_models::topic::Topics;
use serde::Serialize;

use crate::champion::InService;
use crate::device::Device;

/// Reasons given with a call at most.
const REASONS: usize = 5;

/// Who speaks: the model in service, on the fleet's topics, under the operator's rules.
pub(crate) struct Speaker<'a> {
    pub(crate) service: &'a InService,
    pub(crate) topics: &'a Topics,
    pub(crate) rules: Rules,
}

impl<'a> Speaker<'a> {
    /// A call; it expires at the broker as it does by its own word.
    pub(crate) fn call(
        &self,
        device: &Device,
        standing: &Standing,
        state: State,
        action: Action,
        cost: ExpectedCost,
        reasons: &[CallReason<'_>],
    ) -> Option<Outgoing> {
        let model = &self.service.model;
        let call = Call {
            alert_id: &standing.alert_id,
            revision: standing.revision,
            state,
            action,
            device: device.id.as_str(),
            component: standing.component.as_deref(),
            ts: device.ts,
            expires_at: device.ts + self.rules.expiry,
            risks: self.risks(device),
            threshold: model.threshold,
            model: self.model(),
            reasons: reasons.to_vec(),
            cost,
        };
        let mut out = json(self.topics.call_to(&device.id), &call)?;
        out.message_expiry_s = u32::try_from(self.rules.expiry / 1000).ok();
        Some(out)
    }

    /// The device's retained health.
    pub(crate) fn health(&self, device: &Device) -> Option<Outgoing> {
        let alert = device.standing.as_ref();
        let health = Health {
            device: device.id.as_str(),
            ts: device.ts,
            risks: self.risks(device),
            alert: alert.map(|s| HealthAlert::of(s, s.expires_at(&self.rules), device.expired)),
            advice: if alert.is_some() { device.advice } else { Advice::Fly },
            model: self.model(),
        };
        let mut out = json(self.topics.health.of(device.id.as_str()), &health)?;
        out.retain = true;
        Some(out)
    }

    /// Word to the operators.
    pub(crate) fn operators(
        &self,
        note: &'static str,
        device: Option<&DeviceId>,
        alert_id: Option<&str>,
        detail: String,
    ) -> Option<Outgoing> {
        json(self.topics.operators.clone(), &OperatorNote { note, device: device.map(DeviceId::as_str), alert_id, detail })
    }

    /// What speaks for a failure in the last horizon's own stretch, largest first; what speaks against it is no reason for a call.
    pub(crate) fn reasons(&self, row: &[f64]) -> Vec<CallReason<'a>> {
        let model = &self.service.model;
        let known = |x: f64| x.is_finite().then_some(x);
        let reason = |(feature, contribution): (u32, f64)| CallReason {
            feature: &self.service.features[feature as usize],
            value: known(row[feature as usize]),
            typical: known(model.typical[feature as usize]),
            contribution,
        };
        largest(&self.added(row)).into_iter().filter(|c| c.1 > 0.0).take(REASONS).map(reason).collect()
    }

    /// The component to name, by [`naming::component`].
    pub(crate) fn component(&self, row: &[f64]) -> Option<String> {
        let model = &self.service.model;
        let named =
            naming::component(&model.spec, model.signatures.as_ref(), row, |added| self.service.reasons().contributions(row, added));
        named.map(String::from)
    }

    /// What each feature added to the raw score of the last horizon.
    fn added(&self, row: &[f64]) -> Vec<f64> {
        let mut added = vec![0.0; row.len()];
        self.service.reasons().contributions(row, &mut added);
        added
    }

    fn risks(&self, device: &Device) -> Vec<HorizonRisk> {
        let horizons = self.service.model.horizons.iter();
        horizons.zip(&device.risks).map(|(h, risk)| HorizonRisk { horizon_s: *h as f64 / 1000.0, risk: *risk }).collect()
    }

    fn model(&self) -> ModelName<'a> {
        ModelName { name: &self.service.name, version: &self.service.version }
    }
}

fn json(topic: String, body: &impl Serialize) -> Option<Outgoing> {
    match serde_json::to_vec(body) {
        Ok(payload) => Some(Outgoing::new(topic, payload)),
        Err(error) => {
            tracing::error!(topic, %error, "a message cannot be written as JSON");
            None
        }
    }
}
