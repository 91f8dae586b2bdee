//! The edge: messages from the inbox, publishes to the outbox, models from the registry.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use homeward_broker::{Inbox, InboxError, Message, Outbox, Outgoing, PublishError, ReadError, Receipt};
use homeward_models::Fleet;
use homeward_models::topic::Topics;
use homeward_store::Registry;
use tokio::sync::{mpsc, watch};

use crate::champion::{InService, follow};
use crate::fleet::FleetState;
use crate::stats::add;
use crate::{Settings, Stats};

/// The name of this reader at the inbox.
const READER: &str = "predict";
/// Messages taken from the inbox at once.
const CHUNK: usize = 2_048;
/// Chunks that may wait for what they caused to be confirmed; then reading waits.
const UNCONFIRMED: usize = 16;
/// How often calls are looked at for their end.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// Why predict ended otherwise than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// The inbox refused this reader or a release.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// What the inbox holds cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The outbox was stopped.
    #[error("a call could not be published: {0}")]
    Outbox(#[from] PublishError),
    /// The confirming task panicked.
    #[error("the confirming task stopped: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

/// Scores what comes in at `inbox` until it is closed and all that was said is confirmed; `give_up` ends it at once, even while the broker is
/// away. A model is taken into service as soon as the registry has a
/// champion; until then the devices' windows fill.
#[allow(clippy::too_many_arguments, reason = "the edges are passed in one by one, as everywhere")]
pub async fn run<I: Inbox, O: Outbox>(
    inbox: Arc<I>,
    outbox: Arc<O>,
    registry: Registry,
    fleet: &Fleet,
    topics: &Topics,
    settings: &Settings,
    stats: Arc<Stats>,
    give_up: impl Future<Output = ()> + Send,
) -> Result<(), PredictError> {
    let next = inbox.attach(READER)?;
    let (sender, mut service) = watch::channel(None);
    let following = tokio::spawn(follow(registry, fleet.clone(), settings.reload_every, stats.clone(), sender));
    // A champion that is there already is in service before the first reading is scored.
    _ = tokio::time::timeout(settings.reload_every.min(Duration::from_secs(5)), service.changed()).await;
    service.mark_changed();
    let (said, to_confirm) = mpsc::channel(UNCONFIRMED);
    let mut confirming = tokio::spawn(confirm_all(to_confirm, inbox.clone(), stats.clone()));
    let state = FleetState::new(fleet, topics, settings, stats.clone());
    let scorer = Scorer { state, outbox, stats, dry_run: settings.dry_run, out: Vec::new(), said };
    let work = async {
        let scored = scorer.score_all(&*inbox, next, service).await;
        (&mut confirming).await??;
        Ok(scored?)
    };
    let ended = tokio::select! {
        biased;
        done = work => Some(done),
        () = give_up => None,
    };
    following.abort();
    ended.unwrap_or_else(|| {
        confirming.abort();
        tracing::warn!("stopped before all was confirmed: the messages that caused it stay with the broker");
        Ok(())
    })
}

/// What a chunk of messages caused to be published, still to be confirmed, and the position up to which it may be released then.
struct Said {
    end: u64,
    messages: usize,
    read_at: Instant,
    receipts: Vec<(Outgoing, Receipt)>,
}

/// Releases chunks in order, each when all that it caused is confirmed. Scoring goes on meanwhile.
async fn confirm_all<I: Inbox>(mut said: mpsc::Receiver<Said>, inbox: Arc<I>, stats: Arc<Stats>) -> Result<(), PredictError> {
    let mut first = None;
    while let Some(chunk) = said.recv().await {
        for (out, receipt) in chunk.receipts {
            match receipt.await {
                Ok(()) => add(&stats.calls, usize::from(out.message_expiry_s.is_some())),
                Err(PublishError::Stopped) => return Err(PublishError::Stopped.into()),
                Err(error) => {
                    add(&stats.failed, 1);
                    tracing::error!(topic = out.topic, %error, "not published");
                }
            }
        }
        inbox.release(READER, chunk.end)?;
        if chunk.messages == 0 {
            continue;
        }
        let since: Instant = *first.get_or_insert(chunk.read_at);
        stats.busy_us.store(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    Ok(())
}

struct Scorer<O> {
    state: FleetState,
    outbox: Arc<O>,
    stats: Arc<Stats>,
    dry_run: bool,
    out: Vec<Outgoing>,
    said: mpsc::Sender<Said>,
}

impl<O: Outbox> Scorer<O> {
    /// Reads and scores until the inbox closes or confirming has ended with an error.
    async fn score_all<I: Inbox>(
        mut self,
        inbox: &I,
        mut next: u64,
        mut service: watch::Receiver<Option<Arc<InService>>>,
    ) -> Result<(), ReadError> {
        let mut chunk: Vec<Message> = Vec::with_capacity(CHUNK);
        let mut expire = tokio::time::interval(EXPIRE_EVERY);
        loop {
            chunk.clear();
            let read = tokio::select! {
                biased;
                _ = expire.tick() => { self.state.expire(now_ms(), &mut self.out); Ok(()) }
                read = inbox.read(READER, next, CHUNK, &mut chunk) => read,
            };
            if service.has_changed().unwrap_or(false)
                && let Some(fresh) = service.borrow_and_update().clone()
            {
                self.state.serve(fresh);
            }
            let read_at = Instant::now();
            next = chunk.last().map_or(next, |m| m.position + 1);
            chunk.iter().for_each(|message| self.handle(message));
            if !self.publish(next, chunk.len(), read_at).await {
                return Ok(());
            }
            match read {
                Ok(()) => (),
                Err(ReadError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn handle(&mut self, message: &Message) {
        add(&self.stats.messages, 1);
        if message.repeat {
            // A redelivery: ten of them in a row would look like a clock step.
            return add(&self.stats.skipped, 1);
        }
        self.state.handle(&message.topic, &message.payload, message.received_at_ms, message.latest_ts_ms, &mut self.out);
    }

    /// Submits what was said and hands it over to be confirmed; whether confirming still goes on.
    async fn publish(&mut self, end: u64, messages: usize, read_at: Instant) -> bool {
        let mut receipts = Vec::with_capacity(self.out.len());
        for out in self.out.drain(..) {
            if self.dry_run {
                tracing::info!(topic = out.topic, payload = %String::from_utf8_lossy(&out.payload), "dry run: not published");
                continue;
            }
            let receipt = self.outbox.submit(vec![out.clone()]).await;
            receipts.push((out, receipt));
        }
        if messages == 0 && receipts.is_empty() {
            return !self.said.is_closed();
        }
        self.said.send(Said { end, messages, read_at, receipts }).await.is_ok()
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
