//! The archive as training sees it: per device, readings in order of `ts` and events. Objects are read through polars, one row group at a time.

use std::collections::BTreeMap;
use std::io::Cursor;

use homeward_models::artifact::SourceObject;
use homeward_models::{Event, EventKind, Fleet};
use homeward_store::archive::{EventRow, EventTable, read_events};
use homeward_store::keys::{Key, Table};
use homeward_store::{Entry, Store, StoreError};
use polars::prelude::*;

use crate::TrainError;
use crate::readings::{Arrival, Gather, Readings};
use crate::room::Room;

/// The readings of all devices, sorted by device and `ts`.
pub(crate) struct History {
    /// One value a measured signal of the fleet; NaN is missing.
    pub(crate) readings: Readings,
    /// Names of the measured signals.
    pub(crate) names: Vec<String>,
    /// Each device's rows and events.
    pub(crate) devices: Vec<DeviceHistory>,
    /// What was read.
    pub(crate) objects: Vec<SourceObject>,
    /// Where what is made of them is kept.
    pub(crate) room: Room,
}

/// One device's share of the readings.
pub(crate) struct DeviceHistory {
    pub(crate) name: String,
    pub(crate) rows: std::ops::Range<usize>,
    /// Ascending by time.
    pub(crate) events: Vec<Event>,
}

/// Reads telemetry and events of `fleet` from the archive into `room`. Objects written under another set of signals read as well: a signal they lack is missing.
pub(crate) async fn read(store: &Store, fleet: &Fleet, room: Room, progress: &dyn Fn(&str)) -> Result<History, TrainError> {
    let gather = || Gather::new(&room, fleet.signals().len());
    let (objects, gather) = read_objects(store, Table::Telemetry, gather, |gather, key, bytes| add(gather, key, bytes, fleet)).await?;
    let (event_objects, tables) = read_objects(store, Table::Events, Vec::new, |tables, key, bytes| {
        tables.push(read_events(bytes).map_err(|source| TrainError::Events { key: key.to_string(), source })?);
        Ok(())
    })
    .await?;
    if objects.is_empty() {
        let found = "no telemetry in the archive".into();
        return Err(TrainError::TooLittle {
            found,
            needed: "readings of at least two devices, archived by homeward ingest or homeward import".into(),
        });
    }
    let mut events = by_device(&tables);
    let (readings, devices) = crate::busy(|| gather.finish())?;
    let place = if readings.spilled() { ", which wait in a file: train.memory_bytes" } else { "" };
    let (telemetry, events_read, rows) = (objects.len(), event_objects.len(), readings.len());
    progress(&format!("read {telemetry} telemetry and {events_read} event objects: {rows} readings{place}"));
    let device = |(name, rows): (Box<str>, std::ops::Range<usize>)| {
        let events = events.remove(&*name).unwrap_or_default();
        DeviceHistory { name: name.into(), rows, events }
    };
    Ok(History {
        readings,
        names: fleet.signals().iter().map(|s| s.name.clone()).collect(),
        devices: devices.into_iter().map(device).collect(),
        objects: objects.iter().chain(&event_objects).map(source).collect(),
        room,
    })
}

/// How often the archive is listed anew because compaction replaced what was being read.
const LISTINGS: u32 = 10;

/// All objects of a table, each added by `each` to what `begin` makes.
async fn read_objects<T>(
    store: &Store,
    table: Table,
    begin: impl Fn() -> T,
    each: impl Fn(&mut T, &Key, bytes::Bytes) -> Result<(), TrainError>,
) -> Result<(Vec<Entry>, T), TrainError> {
    let mut listings = 0;
    'listed: loop {
        let entries = store.archive(table).await?;
        listings += 1;
        let mut all = begin();
        for entry in &entries {
            match store.get(&entry.key).await {
                Err(StoreError::NotFound { .. }) if listings < LISTINGS => continue 'listed,
                bytes => each(&mut all, &entry.key, bytes?)?,
            }
        }
        return Ok((entries, all));
    }
}

fn source(entry: &Entry) -> SourceObject {
    SourceObject { key: entry.key.to_string(), size: entry.size, etag: entry.etag.clone() }
}

/// Adds an object's rows, one row group after the other: no more than one is decoded at a time.
fn add(gather: &mut Gather, key: &Key, bytes: bytes::Bytes, fleet: &Fleet) -> Result<(), TrainError> {
    let unread = |source| TrainError::Object { key: key.to_string(), source };
    let mut reader = ParquetReader::new(Cursor::new(bytes.clone()));
    let schema = reader.schema().map_err(unread)?;
    let metadata = reader.get_metadata().map_err(unread)?.clone();
    let signals: Vec<(usize, &str)> =
        fleet.signals().iter().map(|s| s.name.as_str()).enumerate().filter(|(_, name)| schema.contains(name)).collect();
    let wanted: Vec<String> = KEYS.into_iter().chain(signals.iter().map(|(_, name)| *name)).map(String::from).collect();
    let mut first = 0;
    for group in &metadata.row_groups {
        let mut reader = ParquetReader::new(Cursor::new(bytes.clone()));
        reader.set_metadata(metadata.clone());
        let rows = group.num_rows();
        let frame = reader.with_columns(Some(wanted.clone())).with_slice(Some((first, rows))).finish().map_err(unread)?;
        first += rows;
        let columns = Columns::of(&frame, &signals).map_err(unread)?;
        columns.push(gather)?;
    }
    Ok(())
}

/// The columns that a row is sorted by.
const KEYS: [&str; 4] = ["device", "ts", "seq", "idx"];

/// The columns of a frame.
struct Columns<'a> {
    device: &'a StringChunked,
    ts: &'a Int64Chunked,
    seq: &'a Int64Chunked,
    idx: &'a Int32Chunked,
    /// Each with its signal's number.
    signals: Vec<(usize, &'a Float64Chunked)>,
}

impl<'a> Columns<'a> {
    fn of(frame: &'a DataFrame, signals: &[(usize, &str)]) -> PolarsResult<Self> {
        Ok(Self {
            device: frame.column("device")?.str()?,
            ts: frame.column("ts")?.datetime()?.physical(),
            seq: frame.column("seq")?.i64()?,
            idx: frame.column("idx")?.i32()?,
            signals: signals.iter().map(|(n, name)| Ok((*n, frame.column(name)?.f64()?))).collect::<PolarsResult<_>>()?,
        })
    }

    fn push(&self, gather: &mut Gather) -> Result<(), TrainError> {
        let mut signals: Vec<_> = self.signals.iter().map(|(n, column)| (*n, column.iter())).collect();
        let keys = self.device.iter().zip(self.ts.iter()).zip(self.seq.iter().zip(self.idx.iter()));
        for ((device, ts), (seq, idx)) in keys {
            let arrival = Arrival {
                device: device.unwrap_or_default(),
                ts: ts.unwrap_or_default(),
                // Without one a row comes first, as null does.
                seq: seq.unwrap_or(i64::MIN),
                idx: idx.unwrap_or(i32::MIN),
            };
            let values = gather.push(&arrival)?;
            for (n, column) in &mut signals {
                if let Some(value) = column.next().flatten() {
                    values[*n] = value;
                }
            }
        }
        Ok(())
    }
}

impl History {
    /// Each signal in its own column: for the fleet that the history was read for.
    pub(crate) fn columns(&self) -> Vec<Option<usize>> {
        (0..self.names.len()).map(Some).collect()
    }
}

fn by_device(tables: &[EventTable]) -> BTreeMap<String, Vec<Event>> {
    let mut events: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for table in tables {
        for row in (0..table.len()).filter_map(|i| table.row(i)) {
            events.entry(row.device.to_owned()).or_default().extend(event(&row));
        }
    }
    for list in events.values_mut() {
        list.sort_by_key(|e| e.ts);
        // A message that was delivered twice is one event.
        list.dedup();
    }
    events
}

fn event(row: &EventRow<'_>) -> Option<Event> {
    let text = |t: Option<&str>| t.map(String::from);
    Some(Event {
        ts: row.ts,
        kind: EventKind::parse(row.event, row.finding)?,
        component: text(row.component),
        alert_id: text(row.alert_id),
        extra: text(row.extra),
    })
}
