//! The pure core of Homeward: what a fleet, a reading, a feature, a classifier and an alert are.
//!
//! Bytes and `now` go in, values come out. Nothing here reads a clock, a file or a socket, so training, live scoring and
//! audit run the very same code and give the same bits.
#![cfg_attr(test, allow(clippy::unwrap_used))]

// Code that tests share with benchmarks names the crate as those do.
#[cfg(test)]
extern crate self as homeward_models;

pub mod artifact;
pub mod audit;
pub mod calibration;
pub mod call;
pub mod climb;
pub mod cost;
pub mod decision;
pub mod device;
pub mod drift;
pub mod ensemble;
pub mod error;
pub mod event;
pub mod features;
pub mod fleet;
pub mod form;
pub mod import;
pub mod label;
pub mod naming;
pub mod novelty;
pub mod onnx;
pub mod quarantine;
pub mod time;
pub mod topic;
pub mod wire;

pub use device::DeviceId;
pub use error::ConfigError;
pub use event::{Event, EventKind, Finding};
pub use fleet::{Fleet, WrittenFleet};
pub use quarantine::{Reason, Refused};
