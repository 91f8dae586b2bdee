//! Makes `seeds/journal`: a segment of a real journal, and records with sums of zero, which the target puts right.
//!
//! `cargo run --release --example journal_seeds`, in this folder.

use std::fs;
use std::path::Path;

use homeward_broker::{Inbox, Incoming, Journal, JournalOptions};

/// Bytes of a segment's header, which the target does without.
const HEADER: usize = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/journal");
    let keep = |name: &str, records: &[Vec<u8>]| fs::write(seeds.join(name), records.concat());
    fs::create_dir_all(&seeds)?;
    keep("real", &[real()?])?;
    keep("messages", &[message(0, b"a"), message(1, b"{}"), number(2, 2), message(2, b""), number(2, 9)])?;
    keep("gap", &[message(0, b"a"), number(3, 7), message(7, b"b"), number(3, 6), message(8, b"c")])?;
    keep("end", &[number(3, u64::MAX - 1), message(u64::MAX - 1, b"last"), message(u64::MAX, b"none")])?;
    // A payload that is a record; a break; then records out of their order.
    let inner = message(1, b"inner");
    keep("nested", &[message(0, &inner), b"damage".to_vec(), message(5, b"x"), message(4, &[0; 70])])?;
    Ok(())
}

/// The records that a journal writes for some messages.
fn real() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let journal = Journal::open(JournalOptions::new(folder.path(), [7; 8]))?;
    for n in 0..3 {
        journal.append(Incoming::new("fleet/d-1/telemetry", format!("{{\"ts\": {n}}}"), 1_764_000_000_000 + n));
    }
    drop(journal);
    let segment = fs::read_dir(folder.path())?.flatten().find(|f| f.path().extension().is_some_and(|e| e == "seg"));
    let bytes = fs::read(segment.ok_or("no segment")?.path())?;
    Ok(bytes.get(HEADER..).unwrap_or_default().to_vec())
}

fn message(position: u64, payload: &[u8]) -> Vec<u8> {
    let topic = b"t/d";
    let [low, high] = (topic.len() as u16).to_le_bytes();
    let times = [0; 16];
    record(&[&[1, 0, low, high], &position.to_le_bytes()[..], &times, topic, payload].concat())
}

/// A mark (2) or a gap (3).
fn number(kind: u8, number: u64) -> Vec<u8> {
    record(&[&[kind], &number.to_le_bytes()[..]].concat())
}

fn record(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], &[0; 8], body].concat()
}
