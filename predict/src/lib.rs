//! The live service: inbox → decode → features → risk → decision → outbox → release.
//!
//! [`fleet::FleetState`] is the pure part: a message and the arrival time go in, messages to publish come out. [`run`] is the edge around
//! it: a chunk of messages is released when the broker has answered for everything it caused to be published.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod champion;
pub mod fleet;
mod service;
mod settings;
mod speak;
mod stats;

pub use champion::load;
pub use service::{PredictError, run};
pub use settings::{Settings, WrittenPredict};
pub use stats::{Counts, Stats};
