//! The loop: read, batch, store, release.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use homeward_broker::{Inbox, InboxError, Message};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::Stats;
use crate::batch::{BatchError, Batcher, Incoming, Sealed};
use crate::upload::{UploadError, Uploader};

/// The name of this reader at the inbox.
const READER: &str = "ingest";
/// Messages taken from the inbox at once.
const CHUNK: usize = 2_048;

/// Why ingest ended otherwise than by being told to. What was not stored is not acknowledged: the broker still holds it.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The inbox refused this reader or a release.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// A message could not be put into a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A batch could not be stored.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The uploading task panicked.
    #[error("the uploading task stopped: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

/// Archives what comes in at `inbox` until it is closed, then stores and releases what it still held. A batch is closed when it is full or its
/// oldest message has waited for `max_age`. `give_up` ends it at once, even while the store is away: what is not stored then stays with the
/// broker. `stats` are those of the batcher and the uploader.
pub async fn run<I: Inbox>(
    inbox: Arc<I>,
    batcher: Batcher,
    uploader: Uploader,
    max_age: Duration,
    stats: Arc<Stats>,
    give_up: impl Future<Output = ()> + Send,
) -> Result<(), IngestError> {
    let from = inbox.attach(READER)?;
    // One batch is stored while the next one fills; a third waits, and then the inbox does.
    let (sender, receiver) = mpsc::channel(1);
    let mut storing = tokio::spawn(store_all(receiver, uploader, inbox.clone(), stats.clone()));
    let work = async {
        let filled = fill(&*inbox, from, batcher, max_age, sender, &stats).await;
        filled.and((&mut storing).await?)
    };
    tokio::select! {
        biased;
        done = work => return done,
        () = give_up => (),
    }
    storing.abort();
    tracing::warn!("stopped before all was stored: the rest stays with the broker");
    Ok(())
}

/// Stores batches in order and releases each once it is durable.
async fn store_all<I: Inbox>(
    mut batches: mpsc::Receiver<Sealed>,
    uploader: Uploader,
    inbox: Arc<I>,
    stats: Arc<Stats>,
) -> Result<(), IngestError> {
    while let Some(sealed) = batches.recv().await {
        let (end, messages) = (sealed.last + 1, sealed.messages);
        uploader.store(sealed).await?;
        inbox.release(READER, end)?;
        stats.released(messages);
    }
    Ok(())
}

async fn fill<I: Inbox>(
    inbox: &I,
    mut next: u64,
    mut batcher: Batcher,
    max_age: Duration,
    batches: mpsc::Sender<Sealed>,
    stats: &Stats,
) -> Result<(), IngestError> {
    let mut chunk: Vec<Message> = Vec::with_capacity(CHUNK);
    let mut due: Option<Instant> = None;
    loop {
        chunk.clear();
        let timer = async { if let Some(at) = due { sleep_until(at).await } else { std::future::pending().await } };
        let open = tokio::select! {
            biased;
            // Storing has ended, with an error that `run` tells.
            () = batches.closed() => return Ok(()),
            () = timer => true,
            read = inbox.read(READER, next, CHUNK, &mut chunk) => read.is_ok(),
        };
        if !chunk.is_empty() {
            stats.woke();
        }
        for message in &chunk {
            batcher.take(incoming(message))?;
            next = message.position + 1;
            due.get_or_insert_with(|| Instant::now() + max_age);
            if batcher.full() && !pass_on(&mut batcher, &batches, &mut due).await {
                return Ok(());
            }
        }
        let aged = due.is_some_and(|at| Instant::now() >= at);
        if (aged || !open) && !pass_on(&mut batcher, &batches, &mut due).await {
            return Ok(());
        }
        if !open {
            return Ok(());
        }
    }
}

/// Hands a full batch to storing; whether storing still goes on.
async fn pass_on(batcher: &mut Batcher, batches: &mpsc::Sender<Sealed>, due: &mut Option<Instant>) -> bool {
    *due = None;
    match batcher.seal() {
        Some(sealed) => batches.send(sealed).await.is_ok(),
        None => true,
    }
}

fn incoming(message: &Message) -> Incoming<'_> {
    Incoming { seq: message.position, topic: &message.topic, payload: &message.payload, received_at: message.received_at_ms }
}
