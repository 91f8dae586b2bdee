//! Comma-separated values with a header: the table under ALFA and Backblaze, and the reader with a mapping.

use std::collections::VecDeque;

use csv::ByteRecord;

use super::error::{Fault, shown};
use super::json::Payload;
use super::source::Text;
use super::{DeviceFrom, Rows, TimeUnit, TsFrom};
use crate::{Kind, Record, is_device_name};

/// How the columns of a CSV file become records. Columns that nothing here names become fields of the payload under their
/// own names: numbers as numbers, `true` and `false` as booleans, other text as strings; blanks and `NaN` are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvMapping {
    /// The column with the device, or the one device of the whole file.
    pub device: DeviceFrom,
    /// The column with the time, or a fixed distance between rows.
    pub ts: TsFrom,
    /// Columns that announce events.
    pub events: Vec<EventColumn>,
    /// Columns to leave out.
    pub skip: Vec<String>,
}

/// A column in which a certain value means an event: it follows the row's telemetry, with the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventColumn {
    /// The column; it is not in the payload.
    pub column: String,
    /// The value that means the event; compared as a number where both are numbers (`1` is `1.0`).
    pub value: String,
    /// The event's code, e.g. `failure`.
    pub event: String,
    /// The component it names, if any.
    pub component: Option<String>,
}

/// Column names with `_2`, `_3` … after a name that came before: a payload holds a field once.
fn told_apart(header: Vec<String>) -> Vec<String> {
    let mut apart: Vec<String> = Vec::with_capacity(header.len());
    for name in header {
        let mut candidate = name.clone();
        let mut copy = 2;
        while apart.contains(&candidate) {
            candidate = format!("{name}_{copy}");
            copy += 1;
        }
        apart.push(candidate);
    }
    apart
}

/// A table's rows by column.
pub(super) struct Table {
    csv: csv::Reader<Text>,
    pub(super) header: Vec<String>,
    pub(super) row: ByteRecord,
    pub(super) line: u64,
}

impl Table {
    pub(super) fn new(text: Text) -> Result<Self, Fault> {
        let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(text);
        let header = csv.byte_headers().map_err(|error| broken(error, 1))?;
        let header: Vec<String> = header.iter().map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned()).collect();
        let header = told_apart(header);
        if header.is_empty() {
            return Err(Fault::format("the file is empty", "a line with the columns' names, then rows"));
        }
        Ok(Table { csv, header, row: ByteRecord::new(), line: 1 })
    }

    /// The place of a column.
    pub(super) fn column(&self, name: &str) -> Result<usize, Fault> {
        self.find(name).ok_or_else(|| {
            let names = shown(self.header.join(",").as_bytes());
            Fault::format(format!("no column `{name}` among {names}"), format!("a header with `{name}`"))
        })
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// Reads the next row; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, Fault> {
        let line = self.line;
        let more = self.csv.read_byte_record(&mut self.row).map_err(|error| broken(error, line))?;
        self.line = self.row.position().map_or(line, csv::Position::line);
        if more && self.row.len() != self.header.len() {
            return Err(self.bad(format!("{} columns", self.row.len()), format!("{}, as in the header", self.header.len())));
        }
        Ok(more)
    }

    /// A row's cell without blanks around it.
    pub(super) fn cell(&self, column: usize) -> &[u8] {
        self.row.get(column).unwrap_or_default().trim_ascii()
    }

    /// The time in a column.
    pub(super) fn time(&self, column: usize, unit: TimeUnit) -> Result<i64, Fault> {
        let cell = self.cell(column);
        let ts = std::str::from_utf8(cell).ok().and_then(|text| unit.parse(text));
        ts.ok_or_else(|| self.bad(format!("{} in column `{}`", shown(cell), self.header[column]), unit.example()))
    }

    /// The device in a column.
    pub(super) fn device(&self, column: usize) -> Result<String, Fault> {
        let cell = self.cell(column);
        let name = std::str::from_utf8(cell).ok().filter(|name| is_device_name(name));
        let found = || format!("{} in column `{}`", shown(cell), self.header[column]);
        name.map(str::to_owned).ok_or_else(|| self.bad(found(), DEVICE))
    }

    pub(super) fn bad(&self, found: impl Into<String>, want: impl Into<String>) -> Fault {
        Fault::line(self.line, found, want)
    }
}

/// What a right device is, for a message.
pub(super) const DEVICE: &str = "a device: 1–128 of A-Za-z0-9_.:-";

fn broken(error: csv::Error, line: u64) -> Fault {
    let line = error.position().map_or(line, csv::Position::line);
    let text = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(source) => Fault::Broken { line, source },
        _ => Fault::line(line, text, "a row as in the header"),
    }
}

enum Device {
    Column(usize),
    Fixed(String),
}

enum Clock {
    Column(usize, TimeUnit),
    Steps { next: i64, step: i64 },
}

struct Trigger {
    column: usize,
    value: String,
    event: String,
    component: Option<String>,
}

/// A CSV file read by a mapping.
pub(super) struct Csv {
    table: Table,
    device: Device,
    clock: Clock,
    triggers: Vec<Trigger>,
    /// The columns that go into the payload.
    fields: Vec<usize>,
}

impl Csv {
    pub(super) fn new(mapping: &CsvMapping, text: Text) -> Result<Self, Fault> {
        let table = Table::new(text)?;
        let device = match &mapping.device {
            DeviceFrom::Field(name) => Device::Column(table.column(name)?),
            DeviceFrom::Fixed(name) if is_device_name(name) => Device::Fixed(name.clone()),
            DeviceFrom::Fixed(name) => return Err(Fault::format(format!("the fixed device {}", shown(name.as_bytes())), DEVICE)),
        };
        let clock = match &mapping.ts {
            TsFrom::Field(name, unit) => Clock::Column(table.column(name)?, *unit),
            TsFrom::Steps { start_ms, step_ms } => Clock::Steps { next: *start_ms, step: *step_ms },
        };
        let triggers = mapping.events.iter().map(|event| Trigger::new(event, &table)).collect::<Result<Vec<_>, _>>()?;
        let mut taken = mapping.skip.iter().map(|name| table.column(name)).collect::<Result<Vec<_>, _>>()?;
        taken.extend(triggers.iter().map(|trigger| trigger.column));
        taken.extend(match device {
            Device::Column(i) => Some(i),
            Device::Fixed(_) => None,
        });
        taken.extend(match clock {
            Clock::Column(i, _) => Some(i),
            Clock::Steps { .. } => None,
        });
        let fields = (0..table.header.len()).filter(|i| !taken.contains(i)).collect();
        Ok(Csv { table, device, clock, triggers, fields })
    }

    fn time(&mut self) -> Result<i64, Fault> {
        match &mut self.clock {
            Clock::Column(column, unit) => self.table.time(*column, *unit),
            Clock::Steps { next, step } => {
                let ts = *next;
                *next = next.saturating_add(*step);
                Ok(ts)
            }
        }
    }
}

impl Rows for Csv {
    fn read(&mut self, out: &mut VecDeque<Record>) -> Result<bool, Fault> {
        if !self.table.advance()? {
            return Ok(false);
        }
        let ts = self.time()?;
        let device = match &self.device {
            Device::Column(column) => self.table.device(*column)?,
            Device::Fixed(name) => name.clone(),
        };
        let mut payload = Payload::at(ts);
        for &i in &self.fields {
            payload.cell(&self.table.header[i], self.table.cell(i));
        }
        out.push_back(Record { device: device.clone(), kind: Kind::Telemetry, ts, payload: payload.done() });
        for trigger in self.triggers.iter().filter(|trigger| trigger.fires(self.table.cell(trigger.column))) {
            out.push_back(Record { device: device.clone(), kind: Kind::Event, ts, payload: trigger.payload(ts) });
        }
        Ok(true)
    }
}

impl Trigger {
    fn new(event: &EventColumn, table: &Table) -> Result<Self, Fault> {
        Ok(Trigger {
            column: table.column(&event.column)?,
            value: event.value.trim().to_owned(),
            event: event.event.clone(),
            component: event.component.clone(),
        })
    }

    fn fires(&self, cell: &[u8]) -> bool {
        let text = String::from_utf8_lossy(cell);
        match (text.parse::<f64>(), self.value.parse::<f64>()) {
            (Ok(found), Ok(wanted)) => found == wanted,
            _ => text == self.value,
        }
    }

    fn payload(&self, ts: i64) -> Vec<u8> {
        let mut payload = Payload::event(ts, &self.event);
        if let Some(component) = &self.component {
            payload.text("component", component);
        }
        payload.done()
    }
}

#[cfg(test)]
mod names {
    use super::told_apart;

    #[test]
    fn a_column_named_twice_keeps_both_values() {
        let header = ["a", "b", "a", "a_2", "a"].map(String::from).to_vec();
        assert_eq!(told_apart(header), ["a", "b", "a_2", "a_2_2", "a_3"]);
    }
}
