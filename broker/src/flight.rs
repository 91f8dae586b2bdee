//! Publishes on their way: what waits, what is unconfirmed, and which packet id stands for what.

use std::sync::Arc;
use std::time::Instant;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};

use crate::outbox::{Outgoing, PublishError, Ticket};

/// A message that was submitted and not yet settled.
pub(crate) struct Job {
    pub(crate) publish: Publish,
    expiry_s: Option<u32>,
    submitted: Instant,
    ticket: Arc<Ticket>,
}

impl Job {
    pub(crate) fn new(message: Outgoing, submitted: Instant, ticket: Arc<Ticket>) -> Self {
        let publish = Publish {
            dup: false,
            qos: if message.qos1 { QoS::AtLeastOnce } else { QoS::AtMostOnce },
            retain: message.retain,
            topic: message.topic.into(),
            pkid: 0,
            payload: message.payload,
            properties: None,
        };
        Self { publish, expiry_s: message.message_expiry_s, submitted, ticket }
    }

    /// Writes the expiry that is left by now; false when there is none left.
    pub(crate) fn renew_expiry(&mut self, now: Instant) -> bool {
        let Some(expiry) = self.expiry_s else { return true };
        let waited = u32::try_from(now.saturating_duration_since(self.submitted).as_secs()).unwrap_or(u32::MAX);
        let left = expiry.saturating_sub(waited);
        self.publish.properties = Some(PublishProperties { message_expiry_interval: Some(left), ..PublishProperties::default() });
        left > 0
    }

    /// The topic, for people to read.
    pub(crate) fn topic(&self) -> String {
        String::from_utf8_lossy(&self.publish.topic).into_owned()
    }

    pub(crate) fn settle(self, result: Result<(), PublishError>) {
        self.ticket.settle(result);
    }
}

/// The unconfirmed messages of one connection by packet id. Ids are given in turn, and one that is
/// still unconfirmed is never given again.
pub(crate) struct Flight {
    slots: Vec<Option<(u64, Job)>>,
    last: u16,
    count: usize,
    sent: u64,
}

impl Flight {
    pub(crate) fn new() -> Self {
        let slots = (0..=usize::from(u16::MAX)).map(|_| None).collect();
        Self { slots, last: 0, count: 0, sent: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// A packet id that is free. There must be fewer than 65,535 messages in flight.
    pub(crate) fn free_id(&mut self) -> u16 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if self.slots[usize::from(self.last)].is_none() {
                return self.last;
            }
        }
    }

    /// Keeps a message under the packet id it bears.
    pub(crate) fn insert(&mut self, job: Job) {
        let slot = usize::from(job.publish.pkid);
        self.slots[slot] = Some((self.sent, job));
        self.sent += 1;
        self.count += 1;
    }

    /// The message that a PUBACK settles; none when the broker confirms what was not sent.
    pub(crate) fn remove(&mut self, id: u16) -> Option<Job> {
        let (_, job) = self.slots[usize::from(id)].take()?;
        self.count -= 1;
        Some(job)
    }

    /// Everything unconfirmed, in the order in which it was sent.
    pub(crate) fn drain(&mut self) -> Vec<Job> {
        let mut all: Vec<_> = self.slots.iter_mut().filter_map(Option::take).collect();
        all.sort_unstable_by_key(|(sent, _)| *sent);
        self.count = 0;
        all.into_iter().map(|(_, job)| job).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn job(topic: &str, expiry: Option<u32>, submitted: Instant) -> Job {
        let message = Outgoing { message_expiry_s: expiry, ..Outgoing::new(topic, "p") };
        Job::new(message, submitted, Ticket::new(1).0)
    }

    fn send(flight: &mut Flight, topic: &str) -> u16 {
        let mut job = job(topic, None, Instant::now());
        job.publish.pkid = flight.free_id();
        let id = job.publish.pkid;
        flight.insert(job);
        id
    }

    #[test]
    fn an_unconfirmed_packet_id_is_not_given_again() {
        let mut flight = Flight::new();
        let slow = send(&mut flight, "slow");
        for _ in 0..65_534 {
            let id = send(&mut flight, "quick");
            assert!(flight.remove(id).is_some());
        }
        let next = send(&mut flight, "next");
        assert_ne!(next, slow);
        assert_eq!(flight.remove(slow).unwrap().topic(), "slow");
        assert!(flight.remove(slow).is_none());
    }

    #[test]
    fn what_is_unconfirmed_is_sent_again_in_its_order_though_ids_wrapped() {
        let mut flight = Flight::new();
        flight.last = u16::MAX - 1;
        for topic in ["a", "b", "c"] {
            send(&mut flight, topic);
        }
        let order: Vec<_> = flight.drain().iter().map(Job::topic).collect();
        assert_eq!(order, ["a", "b", "c"]);
        assert_eq!(flight.len(), 0);
    }

    #[test]
    fn time_spent_waiting_counts_against_the_expiry() {
        let start = Instant::now();
        let mut job = job("t", Some(60), start);
        assert!(job.renew_expiry(start + Duration::from_secs(20)));
        let left = job.publish.properties.as_ref().and_then(|p| p.message_expiry_interval);
        assert_eq!(left, Some(40));
        assert!(!job.renew_expiry(start + Duration::from_secs(60)));
    }
}
