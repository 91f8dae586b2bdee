//! `homeward simulate`: a drone fleet on the broker, or as JSON lines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use anyhow::Context;
use homeward_data::Record;
use homeward_data::sim::{Fleet, Mess, SimConfig};
use homeward_models::ConfigError;
use homeward_models::time::parse_rfc3339;

use super::publish::{GRACE, Publisher};
use crate::args::{SimulateArgs, Speed};
use crate::config::Config;
use crate::edges::{self, Stop, now_ms};
use crate::live::{LiveFleet, Uplink, listen};
use crate::report;

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 18;

pub(crate) async fn run(config: &Config, args: &SimulateArgs) -> anyhow::Result<()> {
    let fleet = fleet(args)?;
    match &args.out {
        Some(out) => write(fleet, args, out),
        None => fly(config, fleet, args).await,
    }
}

fn fleet(args: &SimulateArgs) -> anyhow::Result<Fleet> {
    let default = SimConfig::default();
    let live_now = args.out.is_none() && args.speed == Speed::Times(1.0);
    let start_ms = match &args.start {
        Some(text) => {
            parse_rfc3339(text).ok_or_else(|| ConfigError::new("--start", format!("{text:?}"), "RFC 3339, such as 2026-01-01T00:00:00Z"))?
        }
        None if live_now => now_ms(),
        None => default.start_ms,
    };
    let sim = SimConfig {
        seed: args.seed,
        drones: args.drones,
        start_ms,
        duration_s: args.hours * 3600.0,
        rate_hz: args.rate,
        mean_life_h: args.mean_life,
        rest: args.rest,
        sudden_share: args.sudden_share,
        obey: !args.ignore_calls,
        mess: if args.tidy { Mess::none() } else { default.mess },
    };
    let checked = sim.check().map_err(|e| ConfigError::new(format!("--{}", argument(e.key)), e.found, e.want))?;
    Ok(Fleet::new(&checked))
}

/// The argument that sets a key of the simulation.
fn argument(key: &str) -> &str {
    match key {
        "duration_s" => "hours",
        "rate_hz" => "rate",
        "mean_life_h" => "mean-life",
        "sudden_share" => "sudden-share",
        "start_ms" => "start",
        other => other,
    }
}

fn write(mut fleet: Fleet, args: &SimulateArgs, out: &Path) -> anyhow::Result<()> {
    let mut sink: Box<dyn Write> = if out == Path::new("-") {
        Box::new(std::io::stdout().lock())
    } else {
        Box::new(File::create(out).with_context(|| out.display().to_string())?)
    };
    let (mut record, mut buffer, mut messages) = (Record::default(), Vec::with_capacity(2 * BUFFER), 0u64);
    while fleet.next(&mut record) {
        record.append_line(&mut buffer);
        messages += 1;
        if buffer.len() >= BUFFER {
            sink.write_all(&buffer)?;
            buffer.clear();
        }
    }
    sink.write_all(&buffer)?;
    sink.flush()?;
    truth(&fleet, args)?;
    report::say(&format!("wrote {messages} messages of {:.1} flying hours", fleet.flown_h()));
    Ok(())
}

fn truth(fleet: &Fleet, args: &SimulateArgs) -> anyhow::Result<()> {
    let Some(path) = &args.truth else { return Ok(()) };
    write_truth(fleet, path)
}

/// Writes what was wrong with the drones, since when, as JSON lines.
pub(crate) fn write_truth(fleet: &Fleet, path: &Path) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    fleet.truth().iter().for_each(|t| t.append_line(&mut lines));
    let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
    file.write_all(&lines)?;
    Ok(file.flush()?)
}

async fn fly(config: &Config, fleet: Fleet, args: &SimulateArgs) -> anyhow::Result<()> {
    let (sender, stop) = Stop::on_signal();
    let calls = [config.topics.return_to_base.filter()];
    let (inbox, listening) = edges::inbox(config, "simulate-calls", &calls, stop.wait()).await?;
    let (outbox, driver) = edges::outbox(config, "simulate", stop.wait_and(GRACE)).await?;
    let publisher = Publisher::new(outbox.clone(), None);
    let mut live = LiveFleet {
        fleet,
        topics: &config.topics,
        publisher,
        calls: Some(listen(inbox.clone())),
        obey: !args.ignore_calls,
        clock: Arc::new(AtomicI64::new(0)),
        uplink: Uplink::of(1),
    };
    let sent = live.fly(args.speed, &stop).await?;
    outbox.close();
    driver.await?;
    sender.send_replace(true);
    inbox.finish();
    listening.await?;
    truth(&live.fleet, args)?;
    report::say(&format!("published {sent} messages of {:.1} flying hours, all confirmed", live.fleet.flown_h()));
    Ok(())
}
