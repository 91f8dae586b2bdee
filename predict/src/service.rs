//! The edge: messages from the inbox, publishes to the outbox, models from the registry.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use homeward_broker::{Inbox, InboxError, Message, Outbox, Outgoing, PublishError, Recent};
use homeward_models::Fleet;
use homeward_models::topic::Topics;
use homeward_store::Registry;
use tokio::sync::watch;

use crate::champion::follow;
use crate::fleet::FleetState;
use crate::stats::add;
use crate::{Settings, Stats};

/// The name of this reader at the inbox.
const READER: &str = "predict";
/// Messages taken from the inbox at once.
const CHUNK: usize = 2_048;
/// How often calls are looked at for their end.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// Why predict ended otherwise than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// The inbox refused this reader or a release.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// The outbox was stopped.
    #[error("a call could not be published: {0}")]
    Outbox(#[from] PublishError),
}

/// Scores what comes in at `inbox` until `shutdown` or until the inbox is closed. A model is taken into service as soon as the registry has a
/// champion; until then the devices' windows fill.
pub async fn run<I: Inbox, O: Outbox>(
    inbox: Arc<I>,
    outbox: Arc<O>,
    registry: Registry,
    fleet: &Fleet,
    topics: &Topics,
    settings: &Settings,
    stats: Arc<Stats>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), PredictError> {
    let mut next = inbox.attach(READER)?;
    let (sender, mut service) = watch::channel(None);
    let following = tokio::spawn(follow(registry, fleet.clone(), settings.reload_every, stats.clone(), sender));
    // A champion that is there already is in service before the first reading is scored.
    _ = tokio::time::timeout(settings.reload_every.min(Duration::from_secs(5)), service.changed()).await;
    let mut scorer = Scorer {
        state: FleetState::new(fleet, topics, settings, stats.clone()),
        recent: Recent::default(),
        outbox,
        stats,
        dry_run: settings.dry_run,
        out: Vec::new(),
    };
    let mut shutdown = std::pin::pin!(shutdown);
    let mut chunk: Vec<Message> = Vec::with_capacity(CHUNK);
    let mut expire = tokio::time::interval(EXPIRE_EVERY);
    service.mark_changed();
    let ended = loop {
        chunk.clear();
        let open = tokio::select! {
            biased;
            () = &mut shutdown => break Ok(()),
            _ = expire.tick() => { scorer.state.expire(now_ms(), &mut scorer.out); true }
            read = inbox.read(READER, next, CHUNK, &mut chunk) => read.is_ok(),
        };
        if service.has_changed().unwrap_or(false)
            && let Some(fresh) = service.borrow_and_update().clone()
        {
            scorer.state.serve(fresh);
        }
        next = chunk.last().map_or(next, |m| m.position + 1);
        if let Err(error) = scorer.handle(&chunk).await {
            break Err(error);
        }
        inbox.release(READER, next)?;
        if !open {
            break Ok(());
        }
    };
    following.abort();
    ended
}

struct Scorer<O> {
    state: FleetState,
    recent: Recent,
    outbox: Arc<O>,
    stats: Arc<Stats>,
    dry_run: bool,
    out: Vec<Outgoing>,
}

impl<O: Outbox> Scorer<O> {
    /// Handles a chunk and publishes what it causes; returns when all of that is confirmed.
    async fn handle(&mut self, chunk: &[Message]) -> Result<(), PredictError> {
        for message in chunk {
            add(&self.stats.messages, 1);
            let print = Recent::print(&message.topic, &message.payload);
            if self.recent.contains(print) {
                // A redelivery: ten of them in a row would look like a clock step.
                add(&self.stats.skipped, 1);
                continue;
            }
            self.recent.insert(print);
            self.state.handle(&message.topic, &message.payload, message.received_at_ms, &mut self.out);
        }
        self.publish().await
    }

    async fn publish(&mut self) -> Result<(), PredictError> {
        let mut receipts = Vec::with_capacity(self.out.len());
        for out in self.out.drain(..) {
            if self.dry_run {
                tracing::info!(topic = out.topic, payload = %String::from_utf8_lossy(&out.payload), "dry run: not published");
                continue;
            }
            let topic = out.topic.clone();
            receipts.push((topic, out.message_expiry_s.is_some(), self.outbox.submit(vec![out]).await));
        }
        for (topic, is_call, receipt) in receipts {
            match receipt.await {
                Ok(()) => add(&self.stats.calls, usize::from(is_call)),
                Err(PublishError::Stopped) => return Err(PublishError::Stopped.into()),
                Err(error) => {
                    add(&self.stats.failed, 1);
                    tracing::error!(topic, %error, "not published");
                }
            }
        }
        Ok(())
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
