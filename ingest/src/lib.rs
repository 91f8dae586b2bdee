//! The archiving service: inbox → decode → batch → object store → release.
//!
//! A message is archived or quarantined; there is no third way out. It is released to the broker only when every object that holds a part of
//! it is in the store.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod service;
mod settings;
mod stats;
#[cfg(test)]
mod tests;
mod upload;

pub use batch::BatchError;
pub use batch::{Batcher, Incoming, Sealed};
pub use service::{IngestError, run};
pub use settings::{Settings, WrittenIngest};
pub use stats::{Counts, Stats};
pub use upload::{UploadError, Uploader};
