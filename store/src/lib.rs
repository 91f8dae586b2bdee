//! The object-store edge of Homeward: [`Store`] opens a bucket or a folder by URL, [`keys`] names what lies in it,
//! [`archive`] turns rows into Parquet objects and back, and [`registry`] keeps model versions and the champion.
//!
//! Rows come in as columns and slices; this crate knows neither MQTT nor features, and builds without arrow and polars.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use homeward_store::{Put, Store, archive::{EventBatch, EventRow, WriteOptions}, keys::{ArchiveKey, Key, Partition, Table, WriterId}};
//!
//! let store = Store::open("memory:///", std::iter::empty())?;
//! let mut batch = EventBatch::default();
//! batch.push(&EventRow { device: "d-017", ts: 1_764_000_000_123, event: "failure", ..EventRow::default() });
//! let partition = Partition::day(Table::Events, 1_764_000_000_123)?;
//! let key = Key::from(ArchiveKey::new(partition, WriterId::from_bytes([7; 8]), 0, 0)?);
//! let bytes = batch.encode(&WriteOptions::default())?;
//! assert_eq!(store.put_new(&key, bytes.clone()).await?, Put::Stored);
//! assert_eq!(store.put_new(&key, bytes).await?, Put::AlreadyThere); // a repeat is success
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod archive;
pub mod error;
pub mod keys;
mod local;
pub mod manifest;
mod open;
pub mod registry;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{ArchiveError, KeyError, StoreError};
pub use manifest::Manifest;
pub use registry::{Champion, ChampionChange, Registry};
pub use store::{Entry, Put, Retry, Revision, Store};
