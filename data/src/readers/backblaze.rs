//! Backblaze Drive Stats: a row a disk and day, the SMART attributes of that day, and whether it was the disk's last.

use std::collections::{HashSet, VecDeque};

use super::error::Fault;
use super::json::Payload;
use super::source::Text;
use super::table::Table;
use super::{Rows, TimeUnit};
use crate::{Kind, Record};

pub(super) struct Backblaze {
    table: Table,
    date: usize,
    serial: usize,
    failure: usize,
    model: Option<usize>,
    capacity: Option<usize>,
    /// The columns `smart_…`.
    fields: Vec<usize>,
    /// Disks whose attributes have been told.
    seen: HashSet<String>,
}

impl Backblaze {
    pub(super) fn new(text: Text) -> Result<Self, Fault> {
        let table = Table::new(text)?;
        let fields: Vec<usize> = (0..table.header.len()).filter(|i| table.header[*i].starts_with("smart_")).collect();
        if fields.is_empty() {
            return Err(Fault::format("no column `smart_…`", "a header with SMART attributes such as `smart_5_raw`"));
        }
        Ok(Backblaze {
            date: table.column("date")?,
            serial: table.column("serial_number")?,
            failure: table.column("failure")?,
            model: table.find("model"),
            capacity: table.find("capacity_bytes"),
            fields,
            seen: HashSet::new(),
            table,
        })
    }

    /// Model and capacity.
    fn attributes(&self, ts: i64) -> Vec<u8> {
        let mut payload = Payload::event(ts, "attributes");
        if let Some(model) = self.model {
            payload.text("model", &String::from_utf8_lossy(self.table.cell(model)));
        }
        if let Some(capacity) = self.capacity {
            payload.cell("capacity_bytes", self.table.cell(capacity));
        }
        payload.done()
    }

    fn reading(&self, ts: i64) -> Vec<u8> {
        let mut payload = Payload::at(ts);
        for &i in &self.fields {
            payload.cell(&self.table.header[i], self.table.cell(i));
        }
        payload.done()
    }

    fn has_failed(&self) -> Result<bool, Fault> {
        match self.table.cell(self.failure) {
            b"0" => Ok(false),
            b"1" => Ok(true),
            other => Err(self.table.bad(format!("{} in column `failure`", super::error::shown(other)), "0 or 1")),
        }
    }
}

impl Rows for Backblaze {
    fn read(&mut self, out: &mut VecDeque<Record>) -> Result<bool, Fault> {
        if !self.table.advance()? {
            return Ok(false);
        }
        let ts = self.table.time(self.date, TimeUnit::Text)?;
        let device = self.table.device(self.serial)?;
        let failed = self.has_failed()?;
        let mut push = |kind, payload| out.push_back(Record { device: device.clone(), kind, ts, payload });
        if !self.seen.contains(&device) {
            push(Kind::Event, self.attributes(ts));
            self.seen.insert(device.clone());
        }
        push(Kind::Telemetry, self.reading(ts));
        if failed {
            let mut payload = Payload::event(ts, "failure");
            payload.text("component", "disk");
            push(Kind::Event, payload.done());
        }
        Ok(true)
    }
}
