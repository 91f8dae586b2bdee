//! Readers that are not ours: pyarrow and DuckDB read the archive's folders as they stand.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::process::Command;
use std::sync::Arc;

use homeward_store::Store;
use homeward_store::archive::{EventBatch, EventRow, QuarantineBatch, QuarantineRow, TelemetryBatch, TelemetryRow, WriteOptions};
use homeward_store::keys::{ArchiveKey, Key, Partition, Table, WriterId};

const TS: i64 = 1_795_353_300_000; // 2026-11-22T13:15:00Z
const DAY: i64 = 86_400_000;

/// Two days of telemetry, the second hourly, of which the later has a signal more; an event; a bad message.
async fn write_archive(store: &Store) {
    for (day, signals) in [(0, vec!["v", "motor.temp"]), (1, vec!["v", "motor.temp", "rpm"])] {
        let signals: Arc<[String]> = signals.into_iter().map(str::to_owned).collect();
        let mut batch = TelemetryBatch::new(signals.clone()).unwrap();
        for row in 0..1000i32 {
            let values: Vec<f64> =
                [12.5, if row % 10 == 0 { f64::NAN } else { f64::from(row).sqrt() }, 6000.0].into_iter().take(signals.len()).collect();
            let device = if row % 2 == 0 { "d-2" } else { "d-1" };
            let ts = TS + day * DAY + i64::from(row);
            let extra = (row == 7).then_some("{\"note\":\"ü\"}");
            batch.push(&TelemetryRow { device, ts, received_at: ts + 5, seq: i64::from(row), idx: 0, values: &values, extra }).unwrap();
        }
        let options = WriteOptions { max_row_group_rows: 300, ..WriteOptions::default() };
        put(store, Table::Telemetry, TS + day * DAY, batch.encode(&options).unwrap()).await;
    }
    let mut events = EventBatch::default();
    events.push(&EventRow { device: "d-1", ts: TS, event: "failure", component: Some("motor_2"), ..EventRow::default() });
    put(store, Table::Events, TS, events.encode(&WriteOptions::default()).unwrap()).await;
    let mut bad = QuarantineBatch::default();
    bad.push(&QuarantineRow {
        received_at: TS,
        topic: "fleet/d-1/telemetry",
        payload: b"\xff{",
        reason: "not_json",
        ..QuarantineRow::default()
    });
    put(store, Table::Quarantine, TS, bad.encode(&WriteOptions::default()).unwrap()).await;
}

async fn put(store: &Store, table: Table, ts: i64, bytes: bytes::Bytes) {
    let partition = Partition::day(table, ts).unwrap();
    let key = ArchiveKey::new(partition, WriterId::from_bytes([3; 8]), 0, 999).unwrap();
    store.put_new(&Key::from(key), bytes).await.unwrap();
}

/// Runs `script` in Python with the archive's folder as its argument, or skips loudly without `module`.
async fn check(module: &str, script: &str) {
    let import = ["import ", module].concat();
    let found = Command::new("python3").args(["-c", &import]).output().is_ok_and(|o| o.status.success());
    if !found {
        assert!(std::env::var_os("HOMEWARD_TEST_ALL").is_none(), "HOMEWARD_TEST_ALL is set, and python3 cannot import {module}");
        return eprintln!("SKIPPED: reading the archive with {module}: python3 cannot import it here");
    }
    let dir = tempfile::tempdir().unwrap();
    let url = url::Url::from_directory_path(dir.path()).unwrap();
    write_archive(&Store::open(url.as_str(), std::iter::empty()).unwrap()).await;
    let output = Command::new("python3").args(["-c", script]).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn pyarrow_reads_types_rows_and_partitions() {
    check(
        "pyarrow.dataset",
        r#"
import sys, pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq, glob, datetime
root = sys.argv[1]
ms = pa.timestamp('ms', tz='UTC')
files = sorted(glob.glob(root + '/telemetry/*/*.parquet'))
schema = pq.read_schema(files[1])
want = [('device', pa.string()), ('ts', ms), ('received_at', ms), ('seq', pa.int64()), ('idx', pa.int32()),
        ('v', pa.float64()), ('motor.temp', pa.float64()), ('rpm', pa.float64()), ('extra', pa.string())]
assert [(f.name, f.type) for f in schema] == want, schema
assert [f.nullable for f in schema] == [False] * 5 + [True] * 4, schema
assert pq.ParquetFile(files[0]).metadata.num_row_groups == 4
assert pq.ParquetFile(files[0]).metadata.metadata[b'homeward.format'] == b'1'
data = ds.dataset(root + '/telemetry', partitioning='hive', schema=schema.append(pa.field('date', pa.string())))
table = data.to_table()
assert table.num_rows == 2000, table.num_rows
assert sorted(set(table['date'].to_pylist())) == ['2026-11-22', '2026-11-23']
assert data.to_table(filter=ds.field('date') == '2026-11-22')['rpm'].null_count == 1000
assert table['motor.temp'].null_count == 200
one = pq.read_table(files[0]).to_pylist()
assert one == sorted(one, key=lambda r: (r['device'], r['ts']))
assert one[0]['ts'] == datetime.datetime(2026, 11, 22, 13, 15, 0, 1000, tzinfo=datetime.timezone.utc), one[0]
assert [r['extra'] for r in one if r['extra']] == ['{"note":"ü"}']
bad = pq.read_table(glob.glob(root + '/quarantine/*/*.parquet')[0])
assert bad.schema.field('payload').type == pa.binary() and bad['payload'].to_pylist() == [b'\xff{']
event = ds.dataset(root + '/events', partitioning='hive').to_table().to_pylist()[0]
assert (event['event'], event['component'], event['finding'], event['date']) == ('failure', 'motor_2', None, '2026-11-22'), event
"#,
    )
    .await;
}

#[tokio::test]
async fn duckdb_reads_types_rows_and_partitions() {
    check("duckdb", r#"
import sys, duckdb
root = sys.argv[1]
db = duckdb.connect()
source = f"read_parquet('{root}/telemetry/**/*.parquet', hive_partitioning=true, union_by_name=true)"
types = {row[0]: row[1] for row in db.execute(f"describe select * from {source}").fetchall()}
assert types['ts'] == 'TIMESTAMP WITH TIME ZONE' and types['v'] == 'DOUBLE' and types['device'] == 'VARCHAR', types
assert types['date'] == 'DATE' and types['seq'] == 'BIGINT' and types['idx'] == 'INTEGER', types
rows = db.execute(f'select date::varchar, count(*), count("motor.temp"), count(rpm), min(epoch_ms(ts)) from {source} group by 1 order by 1').fetchall()
assert rows == [('2026-11-22', 1000, 900, 0, 1795353300000), ('2026-11-23', 1000, 900, 1000, 1795439700000)], rows
bad = db.execute(f"select typeof(payload), reason from read_parquet('{root}/quarantine/**/*.parquet')").fetchall()
assert bad == [('BLOB', 'not_json')], bad
"#).await;
}

#[tokio::test]
async fn polars_reads_types_and_rows() {
    check(
        "polars",
        r#"
import sys, glob, polars as pl
files = sorted(glob.glob(sys.argv[1] + '/telemetry/*/*.parquet'))
frame = pl.read_parquet(files[1])
assert frame.schema['ts'] == pl.Datetime('ms', 'UTC') and frame.schema['rpm'] == pl.Float64, frame.schema
assert frame.height == 1000 and frame['motor.temp'].null_count() == 100
assert frame['seq'].sort().to_list() == list(range(1000))
"#,
    )
    .await;
}
