//! The live service: inbox → decode → features → risk → decision → outbox → release.
//!
//! [`fleet::FleetState`] is the pure part: a message and the arrival time go in, messages to publish come out. [`run`] is the edge around
//! it: a chunk of messages is released when the broker has answered for everything it caused to be published and, with a [`Keeper`], when all that
//! is remembered of it is safe on disk.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod champion;
mod device;
pub mod fleet;
mod keeper;
mod memory;
mod scribe;
mod service;
mod settings;
mod speak;
mod stats;

pub use champion::{InService, LoadError, load};
pub use keeper::{KeepError, Keeper};
pub use memory::BadMemory;
pub use service::{PredictError, run};
pub use settings::{Settings, WrittenPredict};
pub use stats::{Counts, Drift, Stats};
