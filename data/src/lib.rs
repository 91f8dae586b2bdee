//! Sources of telemetry: a simulated drone fleet ([`sim`]) and readers of public data sets ([`readers`]).
//!
//! Both yield [`Record`]s: a message as a device would put it on the wire. The caller publishes it, imports it into
//! the archive, or writes it as a JSON line ([`Record::write_line`]). Nothing here knows a broker or a store.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stderr))]

mod record;

pub mod readers;
pub mod sim;

pub use record::{Kind, Record, is_device_name};
