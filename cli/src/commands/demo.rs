//! `homeward demo`: the whole loop on this machine with nothing installed.
//!
//! An embedded broker, a simulated fleet's past through ingest into a local store, a training, then a live fleet at many times real speed with
//! predict calling drones home. A witness, an MQTT subscriber of its own, sees the calls; the simulator knows what would have failed.

mod verdict;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use homeward_broker::embedded::Broker;
use homeward_data::sim::{Fleet, SimConfig};
use homeward_ingest::Stats as IngestStats;
use homeward_predict::Stats as PredictStats;
use homeward_train::{Metrics, Step, train};
use tokio::task::JoinHandle;

use super::publish::Publisher;
use super::simulate::write_truth;
use crate::args::{DemoArgs, PredictArgs, Speed};
use crate::config::Config;
use crate::edges::{self, Stop};
use crate::live::{HeardCall, LiveFleet, Uplink, listen};
use crate::{Failed, report};
use verdict::{Seen, Verdict};

/// The past: drones and hours, at one reading a second.
const PAST: (usize, f64) = (60, 6.0);
/// The present.
const PRESENT: (usize, f64) = (30, 4.0);
/// Readings a message in the past and in the present. The embedded broker has 100 messages on their way at most, which bounds a rush.
const PAST_UPLINK: usize = 60;
const PRESENT_UPLINK: usize = 5;
/// Simulated seconds a second in the present.
const SPEED: f64 = 300.0;
/// How long a station may take to finish what it was given.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(config: &Config, args: &DemoArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let scratch = tempfile::tempdir()?;
    let dir = args.dir.clone().unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let broker = tokio::task::spawn_blocking(|| Broker::start("127.0.0.1:0")).await??;
    let config = configure(config, &broker.url(), &dir)?;
    let (stopper, stop) = Stop::on_signal();
    let tell = |line: &str| report::say(&format!("{:>5.1} s  {line}", started.elapsed().as_secs_f64()));
    tell(&format!("broker at {}, store at {}", broker.url(), config.store));

    let ingest_stats = Arc::new(IngestStats::default());
    let ingest = spawn_ingest(&config, ingest_stats.clone(), &stop);
    past(&config, args, &ingest_stats, &dir, &stop, &tell).await?;
    if stop.given() {
        return ingest.await?;
    }
    let metrics = learn(&config, args, &tell).await?;
    let predict_stats = Arc::new(PredictStats::default());
    let predict = spawn_predict(&config, predict_stats.clone(), &stop);
    let verdict = present(&config, args, &metrics, &predict_stats, &dir, &stop, &tell).await?;
    stopper.send_replace(true);
    predict.await??;
    ingest.await??;
    report::result(&verdict.table());
    if args.dir.is_some() {
        report::say(&format!("kept in {}: the store, the telemetry's truth", dir.display()));
    }
    match verdict.fault() {
        Some(fault) if args.once => Err(Failed(fault).into()),
        _ => Ok(()),
    }
}

/// The configuration with the demo's own broker and store.
fn configure(config: &Config, broker: &str, dir: &Path) -> anyhow::Result<Config> {
    let store = std::fs::canonicalize(dir)?.join("store");
    let mut written = config.written.clone();
    written.broker.url = broker.into();
    written.broker.client_id = "demo".into();
    written.store.url = format!("file://{}", store.display());
    written.serve.listen.clear();
    written.journal.dir = store.with_file_name("journal");
    written.ingest.max_age = "1s".into();
    written.predict.reload_every = "500ms".into();
    // A fleet worn enough for a demonstration has more than one drone in trouble at once.
    written.decide.max_raised_share = written.decide.max_raised_share.max(0.5);
    Ok(Config::check(written, Default::default())?)
}

fn spawn_ingest(config: &Config, stats: Arc<IngestStats>, stop: &Stop) -> JoinHandle<anyhow::Result<()>> {
    let (config, stop) = (config.clone(), stop.clone());
    tokio::spawn(async move { super::ingest::service(&config, false, stats, &stop).await })
}

fn spawn_predict(config: &Config, stats: Arc<PredictStats>, stop: &Stop) -> JoinHandle<anyhow::Result<()>> {
    let (config, stop) = (config.clone(), stop.clone());
    tokio::spawn(async move { super::predict::service(&config, PredictArgs::default(), stats, &stop).await })
}

fn fleet(args: &DemoArgs, (drones, hours): (usize, f64), later_h: f64, seed: u64) -> anyhow::Result<Fleet> {
    let default = SimConfig::default();
    let start_ms = default.start_ms + (later_h * 3_600_000.0) as i64;
    let sim = SimConfig { seed: args.seed.wrapping_mul(1000) + seed, drones, duration_s: hours * 3600.0, start_ms, ..default };
    Ok(Fleet::new(&sim.check()?))
}

/// Publishes the fleet's past as fast as it goes and waits until all of it is archived.
async fn past(config: &Config, args: &DemoArgs, stats: &IngestStats, dir: &Path, stop: &Stop, tell: &dyn Fn(&str)) -> anyhow::Result<()> {
    let fleet = fleet(args, PAST, 0.0, 1)?;
    tell(&format!("a fleet of {} drones flies {} h: nobody is called, some fail", PAST.0, PAST.1));
    let (outbox, driver) = edges::outbox(config, "past", std::future::pending()).await?;
    let publisher = Publisher::new(outbox.clone(), None);
    let mut live = LiveFleet {
        fleet,
        topics: &config.topics,
        publisher,
        calls: None,
        obey: false,
        clock: Arc::new(AtomicI64::new(0)),
        uplink: Uplink::of(PAST_UPLINK),
    };
    let sent = live.fly(Speed::Max, stop).await?;
    outbox.close();
    driver.await?;
    ready(|| stop.given() || stats.counts().released >= sent, PATIENCE)
        .await
        .with_context(|| format!("ingest archived {} of {sent} messages", stats.counts().released))?;
    write_truth(&live.fleet, &dir.join("past-truth.jsonl"))?;
    let c = stats.counts();
    tell(&format!(
        "archived {} readings and {} events in {} Parquet objects ({:.1} MB); {} duplicates dropped",
        c.readings,
        c.events,
        c.objects,
        c.bytes as f64 / 1e6,
        c.duplicates
    ));
    Ok(())
}

async fn learn(config: &Config, args: &DemoArgs, tell: &dyn Fn(&str)) -> anyhow::Result<Metrics> {
    let settings = homeward_train::Settings { seed: args.seed, ..config.train.clone() };
    let told = |step: Step<'_>| {
        if let Step::Said(what) = step {
            tell(&format!("train: {what}"));
        }
    };
    let outcome = train(&edges::store(config)?, &config.fleet, &settings, edges::now_ms(), &told).await?;
    report::say(&super::train::text(&outcome));
    if !outcome.promoted {
        return Err(Failed(format!("no model came of the training: {}", outcome.why)).into());
    }
    Ok(outcome.metrics)
}

/// A live fleet with predict watching, a witness, and the simulator's truth.
async fn present(
    config: &Config,
    args: &DemoArgs,
    metrics: &Metrics,
    stats: &PredictStats,
    dir: &Path,
    stop: &Stop,
    tell: &dyn Fn(&str),
) -> anyhow::Result<Verdict> {
    let hours = if args.once { PRESENT.1 } else { 24.0 * 365.0 };
    let fleet = fleet(args, (PRESENT.0, hours), PAST.1 + 1.0, 2)?;
    ready(|| stop.given() || stats.counts().models > 0, PATIENCE).await.context("predict did not take the champion into service")?;
    tell(&format!(
        "a fleet of {} drones flies at {SPEED} times real speed; predict listens{}",
        PRESENT.0,
        if args.once { "" } else { "; Ctrl-C ends it" }
    ));
    let clock = Arc::new(AtomicI64::new(fleet.now_ms()));
    let filter = [config.topics.return_to_base.filter()];
    let (witness, witnessing) = edges::inbox(config, "witness", &filter, stop.wait()).await?;
    let seen = watch(listen(witness.clone()), clock.clone());
    let (ears, hearing) = edges::inbox(config, "drones", &filter, stop.wait()).await?;
    let (outbox, driver) = edges::outbox(config, "present", std::future::pending()).await?;
    let publisher = Publisher::new(outbox.clone(), None);
    let mut live = LiveFleet {
        fleet,
        topics: &config.topics,
        publisher,
        calls: Some(listen(ears.clone())),
        obey: true,
        clock,
        uplink: Uplink::of(PRESENT_UPLINK),
    };
    let sent = live.fly(Speed::Times(SPEED), stop).await?;
    outbox.close();
    driver.await?;
    if !stop.given() {
        ready(|| stats.counts().messages >= sent, PATIENCE).await.context("predict did not read all that was published")?;
    }
    witness.finish();
    ears.finish();
    _ = tokio::join!(witnessing, hearing);
    write_truth(&live.fleet, &dir.join("present-truth.jsonl"))?;
    let seen = seen.lock().map_err(|_| anyhow::anyhow!("the witness panicked"))?.clone();
    Ok(Verdict::new(&live.fleet, &seen, config, metrics))
}

/// Notes every raised call with the simulated time at which it was seen, and says it.
fn watch(mut calls: tokio::sync::mpsc::UnboundedReceiver<HeardCall>, clock: Arc<AtomicI64>) -> Arc<Mutex<Vec<Seen>>> {
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let noting = seen.clone();
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let Ok(mut noted) = noting.lock() else { return };
            if call.state == "raised" && !noted.iter().any(|s| s.alert_id == call.alert_id) {
                let at = clock.load(Ordering::Relaxed);
                report::say(&format!(
                    "         {}  {} is called home ({})",
                    clock_text(at),
                    call.device,
                    call.component.as_deref().unwrap_or("component unknown")
                ));
                noted.push(Seen { device: call.device, alert_id: call.alert_id, component: call.component, at });
            }
        }
    });
    seen
}

/// `2026-01-01 06:12:00` of simulated time.
fn clock_text(ms: i64) -> String {
    homeward_models::time::rfc3339(ms).get(..19).unwrap_or_default().replace('T', " ")
}

/// Waits until `done`, at most `patience`.
async fn ready(done: impl Fn() -> bool, patience: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + patience;
    while !done() {
        anyhow::ensure!(Instant::now() < until, "waited {} s in vain", patience.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
