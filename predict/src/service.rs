//! The edge: messages from the inbox, publishes to the outbox, models from the registry, checkpoints to the keeper.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use homeward_broker::{Inbox, InboxError, Message, Outbox, Outgoing, PublishError, ReadError, Receipt};
use homeward_models::Fleet;
use homeward_models::topic::Topics;
use homeward_store::Registry;
use tokio::sync::{mpsc, oneshot, watch};

use crate::champion::{InService, LoadError, follow, load};
use crate::fleet::{FleetState, Incoming};
use crate::keeper::{Checkpoint, KeepError, Keeper};
use crate::memory;
use crate::scribe::{At, Rows};
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

/// A checkpoint takes at most one part in so many of the time.
const KEEPING_SHARE: u32 = 20;

/// Why predict ended otherwise than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// The inbox refused this reader or a release.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// What the inbox holds cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was kept cannot be used.
    #[error(transparent)]
    Keep(#[from] KeepError),
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
///
/// With a `keeper` everything remembered is kept with the position it belongs to, and the inbox is released up to there: after a crash the
/// messages since then are scored again, by the same model, and give the same alerts. Scores are archived then, too.
#[allow(clippy::too_many_arguments, reason = "the edges are passed in one by one, as everywhere")]
pub async fn run<I: Inbox, O: Outbox>(
    inbox: Arc<I>,
    outbox: Arc<O>,
    registry: Registry,
    fleet: &Fleet,
    topics: &Topics,
    settings: &Settings,
    keeper: Option<Arc<Keeper>>,
    stats: Arc<Stats>,
    give_up: impl Future<Output = ()> + Send,
) -> Result<(), PredictError> {
    let mut next = inbox.attach(READER)?;
    // What an earlier run may have scored, and under which model only its memory knows.
    let known_to = inbox.released() + inbox.len() as u64;
    let mut state = FleetState::new(fleet, topics, settings, stats.clone(), keeper.is_some());
    let mut give_up = std::pin::pin!(give_up);
    if let Some(keeper) = &keeper {
        tokio::select! {
            biased;
            restored = restore(keeper, &mut state, &registry, fleet, next..=known_to, &stats) => next = restored?,
            () = &mut give_up => return Ok(()),
        }
    }
    let (sender, mut service) = watch::channel(None);
    let following = OnDrop(tokio::spawn(follow(registry, fleet.clone(), settings.reload_every, stats.clone(), sender)));
    // A champion that is there already is in service before the first reading is scored.
    _ = tokio::time::timeout(settings.reload_every.min(Duration::from_secs(5)), service.changed()).await;
    service.mark_changed();
    let (said, to_confirm) = mpsc::channel(UNCONFIRMED);
    let (done, all_kept) = oneshot::channel::<()>();
    let putting = keeper.clone().map(|keeper| OnDrop(tokio::spawn(keeper.put_all(async move { _ = all_kept.await }))));
    let mut confirming = OnDrop(tokio::spawn(confirm_all(to_confirm, inbox.clone(), keeper.clone(), stats.clone())));
    let scorer = Scorer {
        state,
        outbox,
        stats,
        dry_run: settings.dry_run,
        out: Vec::new(),
        said,
        keeper,
        keep_every: settings.keep_every,
        due: Instant::now() + settings.keep_every,
        first: next,
    };
    let work = async {
        let scored = scorer.score_all(&*inbox, next, known_to, service).await;
        (&mut confirming.0).await??;
        drop(done);
        if let Some(mut putting) = putting {
            (&mut putting.0).await?;
        }
        Ok(scored?)
    };
    let ended = tokio::select! {
        biased;
        done = work => Some(done),
        () = &mut give_up => None,
    };
    drop(following);
    ended.unwrap_or_else(|| {
        tracing::warn!("stopped before all was confirmed and archived: the rest is kept for the next start");
        Ok(())
    })
}

/// A task that does not outlive its owner.
struct OnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for OnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Restores what was kept; the position to go on from. `held`: positions that the journal holds messages of.
async fn restore(
    keeper: &Keeper,
    state: &mut FleetState,
    registry: &Registry,
    fleet: &Fleet,
    held: std::ops::RangeInclusive<u64>,
    stats: &Stats,
) -> Result<u64, PredictError> {
    let Some(memory) = keeper.load()? else { return Ok(*held.start()) };
    let mut position = memory.position;
    if memory.journal != keeper.journal() || !held.contains(&position) {
        // Beyond the journal's end: it lost it, and what comes under these positions now was not scored yet. What was is refused as a duplicate.
        tracing::error!(position, ?held, "what was kept is not of this journal, or this has lost its end: going on from its first message");
        position = *held.start();
    }
    if let Some(version) = &memory.model {
        match known(registry, version, fleet).await {
            Some(service) => {
                add(&stats.models, 1);
                state.serve(Arc::new(service));
            }
            None => tracing::error!(version, "the model that was in service is gone: going on with the champion"),
        }
    }
    let monitor = memory.monitor.clone();
    let spec = state.spec().clone();
    let damaged = |source| KeepError::Memory { path: "memory".into(), source };
    let (devices, lost, why) = memory.devices(&spec).map_err(damaged)?;
    add(&stats.states_lost, lost);
    if let Some(why) = why {
        tracing::warn!(lost, why, "windows of devices begin anew; their alerts go on standing");
    }
    tracing::info!(devices = devices.len(), position, "restored");
    let at = At { seq: position, idx: 0, received_at: now_ms() };
    devices.into_iter().for_each(|device| state.restore(device, at));
    state.monitor = monitor;
    Ok(position)
}

/// The model of a version, waiting for a store that is away; `None` if it cannot be had any more.
async fn known(registry: &Registry, version: &str, fleet: &Fleet) -> Option<InService> {
    let version = version.parse().ok()?;
    loop {
        match load(registry, &version, fleet).await {
            Ok(service) => return Some(service),
            Err(LoadError::Store(error)) if error.is_transient() => {
                tracing::warn!(%error, "the model in service cannot be read; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => {
                tracing::error!(%error, "the model that was in service cannot be used");
                return None;
            }
        }
    }
}

/// What a chunk of messages caused to be published, still to be confirmed, and what follows then.
struct Said {
    /// The position up to which it may be released.
    end: u64,
    messages: usize,
    read_at: Instant,
    receipts: Vec<(Outgoing, Receipt)>,
    /// To be kept before anything is released.
    checkpoint: Option<Checkpoint>,
    /// Told once that is done.
    kept: Option<oneshot::Sender<()>>,
}

/// Releases chunks in order, each when all that it caused is confirmed and, with a keeper, kept. Scoring goes on meanwhile.
async fn confirm_all<I: Inbox>(
    mut said: mpsc::Receiver<Said>,
    inbox: Arc<I>,
    keeper: Option<Arc<Keeper>>,
    stats: Arc<Stats>,
) -> Result<(), PredictError> {
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
        match (&keeper, chunk.checkpoint) {
            (Some(keeper), Some(checkpoint)) => {
                keeper.keep(checkpoint).await?;
                inbox.release(READER, chunk.end)?;
            }
            // What a keeper has not kept comes again after a crash.
            (Some(_), None) => (),
            (None, _) => inbox.release(READER, chunk.end)?,
        }
        if let Some(kept) = chunk.kept {
            _ = kept.send(()); // The scorer may have ended.
        }
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
    keeper: Option<Arc<Keeper>>,
    keep_every: Duration,
    /// When the next checkpoint is due.
    due: Instant,
    /// The first position that the last checkpoint does not cover.
    first: u64,
}

impl<O: Outbox> Scorer<O> {
    /// Reads and scores until the inbox closes or confirming has ended with an error. Up to `known_to` the model of an earlier run goes on.
    async fn score_all<I: Inbox>(
        mut self,
        inbox: &I,
        mut next: u64,
        known_to: u64,
        mut service: watch::Receiver<Option<Arc<InService>>>,
    ) -> Result<(), ReadError> {
        let mut chunk: Vec<Message> = Vec::with_capacity(CHUNK);
        let mut expire = tokio::time::interval(EXPIRE_EVERY);
        loop {
            chunk.clear();
            let read = tokio::select! {
                biased;
                _ = expire.tick() => { self.state.expire(now_ms(), &mut self.out); self.state.show_drift(); Ok(()) }
                read = inbox.read(READER, next, CHUNK, &mut chunk) => read,
            };
            let may_change = self.state.service.is_none() || next >= known_to;
            if may_change && service.has_changed().unwrap_or(false) {
                let fresh = service.borrow_and_update().clone();
                if !self.take_into_service(fresh, next).await {
                    return Ok(());
                }
            }
            let read_at = Instant::now();
            next = chunk.last().map_or(next, |m| m.position + 1);
            chunk.iter().for_each(|message| self.handle(message));
            let due = read.is_err() || read_at >= self.due;
            let checkpoint = if due && next > self.first { self.checkpoint(next) } else { None };
            if !self.publish(next, chunk.len(), read_at, checkpoint, None).await {
                return Ok(());
            }
            match read {
                Ok(()) => (),
                Err(ReadError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a model into service. That it is, from `next` on, is kept before it scores anything: after a crash the same messages must meet the
    /// same models. Whether confirming still goes on.
    async fn take_into_service(&mut self, fresh: Option<Arc<InService>>, next: u64) -> bool {
        let Some(fresh) = fresh.filter(|f| self.state.service.as_ref().is_none_or(|s| s.version != f.version)) else { return true };
        self.state.serve(fresh);
        let Some(checkpoint) = self.checkpoint(next) else { return true };
        let (kept, is_kept) = oneshot::channel();
        self.publish(next, 0, Instant::now(), Some(checkpoint), Some(kept)).await && is_kept.await.is_ok()
    }

    /// What is to be kept at `next`, if anything is to be kept at all.
    fn checkpoint(&mut self, next: u64) -> Option<Checkpoint> {
        let started = Instant::now();
        let keeper = self.keeper.as_ref()?;
        let memory = memory::remember(&self.state, next, keeper.journal());
        let first = self.first;
        // Rows that came with no message, of a start, wait for one: an object is named by the positions of its messages.
        let rows = if next > first { self.state.take_rows() } else { Rows::new() };
        self.first = next;
        self.due = started + self.keep_every.max(started.elapsed() * KEEPING_SHARE);
        Some(Checkpoint { first, last: next.saturating_sub(1).max(first), rows, position: next, memory })
    }

    fn handle(&mut self, message: &Message) {
        add(&self.stats.messages, 1);
        if message.repeat {
            // A redelivery: ten of them in a row would look like a clock step.
            return add(&self.stats.skipped, 1);
        }
        let incoming = Incoming {
            seq: message.position,
            topic: &message.topic,
            payload: &message.payload,
            received_at: message.received_at_ms,
            latest_ts: message.latest_ts_ms,
        };
        self.state.handle(&incoming, &mut self.out);
    }

    /// Submits what was said and hands it over to be confirmed and kept; whether confirming still goes on.
    async fn publish(
        &mut self,
        end: u64,
        messages: usize,
        read_at: Instant,
        checkpoint: Option<Checkpoint>,
        kept: Option<oneshot::Sender<()>>,
    ) -> bool {
        let mut receipts = Vec::with_capacity(self.out.len());
        for out in self.out.drain(..) {
            if self.dry_run {
                tracing::info!(topic = out.topic, payload = %String::from_utf8_lossy(&out.payload), "dry run: not published");
                continue;
            }
            let receipt = self.outbox.submit(vec![out.clone()]).await;
            receipts.push((out, receipt));
        }
        if messages == 0 && receipts.is_empty() && checkpoint.is_none() {
            return !self.said.is_closed();
        }
        self.said.send(Said { end, messages, read_at, receipts, checkpoint, kept }).await.is_ok()
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
