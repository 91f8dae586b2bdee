//! A simulated fleet of quadcopters: flights, weather, payload, faults that grow, sudden failures, untidy telemetry.
//!
//! Same seed, configuration and calls give the same bytes on every machine.

mod airframe;
mod chaos;
mod config;
mod drone;
mod effects;
mod events;
mod faults;
mod fleet;
mod flight;
mod rng;
mod wire;

pub use config::{CheckedConfig, ConfigError, Mess, SimConfig};
pub use faults::{Component, FaultKind, Outcome, Truth};
pub use fleet::{Fleet, Obeyed};
