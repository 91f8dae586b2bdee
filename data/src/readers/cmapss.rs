//! NASA C-MAPSS: 26 columns apart by blanks, no header: unit, cycle, three settings, 21 sensors.

use std::collections::VecDeque;

use super::Rows;
use super::error::{Fault, shown};
use super::json::{Payload, is_json_number};
use super::source::{Lines, Text};
use crate::{Kind, Record};

/// 2020-01-01T00:00:00Z, an hour before the first cycle.
const START_MS: i64 = 1_577_836_800_000;
/// One cycle stands for one hour.
const CYCLE_MS: i64 = 3_600_000;
const COLUMNS: usize = 26;

pub(super) struct Cmapss {
    lines: Lines,
    /// The devices' prefix, e.g. `fd001-train`.
    prefix: String,
    /// Whether the file runs to failure.
    fails: bool,
    /// The engine of the last row: its number and the time of that row.
    last: Option<(u32, i64)>,
}

impl Cmapss {
    /// Reads the file of this stem: `train_FD001` gives the devices `fd001-train-001` and on.
    pub(super) fn new(stem: &str, text: Text) -> Self {
        let name: String =
            stem.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' }).collect();
        let prefix = match name.split_once('_') {
            Some((split @ ("train" | "test"), set)) => format!("{set}-{split}"),
            _ => name.clone(),
        };
        // Room for the number, so that a device's name is never too long.
        let prefix = prefix.chars().take(100).collect();
        Cmapss { lines: Lines::new(text), prefix, fails: name.starts_with("train_"), last: None }
    }

    fn device(&self, unit: u32) -> String {
        format!("{}-{unit:03}", self.prefix)
    }

    /// The failure of the engine whose rows have ended.
    fn end_unit(&mut self, out: &mut VecDeque<Record>) -> bool {
        let Some((unit, ts)) = self.last.take().filter(|_| self.fails) else { return false };
        let mut payload = Payload::event(ts, "failure");
        payload.text("component", "engine");
        out.push_back(Record { device: self.device(unit), kind: Kind::Event, ts, payload: payload.done() });
        true
    }
}

impl Rows for Cmapss {
    fn read(&mut self, out: &mut VecDeque<Record>) -> Result<bool, Fault> {
        if !self.lines.advance()? {
            return Ok(self.end_unit(out));
        }
        let (unit, ts, payload) = parse(&self.lines.line, self.lines.number)?;
        if self.last.is_some_and(|(last, _)| last != unit) {
            self.end_unit(out);
        }
        self.last = Some((unit, ts));
        out.push_back(Record { device: self.device(unit), kind: Kind::Telemetry, ts, payload });
        Ok(true)
    }
}

/// Unit, time and payload of a line.
fn parse(line: &[u8], number: u64) -> Result<(u32, i64, Vec<u8>), Fault> {
    let cells: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|cell| !cell.is_empty()).collect();
    if cells.len() != COLUMNS {
        let found = format!("{} columns", cells.len());
        return Err(Fault::line(number, found, "26: unit, cycle, 3 settings, 21 sensors, with blanks between"));
    }
    if let Some(bad) = cells.iter().find(|cell| !is_json_number(cell)) {
        return Err(Fault::line(number, shown(bad), "a number"));
    }
    let (unit, cycle) = (whole(cells[0], number)?, whole(cells[1], number)?);
    let ts = START_MS + i64::from(cycle) * CYCLE_MS;
    let mut payload = Payload::at(ts);
    payload.cell("cycle", cells[1]);
    payload.numbers("setting", cells[2..5].iter().copied());
    payload.numbers("sensor", cells[5..].iter().copied());
    Ok((unit, ts, payload.done()))
}

fn whole(cell: &[u8], number: u64) -> Result<u32, Fault> {
    let value = std::str::from_utf8(cell).ok().and_then(|text| text.parse().ok()).filter(|value| *value > 0);
    value.ok_or_else(|| Fault::line(number, shown(cell), "a whole number from 1"))
}
