//! Simulated drones on a broker: they publish at a given speed, hear calls, obey and answer them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use homeward_broker::{Inbox, MqttInbox, Outgoing};
use homeward_data::sim::{Fleet, Obeyed};
use homeward_data::{Kind, Record};
use homeward_models::topic::Topics;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::args::Speed;
use crate::commands::files::topic;
use crate::commands::publish::Publisher;
use crate::edges::Stop;

/// What a device reads of a call.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct HeardCall {
    pub(crate) alert_id: String,
    pub(crate) revision: u32,
    pub(crate) state: String,
    pub(crate) device: String,
    #[serde(default)]
    pub(crate) component: Option<String>,
}

/// Hands every call that arrives at `inbox` to the receiver.
pub(crate) fn listen(inbox: Arc<MqttInbox>) -> mpsc::UnboundedReceiver<HeardCall> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let Ok(mut next) = inbox.attach("calls") else { return };
        let mut messages = Vec::new();
        while inbox.read("calls", next, 256, &mut messages).await.is_ok() {
            for message in messages.drain(..) {
                next = message.position + 1;
                match serde_json::from_slice(&message.payload) {
                    Ok(call) => _ = sender.send(call),
                    Err(error) => tracing::warn!(%error, "a call cannot be read"),
                }
            }
            if inbox.release("calls", next).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A fleet in the air.
pub(crate) struct LiveFleet<'a> {
    pub(crate) fleet: Fleet,
    pub(crate) topics: &'a Topics,
    pub(crate) publisher: Publisher,
    /// Calls to the drones; none where nobody listens.
    pub(crate) calls: Option<mpsc::UnboundedReceiver<HeardCall>>,
    /// Whether the drones do as they are told.
    pub(crate) obey: bool,
    /// Simulated time now, for others to read.
    pub(crate) clock: Arc<AtomicI64>,
    /// What each drone has measured and not sent yet.
    pub(crate) uplink: Uplink,
}

/// Gathers a drone's readings into messages of several.
#[derive(Debug)]
pub(crate) struct Uplink {
    readings: usize,
    /// An open JSON array a device topic, and the readings in it.
    open: BTreeMap<String, (Vec<u8>, usize)>,
}

impl Uplink {
    /// Sends `readings` readings a message; 1 sends each as it is.
    pub(crate) fn of(readings: usize) -> Self {
        Self { readings, open: BTreeMap::new() }
    }

    /// Takes a message to `to`; returns what is due now, in order.
    fn take(&mut self, to: String, kind: Kind, payload: &[u8]) -> Vec<Outgoing> {
        if self.readings <= 1 {
            return vec![Outgoing::new(to, payload.to_vec())];
        }
        if kind == Kind::Event {
            // What was measured before the event goes before it.
            let mut due = self.all();
            due.push(Outgoing::new(to, payload.to_vec()));
            return due;
        }
        let (array, count) = self.open.entry(to.clone()).or_default();
        array.push(if *count == 0 { b'[' } else { b',' });
        array.extend_from_slice(payload);
        *count += 1;
        if *count < self.readings {
            return Vec::new();
        }
        self.open.remove(&to).map(|(array, _)| closed(to, array)).into_iter().collect()
    }

    /// All that is held.
    fn all(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.open).into_iter().map(|(to, (array, _))| closed(to, array)).collect()
    }
}

fn closed(to: String, mut array: Vec<u8>) -> Outgoing {
    array.push(b']');
    Outgoing::new(to, array)
}

impl LiveFleet<'_> {
    /// Flies until the simulation or the word to stop ends it; returns the messages sent, all confirmed.
    pub(crate) async fn fly(&mut self, speed: Speed, stop: &Stop) -> anyhow::Result<u64> {
        let (started, from) = (Instant::now(), self.fleet.now_ms());
        let mut record = Record::default();
        while !stop.given() && self.fleet.next(&mut record) {
            if let Speed::Times(times) = speed {
                let due = started + Duration::from_secs_f64((record.ts - from).max(0) as f64 / 1000.0 / times);
                if due > Instant::now() + Duration::from_millis(2) {
                    self.publisher.flush().await?;
                    tokio::select! { () = tokio::time::sleep_until(due.into()) => (), () = stop.wait() => break }
                }
            }
            self.clock.store(record.ts, Ordering::Relaxed);
            self.hear().await?;
            let to = topic(self.topics, &record);
            for out in self.uplink.take(to, record.kind, &record.payload) {
                self.publisher.send(out).await?;
            }
        }
        for out in self.uplink.all() {
            self.publisher.send(out).await?;
        }
        self.publisher.finish().await
    }

    async fn hear(&mut self) -> anyhow::Result<()> {
        let Some(calls) = &mut self.calls else { return Ok(()) };
        while let Ok(call) = calls.try_recv() {
            if call.state != "raised" {
                continue;
            }
            let (status, reason) = if self.obey {
                answer(self.fleet.call(&call.device, &call.alert_id, self.fleet.now_ms()))
            } else {
                ("rejected", "ignores calls")
            };
            let ack = serde_json::json!({"alert_id": call.alert_id, "revision": call.revision, "status": status, "by": "autopilot", "reason": reason});
            self.publisher.send(Outgoing::new(self.topics.ack.of(&call.device), ack.to_string())).await?;
        }
        Ok(())
    }
}

fn answer(obeyed: Obeyed) -> (&'static str, &'static str) {
    match obeyed {
        Obeyed::Returning | Obeyed::AlreadyReturning => ("accepted", "returning"),
        Obeyed::Grounded => ("accepted", "on the ground"),
        Obeyed::InWorkshop => ("accepted", "in the workshop"),
        Obeyed::Ignored => ("rejected", "ignores calls"),
        Obeyed::Unknown => ("rejected", "no such drone"),
    }
}
