//! An inbox that is a persistent MQTT 5 session: QoS 1, acknowledged when its shelf says so.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    DisconnectReasonCode, Filter, Packet, Publish, RetainForwardRule, SubAck, Subscribe, SubscribeReasonCode, Unsubscribe,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::connect::{ConnectError, Kind, Pause, Session, connect, connect_until, describe};
use crate::inbox::{Inbox, InboxError, Incoming, MemoryInbox, Message, ReadError};
use crate::settings::Settings;
use crate::shelf::Shelf;
use crate::stop::{Phase, Stop};
use crate::topic;
use crate::wire::{Lost, Wire};

/// How long a broker may take to answer a SUBSCRIBE.
const SUBACK_WITHIN: Duration = Duration::from_secs(30);
/// The packet ids this client chooses.
const SUBSCRIBE_ID: u16 = 1;
const UNSUBSCRIBE_ID: u16 = 2;

#[derive(Debug, Default)]
struct Counters {
    connected: AtomicBool,
    received: AtomicU64,
    received_bytes: AtomicU64,
    acked: AtomicU64,
    stale_acks_dropped: AtomicU64,
    reconnects: AtomicU64,
    session_lost: AtomicU64,
}

/// The counters of an inbox at one moment, growing from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InboxStats {
    /// Whether the connection stands.
    pub connected: bool,
    /// Messages that came from the broker, repetitions included.
    pub received: u64,
    /// Bytes of their payloads.
    pub received_bytes: u64,
    /// Acknowledgements written to the connection.
    pub acked: u64,
    /// Acknowledgements that were not sent, since their connection had ended: the broker sends those messages again.
    pub stale_acks_dropped: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Reconnections at which the broker had lost our session, and with it perhaps messages.
    pub session_lost: u64,
}

impl Counters {
    fn view(&self) -> InboxStats {
        InboxStats {
            connected: self.connected.load(Relaxed),
            received: self.received.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            acked: self.acked.load(Relaxed),
            stale_acks_dropped: self.stale_acks_dropped.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
            session_lost: self.session_lost.load(Relaxed),
        }
    }
}

/// An inbox fed by a broker, on a [`MemoryInbox`] (acknowledged when released) or a [`Journal`](crate::Journal) (acknowledged when on disk).
///
/// After a reconnect the broker sends again what was not acknowledged; such messages get new
/// positions beside those that may still be held, so readers must bear repetitions.
pub struct MqttInbox<S = MemoryInbox> {
    shelf: Arc<S>,
    stats: Arc<Counters>,
    stop: watch::Sender<Phase>,
    granted: u16,
    resumed: bool,
}

impl MqttInbox {
    /// [`MqttInbox::connect_to`] a new [`MemoryInbox`].
    ///
    /// # Errors
    /// As there.
    pub async fn connect(
        settings: Settings,
        subscriptions: &[String],
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(Arc<Self>, JoinHandle<()>), ConnectError> {
        let shelf = MemoryInbox::with_max_ahead(settings.max_ahead_ms());
        Self::connect_to(Arc::new(shelf), settings, subscriptions, shutdown).await
    }
}

impl<S: Shelf> MqttInbox<S> {
    /// Connects, subscribes with QoS 1, waits for the SUBACK, and starts the driver.
    ///
    /// The driver reconnects by itself for as long as it runs. It ends when `shutdown` resolves, at
    /// [`Inbox::close`] or [`MqttInbox::finish`], or when the inbox is dropped: it takes nothing
    /// new, waits up to the settings' `stop_within` until what it took may be acknowledged, acknowledges
    /// it and disconnects; the broker keeps the session.
    ///
    /// # Errors
    /// [`ConnectError`]: a refusal at once, an unreachable broker after the settings' `patience`.
    pub async fn connect_to(
        shelf: Arc<S>,
        settings: Settings,
        subscriptions: &[String],
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(Arc<Self>, JoinHandle<()>), ConnectError> {
        check_filters(&settings, subscriptions)?;
        let (handle, stop) = Stop::new(shutdown);
        let mut driver = Driver {
            settings,
            filters: subscriptions.to_vec(),
            shelf: shelf.clone(),
            stats: Arc::default(),
            stop,
            subscribed: Subscribed::No,
            overrun: false,
            batch: Vec::new(),
            acks: Vec::new(),
        };
        let session = driver.open_first().await?;
        let granted = driver.settings.options.receive_maximum.min(u16::try_from(session.limits.in_flight).unwrap_or(u16::MAX));
        let inbox = Arc::new(Self { shelf, stats: driver.stats.clone(), stop: handle, granted, resumed: session.present });
        Ok((inbox, tokio::spawn(driver.run(session.wire))))
    }

    /// The counters.
    pub fn stats(&self) -> InboxStats {
        self.stats.view()
    }

    /// Whether the broker still had the session when this inbox connected first.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// How many unacknowledged messages the broker will have on their way to us, as far as it tells: the least of what we asked for and of
    /// its own Receive Maximum.
    pub fn granted(&self) -> u16 {
        self.granted
    }

    /// What holds the messages.
    pub fn shelf(&self) -> &Arc<S> {
        &self.shelf
    }

    /// Says that nothing more will be released: acknowledge what was, and disconnect now.
    pub fn finish(&self) {
        self.shelf.close();
        self.stop.send_replace(Phase::Finish);
    }
}

impl<S: Shelf> Inbox for MqttInbox<S> {
    fn append(&self, incoming: Incoming) -> u64 {
        self.shelf.append(incoming)
    }
    fn attach(&self, reader: &str) -> Result<u64, InboxError> {
        self.shelf.attach(reader)
    }
    fn read(&self, reader: &str, from: u64, max: usize, into: &mut Vec<Message>) -> impl Future<Output = Result<(), ReadError>> + Send {
        self.shelf.read(reader, from, max, into)
    }
    fn release(&self, reader: &str, up_to: u64) -> Result<(), InboxError> {
        self.shelf.release(reader, up_to)
    }
    fn note(&self, reader: &str) -> Option<Bytes> {
        self.shelf.note(reader)
    }
    fn keep_note(&self, reader: &str, note: Bytes) -> impl Future<Output = Result<(), InboxError>> + Send {
        self.shelf.keep_note(reader, note)
    }
    fn released(&self) -> u64 {
        self.shelf.released()
    }
    fn len(&self) -> usize {
        self.shelf.len()
    }
    fn close(&self) {
        self.shelf.close();
        self.stop.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            *phase = if running { Phase::Closing } else { *phase };
            running
        });
    }
}

fn check_filters(settings: &Settings, filters: &[String]) -> Result<(), ConnectError> {
    let refused = |filter: &str, code: &str| {
        let (url, filter, code) = (settings.url().to_owned(), filter.to_owned(), code.to_owned());
        Err(ConnectError::Subscription { url, filter, code })
    };
    if filters.is_empty() {
        return refused("", "an inbox subscribes to at least one filter");
    }
    for filter in filters {
        if let Some(fault) = topic::filter_fault(filter) {
            return refused(filter, fault);
        }
    }
    Ok(())
}

/// What is known of the subscriptions of the session at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscribed {
    /// They are not there, or others are.
    No,
    /// They were granted in an earlier run.
    Earlier,
    /// They were granted in this run.
    Now,
}

/// Why a connection is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    First,
    Again,
}

struct Driver<S> {
    settings: Settings,
    filters: Vec<String>,
    shelf: Arc<S>,
    stats: Arc<Counters>,
    stop: Stop,
    /// The broker has granted this run's filters to the session it has now.
    subscribed: Subscribed,
    /// A message came that could not be taken while a SUBACK was awaited: this connection can no longer acknowledge in order.
    overrun: bool,
    batch: Vec<(Incoming, u16)>,
    acks: Vec<u16>,
}

impl<S: Shelf> Driver<S> {
    async fn run(mut self, mut wire: Wire) {
        let mut pause = Pause::default();
        loop {
            let begun = Instant::now();
            self.stats.connected.store(true, Relaxed);
            let served = self.serve(wire).await;
            self.stats.connected.store(false, Relaxed);
            let Err(lost) = served else { break };
            if matches!(lost, Lost::TakenOver) {
                tracing::error!(broker = self.settings.url(), client_id = self.settings.client_id(), error = %lost, "inbox: connection lost");
                pause.lengthen();
            } else {
                tracing::warn!(broker = self.settings.url(), error = %lost, "inbox: connection lost");
            }
            match self.reconnect(&mut pause, begun.elapsed()).await {
                Some(next) => wire = next,
                None => break,
            }
        }
        self.shelf.close();
        tracing::debug!(stats = ?self.stats.view(), "inbox: stopped");
    }

    /// A broker that is going down may still answer CONNECT and then not SUBSCRIBE: patience is for both.
    async fn open_first(&mut self) -> Result<Session, ConnectError> {
        let until = Instant::now() + self.settings.options.patience;
        let mut pause = Pause::default();
        loop {
            let session = connect_until(&self.settings, Kind::Kept, until).await?;
            match self.take_up(session, Opening::First).await {
                // Granted, but overrun: another connection is all it takes.
                Err(e) if e.may_pass() && (Instant::now() < until || self.subscribed == Subscribed::Now) => {
                    tracing::debug!(error = %e, "no subscription yet");
                    tokio::time::sleep(pause.next(Duration::ZERO).min(until.saturating_duration_since(Instant::now()))).await;
                }
                result => return result,
            }
        }
    }

    /// None when the stop came first: without a connection nothing can be acknowledged any more.
    async fn reconnect(&mut self, pause: &mut Pause, mut lived: Duration) -> Option<Wire> {
        while self.stop.phase() == Phase::Running {
            tokio::select! {
                () = tokio::time::sleep(pause.next(lived)) => {}
                _ = self.stop.changed() => break,
            }
            lived = Duration::ZERO;
            let opened = tokio::select! {
                opened = connect(&self.settings, Kind::Kept) => opened,
                _ = self.stop.changed() => break,
            };
            let taken_up = match opened {
                Ok(session) => self.take_up(session, Opening::Again).await,
                Err(e) => Err(e),
            };
            match taken_up {
                Ok(session) => return Some(session.wire),
                Err(e) if e.may_pass() => tracing::warn!(error = %e, "inbox: no connection yet"),
                Err(e) => tracing::error!(error = %e, "inbox: cannot connect; trying on"),
            }
        }
        None
    }

    /// Subscribes where it is needed: a session that is new, one that was cut off before it was granted, and one that was granted something
    /// else. One that is known to have been granted the same is not asked at once but in a quiet moment (see [`Driver::ask_in_quiet`]).
    async fn take_up(&mut self, mut session: Session, opening: Opening) -> Result<Session, ConnectError> {
        self.shelf.begin_epoch();
        if opening == Opening::Again {
            self.stats.reconnects.fetch_add(1, Relaxed);
        }
        // A first connection without a session is news only to those who have run before.
        if !session.present && (opening == Opening::Again || self.shelf.has_history()) {
            self.stats.session_lost.fetch_add(1, Relaxed);
            tracing::error!(
                broker = self.settings.url(),
                client_id = self.settings.client_id(),
                "inbox: the broker has lost our session, and with it any message it still held for us"
            );
        }
        let wanted = self.wanted();
        self.subscribed = match self.subscribed {
            _ if !session.present => Subscribed::No,
            Subscribed::No if self.shelf.subscription().as_ref() == Some(&wanted) => Subscribed::Earlier,
            known => known,
        };
        if self.subscribed == Subscribed::No {
            match timeout(SUBACK_WITHIN, self.subscribe(&mut session.wire)).await {
                Ok(done) => done?,
                Err(_) => return Err(describe(&self.settings, Lost::Silent(SUBACK_WITHIN))),
            }
            self.shelf.keep_subscription(&wanted);
            self.subscribed = Subscribed::Now;
        }
        if std::mem::take(&mut self.overrun) {
            // What was not taken is sent again on another connection, and read there no faster than it can be kept.
            return Err(describe(&self.settings, Lost::Told("more than can be taken before the subscription was granted".to_owned())));
        }
        Ok(session)
    }

    /// What the session should have been granted, in words.
    fn wanted(&self) -> String {
        format!("{}\n{}\n{}\n", self.settings.url(), self.settings.client_id(), self.filters.join("\n"))
    }

    /// Asks a session for the subscriptions it had in an earlier run, once nothing has come for a while. It may lack them: that run may have been
    /// killed between a new session and its subscriptions. Not at once: a SUBSCRIBE makes Mosquitto (2.0) send all that it has queued,
    /// whatever the window.
    fn ask_in_quiet(&mut self, wire: &mut Wire, heard: &mut u64) -> Result<(), Lost> {
        let received = self.stats.received.load(Relaxed);
        let quiet = std::mem::replace(heard, received) == received && !self.is_full();
        if self.subscribed == Subscribed::Earlier && quiet {
            wire.send(&Packet::Subscribe(self.request()))?;
            self.subscribed = Subscribed::Now;
        }
        Ok(())
    }

    fn request(&self) -> Subscribe {
        let filters = self.filters.iter().map(|path| Filter {
            // Only a subscription that is new to the session brings the retained messages.
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
            ..Filter::new(path, QoS::AtLeastOnce)
        });
        Subscribe { pkid: SUBSCRIBE_ID, ..Subscribe::new_many(filters, None) }
    }

    async fn subscribe(&mut self, wire: &mut Wire) -> Result<(), ConnectError> {
        let request = self.request();
        self.leave_what_is_shared_now(wire).map_err(|e| describe(&self.settings, e))?;
        let answer = self.ask(wire, request).await.map_err(|e| describe(&self.settings, e))?;
        self.check_all_granted(&answer)
    }

    fn check_all_granted(&self, answer: &SubAck) -> Result<(), ConnectError> {
        for (filter, code) in self.filters.iter().zip(&answer.return_codes) {
            self.check_granted(filter, code, answer)?;
        }
        Ok(())
    }

    /// A session that once subscribed alone to what it now shares would go on getting all of it.
    fn leave_what_is_shared_now(&self, wire: &mut Wire) -> Result<(), Lost> {
        let alone = |filter: &String| Some(filter.strip_prefix("$share/")?.split_once('/')?.1.to_owned());
        let filters: Vec<String> = self.filters.iter().filter_map(alone).collect();
        if filters.is_empty() {
            return Ok(());
        }
        wire.send(&Packet::Unsubscribe(Unsubscribe { pkid: UNSUBSCRIBE_ID, filters, properties: None }))
    }

    /// Messages of a resumed session may come before the SUBACK; they are taken like any other.
    async fn ask(&mut self, wire: &mut Wire, request: Subscribe) -> Result<SubAck, Lost> {
        wire.send(&Packet::Subscribe(request))?;
        loop {
            wire.turn(true).await?;
            if let Some(answer) = self.take_in(wire)? {
                return Ok(answer);
            }
        }
    }

    fn check_granted(&self, filter: &str, code: &SubscribeReasonCode, answer: &SubAck) -> Result<(), ConnectError> {
        let words = answer.properties.as_ref().and_then(|p| p.reason_string.clone());
        let code = match code {
            SubscribeReasonCode::Success(QoS::AtLeastOnce) => return Ok(()),
            SubscribeReasonCode::Success(lower) => format!("granted {lower:?} only, where QoS 1 is needed"),
            other => words.map_or_else(|| format!("{other:?}"), |w| format!("{other:?} ({w})")),
        };
        Err(ConnectError::Subscription { url: self.settings.url().to_owned(), filter: filter.to_owned(), code })
    }

    /// Serves one connection. Ok is an orderly stop.
    async fn serve(&mut self, mut wire: Wire) -> Result<(), Lost> {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leave_by = None;
        let mut heard = u64::MAX;
        loop {
            if let Some(answer) = self.take_in(&mut wire)? {
                self.check_all_granted(&answer).map_err(|e| Lost::Told(e.to_string()))?;
            }
            self.send_acks(&mut wire);
            if self.may_leave(&mut leave_by) {
                return wire.part().await;
            }
            let reading = leave_by.is_some() || !self.is_full();
            tokio::select! {
                turned = wire.turn(reading) => turned?,
                () = self.shelf.freed() => {}
                _ = tick.tick() => {
                    wire.beat(reading)?;
                    self.ask_in_quiet(&mut wire, &mut heard)?;
                }
                _ = self.stop.changed() => self.shelf.close(),
            }
        }
    }

    /// True when a stop was asked for and nothing more is due, or it has waited long enough.
    fn may_leave(&self, leave_by: &mut Option<Instant>) -> bool {
        if self.stop.phase() == Phase::Running {
            return false;
        }
        let until = *leave_by.get_or_insert_with(|| Instant::now() + self.settings.options.stop_within);
        self.stop.phase() == Phase::Finish || self.shelf.is_settled() || Instant::now() >= until
    }

    /// Receive Maximum bounds QoS 1 messages by number; this bounds all of them by bytes.
    fn is_full(&self) -> bool {
        self.shelf.is_full(self.settings.options.max_held_bytes)
    }

    /// Takes every packet that has been read; returns the SUBACK if one was among them.
    fn take_in(&mut self, wire: &mut Wire) -> Result<Option<SubAck>, Lost> {
        let now = now_ms();
        let mut answer = None;
        let ended = loop {
            match wire.next_packet() {
                Ok(Some(Packet::Publish(publish))) => self.take_publish(publish, now),
                Ok(Some(Packet::SubAck(suback))) => answer = Some(suback),
                Ok(Some(Packet::PingResp(_) | Packet::UnsubAck(_))) => {}
                Ok(Some(Packet::Disconnect(said))) if said.reason_code == DisconnectReasonCode::SessionTakenOver => {
                    break Err(Lost::TakenOver);
                }
                Ok(Some(Packet::Disconnect(said))) => break Err(Lost::Told(format!("{:?}", said.reason_code))),
                Ok(Some(other)) => break Err(Lost::Protocol(format!("{other:?}"))),
                Ok(None) => break Ok(answer),
                Err(e) => break Err(e),
            }
        };
        let bytes: usize = self.batch.iter().map(|(incoming, _)| incoming.payload.len()).sum();
        self.stats.received.fetch_add(self.batch.len() as u64, Relaxed);
        self.stats.received_bytes.fetch_add(bytes as u64, Relaxed);
        self.shelf.append_batch(&mut self.batch);
        ended
    }

    fn take_publish(&mut self, publish: Publish, now: i64) {
        if self.stop.phase() != Phase::Running {
            return; // Not acknowledged, so it stays with the broker for the next connection.
        }
        let Publish { dup, retain, topic, pkid, payload, .. } = publish;
        if self.subscribed == Subscribed::No && (self.overrun || self.is_full()) {
            self.overrun = true;
            return; // Nor this one.
        }
        let incoming = Incoming { topic, payload, received_at_ms: now, duplicate: dup, retained: retain };
        self.batch.push((incoming, pkid));
    }

    fn send_acks(&mut self, wire: &mut Wire) {
        let stale = self.shelf.take_acks(&mut self.acks);
        wire.send_acks(&self.acks);
        self.stats.stale_acks_dropped.fetch_add(stale, Relaxed);
        self.stats.acked.fetch_add(self.acks.len() as u64, Relaxed);
        self.acks.clear();
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
