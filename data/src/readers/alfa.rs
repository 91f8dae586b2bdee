//! ALFA: one flight of a fixed-wing drone a file, about twenty rows a second, a fault injected in most.

use std::collections::VecDeque;
use std::path::Path;

use super::error::Fault;
use super::json::Payload;
use super::source::Text;
use super::table::Table;
use super::{Rows, TimeUnit, stem};
use crate::{Kind, Record};

/// What can be faulty, as the files' and folders' names say it.
const COMPONENTS: [&str; 4] = ["engine", "aileron", "rudder", "elevator"];
/// The column that says whether the fault is on. Not telemetry: it is the truth.
const FAULT: &str = "field.data";

pub(super) struct Alfa {
    table: Table,
    device: String,
    component: Option<&'static str>,
    time: usize,
    fault: Option<usize>,
    /// The columns that go into the payload, with their names there.
    fields: Vec<(usize, String)>,
    announced: bool,
}

impl Alfa {
    pub(super) fn new(path: &Path, text: Text) -> Result<Self, Fault> {
        let table = Table::new(text)?;
        let time = table.column("%time")?;
        let fault = table.find(FAULT);
        let fields = table.header.iter().enumerate().filter(|(i, _)| *i != time && Some(*i) != fault);
        let fields = fields.map(|(i, name)| (i, field_name(name))).collect();
        Ok(Alfa { device: device(stem(path)), component: component(path), time, fault, fields, announced: false, table })
    }

    /// Nanoseconds since 1970, as the recorder wrote them, or a date and time in UTC, as the processed files have it.
    fn time(&self) -> Result<i64, Fault> {
        let written = self.table.cell(self.time);
        let unit = if written.iter().all(u8::is_ascii_digit) { TimeUnit::Nanos } else { TimeUnit::Text };
        self.table.time(self.time, unit)
    }

    fn is_faulty(&self) -> bool {
        let cell = self.fault.map(|column| self.table.cell(column)).and_then(|cell| std::str::from_utf8(cell).ok());
        cell.and_then(|text| text.parse::<f64>().ok()).is_some_and(|value| value > 0.0)
    }
}

impl Rows for Alfa {
    fn read(&mut self, out: &mut VecDeque<Record>) -> Result<bool, Fault> {
        if !self.table.advance()? {
            return Ok(false);
        }
        let ts = self.time()?;
        let mut payload = Payload::at(ts);
        for (i, name) in &self.fields {
            payload.cell(name, self.table.cell(*i));
        }
        out.push_back(Record { device: self.device.clone(), kind: Kind::Telemetry, ts, payload: payload.done() });
        if !self.announced && self.is_faulty() {
            self.announced = true;
            let mut payload = Payload::event(ts, "fault");
            if let Some(component) = self.component {
                payload.text("component", component);
            }
            out.push_back(Record { device: self.device.clone(), kind: Kind::Event, ts, payload: payload.done() });
        }
        Ok(true)
    }
}

/// `carbonZ_2018-07-18-15-53-31_2_engine_failure` → `2018-07-18-15-53-31_2`; other names as they are, made safe.
fn device(stem: &str) -> String {
    let name = stem.strip_prefix("carbonZ_").unwrap_or(stem);
    let mut parts = name.split('_');
    let mut short = parts.next().unwrap_or_default().to_owned();
    let is_time = short.len() == 19 && short.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if !is_time {
        short = name.to_owned();
    } else if let Some(index) = parts.next().filter(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())) {
        short = format!("{short}_{index}");
    }
    let safe: String = short.chars().map(|c| if c.is_ascii_alphanumeric() || "_.:-".contains(c) { c } else { '_' }).take(128).collect();
    if safe.is_empty() { "flight".to_owned() } else { safe }
}

/// What the flight's name says is faulty, the first named where there are two; else its folder's.
fn component(path: &Path) -> Option<&'static str> {
    let folder = path.parent().and_then(|folder| folder.file_name()).and_then(|name| name.to_str()).unwrap_or_default();
    [stem(path), folder].into_iter().find_map(|name| {
        let found = COMPONENTS.into_iter().filter_map(|component| Some((name.find(component)?, component)));
        found.min().map(|(_, component)| component)
    })
}

fn field_name(column: &str) -> String {
    column.chars().map(|c| if c.is_ascii_alphanumeric() || "_.".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flights_are_named_shortly() {
        for (stem, name) in [
            ("carbonZ_2018-07-18-15-53-31_2_engine_failure", "2018-07-18-15-53-31_2"),
            ("carbonZ_2018-07-30-17-10-45_engine_failure_with_emr_traj", "2018-07-30-17-10-45"),
            ("carbonZ_2018-09-11-14-52-54_left_aileron__right_aileron__failure", "2018-09-11-14-52-54"),
            ("my flight+1", "my_flight_1"),
            ("", "flight"),
        ] {
            assert_eq!(device(stem), name);
        }
    }

    #[test]
    fn components_come_from_the_name_then_the_folder() {
        for (path, expected) in [
            ("engine/carbonZ_x_engine_failure.csv.gz", Some("engine")),
            ("rudder/carbonZ_x_rudder_zero__left_aileron_failure.csv.gz", Some("rudder")),
            ("ailerons/flight7.csv", Some("aileron")),
            ("no_failure/carbonZ_x_no_failure.csv", None),
        ] {
            assert_eq!(component(Path::new(path)), expected, "{path}");
        }
    }
}
