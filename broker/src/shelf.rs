//! Where a connection puts what it receives, and learns what it may acknowledge.

use std::future::Future;

use crate::inbox::{Inbox, Incoming, MemoryInbox};

/// An inbox that a session can fill: [`MemoryInbox`], whose messages are acknowledged when released, and
/// [`Journal`](crate::Journal), whose messages are acknowledged when on disk. Not to be implemented elsewhere.
pub trait Shelf: Inbox {
    /// Appends a batch with the packet ids of the current connection, 0 for none; empties `batch`.
    #[doc(hidden)]
    fn append_batch(&self, batch: &mut Vec<(Incoming, u16)>);

    /// Begins a connection: what came by an earlier one can no longer be acknowledged.
    #[doc(hidden)]
    fn begin_epoch(&self);

    /// Moves the acknowledgements that became due to the end of `into`, in order of arrival; returns how many were dropped as stale since
    /// the last call.
    #[doc(hidden)]
    fn take_acks(&self, into: &mut Vec<u16>) -> u64;

    /// No more should be read from the socket for now; `max_bytes` is how much may be held in memory.
    #[doc(hidden)]
    fn is_full(&self, max_bytes: usize) -> bool;

    /// Nothing more will become due for acknowledgement by waiting.
    #[doc(hidden)]
    fn is_settled(&self) -> bool;

    /// Messages were taken in an earlier run: a broker without our session has lost something.
    #[doc(hidden)]
    fn has_history(&self) -> bool;

    /// What was last told to [`Shelf::keep_subscription`], in an earlier run too.
    #[doc(hidden)]
    fn subscription(&self) -> Option<String>;

    /// Keeps a word about what the session has been granted. If it cannot be kept, the next run subscribes anew.
    #[doc(hidden)]
    fn keep_subscription(&self, granted: &str);

    /// Waits until something became due, or there is room again, since the last call.
    #[doc(hidden)]
    fn freed(&self) -> impl Future<Output = ()> + Send;
}

impl Shelf for MemoryInbox {
    fn append_batch(&self, batch: &mut Vec<(Incoming, u16)>) {
        self.window.append_batch(batch);
    }
    fn begin_epoch(&self) {
        self.window.begin_epoch();
    }
    fn take_acks(&self, into: &mut Vec<u16>) -> u64 {
        self.window.take_acks(into)
    }
    fn is_full(&self, max_bytes: usize) -> bool {
        self.window.bytes() >= max_bytes
    }
    fn is_settled(&self) -> bool {
        self.window.len() == 0
    }
    fn has_history(&self) -> bool {
        false
    }
    fn subscription(&self) -> Option<String> {
        None
    }
    fn keep_subscription(&self, _: &str) {}
    async fn freed(&self) {
        self.window.freed().await;
    }
}
