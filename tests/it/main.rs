//! The workspace's integration tests: the real `homeward` binary through real brokers and stores, one module a promise.
//!
//! What a test needs beyond the workspace (Mosquitto, pyarrow, an S3 server, public data sets) may be missing: it then says `SKIPPED`.
//! With `HOMEWARD_TEST_ALL=1` a missing part is a failure instead.
#![allow(clippy::unwrap_used)]

mod audit;
mod bits;
mod config;
mod demo;
mod durability;
mod faults;
mod fd001;
mod harness;
mod interchange;
mod novelty;
mod operation;
mod predict;
mod quarantine;
mod s3;
mod simulate;
mod train;
