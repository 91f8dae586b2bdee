//! Makes the committed sample: `cargo run --release -p homeward-data --example make_sample` writes
//! `data/sample/telemetry.jsonl.gz` and `data/sample/truth.jsonl`.
#![allow(missing_docs)]

use std::error::Error;
use std::fs;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use homeward_data::Record;
use homeward_data::sim::{ConfigError, Fleet, Mess, SimConfig};
use std::io::Write;

/// The sample's fleet: small, worn, at half a reading a second, so that a megabyte holds several failures.
fn config() -> SimConfig {
    SimConfig {
        seed: 20_260_155,
        drones: 6,
        duration_s: 2.5 * 3600.0,
        rate_hz: 0.5,
        mean_life_h: 0.5,
        sudden_share: 0.15,
        mess: Mess { missing: 1e-3, frozen: 2e-4, clock_jump: 1e-4, ..Mess::default() },
        ..SimConfig::default()
    }
}

/// The sample's two files: telemetry and events, and the truth.
pub(crate) fn sample() -> Result<(Vec<u8>, Vec<u8>), ConfigError> {
    let mut fleet = Fleet::new(&config().check()?);
    let (mut record, mut messages, mut truth) = (Record::default(), Vec::new(), Vec::new());
    while fleet.next(&mut record) {
        record.append_line(&mut messages);
    }
    for fault in fleet.truth() {
        fault.append_line(&mut truth);
    }
    Ok((messages, truth))
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample");
    let (messages, truth) = sample()?;
    fs::create_dir_all(&folder)?;
    let mut gz = GzEncoder::new(fs::File::create(folder.join("telemetry.jsonl.gz"))?, Compression::best());
    gz.write_all(&messages)?;
    gz.finish()?;
    fs::write(folder.join("truth.jsonl"), truth)?;
    Ok(())
}
