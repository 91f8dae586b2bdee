//! The archiving service: inbox → decode → batch → cut → object store → release.
//!
//! A message is archived or quarantined; there is no third way out. It is released only when every object that holds a part of
//! it is in the store. Before the first of them is put, the cut is noted: a restart stores the same stretch in the same objects.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod compact;
mod recipe;
mod service;
mod settings;
mod stats;
#[cfg(test)]
mod tests;
mod upload;

pub use batch::BatchError;
pub use batch::{Batcher, Incoming, Sealed};
pub use compact::{Cold, CompactError, CompactRun, CompactSettings, Compacted, WrittenCold, WrittenCompact, WrittenRetain, compact};
pub use recipe::{Cut, CutError, Recipe};
pub use service::{IngestError, run};
pub use settings::{Ack, Settings, WouldStall, WrittenIngest};
pub use stats::{Counts, Stats};
pub use upload::{UploadError, Uploader};
