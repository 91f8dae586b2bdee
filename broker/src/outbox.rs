//! The outbox: its contract, and its twin without a network.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::topic;

/// A message to publish. It carries no response topic and no content type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic, without wildcards.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// Whether the broker is to confirm it (QoS 1). Without, it counts as sent once it is handed to the connection.
    pub qos1: bool,
    /// Whether the broker keeps it as the topic's last value.
    pub retain: bool,
    /// After how many seconds the broker throws it away undelivered. Time spent waiting here counts.
    pub message_expiry_s: Option<u32>,
}

impl Outgoing {
    /// QoS 1, not retained, no expiry.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { topic: topic.into(), payload: payload.into(), qos1: true, retain: false, message_expiry_s: None }
    }
}

/// Why a message does not count as sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker answered with a reason that is no success: its rules or quotas must change.
    #[error("{topic}: the broker refused the message: {code}")]
    Refused {
        /// Where it was published.
        topic: String,
        /// The PUBACK's reason, as `NotAuthorized` or `QuotaExceeded`, and the broker's words.
        code: String,
    },
    /// The message can never be sent like this.
    #[error("{topic}: this cannot be published: {reason}")]
    Unfit {
        /// Where it should have been published.
        topic: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Its expiry passed while it waited for a connection: it is old news.
    #[error("{topic}: the message expired before it could be sent")]
    Expired {
        /// Where it should have been published.
        topic: String,
    },
    /// The outbox stopped before the broker confirmed it; it may have arrived.
    #[error("the outbox stopped before the broker confirmed the message")]
    Stopped,
}

/// Messages to publish, each of which counts as sent only when the broker has confirmed it.
///
/// Messages are sent in the order in which they were submitted. After a reconnect unconfirmed ones
/// are sent again, so a message may arrive twice.
pub trait Outbox: Send + Sync + 'static {
    /// Hands messages over and returns a receipt for all of them; waits while the outbox is full.
    /// Dropping the receipt does not take the messages back.
    fn submit(&self, messages: Vec<Outgoing>) -> impl Future<Output = Receipt> + Send;

    /// Publishes one message; resolves when the broker has confirmed it. There is no time limit: an outage is waited out.
    ///
    /// # Errors
    /// [`PublishError`] when it will not be confirmed.
    fn publish(&self, message: Outgoing) -> impl Future<Output = Result<(), PublishError>> + Send {
        async move { self.submit(vec![message]).await.await }
    }

    /// Publishes many at once; resolves when the last one has been confirmed or has failed.
    ///
    /// # Errors
    /// The first [`PublishError`] of any of them; the others were still tried.
    fn publish_all(&self, messages: Vec<Outgoing>) -> impl Future<Output = Result<(), PublishError>> + Send {
        async move { self.submit(messages).await.await }
    }
}

impl<O: Outbox> Outbox for Arc<O> {
    fn submit(&self, messages: Vec<Outgoing>) -> impl Future<Output = Receipt> + Send {
        (**self).submit(messages)
    }
}

/// Resolves when every message of one [`Outbox::submit`] is confirmed or one has failed for good.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<(), PublishError>>);

impl Future for Receipt {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|told| told.unwrap_or(Err(PublishError::Stopped)))
    }
}

/// The other side of a [`Receipt`]: shared by the messages of one submission.
#[derive(Debug)]
pub(crate) struct Ticket {
    left: AtomicUsize,
    failure: OnceLock<PublishError>,
    done: Mutex<Option<oneshot::Sender<Result<(), PublishError>>>>,
}

impl Ticket {
    /// For `count` messages; one for none resolves at once.
    pub(crate) fn new(count: usize) -> (Arc<Self>, Receipt) {
        let (tell, told) = oneshot::channel();
        let ticket = Self { left: AtomicUsize::new(count.max(1)), failure: OnceLock::new(), done: Mutex::new(Some(tell)) };
        if count == 0 {
            ticket.settle(Ok(()));
        }
        (Arc::new(ticket), Receipt(told))
    }

    /// Settles one message.
    pub(crate) fn settle(&self, result: Result<(), PublishError>) {
        if let Err(e) = result {
            let _ = self.failure.set(e); // The first failure is the one that is told.
        }
        if self.left.fetch_sub(1, AcqRel) > 1 {
            return;
        }
        let outcome = self.failure.get().map_or(Ok(()), |e| Err(e.clone()));
        if let Some(tell) = lock(&self.done).take() {
            let _ = tell.send(outcome); // Nobody has to wait for a receipt.
        }
    }
}

/// Says why a message can never be published.
pub(crate) fn check(message: &Outgoing) -> Result<(), PublishError> {
    match topic::name_fault(&message.topic) {
        None => Ok(()),
        Some(fault) => Err(PublishError::Unfit { topic: message.topic.clone(), reason: fault.to_owned() }),
    }
}

/// An outbox in memory: records what was published, and fails or hangs when told to.
#[derive(Debug, Default)]
pub struct MemoryOutbox {
    state: Mutex<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    published: Vec<Outgoing>,
    failures: VecDeque<PublishError>,
    hanging: bool,
    held: Vec<(Outgoing, Arc<Ticket>)>,
    stopped: bool,
}

impl MemoryOutbox {
    /// An outbox that confirms everything at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was confirmed so far, in order.
    pub fn published(&self) -> Vec<Outgoing> {
        lock(&self.state).published.clone()
    }

    /// Takes what was confirmed so far, in order.
    pub fn take_published(&self) -> Vec<Outgoing> {
        std::mem::take(&mut lock(&self.state).published)
    }

    /// The next message fails with `error`. Several calls queue up.
    pub fn fail_next(&self, error: PublishError) {
        lock(&self.state).failures.push_back(error);
    }

    /// Confirms nothing until [`MemoryOutbox::resume`], as during an outage.
    pub fn hang(&self) {
        lock(&self.state).hanging = true;
    }

    /// Settles what was held, in order, and goes on as usual.
    pub fn resume(&self) {
        let mut state = lock(&self.state);
        state.hanging = false;
        for (message, ticket) in std::mem::take(&mut state.held) {
            state.settle(message, &ticket);
        }
    }

    /// Stops: what is held and whatever comes fails with [`PublishError::Stopped`].
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        for (_, ticket) in std::mem::take(&mut state.held) {
            ticket.settle(Err(PublishError::Stopped));
        }
    }
}

impl MemoryState {
    fn take(&mut self, message: Outgoing, ticket: &Arc<Ticket>) {
        if self.stopped {
            ticket.settle(Err(PublishError::Stopped));
        } else if let Err(e) = check(&message) {
            ticket.settle(Err(e));
        } else if self.hanging {
            self.held.push((message, ticket.clone()));
        } else {
            self.settle(message, ticket);
        }
    }

    fn settle(&mut self, message: Outgoing, ticket: &Ticket) {
        match self.failures.pop_front() {
            Some(e) => ticket.settle(Err(e)),
            None => {
                self.published.push(message);
                ticket.settle(Ok(()));
            }
        }
    }
}

impl Outbox for MemoryOutbox {
    async fn submit(&self, messages: Vec<Outgoing>) -> Receipt {
        let (ticket, receipt) = Ticket::new(messages.len());
        let mut state = lock(&self.state);
        for message in messages {
            state.take(message, &ticket);
        }
        receipt
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
