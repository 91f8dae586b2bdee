//! The inbox: its contract, and its twin without a network.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::window::Window;

/// A message on its way into an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The topic as it came; MQTT asks for UTF-8, nobody has checked.
    pub topic: Bytes,
    /// The payload as it came.
    pub payload: Bytes,
    /// When it was read from the socket: milliseconds since 1970 UTC.
    pub received_at_ms: i64,
    /// The broker says it may have sent this before (DUP).
    pub duplicate: bool,
    /// The broker had kept this as the topic's last value; it is not news.
    pub retained: bool,
}

impl Incoming {
    /// A first delivery, not retained.
    pub fn new(topic: impl Into<Bytes>, payload: impl Into<Bytes>, received_at_ms: i64) -> Self {
        Self { topic: topic.into(), payload: payload.into(), received_at_ms, duplicate: false, retained: false }
    }
}

/// A message in an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place: one more than the message before it.
    pub position: u64,
    /// The topic as it came; MQTT asks for UTF-8, nobody has checked.
    pub topic: Bytes,
    /// The payload as it came.
    pub payload: Bytes,
    /// When it was read from the socket: milliseconds since 1970 UTC.
    pub received_at_ms: i64,
    /// The inbox's verdict on clocks, taken once at arrival: a device's time after this one, in milliseconds since 1970 UTC, is not believed.
    pub latest_ts_ms: i64,
    /// The broker says it may have sent this before (DUP).
    pub duplicate: bool,
    /// The broker had kept this as the topic's last value; it is not news.
    pub retained: bool,
    /// The inbox's verdict on redelivery, taken once at arrival: the same topic and payload came within the last [`Recent::WINDOW`](crate::Recent::WINDOW)
    /// messages. Whether the broker calls it a duplicate plays no part.
    pub repeat: bool,
}

/// Why nothing can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No message will come any more, and none is left to read.
    #[error("the inbox is closed")]
    Closed,
    /// What is held cannot be read back. Nothing is lost by stopping: what was not released is kept.
    #[error("{place}: {found}")]
    Unreadable {
        /// The file, and where in it.
        place: String,
        /// What was found there.
        found: String,
    },
}

/// A reader asked for what the inbox cannot do: a mistake of the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// The reader must attach first.
    #[error("reader {reader:?} is not attached to this inbox")]
    Unattached {
        /// The reader.
        reader: String,
    },
    /// The reader releases what does not exist yet.
    #[error("reader {reader:?} releases up to {up_to}, but the inbox ends at {end}")]
    BeyondEnd {
        /// The reader.
        reader: String,
        /// What it wanted to release, exclusive.
        up_to: u64,
        /// The position that the next message will get.
        end: u64,
    },
    /// The reader's name cannot be kept.
    #[error("reader {reader:?} cannot attach: a reader's name has at least one character")]
    Nameless {
        /// The reader.
        reader: String,
    },
    /// The disk did not take a reader's note: try again later.
    #[error("the note of reader {reader:?} cannot be kept: {reason}")]
    NotKept {
        /// The reader.
        reader: String,
        /// What is in the way.
        reason: String,
    },
}

/// Messages in order of arrival, numbered without gaps, kept until every reader has released them.
///
/// Releasing is what acknowledges: once all attached readers have released up to a position,
/// everything below it is confirmed to its sender and forgotten. While no reader is attached
/// nothing is released.
pub trait Inbox: Send + Sync + 'static {
    /// Adds a message at the end and returns its position. After [`Inbox::close`] it is still
    /// numbered, and readers that have not seen the end yet will find it.
    fn append(&self, incoming: Incoming) -> u64;

    /// Registers a named reader and returns the first position that it has not released. A name
    /// that is attached already goes on where it was; a new one begins at the oldest message held.
    ///
    /// # Errors
    /// [`InboxError::Nameless`] for an empty name.
    fn attach(&self, reader: &str) -> Result<u64, InboxError>;

    /// Copies up to `max` messages at or after `from` to the end of `into`; waits until there is at
    /// least one. Positions that are forgotten are skipped, and anything held can be read again. `max` 0 counts as 1.
    ///
    /// # Errors
    /// [`ReadError::Closed`] when there is none and none will come; [`ReadError::Unreadable`] if the place where messages are held fails.
    fn read(&self, reader: &str, from: u64, max: usize, into: &mut Vec<Message>) -> impl Future<Output = Result<(), ReadError>> + Send;

    /// Says that `reader` needs nothing below `up_to` any more. Going back changes nothing.
    ///
    /// # Errors
    /// [`InboxError::Unattached`] and [`InboxError::BeyondEnd`]; nothing is released then.
    fn release(&self, reader: &str, up_to: u64) -> Result<(), InboxError>;

    /// What the reader noted last with [`Inbox::keep_note`], also over restarts where the inbox outlives the process.
    fn note(&self, reader: &str) -> Option<Bytes>;

    /// Keeps a note for a reader in place of the one before, together with what the reader has released by now. Where the inbox
    /// outlives the process, both are durable on return.
    ///
    /// # Errors
    /// [`InboxError::Unattached`], and [`InboxError::NotKept`] if the place where notes are kept fails.
    fn keep_note(&self, reader: &str, note: Bytes) -> impl Future<Output = Result<(), InboxError>> + Send;

    /// The first position that is still held: all readers have released everything below it.
    fn released(&self) -> u64;

    /// How many messages are held.
    fn len(&self) -> usize;

    /// Whether no message is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes no new messages from outside. Readers get what is held, then [`ReadError::Closed`]; releases
    /// still count.
    fn close(&self);
}

impl<I: Inbox> Inbox for Arc<I> {
    fn append(&self, incoming: Incoming) -> u64 {
        (**self).append(incoming)
    }
    fn attach(&self, reader: &str) -> Result<u64, InboxError> {
        (**self).attach(reader)
    }
    fn read(&self, reader: &str, from: u64, max: usize, into: &mut Vec<Message>) -> impl Future<Output = Result<(), ReadError>> + Send {
        (**self).read(reader, from, max, into)
    }
    fn release(&self, reader: &str, up_to: u64) -> Result<(), InboxError> {
        (**self).release(reader, up_to)
    }
    fn note(&self, reader: &str) -> Option<Bytes> {
        (**self).note(reader)
    }
    fn keep_note(&self, reader: &str, note: Bytes) -> impl Future<Output = Result<(), InboxError>> + Send {
        (**self).keep_note(reader, note)
    }
    fn released(&self) -> u64 {
        (**self).released()
    }
    fn len(&self) -> usize {
        (**self).len()
    }
    fn close(&self) {
        (**self).close();
    }
}

/// How far a device's clock may run ahead where nothing else is said: an hour.
pub(crate) const MAX_AHEAD_MS: i64 = 3_600_000;

/// An inbox in memory: what a session holds until it is released, and by itself for tests and services fed from within the process.
/// Its notes and its memory of contents end with it.
pub struct MemoryInbox {
    pub(crate) window: Window,
}

impl MemoryInbox {
    /// An empty inbox whose first message will have position 0.
    pub fn new() -> Self {
        Self::starting_at(0)
    }

    /// An empty inbox whose first message will have position `first`.
    pub fn starting_at(first: u64) -> Self {
        Self { window: Window::new(first, MAX_AHEAD_MS) }
    }

    /// An empty inbox that believes times up to `max_ahead_ms` milliseconds after their arrival. Default: 1 h.
    pub fn with_max_ahead(max_ahead_ms: i64) -> Self {
        Self { window: Window::new(0, max_ahead_ms) }
    }
}

impl Default for MemoryInbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Inbox for MemoryInbox {
    fn append(&self, incoming: Incoming) -> u64 {
        self.window.append(incoming)
    }
    fn attach(&self, reader: &str) -> Result<u64, InboxError> {
        self.window.attach(reader)
    }
    async fn read(&self, _reader: &str, from: u64, max: usize, into: &mut Vec<Message>) -> Result<(), ReadError> {
        self.window.read(from, max, into).await
    }
    fn release(&self, reader: &str, up_to: u64) -> Result<(), InboxError> {
        self.window.release(reader, up_to)
    }
    fn note(&self, reader: &str) -> Option<Bytes> {
        self.window.note(reader)
    }
    async fn keep_note(&self, reader: &str, note: Bytes) -> Result<(), InboxError> {
        self.window.keep_note(reader, note)
    }
    fn released(&self) -> u64 {
        self.window.released()
    }
    fn len(&self) -> usize {
        self.window.len()
    }
    fn close(&self) {
        self.window.close();
    }
}
