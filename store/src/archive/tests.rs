//! Rows become objects and come back, sorted, with what was missing still missing.

use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;

use super::*;
use crate::error::ArchiveError;

fn signals(names: &[&str]) -> Arc<[String]> {
    names.iter().map(ToString::to_string).collect()
}

fn batch(names: &[&str]) -> TelemetryBatch {
    TelemetryBatch::new(signals(names)).unwrap()
}

fn footer(bytes: &bytes::Bytes) -> ParquetMetaData {
    SerializedFileReader::new(bytes.clone()).unwrap().metadata().clone()
}

#[test]
fn telemetry_comes_back_sorted_by_device_ts_seq_idx() {
    let mut batch = batch(&["v", "temp"]);
    let rows = [("b", 5, 1, 0), ("a", 9, 2, 0), ("b", 5, 0, 1), ("b", 5, 0, 0), ("a", -3, 9, 0)];
    for (place, (device, ts, seq, idx)) in rows.into_iter().enumerate() {
        let values = [place as f64, f64::NAN];
        let extra = (place == 1).then_some("{\"x\":1}");
        batch.push(&TelemetryRow { device, ts, received_at: 100, seq, idx, values: &values, extra }).unwrap();
    }
    let table = read_telemetry(batch.encode(&WriteOptions::default()).unwrap()).unwrap();
    assert_eq!(table.device.iter().flatten().collect::<String>(), "aabbb");
    assert_eq!(table.ts, [-3, 9, 5, 5, 5]);
    assert_eq!(table.seq, [9, 2, 0, 0, 1]);
    assert_eq!(table.idx, [0, 0, 0, 1, 0]);
    assert_eq!(table.signal("v").unwrap(), [4.0, 1.0, 3.0, 2.0, 0.0]);
    assert!(table.signal("temp").unwrap().iter().all(|v| v.is_nan()));
    assert_eq!(table.extra.iter().collect::<Vec<_>>(), [None, Some("{\"x\":1}"), None, None, None]);
}

#[test]
fn no_nan_reaches_the_file() {
    let mut batch = batch(&["v"]);
    for v in [1.0, f64::NAN, -f64::NAN, 0.0] {
        batch.push(&TelemetryRow { device: "a", values: &[v], ..TelemetryRow::default() }).unwrap();
    }
    let footer = footer(&batch.encode(&WriteOptions::default()).unwrap());
    let column = footer.row_group(0).columns().iter().find(|c| c.column_path().string() == "v").unwrap();
    assert_eq!(column.statistics().unwrap().null_count_opt(), Some(2));
}

#[test]
fn an_object_says_what_it_is_and_keeps_to_encodings_all_readers_take() {
    let mut batch = batch(&["repeating", "unique"]);
    for row in 0..4000u32 {
        let values = [f64::from(row % 7), f64::from(row).sqrt()];
        let device = if row % 2 == 0 { "a" } else { "b" };
        batch.push(&TelemetryRow { device, ts: i64::from(row), values: &values, ..TelemetryRow::default() }).unwrap();
    }
    let writer = Some("abababab".parse().unwrap());
    let options = WriteOptions { max_row_group_rows: 1500, writer, seqs: Some((3, 9)), ..WriteOptions::default() };
    let bytes = batch.encode(&options).unwrap();
    let footer = footer(&bytes);
    assert!(footer.file_metadata().created_by().unwrap().starts_with("homeward "));
    let pairs = footer.file_metadata().key_value_metadata().unwrap();
    let pairs: Vec<_> = pairs.iter().map(|p| (p.key.as_str(), p.value.as_deref().unwrap())).collect();
    let wanted = [("format", "1"), ("writer", "abababab"), ("first_seq", "3"), ("last_seq", "9")];
    let (hash, pairs) = pairs.split_last().unwrap();
    assert!(hash.0 == "homeward.rows_hash" && hash.1.len() == 32, "{hash:?}");
    assert_eq!(pairs, wanted.map(|(k, v)| (format!("homeward.{k}"), v)).each_ref().map(|(k, v)| (k.as_str(), *v)));
    assert_eq!(footer.row_groups().iter().map(|g| g.num_rows()).collect::<Vec<_>>(), [1500, 1500, 1000]);
    let known = [Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY, Encoding::DELTA_BINARY_PACKED];
    for column in footer.row_groups().iter().flat_map(|g| g.columns()) {
        assert!(matches!(column.compression(), Compression::ZSTD(_)));
        assert!(column.encodings().all(|e| known.contains(&e)), "{:?}", column.column_path());
        let dictionary = column.encodings().any(|e| e == Encoding::RLE_DICTIONARY);
        match column.column_path().string().as_str() {
            "repeating" => assert!(dictionary),
            "unique" => assert!(!dictionary),
            "device" | "ts" => assert!(column.statistics().is_some()),
            _ => {}
        }
    }
    assert_eq!(read_telemetry(bytes).unwrap().len(), 4000);
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let make = || {
        let mut batch = batch(&["v"]);
        for row in 0..100 {
            let device = ["d1", "d2", "d3"][row % 3];
            batch.push(&TelemetryRow { device, values: &[row as f64], ..TelemetryRow::default() }).unwrap();
        }
        batch.encode(&WriteOptions::default()).unwrap()
    };
    assert_eq!(make(), make());
}

#[test]
fn signal_names_that_cannot_be_columns_are_refused() {
    for names in [&["ts"][..], &["Device"], &["date"], &["hour"], &["extra"], &[""], &["a", "A"], &["a\n"]] {
        let refused = TelemetryBatch::new(signals(names));
        assert!(matches!(refused, Err(ArchiveError::Signal { ref name, .. }) if name == names[names.len() - 1]), "{names:?}");
    }
    assert!(TelemetryBatch::new(signals(&["battery.v", "a b", "온도"])).is_ok());
}

#[test]
fn a_row_of_another_width_is_refused_and_changes_nothing() {
    let mut batch = batch(&["a", "b"]);
    let refused = batch.push(&TelemetryRow { values: &[1.0], ..TelemetryRow::default() });
    assert!(matches!(refused, Err(ArchiveError::Width { found: 1, wanted: 2 })));
    assert!(batch.is_empty());
    batch.push(&TelemetryRow { values: &[1.0, 2.0], ..TelemetryRow::default() }).unwrap();
    assert_eq!(read_telemetry(batch.encode(&WriteOptions::default()).unwrap()).unwrap().len(), 1);
}

#[test]
fn an_empty_batch_is_a_readable_object() {
    let table = read_telemetry(batch(&["v"]).encode(&WriteOptions::default()).unwrap()).unwrap();
    assert!(table.is_empty());
    assert_eq!(table.signal("v"), Some(&[][..]));
    assert!(read_events(EventBatch::default().encode(&WriteOptions::default()).unwrap()).unwrap().is_empty());
}

#[test]
fn bytes_grow_with_the_rows() {
    let mut batch = batch(&["v"]);
    let mut before = batch.bytes();
    for extra in [None, Some("{\"a\":[1,2,3]}")] {
        batch.push(&TelemetryRow { device: "d", values: &[1.0], extra, ..TelemetryRow::default() }).unwrap();
        assert!(batch.bytes() >= before + 8 + 28 + extra.map_or(0, str::len));
        before = batch.bytes();
    }
}

#[test]
fn events_and_quarantine_come_back_as_they_were() {
    let mut events = EventBatch::default();
    let row = EventRow { device: "d", ts: 5, event: "inspection", finding: Some("confirmed"), ..EventRow::default() };
    events.push(&row);
    events.push(&EventRow { ts: 4, event: "failure", component: Some("motor_2"), extra: Some("{}"), ..row });
    let table = read_events(events.encode(&WriteOptions::default()).unwrap()).unwrap();
    let first = table.row(0).unwrap();
    assert_eq!((first.event, first.component, first.extra), ("failure", Some("motor_2"), Some("{}")));
    let second = table.row(1).unwrap();
    assert_eq!((second.event, second.component, second.finding, second.alert_id), ("inspection", None, Some("confirmed"), None));

    let mut bad = QuarantineBatch::default();
    let row = QuarantineRow { seq: 2, topic: "fleet/d/telemetry", payload: b"\xff\0{", reason: "not_json", ..QuarantineRow::default() };
    bad.push(&row);
    bad.push(&QuarantineRow { seq: 1, payload: b"", detail: "empty", ..row });
    let table = read_quarantine(bad.encode(&WriteOptions::default()).unwrap()).unwrap();
    assert_eq!(table.seq, [1, 2]);
    assert_eq!(table.payload.iter().collect::<Vec<_>>(), [Some(&b""[..]), Some(&b"\xff\0{"[..])]);
    assert_eq!(table.detail.get(0), Some("empty"));
    assert_eq!(table.reason.get(1), Some("not_json"));
}

#[test]
fn reading_another_table_names_the_column() {
    let events = EventBatch::default().encode(&WriteOptions::default()).unwrap();
    let error = read_telemetry(events.clone()).unwrap_err().to_string();
    assert!(error.contains("\"event\"") && error.contains("expected double"), "{error}");
    let error = read_quarantine(events).unwrap_err().to_string();
    assert!(error.contains("\"topic\" is missing"), "{error}");
    assert!(matches!(read_events(bytes::Bytes::from_static(b"PAR1")), Err(ArchiveError::Parquet(_))));
}

#[derive(Debug, Clone, PartialEq)]
struct Row(String, i64, i64, i64, i32, Vec<Option<f64>>, Option<String>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let time = prop_oneof![any::<i64>(), 0i64..20];
    let value = proptest::option::of(prop_oneof![-1e300..1e300, (0u8..4).prop_map(f64::from)]);
    let extra = proptest::option::of("[\\PC]{0,6}");
    let row = ("[a-c가]{1,2}", time.clone(), any::<i64>(), time, any::<i32>(), proptest::collection::vec(value, 3), extra);
    proptest::collection::vec(row.prop_map(|(d, t, r, s, i, v, e)| Row(d, t, r, s, i, v, e)), 0..60)
}

proptest! {
    #[test]
    fn any_telemetry_round_trips_in_the_documented_order(rows in rows(), group in 1usize..20) {
        let mut batch = batch(&["x", "y", "z"]);
        for Row(device, ts, received_at, seq, idx, values, extra) in &rows {
            let values: Vec<f64> = values.iter().map(|v| v.unwrap_or(f64::NAN)).collect();
            let (ts, received_at, seq, idx, extra) = (*ts, *received_at, *seq, *idx, extra.as_deref());
            batch.push(&TelemetryRow { device, ts, received_at, seq, idx, values: &values, extra }).unwrap();
        }
        let options = WriteOptions { max_row_group_rows: group, ..WriteOptions::default() };
        let table = read_telemetry(batch.encode(&options).unwrap()).unwrap();
        let column = |signal: &(String, Vec<f64>), row: usize| Some(signal.1[row]).filter(|v| !v.is_nan());
        let back = (0..table.len()).map(|r| Row(
            table.device.get(r).unwrap().into(), table.ts[r], table.received_at[r], table.seq[r], table.idx[r],
            table.signals.iter().map(|s| column(s, r)).collect(), table.extra.get(r).map(Into::into),
        ));
        let mut wanted = rows;
        wanted.sort_by(|a, b| (&a.0, a.1, a.3, a.4).cmp(&(&b.0, b.1, b.3, b.4)));
        prop_assert_eq!(back.collect::<Vec<_>>(), wanted);
    }
}
