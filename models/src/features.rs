//! The one feature kernel: readings in, features out, the same in training, live scoring and audit.

mod accept;
mod derive;
mod moments;
mod spec;
mod state;
mod windows;

pub use accept::{Acceptance, Refusal, Verdict};
pub use spec::{Feature, FeatureSpec, Statistic};
pub use state::DeviceState;

#[cfg(test)]
mod tests;
