//! The one feature kernel: readings in, features out, the same in training, live scoring and audit.
//!
//! `accept` which readings count · `spec` the columns, `derive` and `residual` the channels · `windows` over `panes` and `times`, `commission` normal
//! values, `wear` ages, events and attributes · `state` one device, `chain` what it absorbed, `bytes` its saved form.

mod accept;
mod bytes;
mod chain;
mod commission;
mod derive;
mod panes;
mod residual;
mod spec;
mod state;
mod times;
mod wear;
mod windows;

pub use accept::{Acceptance, Counts, Refusal, Verdict};
pub use chain::{event as chain_event, reading as chain_reading};
pub use bytes::{BadState, STATE_VERSION};
pub use residual::{BadResiduals, ResidualNode, ResidualTree, Residuals, WrittenResiduals, regimes};
pub use spec::{Feature, FeatureSpec, Statistic};
pub use state::DeviceState;

#[cfg(test)]
mod tests;
