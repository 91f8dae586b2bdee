//! The loop: read, batch, note the cut, store, release.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use homeward_broker::{Inbox, InboxError, Message, ReadError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::batch::{BatchError, Batcher, Incoming, Sealed};
use crate::recipe::{Cut, CutError, Recipe};
use crate::upload::{UploadError, Uploader};
use crate::{Settings, Stats};

/// The name of this reader at the inbox.
const READER: &str = "ingest";
/// Messages taken from the inbox at once.
const CHUNK: usize = 2_048;
/// Pause before a note that the disk did not take is tried again.
const NOTE_PAUSE: Duration = Duration::from_secs(1);

/// Why ingest ended otherwise than by being told to. What was not stored is not released: the inbox still holds it.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The inbox refused this reader or a release.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// What the inbox holds cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A cut of an earlier run cannot be honoured.
    #[error(transparent)]
    Cut(#[from] CutError),
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

/// Archives what comes in at `inbox` until it is closed, then stores and releases what it still held. A cut that an earlier run has noted
/// and not released is stored first, as it was noted. A batch is closed when it is full or its oldest message has waited for the settings'
/// `max_age`. `give_up` ends it at once, even while the store is away: what is not released then stays in the inbox. Counts into the
/// uploader's stats.
///
/// # Errors
/// [`IngestError`].
pub async fn run<I: Inbox>(
    inbox: Arc<I>,
    recipe: Recipe,
    settings: &Settings,
    uploader: Uploader,
    give_up: impl Future<Output = ()> + Send,
) -> Result<(), IngestError> {
    let stats = uploader.stats().clone();
    let from = inbox.attach(READER)?;
    let work = async {
        let from = replay(&*inbox, from, settings, &uploader).await?;
        let batcher = Batcher::new(Arc::new(recipe), settings, stats.clone())?;
        // One batch is stored while the next one fills; a third waits, and then the inbox does.
        let (sender, receiver) = mpsc::channel(1);
        let mut storing = OnDrop(tokio::spawn(store_all(receiver, uploader, inbox.clone())));
        let filled = fill(&*inbox, from, batcher, settings.max_age, sender, &stats).await;
        filled.and((&mut storing.0).await?)
    };
    tokio::select! {
        biased;
        done = work => done,
        () = give_up => {
            tracing::warn!("stopped before all was stored: the rest is kept for the next start");
            Ok(())
        }
    }
}

/// A task that does not outlive its owner.
struct OnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for OnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Stores the cut that an earlier run has noted and not released, if there is one; where to go on.
async fn replay<I: Inbox>(inbox: &I, from: u64, settings: &Settings, uploader: &Uploader) -> Result<u64, IngestError> {
    let Some(cut) = inbox.note(READER).map_or(Ok(None), |note| Cut::from_note(&note))? else { return Ok(from) };
    if cut.last < from {
        return Ok(from);
    }
    if cut.first != from {
        tracing::error!(
            cut.first,
            cut.last,
            from,
            "the cut noted does not begin where reading goes on: passed over, rows may be archived twice"
        );
        return Ok(from);
    }
    tracing::info!(cut.first, cut.last, "a cut was being stored when ingest ended: storing it");
    let last = cut.last;
    let mut batcher = Batcher::new(Arc::new(cut.recipe), settings, uploader.stats().clone())?;
    refill(inbox, from, last, &mut batcher).await?;
    if let Some(mut sealed) = batcher.seal() {
        sealed.last = last;
        let messages = sealed.messages;
        uploader.store(sealed).await?;
        uploader.stats().released(messages);
    }
    inbox.release(READER, last + 1)?;
    Ok(last + 1)
}

/// Takes exactly the messages `first..=last`.
async fn refill<I: Inbox>(inbox: &I, first: u64, last: u64, batcher: &mut Batcher) -> Result<(), IngestError> {
    let mut next = first;
    let mut chunk = Vec::with_capacity(CHUNK);
    while next <= last {
        chunk.clear();
        let most = usize::try_from(last - next + 1).map_or(CHUNK, |n| n.min(CHUNK));
        inbox.read(READER, next, most, &mut chunk).await?;
        for message in &chunk {
            next = message.position + 1;
            // Beyond a stretch that was lost to damage the first message may lie after the cut.
            if message.position <= last {
                batcher.take(incoming(message))?;
            }
        }
    }
    Ok(())
}

/// Stores batches in order: notes each, puts its objects, and releases it once they are durable.
async fn store_all<I: Inbox>(mut batches: mpsc::Receiver<Sealed>, uploader: Uploader, inbox: Arc<I>) -> Result<(), IngestError> {
    while let Some(sealed) = batches.recv().await {
        let (end, messages) = (sealed.last + 1, sealed.messages);
        let cut = Cut::new(sealed.first, sealed.last, (*sealed.recipe).clone());
        keep(&*inbox, cut.to_note().into()).await?;
        uploader.store(sealed).await?;
        inbox.release(READER, end)?;
        uploader.stats().released(messages);
    }
    Ok(())
}

/// Keeps a note, as long as it takes: without it nothing may be put.
async fn keep<I: Inbox>(inbox: &I, note: Bytes) -> Result<(), InboxError> {
    loop {
        match inbox.keep_note(READER, note.clone()).await {
            Err(error @ InboxError::NotKept { .. }) => tracing::warn!(%error, "trying again; nothing is stored meanwhile"),
            done => return done,
        }
        sleep(NOTE_PAUSE).await;
    }
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
        let read = tokio::select! {
            biased;
            // Storing has ended, with an error that `run` tells.
            () = batches.closed() => return Ok(()),
            () = timer => Ok(()),
            read = inbox.read(READER, next, CHUNK, &mut chunk) => read,
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
        if (aged || read.is_err()) && !pass_on(&mut batcher, &batches, &mut due).await {
            return Ok(());
        }
        match read {
            Ok(()) => (),
            Err(ReadError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
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
    Incoming {
        seq: message.position,
        topic: &message.topic,
        payload: &message.payload,
        received_at: message.received_at_ms,
        latest_ts: message.latest_ts_ms,
        repeat: message.repeat,
        duplicate: message.duplicate,
    }
}
