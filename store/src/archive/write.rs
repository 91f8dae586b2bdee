//! From declared columns to a Parquet object, without arrow.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};
use xxhash_rust::xxh3::Xxh3;

use super::columns::{Blobs, Interned, Texts};
use super::{FORMAT, WriteOptions};
use crate::error::ArchiveError;

/// Values looked at to decide whether a signal gets a dictionary.
const SAMPLE: usize = 1024;
/// The most bytes a text or binary column may hold in one object; Parquet's readers count in i32.
const MAX_COLUMN_BYTES: usize = i32::MAX as usize;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Binary,
    Int32,
    Int64,
    /// Milliseconds since 1970 UTC.
    Timestamp,
    Double,
}

impl Kind {
    /// How messages name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Binary => "binary",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Timestamp => "timestamp[ms, UTC]",
            Self::Double => "double",
        }
    }

    pub(super) fn physical(self) -> Physical {
        match self {
            Self::Text | Self::Binary => Physical::BYTE_ARRAY,
            Self::Int32 => Physical::INT32,
            Self::Int64 | Self::Timestamp => Physical::INT64,
            Self::Double => Physical::DOUBLE,
        }
    }

    pub(super) fn logical(self) -> Option<LogicalType> {
        match self {
            Self::Text => Some(LogicalType::String),
            Self::Timestamp => Some(LogicalType::timestamp(true, TimeUnit::MILLIS)),
            _ => None,
        }
    }
}

/// One column of a table: its declaration and its values.
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    pub(super) values: Values<'a>,
}

/// The values of a column by row.
#[derive(Clone, Copy)]
pub(super) enum Values<'a> {
    I32(&'a [i32]),
    I64(&'a [i64]),
    /// NaN stands for no value.
    F64(&'a [f64]),
    Blobs(&'a Blobs),
    Interned(&'a Interned),
}

impl<'a> Field<'a> {
    pub(super) fn i32(name: &'a str, values: &'a [i32]) -> Self {
        Self { name, kind: Kind::Int32, nullable: false, values: Values::I32(values) }
    }

    pub(super) fn i64(name: &'a str, values: &'a [i64]) -> Self {
        Self { name, kind: Kind::Int64, nullable: false, values: Values::I64(values) }
    }

    pub(super) fn time(name: &'a str, values: &'a [i64]) -> Self {
        Self { name, kind: Kind::Timestamp, nullable: false, values: Values::I64(values) }
    }

    pub(super) fn double(name: &'a str, values: &'a [f64]) -> Self {
        Self { name, kind: Kind::Double, nullable: true, values: Values::F64(values) }
    }

    pub(super) fn text(name: &'a str, values: &'a Texts) -> Self {
        Self { name, kind: Kind::Text, nullable: false, values: Values::Blobs(values.blobs()) }
    }

    pub(super) fn maybe_text(name: &'a str, values: &'a Texts) -> Self {
        Self { nullable: true, ..Self::text(name, values) }
    }

    pub(super) fn binary(name: &'a str, values: &'a Blobs) -> Self {
        Self { name, kind: Kind::Binary, nullable: false, values: Values::Blobs(values) }
    }

    pub(super) fn maybe_binary(name: &'a str, values: &'a Blobs) -> Self {
        Self { nullable: true, ..Self::binary(name, values) }
    }

    pub(super) fn name(name: &'a str, values: &'a Interned) -> Self {
        Self { name, kind: Kind::Text, nullable: false, values: Values::Interned(values) }
    }

    fn schema(&self) -> Result<TypePtr, ArchiveError> {
        let repetition = if self.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let column = Type::primitive_type_builder(self.name, self.kind.physical())
            .with_repetition(repetition)
            .with_logical_type(self.kind.logical());
        Ok(Arc::new(column.build()?))
    }
}

/// Writes the rows of `fields` in `order`. `sorted_by` names the columns which that order sorts.
pub(super) fn encode(fields: &[Field<'_>], order: &[u32], sorted_by: &[&str], options: &WriteOptions) -> Result<Bytes, ArchiveError> {
    let mut writer = Writer::new(fields, sorted_by, options)?;
    writer.write(fields, order, usize::MAX)?;
    writer.finish()
}

/// A Parquet object in the making, row group by row group.
pub(super) struct Writer {
    file: SerializedFileWriter<Vec<u8>>,
    scratch: Scratch,
    group_rows: usize,
}

impl Writer {
    /// An object with the columns of `fields`, whose values decide on encodings. `sorted_by` names the columns which the rows will be sorted by.
    pub(super) fn new(fields: &[Field<'_>], sorted_by: &[&str], options: &WriteOptions) -> Result<Self, ArchiveError> {
        let columns = fields.iter().map(Field::schema).collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::new(Type::group_type_builder("homeward").with_fields(columns).build()?);
        let properties = Arc::new(properties(fields, sorted_by, options)?);
        let file = SerializedFileWriter::new(Vec::new(), schema, properties)?;
        let mut scratch = Scratch::default();
        fields.iter().for_each(|field| scratch.hash.column(field.name));
        Ok(Self { file, scratch, group_rows: options.max_row_group_rows.max(1) })
    }

    /// Adds rows of the same columns in `order`, whole row groups at a time, until the object has `target` bytes; how many were added.
    pub(super) fn write(&mut self, fields: &[Field<'_>], order: &[u32], target: usize) -> Result<usize, ArchiveError> {
        let sources = fields.iter().map(Source::new).collect::<Result<Vec<_>, _>>()?;
        let mut written = 0;
        for rows in order.chunks(self.group_rows) {
            let mut group = self.file.next_row_group()?;
            for source in &sources {
                if let Some(mut column) = group.next_column()? {
                    source.write(rows, &mut column, &mut self.scratch)?;
                    column.close()?;
                }
            }
            group.close()?;
            written += rows.len();
            if self.file.bytes_written() >= target {
                break;
            }
        }
        Ok(written)
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> usize {
        self.file.bytes_written()
    }

    /// The object.
    pub(super) fn finish(mut self) -> Result<Bytes, ArchiveError> {
        self.file.append_key_value_metadata(KeyValue::new(super::ROWS_HASH.to_owned(), self.scratch.hash.end()));
        Ok(self.file.into_inner()?.into())
    }
}

fn properties(fields: &[Field<'_>], sorted_by: &[&str], options: &WriteOptions) -> Result<WriterProperties, ArchiveError> {
    let place = |name: &&str| fields.iter().position(|f| f.name == *name).and_then(|at| i32::try_from(at).ok());
    let sorting = sorted_by.iter().filter_map(place).map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: false });
    let all = WriterProperties::builder()
        .set_created_by(concat!("homeward ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(options.zstd_level)?))
        .set_key_value_metadata(Some(metadata(options)))
        .set_sorting_columns(Some(sorting.collect()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_dictionary_enabled(false);
    Ok(fields.iter().fold(all, |all, field| field_properties(all, field, sorted_by)).build())
}

/// Page statistics where readers look for a stretch (the sort columns), chunk statistics elsewhere; the encoding by
/// what the column holds.
fn field_properties(all: WriterPropertiesBuilder, field: &Field<'_>, sorted_by: &[&str]) -> WriterPropertiesBuilder {
    let path = ColumnPath::new(vec![field.name.to_owned()]);
    let all = if sorted_by.contains(&field.name) { all.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page) } else { all };
    match field.values {
        Values::F64(values) => all.set_column_dictionary_enabled(path, repeats(values)),
        Values::Interned(_) => all.set_column_dictionary_enabled(path, true),
        Values::Blobs(_) => all.set_column_dictionary_enabled(path, field.kind == Kind::Text),
        Values::I32(_) => all.set_column_dictionary_enabled(path, true),
        Values::I64(_) => all.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
    }
}

fn metadata(options: &WriteOptions) -> Vec<KeyValue> {
    let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let mut pairs = vec![pair("homeward.format", FORMAT.to_string())];
    if let Some(writer) = &options.writer {
        pairs.push(pair("homeward.writer", writer.to_string()));
    }
    if let Some((first, last)) = options.seqs {
        pairs.push(pair("homeward.first_seq", first.to_string()));
        pairs.push(pair("homeward.last_seq", last.to_string()));
    }
    pairs
}

/// Whether a sample over the whole column says that values repeat enough for a dictionary to pay.
fn repeats(values: &[f64]) -> bool {
    let step = (values.len() / SAMPLE).max(1);
    let mut sample: Vec<u64> = values.iter().step_by(step).filter(|v| !v.is_nan()).map(|v| v.to_bits()).collect();
    let taken = sample.len();
    sample.sort_unstable();
    sample.dedup();
    sample.len() * 2 <= taken
}

/// A column ready to be written in pieces.
enum Source<'a> {
    I32(&'a [i32]),
    I64(&'a [i64]),
    F64(&'a [f64]),
    Blobs { values: &'a Blobs, data: Bytes, nullable: bool },
    Interned { rows: &'a [u32], names: Vec<ByteArray> },
}

/// Buffers used for one column after the other.
#[derive(Default)]
struct Scratch {
    i32: Vec<i32>,
    i64: Vec<i64>,
    f64: Vec<f64>,
    blobs: Vec<ByteArray>,
    levels: Vec<i16>,
    hash: RowsHash,
}

/// A hash over column names and values in the order in which they are written: what an object says of its rows, whatever its encoding.
#[derive(Default)]
struct RowsHash {
    hash: Xxh3,
    bytes: Vec<u8>,
}

impl RowsHash {
    fn add<const N: usize>(&mut self, values: impl Iterator<Item = [u8; N]>) {
        for value in values {
            self.bytes.extend_from_slice(&value);
            if self.bytes.len() >= 1 << 16 {
                self.flush();
            }
        }
    }

    fn column(&mut self, name: &str) {
        self.hash.update(name.as_bytes());
        self.hash.update(&[0]);
    }

    fn levels(&mut self, levels: &[i16]) {
        self.add(levels.iter().map(|level| [*level as u8]));
    }

    fn blobs(&mut self, blobs: &[ByteArray]) {
        self.flush();
        for blob in blobs {
            self.hash.update(&(blob.len() as u64).to_le_bytes());
            self.hash.update(blob.data());
        }
    }

    fn flush(&mut self) {
        self.hash.update(&self.bytes);
        self.bytes.clear();
    }

    fn end(&mut self) -> String {
        self.flush();
        format_args!("{:032x}", self.hash.digest128()).to_string()
    }
}

impl<'a> Source<'a> {
    fn new(field: &Field<'a>) -> Result<Self, ArchiveError> {
        Ok(match field.values {
            Values::I32(values) => Self::I32(values),
            Values::I64(values) => Self::I64(values),
            Values::F64(values) => Self::F64(values),
            Values::Blobs(values) => {
                let found = values.data().len();
                if found > MAX_COLUMN_BYTES {
                    let what = ["bytes in column ", field.name].concat();
                    return Err(ArchiveError::TooLarge { what, found, max: MAX_COLUMN_BYTES });
                }
                let data = Bytes::copy_from_slice(values.data());
                Self::Blobs { values, data, nullable: field.nullable }
            }
            Values::Interned(column) => {
                let names = column.names().iter().map(|n| ByteArray::from(n.as_bytes().to_vec())).collect();
                Self::Interned { rows: column.rows(), names }
            }
        })
    }

    fn write(&self, rows: &[u32], to: &mut SerializedColumnWriter<'_>, scratch: &mut Scratch) -> Result<(), ArchiveError> {
        match self {
            Self::I32(values) => {
                let found = gather(&mut scratch.i32, rows, values);
                scratch.hash.add(found.iter().map(|v| v.to_le_bytes()));
                put::<Int32Type>(to.typed(), found, None)
            }
            Self::I64(values) => {
                let found = gather(&mut scratch.i64, rows, values);
                scratch.hash.add(found.iter().map(|v| v.to_le_bytes()));
                put::<Int64Type>(to.typed(), found, None)
            }
            Self::F64(values) => {
                let Scratch { f64: found, levels, hash, .. } = scratch;
                found.clear();
                levels.clear();
                for &row in rows {
                    let value = values[row as usize];
                    levels.push(i16::from(!value.is_nan()));
                    if !value.is_nan() {
                        found.push(value);
                    }
                }
                hash.levels(levels);
                hash.add(found.iter().map(|v| v.to_le_bytes()));
                put::<DoubleType>(to.typed(), found, Some(levels))
            }
            Self::Blobs { values, data, nullable } => {
                let Scratch { blobs: found, levels, hash, .. } = scratch;
                found.clear();
                levels.clear();
                for &row in rows {
                    let range = values.range(row as usize);
                    levels.push(i16::from(range.is_some()));
                    found.extend(range.map(|r| ByteArray::from(data.slice(r))));
                }
                hash.levels(levels);
                hash.blobs(found);
                put::<ByteArrayType>(to.typed(), found, nullable.then_some(levels))
            }
            Self::Interned { rows: numbers, names } => {
                scratch.blobs.clear();
                scratch.blobs.extend(rows.iter().map(|&row| names[numbers[row as usize] as usize].clone()));
                scratch.hash.blobs(&scratch.blobs);
                put::<ByteArrayType>(to.typed(), &scratch.blobs, None)
            }
        }
    }
}

fn gather<'s, T: Copy>(scratch: &'s mut Vec<T>, rows: &[u32], values: &[T]) -> &'s [T] {
    scratch.clear();
    scratch.extend(rows.iter().map(|&row| values[row as usize]));
    scratch
}

fn put<T: DataType>(to: &mut ColumnWriterImpl<'_, T>, values: &[T::T], levels: Option<&Vec<i16>>) -> Result<(), ArchiveError> {
    to.write_batch(values, levels.map(Vec::as_slice), None)?;
    Ok(())
}
