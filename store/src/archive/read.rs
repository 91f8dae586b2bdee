//! From a Parquet object to columns: finds a column by name, checks its type against the table's declaration.

use bytes::Bytes;
use parquet::basic::Type as Physical;
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::FORMAT;
use super::columns::{Blobs, Texts};
use super::write::Kind;
use crate::error::ArchiveError;

/// An opened object.
pub(super) struct Object {
    reader: SerializedFileReader<Bytes>,
    rows: usize,
    groups: std::ops::Range<usize>,
}

/// What a column is declared as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
}

impl Object {
    pub(super) fn open(bytes: Bytes) -> Result<Self, ArchiveError> {
        let reader = SerializedFileReader::new(bytes)?;
        let file = reader.metadata().file_metadata();
        let pairs = file.key_value_metadata().into_iter().flatten();
        let format = pairs.filter(|p| p.key == "homeward.format").find_map(|p| p.value.clone());
        if let Some(found) = format.filter(|f| f.parse::<u32>().map_or(true, |f| f > FORMAT)) {
            return Err(ArchiveError::Newer { found, supported: FORMAT });
        }
        let rows = usize::try_from(file.num_rows()).unwrap_or(0);
        let groups = 0..reader.num_row_groups();
        Ok(Self { reader, rows, groups })
    }

    /// Rows of it.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// How many row groups it has.
    pub(super) fn groups(&self) -> usize {
        self.reader.num_row_groups()
    }

    /// From now on only this row group is read.
    pub(super) fn only(&mut self, group: usize) {
        self.groups = group..group + 1;
        self.rows = usize::try_from(self.reader.metadata().row_group(group).num_rows()).unwrap_or(0);
    }

    /// All columns in the file's order.
    ///
    /// # Errors
    /// [`ArchiveError::Column`] for a type that no table of the archive has.
    pub(super) fn declared(&self) -> Result<Vec<Declared>, ArchiveError> {
        let wanted = "string, binary, int32, int64, timestamp[ms, UTC] or double";
        let declare = |column: &std::sync::Arc<ColumnDescriptor>| {
            let name = column.path().string();
            let kind = kind_of(column).ok_or_else(|| mismatch(&name, &describe(column), wanted))?;
            Ok(Declared { name, kind, nullable: column.max_def_level() > 0 })
        };
        self.columns().iter().map(declare).collect()
    }

    /// Memory that the rows take when read, in bytes; an estimate.
    pub(super) fn decoded_bytes(&self) -> usize {
        let of = |column: &parquet::file::metadata::ColumnChunkMetaData| match column.column_type() {
            Physical::INT32 => 4 * column.num_values(),
            Physical::BYTE_ARRAY => {
                8 * column.num_values() + column.unencoded_byte_array_data_bytes().unwrap_or_else(|| column.uncompressed_size())
            }
            _ => 8 * column.num_values(),
        };
        let columns = self.reader.metadata().row_groups().iter().flat_map(|g| g.columns());
        usize::try_from(columns.map(of).sum::<i64>()).unwrap_or(0)
    }

    /// The names of all columns, in the file's order; a nested one by its dotted path.
    pub(super) fn names(&self) -> Vec<String> {
        self.columns().iter().map(|c| c.path().string()).collect()
    }

    pub(super) fn i32(&self, name: &str) -> Result<Vec<i32>, ArchiveError> {
        self.required::<Int32Type>(name, Kind::Int32)
    }

    pub(super) fn i64(&self, name: &str) -> Result<Vec<i64>, ArchiveError> {
        self.required::<Int64Type>(name, Kind::Int64)
    }

    pub(super) fn times(&self, name: &str) -> Result<Vec<i64>, ArchiveError> {
        self.required::<Int64Type>(name, Kind::Timestamp)
    }

    /// NaN where there is no value.
    pub(super) fn doubles(&self, name: &str) -> Result<Vec<f64>, ArchiveError> {
        let mut column = Vec::with_capacity(self.rows);
        self.read::<DoubleType>(name, Kind::Double, |v| column.push(v.copied().unwrap_or(f64::NAN)))?;
        Ok(column)
    }

    pub(super) fn blobs(&self, name: &str) -> Result<Blobs, ArchiveError> {
        self.blobs_of(name, Kind::Binary, false)
    }

    /// As [`Object::blobs`], where rows, or the whole column, may be missing.
    pub(super) fn maybe_blobs(&self, name: &str) -> Result<Blobs, ArchiveError> {
        match self.blobs_of(name, Kind::Binary, true) {
            Err(ArchiveError::Missing { .. }) => {
                let mut none = Blobs::default();
                (0..self.rows).for_each(|_| none.push(None));
                Ok(none)
            }
            read => read,
        }
    }

    pub(super) fn texts(&self, name: &str) -> Result<Texts, ArchiveError> {
        self.checked(name, self.blobs_of(name, Kind::Text, false)?)
    }

    /// As [`Object::texts`], where rows, or the whole column, may be missing.
    pub(super) fn maybe_texts(&self, name: &str) -> Result<Texts, ArchiveError> {
        match self.blobs_of(name, Kind::Text, true) {
            Ok(blobs) => self.checked(name, blobs),
            Err(ArchiveError::Missing { .. }) => {
                let mut none = Texts::default();
                (0..self.rows).for_each(|_| none.push(None));
                Ok(none)
            }
            Err(e) => Err(e),
        }
    }

    fn checked(&self, name: &str, blobs: Blobs) -> Result<Texts, ArchiveError> {
        Texts::checked(blobs).map_err(|row| mismatch(name, &row_text("not UTF-8", row), "UTF-8"))
    }

    pub(super) fn blobs_of(&self, name: &str, kind: Kind, nullable: bool) -> Result<Blobs, ArchiveError> {
        let mut column = Blobs::default();
        self.read::<ByteArrayType>(name, kind, |v| column.push(v.map(ByteArray::data)))?;
        match (0..column.len()).find(|&row| !nullable && column.get(row).is_none()) {
            Some(row) => Err(mismatch(name, &row_text("null", row), "a value in every row")),
            None => Ok(column),
        }
    }

    fn required<T: DataType<T: Copy>>(&self, name: &str, kind: Kind) -> Result<Vec<T::T>, ArchiveError> {
        let mut column = Vec::with_capacity(self.rows);
        let mut nulls = 0usize;
        self.read::<T>(name, kind, |v| match v {
            Some(v) => column.push(*v),
            None => nulls += 1,
        })?;
        let found = format_args!("null in {nulls} rows").to_string();
        if nulls == 0 { Ok(column) } else { Err(mismatch(name, &found, "a value in every row")) }
    }

    /// Hands every row of a column to `each`, over all row groups.
    fn read<T: DataType>(&self, name: &str, kind: Kind, mut each: impl FnMut(Option<&T::T>)) -> Result<(), ArchiveError> {
        let at = self.find(name, kind)?;
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        for group in self.groups.clone() {
            let group = self.reader.get_row_group(group)?;
            let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
            let mut column = get_typed_column_reader::<T>(group.get_column_reader(at)?);
            levels.clear();
            values.clear();
            let (read, _, _) = column.read_records(rows, Some(&mut levels), None, &mut values)?;
            if read != rows {
                let found = format_args!("{read} rows in a row group of {rows}").to_string();
                return Err(mismatch(name, &found, "one value a row"));
            }
            let mut values = values.iter();
            if levels.is_empty() {
                values.for_each(|v| each(Some(v)));
            } else {
                levels.iter().for_each(|&l| each(if l > 0 { values.next() } else { None }));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str, kind: Kind) -> Result<usize, ArchiveError> {
        let at = self.columns().iter().position(|c| c.path().parts() == [name]);
        let Some(at) = at else {
            return Err(ArchiveError::Missing { column: name.into(), wanted: kind.as_str().into() });
        };
        let column = &self.columns()[at];
        let same = column.physical_type() == kind.physical()
            && column.max_rep_level() == 0
            && match kind {
                Kind::Timestamp | Kind::Text => column.logical_type_ref() == kind.logical().as_ref(),
                _ => true,
            };
        if same { Ok(at) } else { Err(mismatch(name, &describe(column), kind.as_str())) }
    }

    fn columns(&self) -> &[std::sync::Arc<ColumnDescriptor>] {
        self.reader.metadata().file_metadata().schema_descr().columns()
    }
}

/// What the archive knows a column of this type as; a text is one only if it says so.
fn kind_of(column: &ColumnDescriptor) -> Option<Kind> {
    let all = [Kind::Text, Kind::Binary, Kind::Int32, Kind::Int64, Kind::Timestamp, Kind::Double];
    let same = |kind: &Kind| column.physical_type() == kind.physical() && column.logical_type_ref() == kind.logical().as_ref();
    (column.path().parts().len() == 1 && column.max_rep_level() == 0).then(|| all.into_iter().find(same))?
}

/// The type of a column as messages name it.
fn describe(column: &ColumnDescriptor) -> String {
    let physical: Physical = column.physical_type();
    let list = if column.max_rep_level() > 0 { "list of " } else { "" };
    match column.logical_type_ref() {
        Some(logical) => format!("{list}{physical} ({logical:?})"),
        None => format!("{list}{physical}"),
    }
}

fn row_text(found: &str, row: usize) -> String {
    format!("{found} in row {row}")
}

fn mismatch(column: &str, found: &str, wanted: &str) -> ArchiveError {
    ArchiveError::Column { column: column.into(), found: found.into(), wanted: wanted.into() }
}
