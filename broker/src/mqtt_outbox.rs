//! An outbox over MQTT 5: many publishes in flight, each confirmed by its PUBACK.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAck, PubAckReason};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::connect::{ConnectError, Kind, Limits, Pause, Session, connect, connect_until};
use crate::flight::{Flight, Job};
use crate::outbox::{Outbox, Outgoing, PublishError, Receipt, Ticket, check};
use crate::settings::Settings;
use crate::stop::{Phase, Stop};
use crate::wire::{Lost, Wire};

/// Messages that may be submitted and unsettled; more have to wait in [`Outbox::submit`].
const ROOM: usize = 128 * 1024;
/// Messages that are handed to the driver at once.
const CHUNK: usize = 4 * 1024;
/// Unsent bytes above which no further message is encoded.
const ENOUGH_UNSENT: usize = 128 * 1024;
/// Packet overhead beside topic, payload and expiry, generously.
const HEADER: usize = 32;
/// A connected broker that confirms nothing for so long is given up, and connected anew.
const PUBACK_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct Stats {
    confirmed: AtomicU64,
    failed: AtomicU64,
    resent: AtomicU64,
    reconnects: AtomicU64,
}

/// The counters of an outbox at one moment, growing from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxStats {
    /// Messages that count as sent.
    pub confirmed: u64,
    /// Messages that were refused, unfit, expired or cut off by the stop.
    pub failed: u64,
    /// Messages sent again after a reconnect.
    pub resent: u64,
    /// Connections after the first.
    pub reconnects: u64,
}

/// An outbox that publishes to a broker. Its own client: give it another client id than the inbox.
pub struct MqttOutbox {
    jobs: mpsc::UnboundedSender<Vec<Job>>,
    room: Arc<Semaphore>,
    stats: Arc<Stats>,
    stop: watch::Sender<Phase>,
}

impl MqttOutbox {
    /// Connects and starts the driver, which reconnects by itself for as long as it runs.
    ///
    /// The session is a fresh one each time: what was unconfirmed is sent again from here, so the
    /// broker need not remember anything. When `shutdown` resolves or the outbox is dropped, the
    /// driver waits up to the settings' `stop_within` for confirmations and disconnects; the rest,
    /// and everything where there is no connection, fails with [`PublishError::Stopped`].
    ///
    /// # Errors
    /// [`ConnectError`]: a refusal at once, an unreachable broker after the settings' `patience`.
    pub async fn connect(
        settings: Settings,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(Arc<Self>, JoinHandle<()>), ConnectError> {
        let session = connect_until(&settings, Kind::Fresh, Instant::now() + settings.options.patience).await?;
        let (handle, stop) = Stop::new(shutdown);
        let (jobs, submitted) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(ROOM));
        let stats = Arc::<Stats>::default();
        let driver = Driver {
            settings,
            submitted,
            room: room.clone(),
            stats: stats.clone(),
            stop,
            waiting: VecDeque::new(),
            flight: Flight::new(),
            settled: 0,
            progress: Instant::now(),
        };
        let outbox = Arc::new(Self { jobs, room, stats, stop: handle });
        Ok((outbox, tokio::spawn(driver.run(session))))
    }

    /// The counters.
    pub fn stats(&self) -> OutboxStats {
        OutboxStats {
            confirmed: self.stats.confirmed.load(Relaxed),
            failed: self.stats.failed.load(Relaxed),
            resent: self.stats.resent.load(Relaxed),
            reconnects: self.stats.reconnects.load(Relaxed),
        }
    }

    /// Takes nothing new; what was submitted is still sent and confirmed, within the settings' `stop_within`.
    pub fn close(&self) {
        self.room.close();
        self.stop.send_replace(Phase::Closing);
    }

    async fn hand_over(&self, chunk: Vec<Job>) {
        let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        let unsent = match self.room.acquire_many(count).await {
            Ok(permit) => {
                permit.forget(); // The driver gives it back when the messages are settled.
                self.jobs.send(chunk).map_err(|e| e.0).err()
            }
            Err(_) => Some(chunk),
        };
        for job in unsent.into_iter().flatten() {
            self.stats.failed.fetch_add(1, Relaxed);
            job.settle(Err(PublishError::Stopped));
        }
    }
}

impl Outbox for MqttOutbox {
    async fn submit(&self, messages: Vec<Outgoing>) -> Receipt {
        let (ticket, receipt) = Ticket::new(messages.len());
        let now = std::time::Instant::now();
        let mut chunk = Vec::with_capacity(messages.len().min(CHUNK));
        for message in messages {
            if let Err(e) = check(&message) {
                self.stats.failed.fetch_add(1, Relaxed);
                ticket.settle(Err(e));
                continue;
            }
            chunk.push(Job::new(message, now, ticket.clone()));
            if chunk.len() == CHUNK {
                self.hand_over(std::mem::take(&mut chunk)).await;
            }
        }
        if !chunk.is_empty() {
            self.hand_over(chunk).await;
        }
        receipt
    }
}

struct Driver {
    settings: Settings,
    submitted: mpsc::UnboundedReceiver<Vec<Job>>,
    room: Arc<Semaphore>,
    stats: Arc<Stats>,
    stop: Stop,
    waiting: VecDeque<Job>,
    flight: Flight,
    /// Settled since room was last given back.
    settled: usize,
    /// When the broker last confirmed something, or had nothing to confirm.
    progress: Instant,
}

impl Driver {
    async fn run(mut self, mut session: Session) {
        let mut pause = Pause::default();
        loop {
            let begun = Instant::now();
            let Err(lost) = self.serve(session).await else { break };
            tracing::warn!(broker = self.settings.url(), error = %lost, "outbox: connection lost");
            match self.reconnect(&mut pause, begun.elapsed()).await {
                Some(next) => session = next,
                None => break,
            }
        }
        self.give_up();
    }

    /// None when the stop's time has come.
    async fn reconnect(&mut self, pause: &mut Pause, mut lived: Duration) -> Option<Session> {
        self.take_back();
        while self.stop.phase() == Phase::Running {
            let attempt = async {
                tokio::time::sleep(pause.next(lived)).await;
                connect(&self.settings, Kind::Fresh).await
            };
            let opened = tokio::select! {
                opened = attempt => opened,
                _ = self.stop.changed() => break,
            };
            lived = Duration::ZERO;
            match opened {
                Ok(session) => {
                    self.stats.reconnects.fetch_add(1, Relaxed);
                    return Some(session);
                }
                Err(e) if e.may_pass() => tracing::warn!(error = %e, "outbox: no connection yet"),
                Err(e) => tracing::error!(error = %e, "outbox: cannot connect; trying on"),
            }
        }
        None
    }

    /// What was unconfirmed goes before what has not been sent yet.
    fn take_back(&mut self) {
        let unconfirmed = self.flight.drain();
        self.stats.resent.fetch_add(unconfirmed.len() as u64, Relaxed);
        for job in unconfirmed.into_iter().rev() {
            self.waiting.push_front(job);
        }
    }

    /// Serves one connection. Ok is an orderly stop.
    async fn serve(&mut self, session: Session) -> Result<(), Lost> {
        let Session { mut wire, limits, .. } = session;
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leave_by = None;
        self.progress = Instant::now();
        loop {
            self.take_acks(&mut wire)?;
            self.fill(&mut wire, limits)?;
            self.give_room();
            if self.may_leave(&mut leave_by, &wire) {
                return wire.part().await;
            }
            tokio::select! {
                turned = wire.turn(true) => turned?,
                Some(jobs) = self.submitted.recv(), if self.waiting.is_empty() => self.waiting.extend(jobs),
                _ = tick.tick() => { wire.beat(true)?; self.check_progress()?; }
                _ = self.stop.changed() => { self.room.close(); }
            }
        }
    }

    /// Encodes as much as the broker's window and the output take.
    fn fill(&mut self, wire: &mut Wire, limits: Limits) -> Result<(), Lost> {
        let now = std::time::Instant::now();
        // One id short of all, so that a free one is always found.
        let window = limits.in_flight.min(usize::from(u16::MAX) - 1);
        while wire.unsent() < ENOUGH_UNSENT && self.flight.len() < window {
            let Some(job) = self.next_job() else { break };
            self.send(job, wire, limits, now)?;
        }
        Ok(())
    }

    fn next_job(&mut self) -> Option<Job> {
        if self.waiting.is_empty()
            && let Ok(jobs) = self.submitted.try_recv()
        {
            self.waiting.extend(jobs);
        }
        self.waiting.pop_front()
    }

    fn send(&mut self, mut job: Job, wire: &mut Wire, limits: Limits, now: std::time::Instant) -> Result<(), Lost> {
        if !job.renew_expiry(now) {
            let topic = job.topic();
            self.settle(job, Err(PublishError::Expired { topic }));
        } else if let Some(reason) = unfit(&job, limits) {
            let topic = job.topic();
            self.settle(job, Err(PublishError::Unfit { topic, reason }));
        } else if job.publish.qos == QoS::AtMostOnce {
            wire.send_publish(&job.publish)?;
            self.settle(job, Ok(()));
        } else {
            if self.flight.len() == 0 {
                self.progress = Instant::now();
            }
            job.publish.pkid = self.flight.free_id();
            wire.send_publish(&job.publish)?;
            self.flight.insert(job);
        }
        Ok(())
    }

    fn take_acks(&mut self, wire: &mut Wire) -> Result<(), Lost> {
        while let Some(packet) = wire.next_packet()? {
            match packet {
                Packet::PubAck(ack) => self.take_ack(ack)?,
                Packet::PingResp(_) => {}
                Packet::Disconnect(said) => return Err(Lost::Told(format!("{:?}", said.reason_code))),
                other => return Err(Lost::Protocol(format!("{other:?}"))),
            }
        }
        Ok(())
    }

    fn take_ack(&mut self, ack: PubAck) -> Result<(), Lost> {
        let Some(job) = self.flight.remove(ack.pkid) else {
            return Err(Lost::Protocol(format!("PUBACK {} for nothing that was sent", ack.pkid)));
        };
        self.progress = Instant::now();
        let result = match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
            other => {
                let words = ack.properties.and_then(|p| p.reason_string);
                let code = words.map_or_else(|| format!("{other:?}"), |w| format!("{other:?} ({w})"));
                Err(PublishError::Refused { topic: job.topic(), code })
            }
        };
        self.settle(job, result);
        Ok(())
    }

    fn settle(&mut self, job: Job, result: Result<(), PublishError>) {
        let counter = if result.is_ok() { &self.stats.confirmed } else { &self.stats.failed };
        counter.fetch_add(1, Relaxed);
        job.settle(result);
        self.settled += 1;
    }

    fn give_room(&mut self) {
        if self.settled > 0 {
            self.room.add_permits(std::mem::take(&mut self.settled));
        }
    }

    fn check_progress(&self) -> Result<(), Lost> {
        let silence = self.progress.elapsed();
        if self.flight.len() > 0 && silence > PUBACK_WITHIN { Err(Lost::Silent(silence)) } else { Ok(()) }
    }

    /// True when a stop was asked for and nothing more is due, or it has waited long enough.
    fn may_leave(&self, leave_by: &mut Option<Instant>, wire: &Wire) -> bool {
        if self.stop.phase() == Phase::Running {
            return false;
        }
        let until = *leave_by.get_or_insert_with(|| Instant::now() + self.settings.options.stop_within);
        let nothing_due = self.flight.len() == 0 && self.waiting.is_empty() && self.submitted.is_empty() && wire.unsent() == 0;
        nothing_due || Instant::now() >= until
    }

    fn give_up(&mut self) {
        self.room.close();
        self.submitted.close();
        self.take_back();
        while let Some(job) = self.next_job() {
            self.settle(job, Err(PublishError::Stopped));
        }
    }
}

/// What this broker does not take. Sent anyway, it would cost the connection.
fn unfit(job: &Job, limits: Limits) -> Option<String> {
    let size = job.publish.topic.len() + job.publish.payload.len() + HEADER;
    if size > limits.packet {
        return Some(format!("it has {size} bytes, this broker takes {}", limits.packet));
    }
    if job.publish.retain && !limits.retain {
        return Some("this broker keeps no retained messages".to_owned());
    }
    if job.publish.qos != QoS::AtMostOnce && !limits.qos1 {
        return Some("this broker confirms no messages (QoS 0 only)".to_owned());
    }
    None
}
