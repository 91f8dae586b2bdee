//! From messages to columns: decoding, quarantine, and batches by partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use homeward_models::topic::{Route, Topics};
use homeward_models::wire::{Decoder, Reading, decode_event};
use homeward_models::{ConfigError, DeviceId, Event, EventKind, Reason, Refused};
use homeward_store::archive::{EventBatch, EventRow, QuarantineBatch, QuarantineRow, TelemetryBatch, TelemetryRow};
use homeward_store::keys::{Partition, Table};
use homeward_store::{ArchiveError, KeyError};

use crate::stats::add;
use crate::{Recipe, Settings, Stats};

/// A message as the batcher sees it.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its position in the writer's sequence.
    pub seq: u64,
    /// Where it was published.
    pub topic: &'a [u8],
    /// What was published.
    pub payload: &'a [u8],
    /// When it arrived, milliseconds since 1970 UTC.
    pub received_at: i64,
    /// A device's time after this one is not believed; milliseconds since 1970 UTC.
    pub latest_ts: i64,
    /// The same topic and payload came before, lately.
    pub repeat: bool,
    /// The broker says that it may have sent this before.
    pub duplicate: bool,
}

/// A batch that is complete: a range of positions and all that is to be stored of it.
#[derive(Debug)]
pub struct Sealed {
    /// First position.
    pub first: u64,
    /// Last position.
    pub last: u64,
    /// Messages in it, duplicates included.
    pub messages: usize,
    /// What its messages became rows by.
    pub recipe: Arc<Recipe>,
    pub(crate) telemetry: BTreeMap<Partition, TelemetryBatch>,
    pub(crate) events: BTreeMap<Partition, EventBatch>,
    pub(crate) quarantine: BTreeMap<Partition, QuarantineBatch>,
}

/// Gathers messages into batches.
#[derive(Debug)]
pub struct Batcher {
    topics: Topics,
    decoder: Decoder,
    settings: Settings,
    recipe: Arc<Recipe>,
    bytes: usize,
    out: Out,
}

/// The open batch and what it takes to fill it.
#[derive(Debug)]
struct Out {
    signals: Arc<[String]>,
    hourly: bool,
    stats: Arc<Stats>,
    open: Option<Sealed>,
}

impl Batcher {
    /// A batcher that makes rows by `recipe`; `settings` say when a batch is full.
    ///
    /// # Errors
    /// [`BatchError`] for a recipe whose fleet, topics or signal names are not good.
    pub fn new(recipe: Arc<Recipe>, settings: &Settings, stats: Arc<Stats>) -> Result<Self, BatchError> {
        let (fleet, topics) = recipe.check()?;
        let signals: Arc<[String]> = fleet.signals().iter().map(|s| s.name.clone()).collect();
        // What a batch would refuse of the names is refused here, once.
        TelemetryBatch::new(signals.clone())?;
        let out = Out { signals, hourly: recipe.hourly(), stats, open: None };
        Ok(Self { topics, decoder: Decoder::new(&fleet), settings: settings.clone(), recipe, bytes: 0, out })
    }

    /// Takes a message in.
    ///
    /// # Errors
    /// [`BatchError`]: a fault of ours, not of the message.
    pub fn take(&mut self, message: Incoming<'_>) -> Result<(), BatchError> {
        add(&self.out.stats.messages, 1);
        let open = self.out.open.get_or_insert_with(|| Sealed::at(message.seq, self.recipe.clone()));
        open.last = message.seq;
        open.messages += 1;
        self.bytes += message.payload.len();
        if message.repeat && self.is_known(&message) {
            add(&self.out.stats.duplicates, 1);
            return Ok(());
        }
        self.sort(message)
    }

    /// Whether the batch is full: of messages, of bytes, or of partitions, which devices with wild clocks could open without end.
    pub fn full(&self) -> bool {
        let Some(open) = &self.out.open else { return false };
        let Settings { max_rows, max_bytes, max_partitions, .. } = self.settings;
        open.messages >= max_rows || self.bytes >= max_bytes || open.partitions() >= max_partitions
    }

    /// Closes the batch; `None` if nothing was taken.
    pub fn seal(&mut self) -> Option<Sealed> {
        self.bytes = 0;
        self.out.open.take()
    }

    /// Whether a message whose content came before needs no row of its own. Something archivable is known by device, time and content.
    /// What is refused has no time of its own to tell two alike from one sent twice: there the broker's word counts.
    fn is_known(&mut self, message: &Incoming<'_>) -> bool {
        if message.duplicate {
            return true;
        }
        let mut good = false;
        match self.route(message) {
            Ok((Kind::Telemetry, device)) => {
                self.decoder.telemetry(device, message.payload, message.latest_ts, |_, _, outcome| good |= outcome.is_ok());
            }
            Ok((Kind::Event, device)) => good = decode_event(device, message.payload, message.latest_ts).is_ok(),
            Err(_) => (),
        }
        good
    }

    /// Decodes a message into the open batch.
    fn sort(&mut self, message: Incoming<'_>) -> Result<(), BatchError> {
        let refused = match self.route(&message) {
            Ok((Kind::Telemetry, device)) => return self.telemetry(message, device),
            Ok((Kind::Event, device)) => match decode_event(device, message.payload, message.latest_ts) {
                Ok(event) => return self.out.event(&message, device, &event),
                Err(refused) => refused,
            },
            Err(refused) => refused,
        };
        self.out.quarantine(&message, 0, message.payload, &refused)
    }

    fn route<'m>(&self, message: &Incoming<'m>) -> Result<(Kind, &'m str), Refused> {
        if message.payload.len() > self.recipe.max_message_bytes() {
            let detail = format!("found {} bytes, expected at most {}", message.payload.len(), self.recipe.max_message_bytes());
            return Err(Refused::new(Reason::TooLarge, detail));
        }
        let topic = std::str::from_utf8(message.topic).unwrap_or_default();
        let (kind, device) = match self.topics.route(topic) {
            Route::Telemetry(device) => (Kind::Telemetry, device),
            Route::Events(device) => (Kind::Event, device),
            _ => return Err(Refused::new(Reason::UnknownTopic, "expected the fleet's telemetry or events topic")),
        };
        let device = DeviceId::check(device).map_err(|e| Refused::new(Reason::BadDevice, e.to_string()))?;
        Ok((kind, device))
    }

    fn telemetry(&mut self, message: Incoming<'_>, device: &str) -> Result<(), BatchError> {
        let Self { decoder, out, .. } = self;
        let mut stored = Ok(());
        decoder.telemetry(device, message.payload, message.latest_ts, |idx, element, outcome| {
            let done = match outcome {
                Ok(reading) => out.reading(&message, device, idx, reading),
                Err(refused) => out.quarantine(&message, idx, element, &refused),
            };
            if stored.is_ok() {
                stored = done;
            }
        });
        stored
    }
}

impl Out {
    fn reading(&mut self, message: &Incoming<'_>, device: &str, idx: u32, reading: &Reading) -> Result<(), BatchError> {
        let partition = partition(Table::Telemetry, reading.ts, self.hourly)?;
        let Some(open) = &mut self.open else { return Ok(()) };
        let batch = match open.telemetry.get_mut(&partition) {
            Some(batch) => batch,
            None => open.telemetry.entry(partition).or_insert(TelemetryBatch::new(self.signals.clone())?),
        };
        batch.push(&TelemetryRow {
            device,
            ts: reading.ts,
            received_at: message.received_at,
            seq: message.seq as i64,
            idx: idx as i32,
            values: &reading.values,
            extra: (!reading.extra.is_empty()).then_some(reading.extra.as_str()),
        })?;
        add(&self.stats.readings, 1);
        Ok(())
    }

    fn event(&mut self, message: &Incoming<'_>, device: &str, event: &Event) -> Result<(), BatchError> {
        let partition = partition(Table::Events, event.ts, self.hourly)?;
        let Some(open) = &mut self.open else { return Ok(()) };
        let finding = if let EventKind::Inspection(finding) = event.kind { Some(finding.word()) } else { None };
        open.events.entry(partition).or_default().push(&EventRow {
            device,
            ts: event.ts,
            received_at: message.received_at,
            seq: message.seq as i64,
            idx: 0,
            event: event.kind.code(),
            component: event.component.as_deref(),
            finding,
            alert_id: event.alert_id.as_deref(),
            extra: event.extra.as_deref(),
        });
        add(&self.stats.events, 1);
        Ok(())
    }

    fn quarantine(&mut self, message: &Incoming<'_>, idx: u32, payload: &[u8], refused: &Refused) -> Result<(), BatchError> {
        let partition = partition(Table::Quarantine, message.received_at, self.hourly)?;
        let Some(open) = &mut self.open else { return Ok(()) };
        open.quarantine.entry(partition).or_default().push(&QuarantineRow {
            received_at: message.received_at,
            seq: message.seq as i64,
            idx: idx as i32,
            topic: &String::from_utf8_lossy(message.topic),
            payload,
            reason: refused.reason.word(),
            detail: &refused.detail,
        });
        self.stats.quarantined(refused.reason);
        Ok(())
    }
}

enum Kind {
    Telemetry,
    Event,
}

/// A batch that cannot be built: a fault of ours, not of a message.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The archive's codec refused a row.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A time that has no partition.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A recipe that is not good.
    #[error(transparent)]
    Recipe(#[from] ConfigError),
}

impl Sealed {
    fn at(seq: u64, recipe: Arc<Recipe>) -> Self {
        let (telemetry, events, quarantine) = Default::default();
        Self { first: seq, last: seq, messages: 0, recipe, telemetry, events, quarantine }
    }

    /// How many objects it will be.
    fn partitions(&self) -> usize {
        self.telemetry.len() + self.events.len() + self.quarantine.len()
    }
}

fn partition(table: Table, ts: i64, hourly: bool) -> Result<Partition, KeyError> {
    if hourly { Partition::hour(table, ts) } else { Partition::day(table, ts) }
}
