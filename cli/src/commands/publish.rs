//! `homeward publish`: a data set as if it were live, QoS 1; ends when all is confirmed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use homeward_broker::{MqttOutbox, Outbox, Outgoing, Receipt};
use serde::Serialize;

use super::files::{Records, topic};
use crate::args::PublishArgs;
use crate::config::Config;
use crate::edges::{self, Stop};
use crate::report;

/// Messages handed to the outbox at once.
const CHUNK: usize = 500;
/// How long a stop waits for confirmations that are still due.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// Chunks that may wait for their confirmation.
const IN_FLIGHT: usize = 40;

#[derive(Serialize)]
struct Published {
    published: u64,
    bad_lines: u64,
    seconds: f64,
}

pub(crate) async fn run(config: &Config, args: &PublishArgs, json: bool) -> anyhow::Result<()> {
    let mut records = Records::open(config, &args.files)?;
    if let Some(rate) = args.rate.filter(|r| !(*r > 0.0 && r.is_finite())) {
        return Err(homeward_models::ConfigError::new("--rate", rate, "messages a second, above 0").into());
    }
    let (_keep, stop) = Stop::on_signal();
    let (outbox, driver) = edges::outbox(config, "publish", stop.wait_and(GRACE)).await?;
    let started = Instant::now();
    let mut publisher = Publisher::new(outbox.clone(), args.rate);
    while let Some(record) = records.next()? {
        let out = Outgoing::new(topic(&config.topics, &record), record.payload);
        publisher.send(out).await?;
        if stop.given() {
            break;
        }
    }
    let published = publisher.finish().await?;
    outbox.close();
    driver.await?;
    let done = Published { published, bad_lines: records.bad, seconds: started.elapsed().as_secs_f64() };
    report::outcome(json, &done, || {
        format!("published {} messages in {:.1} s, all confirmed; {} bad lines skipped", done.published, done.seconds, done.bad_lines)
    })
}

/// Publishes in chunks with many in flight, at a limited rate if asked.
pub(crate) struct Publisher {
    outbox: Arc<MqttOutbox>,
    rate: Option<f64>,
    started: Instant,
    chunk: Vec<Outgoing>,
    waiting: VecDeque<Receipt>,
    sent: u64,
}

impl Publisher {
    pub(crate) fn new(outbox: Arc<MqttOutbox>, rate: Option<f64>) -> Self {
        Self { outbox, rate, started: Instant::now(), chunk: Vec::with_capacity(CHUNK), waiting: VecDeque::new(), sent: 0 }
    }

    /// Takes a message; waits while too many are unconfirmed, or for its time.
    pub(crate) async fn send(&mut self, out: Outgoing) -> anyhow::Result<()> {
        self.chunk.push(out);
        let full = if let Some(rate) = self.rate {
            self.chunk.len() as f64 >= (rate / 50.0).clamp(1.0, CHUNK as f64)
        } else {
            self.chunk.len() >= CHUNK
        };
        if full { self.flush().await } else { Ok(()) }
    }

    /// Hands over what has been taken.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        if let Some(rate) = self.rate {
            let due = self.started + Duration::from_secs_f64(self.sent as f64 / rate);
            tokio::time::sleep_until(due.into()).await;
        }
        self.sent += self.chunk.len() as u64;
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.waiting.push_back(self.outbox.submit(chunk).await);
        while self.waiting.len() > IN_FLIGHT
            && let Some(receipt) = self.waiting.pop_front()
        {
            receipt.await?;
        }
        Ok(())
    }

    /// Waits until all is confirmed; returns how many messages that were.
    pub(crate) async fn finish(&mut self) -> anyhow::Result<u64> {
        self.flush().await?;
        while let Some(receipt) = self.waiting.pop_front() {
            receipt.await?;
        }
        Ok(self.sent)
    }
}
