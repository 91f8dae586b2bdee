//! The fleet: all drones' messages in the order of time, and calls to them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::config::CheckedConfig;
use super::drone::Drone;
use super::faults::Truth;
use crate::Record;

/// What a drone made of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Obeyed {
    /// It breaks off its flight, flies home and is inspected.
    Returning,
    /// It was called before in this flight and is on its way.
    AlreadyReturning,
    /// It was on the ground and is inspected before it flies again.
    Grounded,
    /// It was on the ground and is being inspected or repaired already; nothing changes.
    InWorkshop,
    /// This fleet does not obey calls; nothing changes.
    Ignored,
    /// There is no such drone.
    Unknown,
}

/// A fleet of simulated drones.
///
/// ```
/// use homeward_data::{Record, sim::{Fleet, SimConfig}};
/// let config = SimConfig { drones: 2, duration_s: 600.0, ..SimConfig::default() }.check()?;
/// let mut fleet = Fleet::new(&config);
/// let mut record = Record::default();
/// let mut messages = 0;
/// while fleet.next(&mut record) {
///     messages += 1;
/// }
/// assert!(messages > 2);
/// # Ok::<(), homeward_data::sim::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Fleet {
    drones: Vec<Drone>,
    /// When each drone has something to do. An entry whose time is no longer its drone's own is stale.
    due: BinaryHeap<Reverse<(i64, usize)>>,
    now: i64,
    end: i64,
}

impl Fleet {
    /// A fleet at the beginning of its simulated time.
    pub fn new(config: &CheckedConfig) -> Self {
        let drones: Vec<Drone> = (0..config.get().drones).map(|i| Drone::new(config, i)).collect();
        let due = drones.iter().enumerate().map(|(i, drone)| Reverse((drone.next_at(), i))).collect();
        Fleet { drones, due, now: config.get().start_ms, end: config.end_ms() }
    }

    /// Puts the next message of the fleet into `out`, reusing its buffers; false at the end of the simulated time.
    /// `out.ts` never decreases from one message to the next.
    pub fn next(&mut self, out: &mut Record) -> bool {
        while let Some(mut top) = self.due.peek_mut() {
            let Reverse((at, index)) = *top;
            if at >= self.end {
                return false;
            }
            let drone = &mut self.drones[index];
            if drone.next_at() != at {
                PeekMut::pop(top);
                continue;
            }
            self.now = at;
            let sent = drone.emit(out);
            *top = Reverse((drone.next_at(), index));
            if sent {
                return true;
            }
        }
        false
    }

    /// Calls `device` home at `now_ms`, which counts as the time of the last message if that is later.
    ///
    /// A drone that obeys lands and is inspected, and the inspection names `alert_id`. If a fault is growing, it is
    /// `confirmed`, the part is replaced, and the truth says `saved`; otherwise `no_fault_found`, and the drone goes on.
    pub fn call(&mut self, device: &str, alert_id: &str, now_ms: i64) -> Obeyed {
        let Some(index) = self.index(device) else { return Obeyed::Unknown };
        let obeyed = self.drones[index].call(alert_id, now_ms.max(self.now));
        self.due.push(Reverse((self.drones[index].next_at(), index)));
        obeyed
    }

    /// What was wrong with the drones so far, sudden failures included, by onset and device. A fault that still grows is
    /// `pending`, with the time at which it would fail.
    pub fn truth(&self) -> Vec<Truth> {
        let mut all: Vec<Truth> = self.drones.iter().flat_map(Drone::truths).collect();
        all.sort_by(|a, b| (a.onset_ms, &a.device).cmp(&(b.onset_ms, &b.device)));
        all
    }

    /// The drones' names.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.drones.iter().map(|drone| drone.id.as_str())
    }

    /// The time of the last message, ms since 1970 UTC; before the first the start.
    pub fn now_ms(&self) -> i64 {
        self.now
    }

    /// The first moment that is no longer simulated, ms since 1970 UTC.
    pub fn end_ms(&self) -> i64 {
        self.end
    }

    /// Flying time of all drones so far, hours.
    pub fn flown_h(&self) -> f64 {
        self.drones.iter().map(|drone| drone.flown as f64).sum::<f64>() / 3_600_000.0
    }

    /// Names are `d-001` and on, so the number is the place.
    fn index(&self, device: &str) -> Option<usize> {
        let number: usize = device.strip_prefix("d-")?.parse().ok()?;
        let index = number.checked_sub(1)?;
        self.drones.get(index).filter(|drone| drone.id == device).map(|_| index)
    }
}
