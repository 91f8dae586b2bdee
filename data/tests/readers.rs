//! The readers on small files: what they make of good rows, and what they say of bad ones.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use homeward_data::readers::{
    CsvMapping, DeviceFrom, EventColumn, Format, JsonMapping, Options, ReadError, Reader, TimeUnit, TsFrom, open,
};
use tempfile::TempDir;

/// A folder with one file in it.
struct File {
    _dir: TempDir,
    path: PathBuf,
}

fn file(name: &str, content: &[u8]) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    File { _dir: dir, path }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(content).unwrap();
    gz.finish().unwrap()
}

fn reader(file: &File, format: &Format) -> Reader {
    open(&file.path, format, &Options::default()).unwrap()
}

/// `device kind ts payload` a line.
fn read(name: &str, content: &[u8], format: &Format) -> String {
    let file = file(name, content);
    let lines: Vec<String> = reader(&file, format)
        .map(|record| {
            let r = record.unwrap();
            format!("{} {} {} {}", r.device, r.kind.topic_level(), r.ts, String::from_utf8(r.payload).unwrap())
        })
        .collect();
    lines.join("\n")
}

/// The message of the error in opening or of the first bad line, without the file's folder.
fn complaint(name: &str, content: &[u8], format: &Format) -> String {
    let file = file(name, content);
    let error = match open(&file.path, format, &Options::default()) {
        Err(error) => error,
        Ok(reader) => reader.filter_map(Result::err).next().unwrap(),
    };
    error.to_string().replace(file.path.parent().unwrap().to_str().unwrap(), "")
}

fn by_ts() -> CsvMapping {
    CsvMapping {
        device: DeviceFrom::Field("id".into()),
        ts: TsFrom::Field("time".into(), TimeUnit::Seconds),
        events: vec![EventColumn { column: "broken".into(), value: "1".into(), event: "failure".into(), component: Some("pump".into()) }],
        skip: vec!["note".into()],
    }
}

fn engine_row(unit: u32, cycle: u32) -> String {
    let sensors: Vec<String> = (1..=21).map(|n| format!("{n}.50")).collect();
    format!("{unit} {cycle} -0.0007 0.0003 100.0 {}  \n", sensors.join(" "))
}

const SENSORS: &str =
    "1.50,2.50,3.50,4.50,5.50,6.50,7.50,8.50,9.50,10.50,11.50,12.50,13.50,14.50,15.50,16.50,17.50,18.50,19.50,20.50,21.50";

#[test]
fn cmapss_engines_fail_at_their_last_cycle_in_training_files_only() {
    let text = engine_row(1, 1) + &engine_row(1, 2) + &engine_row(2, 1);
    let row = |device: &str, ts: i64| {
        format!(
            r#"{device} telemetry {ts} {{"ts":{ts},"cycle":{},"setting":[-0.0007,0.0003,100.0],"sensor":[{SENSORS}]}}"#,
            (ts - 1_577_836_800_000) / 3_600_000
        )
    };
    let failure = |device: &str, ts: i64| format!(r#"{device} events {ts} {{"ts":{ts},"event":"failure","component":"engine"}}"#);
    let (first, second) = (1_577_840_400_000, 1_577_844_000_000);
    let (one, two) = ("fd001-train-001", "fd001-train-002");
    let train = [row(one, first), row(one, second), failure(one, second), row(two, first), failure(two, first)].join("\n");
    assert_eq!(read("train_FD001.txt", text.as_bytes(), &Format::Cmapss), train);
    assert_eq!(read("train_FD001.txt.gz", &gzip(text.as_bytes()), &Format::Cmapss), train);
    let (one, two) = ("fd002-test-001", "fd002-test-002");
    let test = [row(one, first), row(one, second), row(two, first)].join("\n");
    assert_eq!(read("test_FD002.txt", text.as_bytes(), &Format::Cmapss), test);
}

#[test]
fn alfa_tells_the_fault_once_and_not_the_flag() {
    let text = "%time,field.x,delta yaw,field.data\n2018-07-18 20:00:31.350,,1.5,0.0\n1531944031400000000,0.25,,1.0\n2018-07-18 20:00:31.400,1,2,1.0\n";
    assert_eq!(
        read("carbonZ_2018-07-18-15-53-31_2_engine_failure.csv", text.as_bytes(), &Format::Alfa),
        r#"2018-07-18-15-53-31_2 telemetry 1531944031350 {"ts":1531944031350,"delta_yaw":1.5}
2018-07-18-15-53-31_2 telemetry 1531944031400 {"ts":1531944031400,"field.x":0.25}
2018-07-18-15-53-31_2 events 1531944031400 {"ts":1531944031400,"event":"fault","component":"engine"}
2018-07-18-15-53-31_2 telemetry 1531944031400 {"ts":1531944031400,"field.x":1,"delta_yaw":2}"#
    );
}

#[test]
fn backblaze_disks_are_introduced_once_and_fail_after_their_last_reading() {
    let text = "date,serial_number,model,capacity_bytes,failure,smart_1_raw,smart_5_raw\n\
                2013-04-10,W1,ST \"3\",3000592982016,0,7,\n2013-04-11,W1,ST,3000592982016,1,8,1\n";
    assert_eq!(
        read("disks.csv", text.as_bytes(), &Format::Backblaze),
        r#"W1 events 1365552000000 {"ts":1365552000000,"event":"attributes","model":"ST \"3\"","capacity_bytes":3000592982016}
W1 telemetry 1365552000000 {"ts":1365552000000,"smart_1_raw":7}
W1 telemetry 1365638400000 {"ts":1365638400000,"smart_1_raw":8,"smart_5_raw":1}
W1 events 1365638400000 {"ts":1365638400000,"event":"failure","component":"disk"}"#
    );
}

#[test]
fn csv_follows_its_mapping_and_skips_a_byte_order_mark() {
    let text = "\u{feff}id,time,note,broken,bar,state\r\np-1,1.5,hm,0,0.10,on\r\np-1,2,,1.0,,\"a,b\"\r\n";
    let expected = r#"p-1 telemetry 1500 {"ts":1500,"bar":0.10,"state":"on"}
p-1 telemetry 2000 {"ts":2000,"state":"a,b"}
p-1 events 2000 {"ts":2000,"event":"failure","component":"pump"}"#;
    assert_eq!(read("pumps.csv", text.as_bytes(), &Format::Csv(by_ts())), expected);
    assert_eq!(read("pumps.csv", &gzip(text.as_bytes()), &Format::Csv(by_ts())), expected);
}

#[test]
fn csv_without_device_and_time_gets_both_from_the_mapping() {
    let mapping = CsvMapping {
        device: DeviceFrom::Fixed("mill".into()),
        ts: TsFrom::Steps { start_ms: 1000, step_ms: 60_000 },
        events: vec![],
        skip: vec![],
    };
    let text = b"Air temperature [K]\n298.1\n298.2\n";
    assert_eq!(
        read("mill.csv", text, &Format::Csv(mapping)),
        "mill telemetry 1000 {\"ts\":1000,\"Air temperature [K]\":298.1}\nmill telemetry 61000 {\"ts\":61000,\"Air temperature [K]\":298.2}"
    );
}

#[test]
fn json_lines_by_topic_go_through_as_written() {
    let text = br#"{"topic":"fleet/d-1/telemetry","payload":{"b": 1.10, "ts":5}}

{"topic":"site/a/fleet/d-2/events","payload":{"ts":"1970-01-01T00:00:07Z","event":"failure"}}
{"topic":"fleet/d-1/telemetry","payload":[{"ts":8},{"ts":9}]}
"#;
    assert_eq!(
        read("x.jsonl", text, &Format::Jsonl(JsonMapping::Topic)),
        r#"d-1 telemetry 5 {"b": 1.10, "ts":5}
d-2 events 7000 {"ts":"1970-01-01T00:00:07Z","event":"failure"}
d-1 telemetry 8 [{"ts":8},{"ts":9}]"#
    );
}

#[test]
fn json_lines_by_pointers_keep_their_numbers() {
    let mapping = JsonMapping::Fields {
        device: DeviceFrom::Field("/tag/id".into()),
        ts: TsFrom::Field("/at".into(), TimeUnit::Text),
        event: Some("/event".into()),
    };
    let text = br#"{"at":"1970-01-01 00:00:01","tag":{"id":17},"p":1.100}
{"at":"1970-01-01 00:00:02","tag":{"id":"x"},"event":"failure"}"#;
    assert_eq!(
        read("x.jsonl", text, &Format::Jsonl(mapping)),
        r#"17 telemetry 1000 {"ts":1000,"at":"1970-01-01 00:00:01","p":1.100,"tag":{"id":17}}
x events 2000 {"ts":2000,"at":"1970-01-01 00:00:02","event":"failure","tag":{"id":"x"}}"#
    );
}

#[test]
fn events_can_be_left_out() {
    let file = file("train_FD001.txt", engine_row(1, 1).as_bytes());
    let records = |events| open(&file.path, &Format::Cmapss, &Options { events }).unwrap().count();
    assert_eq!((records(true), records(false)), (2, 1));
}

#[test]
fn complaints_name_file_line_finding_and_remedy() {
    let topic = Format::Jsonl(JsonMapping::Topic);
    let csv = Format::Csv(by_ts());
    let checks: Vec<(&str, &str, &Format, &str)> = vec![
        ("t.txt", "1 1 2\n", &Format::Cmapss, "/t.txt:1: 3 columns; expected 26: unit, cycle, 3 settings, 21 sensors"),
        ("a.csv", "time,x\n1,2\n", &Format::Alfa, "/a.csv: no column `%time` among `time,x`; expected a header with `%time`"),
        ("a.csv", "%time,x\nsoon,2\n", &Format::Alfa, "/a.csv:2: `soon` in column `%time`; expected a time such as"),
        ("b.csv", "date,serial_number,failure\n", &Format::Backblaze, "/b.csv: no column `smart_…`; expected a header with SMART"),
        (
            "b.csv",
            "date,serial_number,failure,smart_1_raw\n2013-04-10,W,2,1\n",
            &Format::Backblaze,
            "/b.csv:2: `2` in column `failure`; expected 0 or 1",
        ),
        ("c.csv", "id,time,note,broken\na b,1,,0\n", &csv, "/c.csv:2: `a b` in column `id`; expected a device: 1–128"),
        ("c.csv", "id,time,note,broken\na,1,,0\na,1\n", &csv, "/c.csv:3: 2 columns; expected 4, as in the header"),
        ("c.csv", "id,time,broken\n", &csv, "/c.csv: no column `note` among `id,time,broken`; expected"),
        ("c.csv", "", &csv, "/c.csv: the file is empty; expected a line with the columns' names"),
        ("j.jsonl", "{\"topic\":\"fleet/d/telemetry\",\"payload\":{\"ts\":1}}\n{\n", &topic, "/j.jsonl:2: `{` (EOF"),
        (
            "j.jsonl",
            "{\"topic\":\"fleet/d/other\",\"payload\":{}}",
            &topic,
            "/j.jsonl:1: the topic `fleet/d/other`; expected one that ends in",
        ),
        ("j.jsonl", "{\"topic\":\"fleet/d/events\",\"payload\":{}}", &topic, "/j.jsonl:1: the payload `{}`; expected `ts` in it"),
    ];
    for (name, content, format, expected) in checks {
        let found = complaint(name, content.as_bytes(), format);
        assert!(found.starts_with(expected), "found    {found}\nexpected {expected}");
    }
}

#[test]
fn a_bad_line_does_not_hide_the_good_ones() {
    let file = file("c.csv", b"id,time,note,broken,v\na,1,,0,1\na,x,,0,2\na,3,,0,3\n");
    let results: Vec<bool> = reader(&file, &Format::Csv(by_ts())).map(|record| record.is_ok()).collect();
    assert_eq!(results, [true, false, true]);
}

#[test]
fn a_cut_gzip_ends_with_an_error_and_no_failure() {
    let whole = gzip((engine_row(1, 1).repeat(400) + &engine_row(2, 1)).as_bytes());
    let file = file("train_FD001.txt.gz", &whole[..whole.len() - 12]);
    let mut reader = reader(&file, &Format::Cmapss);
    let error = reader.by_ref().find_map(Result::err).unwrap();
    assert!(matches!(error, ReadError::Broken { .. }), "{error}");
    assert!(reader.next().is_none());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = open("no/such/file.csv", &Format::Alfa, &Options::default()).unwrap_err();
    assert!(matches!(error, ReadError::Open { .. }) && error.to_string().starts_with("no/such/file.csv: cannot be opened"));
}

#[test]
fn the_position_reaches_the_files_length() {
    let file = file("test_FD001.txt.gz", &gzip(engine_row(1, 1).repeat(5000).as_bytes()));
    let mut reader = reader(&file, &Format::Cmapss);
    assert_eq!(reader.by_ref().count(), 5000);
    assert_eq!(reader.bytes_read(), reader.file_len());
}
