//! Many objects of one partition into few: rows sorted over all of them, duplicates dropped, in bounded memory.
//!
//! Columns are taken as the objects have them, so a signal that came later, one that is gone and a column of others all come through. Objects
//! wait in a temporary folder; where their rows are more than memory may hold, a sample of (device, time) cuts them into ranges, rows are
//! scattered to those, and one range after the other is sorted. Rows of one device and time are always in one range.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use tempfile::TempDir;
use xxhash_rust::xxh3::Xxh3;

use super::WriteOptions;
use super::columns::{Blobs, Interned, order};
use super::read::{Declared, Object};
use super::write::{Field, Kind, Values, Writer};
use crate::error::ArchiveError;
use crate::keys::Table;

/// One row in so many is looked at to find where to cut.
const SAMPLE: usize = 128;
/// Rows sorted at once take a quarter of the memory; their texts once more while written, the object in the making, and what scattering holds.
const SHARE: usize = 4;
/// Never less than this is sorted at once.
const LEAST: usize = 1 << 20;

/// What a merge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// Rows read.
    pub rows: u64,
    /// Rows of them that were there already, and are left out.
    pub duplicates: u64,
}

/// Objects of one partition that are to become few.
///
/// **Duplicates.** Telemetry and events: rows that are equal but for `received_at` and `seq`; the one that arrived first stays. Quarantine: rows
/// that are equal in every column, since two equal bad messages are two.
#[derive(Debug)]
pub struct Merge {
    table: Table,
    columns: Vec<Declared>,
    folder: TempDir,
    inputs: Vec<PathBuf>,
    rows: usize,
    decoded: usize,
    sample: Vec<(Box<str>, i64)>,
    share: usize,
}

/// The rows of a range, by column in the merge's order.
struct Rows {
    columns: Vec<Column>,
    len: usize,
}

/// The values of a column.
enum Column {
    I32(Vec<i32>),
    I64(Vec<i64>),
    F64(Vec<f64>),
    Blobs(Blobs),
}

/// What waits for one range: on disk and in memory.
struct Range {
    spilled: Vec<PathBuf>,
    rows: Rows,
}

impl Merge {
    /// A merge of objects of `table` (not scores) that takes about `memory_bytes` of memory.
    ///
    /// # Errors
    /// [`ArchiveError::Spill`] if there is no place for temporary files (`TMPDIR` names it).
    pub fn new(table: Table, memory_bytes: usize) -> Result<Self, ArchiveError> {
        let folder = TempDir::with_prefix("homeward-compact-");
        let folder = folder.map_err(|source| ArchiveError::Spill { folder: std::env::temp_dir().display().to_string(), source })?;
        let share = (memory_bytes / SHARE).max(LEAST);
        Ok(Self { table, columns: Vec::new(), folder, inputs: Vec::new(), rows: 0, decoded: 0, sample: Vec::new(), share })
    }

    /// Adds an object. One that is refused leaves the merge as it was.
    ///
    /// # Errors
    /// [`ArchiveError::Column`], [`ArchiveError::Missing`] or [`ArchiveError::Case`] for columns that do not go with those of the table or of the
    /// objects before, [`ArchiveError::Newer`], [`ArchiveError::Parquet`]; [`ArchiveError::Spill`] if it cannot be kept.
    pub fn add(&mut self, bytes: &Bytes) -> Result<(), ArchiveError> {
        let object = Object::open(bytes.clone())?;
        let columns = self.joined(&object)?;
        // Reads every value once: what cannot be decoded must be found before anything is deleted.
        let mut trial = Rows::new(&columns);
        let mut sample = Vec::new();
        let mut object_rows = 0;
        for group in 0..object.groups() {
            trial = self.read(bytes, group, &columns)?;
            let keys = trial.keys(self.table, &columns);
            sample.extend((0..trial.len).filter(|row| (self.rows + object_rows + row).is_multiple_of(SAMPLE)).map(|row| keys.owned(row)));
            object_rows += trial.len;
        }
        drop(trial);
        let path = self.folder.path().join(format!("in-{}", self.inputs.len()));
        fs::write(&path, bytes).map_err(|e| self.spill(e))?;
        self.decoded += object.decoded_bytes();
        (self.columns, self.rows) = (columns, self.rows + object_rows);
        self.sample.extend(sample);
        self.inputs.push(path);
        Ok(())
    }

    /// How many objects there are.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.inputs.len()
    }

    /// Hands the merged objects to `each`, in order, each about `target_bytes` large at most, until it returns `false`.
    ///
    /// # Errors
    /// [`ArchiveError::Spill`]; [`ArchiveError::Parquet`] for options that the writer refuses.
    pub fn write(self, target_bytes: usize, options: &WriteOptions, mut each: impl FnMut(Bytes) -> bool) -> Result<Merged, ArchiveError> {
        let cuts = self.cuts();
        let ranges = self.scatter(&cuts)?;
        let mut merged = Merged { rows: self.rows as u64, duplicates: 0 };
        let mut writer: Option<Writer> = None;
        for range in ranges {
            let rows = self.gather(range)?;
            let (names, mut order) = rows.sorted(self.table, &self.columns);
            let before = order.len();
            rows.drop_duplicates(self.table, &self.columns, &names, &mut order);
            merged.duplicates += (before - order.len()) as u64;
            let fields = rows.fields(&self.columns, &names);
            let mut rest = &order[..];
            while !rest.is_empty() {
                let open = match writer.take() {
                    Some(open) => open,
                    None => Writer::new(&fields, sorted_by(self.table), options)?,
                };
                let open = writer.insert(open);
                rest = &rest[open.write(&fields, rest, target_bytes)?..];
                if open.bytes() >= target_bytes
                    && let Some(full) = writer.take()
                    && !each(full.finish()?)
                {
                    return Ok(merged);
                }
            }
        }
        if let Some(last) = writer {
            each(last.finish()?);
        }
        Ok(merged)
    }

    /// Our columns and those of `object`; a column that is not in all of them may be null.
    fn joined(&self, object: &Object) -> Result<Vec<Declared>, ArchiveError> {
        let theirs = object.declared()?;
        let mut all = if self.columns.is_empty() { Vec::new() } else { self.columns.clone() };
        for column in &theirs {
            match all.iter_mut().find(|c| c.name.eq_ignore_ascii_case(&column.name)) {
                Some(ours) if ours.name != column.name => {
                    return Err(ArchiveError::Case { column: column.name.clone(), other: ours.name.clone() });
                }
                Some(ours) if ours.kind != column.kind => return Err(other_kind(column, ours.kind)),
                Some(ours) => ours.nullable |= column.nullable,
                None => all.push(Declared { nullable: column.nullable || !self.columns.is_empty(), ..column.clone() }),
            }
        }
        for ours in &mut all {
            ours.nullable |= !theirs.iter().any(|c| c.name == ours.name);
        }
        // Fields that nobody claimed come last in every object of ours.
        all.sort_by_key(|c| c.name == "extra");
        check(self.table, &all)?;
        Ok(all)
    }

    /// One row group of an object under `columns`.
    fn read(&self, bytes: &Bytes, group: usize, columns: &[Declared]) -> Result<Rows, ArchiveError> {
        let mut object = Object::open(bytes.clone())?;
        let has = object.names();
        object.only(group);
        let len = object.rows();
        let read = |column: &Declared| {
            if has.contains(&column.name) { Column::read(&object, column) } else { Ok(Column::nulls(column.kind, len)) }
        };
        Ok(Rows { columns: columns.iter().map(read).collect::<Result<_, _>>()?, len })
    }

    /// Where the ranges begin, but for the first.
    fn cuts(&self) -> Vec<(Box<str>, i64)> {
        let ranges = self.decoded.div_ceil(self.share).max(1);
        let mut sample = self.sample.clone();
        sample.sort_unstable();
        let mut cuts: Vec<_> = (1..ranges).filter_map(|at| sample.get(at * sample.len() / ranges).cloned()).collect();
        cuts.dedup();
        cuts
    }

    /// Every row to its range.
    fn scatter(&self, cuts: &[(Box<str>, i64)]) -> Result<Vec<Range>, ArchiveError> {
        let empty = || Range { spilled: Vec::new(), rows: Rows::new(&self.columns) };
        let mut ranges: Vec<Range> = std::iter::repeat_with(empty).take(cuts.len() + 1).collect();
        let mut spills = 0;
        for input in &self.inputs {
            let bytes = Bytes::from(fs::read(input).map_err(|e| self.spill(e))?);
            for group in 0..Object::open(bytes.clone())?.groups() {
                let rows = self.read(&bytes, group, &self.columns)?;
                let keys = rows.keys(self.table, &self.columns);
                for row in 0..rows.len {
                    let (device, ts) = keys.at(row);
                    let at = cuts.partition_point(|cut| (&*cut.0, cut.1) <= (device, ts));
                    ranges[at].rows.push(&rows, row);
                }
                if cuts.is_empty() {
                    continue;
                }
                while ranges.iter().map(|r| r.rows.bytes()).sum::<usize>() > self.share {
                    self.spill_largest(&mut ranges, &mut spills)?;
                }
            }
            fs::remove_file(input).map_err(|e| self.spill(e))?;
        }
        Ok(ranges)
    }

    fn spill_largest(&self, ranges: &mut [Range], spills: &mut usize) -> Result<(), ArchiveError> {
        let Some(range) = ranges.iter_mut().max_by_key(|r| r.rows.bytes()) else { return Ok(()) };
        let rows = std::mem::replace(&mut range.rows, Rows::new(&self.columns));
        let order: Vec<u32> = (0..).take(rows.len).collect();
        let names = rows.names(self.table, &self.columns);
        let fields = rows.fields(&self.columns, &names);
        let bytes = super::write::encode(&fields, &order, &[], &WriteOptions::default())?;
        let path = self.folder.path().join(format!("range-{spills}"));
        fs::write(&path, bytes).map_err(|e| self.spill(e))?;
        *spills += 1;
        range.spilled.push(path);
        Ok(())
    }

    /// All rows of a range.
    fn gather(&self, range: Range) -> Result<Rows, ArchiveError> {
        let mut all = range.rows;
        for path in &range.spilled {
            let bytes = Bytes::from(fs::read(path).map_err(|e| self.spill(e))?);
            for group in 0..Object::open(bytes.clone())?.groups() {
                let rows = self.read(&bytes, group, &self.columns)?;
                (0..rows.len).for_each(|row| all.push(&rows, row));
            }
            fs::remove_file(path).map_err(|e| self.spill(e))?;
        }
        Ok(all)
    }

    fn spill(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Spill { folder: self.folder.path().display().to_string(), source }
    }
}

/// The columns whose order the rows are in.
fn sorted_by(table: Table) -> &'static [&'static str] {
    match table {
        Table::Quarantine => &["received_at", "seq", "idx"],
        _ => &["device", "ts", "seq", "idx"],
    }
}

/// Whether the columns that rows are sorted and told apart by are there.
fn check(table: Table, columns: &[Declared]) -> Result<(), ArchiveError> {
    let kind = |name: &str| match name {
        "device" => Kind::Text,
        "ts" | "received_at" => Kind::Timestamp,
        "seq" => Kind::Int64,
        _ => Kind::Int32,
    };
    for name in sorted_by(table).iter().chain(&["received_at"]) {
        let wanted = kind(name);
        match columns.iter().find(|c| c.name == *name) {
            None => return Err(ArchiveError::Missing { column: (*name).into(), wanted: wanted.as_str().into() }),
            Some(found) if found.kind != wanted => return Err(other_kind(found, wanted)),
            Some(_) => {}
        }
    }
    // A number that may be missing has no place in memory; the archive has none.
    match columns.iter().find(|c| c.nullable && matches!(c.kind, Kind::Int32 | Kind::Int64 | Kind::Timestamp)) {
        Some(found) => Err(ArchiveError::Column {
            column: found.name.clone(),
            found: format!("{} that may be null or missing", found.kind.as_str()),
            wanted: "a value in every row of every object".into(),
        }),
        None => Ok(()),
    }
}

fn other_kind(found: &Declared, wanted: Kind) -> ArchiveError {
    ArchiveError::Column { column: found.name.clone(), found: found.kind.as_str().into(), wanted: wanted.as_str().into() }
}

/// Device and time of the rows that a sort and a cut go by.
struct Keys<'a> {
    device: Option<&'a Blobs>,
    ts: &'a [i64],
}

impl Keys<'_> {
    fn at(&self, row: usize) -> (&str, i64) {
        let device = self.device.and_then(|d| d.get(row)).and_then(|d| std::str::from_utf8(d).ok());
        (device.unwrap_or_default(), self.ts[row])
    }

    fn owned(&self, row: usize) -> (Box<str>, i64) {
        let (device, ts) = self.at(row);
        (device.into(), ts)
    }
}

impl Rows {
    fn new(columns: &[Declared]) -> Self {
        Self { columns: columns.iter().map(|c| Column::nulls(c.kind, 0)).collect(), len: 0 }
    }

    fn push(&mut self, from: &Self, row: usize) {
        for (to, from) in self.columns.iter_mut().zip(&from.columns) {
            to.push(from, row);
        }
        self.len += 1;
    }

    fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    fn column(&self, columns: &[Declared], name: &str) -> Option<&Column> {
        columns.iter().position(|c| c.name == name).and_then(|at| self.columns.get(at))
    }

    fn i64(&self, columns: &[Declared], name: &str) -> &[i64] {
        if let Some(Column::I64(values)) = self.column(columns, name) { values } else { &[] }
    }

    fn i32(&self, columns: &[Declared], name: &str) -> &[i32] {
        if let Some(Column::I32(values)) = self.column(columns, name) { values } else { &[] }
    }

    fn keys(&self, table: Table, columns: &[Declared]) -> Keys<'_> {
        if table == Table::Quarantine {
            return Keys { device: None, ts: self.i64(columns, "received_at") };
        }
        let device = if let Some(Column::Blobs(device)) = self.column(columns, "device") { Some(device) } else { None };
        Keys { device, ts: self.i64(columns, "ts") }
    }

    /// The rows' devices.
    fn names(&self, table: Table, columns: &[Declared]) -> Interned {
        let keys = self.keys(table, columns);
        let mut names = Interned::default();
        (0..self.len).for_each(|row| names.push(keys.at(row).0));
        names
    }

    /// The rows' devices, and the rows in the table's order.
    fn sorted(&self, table: Table, columns: &[Declared]) -> (Interned, Vec<u32>) {
        let names = self.names(table, columns);
        let ts = self.keys(table, columns).ts;
        let order = order(&names, ts, self.i64(columns, "seq"), self.i32(columns, "idx"));
        (names, order)
    }

    /// Takes out of a sorted `order` all but the first arrived of equal rows.
    fn drop_duplicates(&self, table: Table, columns: &[Declared], names: &Interned, order: &mut Vec<u32>) {
        let ts = self.keys(table, columns).ts;
        let arrival = |row: u32| (self.i64(columns, "received_at")[row as usize], self.i64(columns, "seq")[row as usize]);
        let told_apart = |c: &Declared| table == Table::Quarantine || !["received_at", "seq"].contains(&c.name.as_str());
        let content: Vec<&Column> = columns.iter().zip(&self.columns).filter(|(c, _)| told_apart(c)).map(|(_, values)| values).collect();
        let same_key = |a: &u32, b: &u32| names.rows()[*a as usize] == names.rows()[*b as usize] && ts[*a as usize] == ts[*b as usize];
        let mut dropped = std::collections::HashSet::new();
        for run in order.chunk_by(same_key).filter(|run| run.len() > 1) {
            let mut first: HashMap<u128, u32> = HashMap::new();
            for &row in run {
                let kept = first.entry(hash(&content, row)).or_insert(row);
                if *kept == row || !content.iter().all(|c| c.same(*kept as usize, row as usize)) {
                    continue;
                }
                dropped.insert(if arrival(row) < arrival(*kept) { std::mem::replace(kept, row) } else { row });
            }
        }
        order.retain(|row| !dropped.contains(row));
    }

    fn fields<'a>(&'a self, columns: &'a [Declared], names: &'a Interned) -> Vec<Field<'a>> {
        let field = |(declared, column): (&'a Declared, &'a Column)| {
            let values = match column {
                Column::I32(values) => Values::I32(values),
                Column::I64(values) => Values::I64(values),
                Column::F64(values) => Values::F64(values),
                Column::Blobs(_) if declared.name == "device" => Values::Interned(names),
                Column::Blobs(values) => Values::Blobs(values),
            };
            // A signal may be missing in a row even where none has been yet: all of ours are written that way.
            let nullable = declared.nullable || declared.kind == Kind::Double;
            Field { name: &declared.name, kind: declared.kind, nullable, values }
        };
        columns.iter().zip(&self.columns).map(field).collect()
    }
}

fn hash(content: &[&Column], row: u32) -> u128 {
    let mut hash = Xxh3::new();
    content.iter().for_each(|column| column.hash(row as usize, &mut hash));
    hash.digest128()
}

impl Column {
    fn read(object: &Object, column: &Declared) -> Result<Self, ArchiveError> {
        let name = column.name.as_str();
        Ok(match column.kind {
            Kind::Int32 => Self::I32(object.i32(name)?),
            Kind::Int64 => Self::I64(object.i64(name)?),
            Kind::Timestamp => Self::I64(object.times(name)?),
            Kind::Double => Self::F64(object.doubles(name)?),
            Kind::Text if column.nullable => Self::Blobs(object.maybe_texts(name)?.into_blobs()),
            Kind::Text => Self::Blobs(object.texts(name)?.into_blobs()),
            Kind::Binary => Self::Blobs(object.blobs_of(name, Kind::Binary, column.nullable)?),
        })
    }

    /// A column without values in any row.
    fn nulls(kind: Kind, len: usize) -> Self {
        match kind {
            Kind::Int32 => Self::I32(vec![0; len]),
            Kind::Int64 | Kind::Timestamp => Self::I64(vec![0; len]),
            Kind::Double => Self::F64(vec![f64::NAN; len]),
            Kind::Text | Kind::Binary => {
                let mut none = Blobs::default();
                (0..len).for_each(|_| none.push(None));
                Self::Blobs(none)
            }
        }
    }

    fn push(&mut self, from: &Self, row: usize) {
        match (self, from) {
            (Self::I32(to), Self::I32(from)) => to.push(from[row]),
            (Self::I64(to), Self::I64(from)) => to.push(from[row]),
            (Self::F64(to), Self::F64(from)) => to.push(from[row]),
            (Self::Blobs(to), Self::Blobs(from)) => to.push(from.get(row)),
            _ => unreachable!("both have the merge's columns"),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::I32(values) => 4 * values.len(),
            Self::I64(values) => 8 * values.len(),
            Self::F64(values) => 8 * values.len(),
            Self::Blobs(values) => values.bytes(),
        }
    }

    fn same(&self, a: usize, b: usize) -> bool {
        match self {
            Self::I32(values) => values[a] == values[b],
            Self::I64(values) => values[a] == values[b],
            Self::F64(values) => values[a].to_bits() == values[b].to_bits() || values[a].is_nan() && values[b].is_nan(),
            Self::Blobs(values) => values.get(a) == values.get(b),
        }
    }

    fn hash(&self, row: usize, hash: &mut Xxh3) {
        match self {
            Self::I32(values) => hash.update(&values[row].to_le_bytes()),
            Self::I64(values) => hash.update(&values[row].to_le_bytes()),
            Self::F64(values) if values[row].is_nan() => hash.update(&f64::NAN.to_le_bytes()),
            Self::F64(values) => hash.update(&values[row].to_le_bytes()),
            Self::Blobs(values) => {
                let value = values.get(row);
                hash.update(&value.map_or(u64::MAX, |v| v.len() as u64).to_le_bytes());
                hash.update(value.unwrap_or_default());
            }
        }
    }
}
