//! The committed sample is what the simulator makes, to the byte, on every machine.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use homeward_data::Kind;
use homeward_data::readers::{Format, JsonMapping, Options, open};

#[path = "../examples/make_sample.rs"]
#[allow(dead_code)]
mod make_sample;

#[test]
fn the_sample_is_reproduced_to_the_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample");
    let file = folder.join("telemetry.jsonl.gz");
    assert!(fs::metadata(&file).unwrap().len() <= 1_000_000);
    let mut committed = Vec::new();
    GzDecoder::new(fs::File::open(&file).unwrap()).read_to_end(&mut committed).unwrap();
    let (messages, truth) = make_sample::sample().unwrap();
    // Not assert_eq!: it would print megabytes.
    assert!(committed == messages, "telemetry.jsonl.gz differs: run the example make_sample if that is meant");
    assert!(fs::read(folder.join("truth.jsonl")).unwrap() == truth, "truth.jsonl differs");
}

#[test]
fn the_sample_is_read_back_as_it_was_written() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample/telemetry.jsonl.gz");
    let mut reader = open(&file, &Format::Jsonl(JsonMapping::Topic), &Options::default()).unwrap();
    let (mut lines, mut failures) = (Vec::new(), 0);
    for record in reader.by_ref() {
        let record = record.unwrap();
        failures += u32::from(record.kind == Kind::Event && record.payload.windows(9).any(|w| w == b"\"failure\""));
        record.append_line(&mut lines);
    }
    assert!(lines == make_sample::sample().unwrap().0);
    assert!(failures >= 3, "{failures} failures");
    assert_eq!(reader.bytes_read(), reader.file_len());
}
