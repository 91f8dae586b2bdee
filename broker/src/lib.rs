//! The MQTT edge of Homeward.
//!
//! - [`Inbox`]: messages in order, numbered, read by several named readers and acknowledged to the
//!   broker when all of them have released them. [`MqttInbox`] is a persistent MQTT 5 session with
//!   manual acknowledgements, [`MemoryInbox`] its twin without a network.
//! - [`Journal`]: an append-only log on local disk, where messages wait acknowledged until all readers have released them.
//! - [`Outbox`]: publishes that count as sent only by the broker's PUBACK. [`MqttOutbox`] and
//!   [`MemoryOutbox`].
//! - [`embedded`]: a broker inside this process, for the demo.
//! - `testing` (a feature): real Mosquitto brokers for integration tests.
//!
//! Packets are rumqttc's; the loop that moves them is `wire`. rumqttc's own event loop sends
//! acknowledgements one system call each through the channel of its publishes, does not tell which
//! publish a PUBACK confirmed, and forgets unsent publishes when a session is lost; all three
//! matter here, and none can be mended from outside.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod connect;
pub mod embedded;
mod flight;
mod inbox;
mod journal;
mod latency;
mod mqtt_inbox;
mod mqtt_outbox;
mod outbox;
mod recent;
mod settings;
mod shelf;
mod stop;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;
mod topic;
mod window;
mod wire;

pub use connect::ConnectError;
pub use inbox::{Inbox, InboxError, Incoming, MemoryInbox, Message, ReadError};
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub use journal::fuzzing;
pub use journal::{Journal, JournalError, JournalOptions, JournalStats};
pub use latency::{Latency, LatencyView};
pub use mqtt_inbox::{InboxStats, MqttInbox};
pub use mqtt_outbox::{MqttOutbox, OutboxStats};
pub use outbox::{MemoryOutbox, Outbox, Outgoing, PublishError, Receipt};
pub use recent::Recent;
pub use settings::{Credentials, Options, Settings, SettingsError, Tls};
pub use shelf::Shelf;
