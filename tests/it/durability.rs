//! Ingest is killed, told to stop, and loses its broker in mid-stream: what was published is in the archive all the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use homeward_broker::{Outbox, Outgoing};
use homeward_store::keys::Table;

use crate::harness::archive::Archive;
use crate::harness::mqtt::Clients;
use crate::harness::{PATIENCE, Service, Site, beside_others, mosquitto, wait_until};

const CONFIG: &str = r#"
[fleet]
name = "t"
[fleet.signals]
n = { at = "/n" }
[ingest]
max_age = "50ms"
max_rows = 100
"#;
const BASE: i64 = 1_764_000_000_000;
/// Readings handed over at once, and the pause after them: about 4,000 a second.
const CHUNK: i64 = 40;
const PAUSE: Duration = Duration::from_millis(10);

/// Publishes readings numbered from 0 until told to stop; all of them are confirmed when it ends.
struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicI64>,
    publishing: JoinHandle<()>,
}

impl Stream {
    fn start(url: &str) -> Self {
        let (stop, sent, url) = (Arc::<AtomicBool>::default(), Arc::<AtomicI64>::default(), url.to_owned());
        let publishing = std::thread::spawn({
            let (stop, sent) = (stop.clone(), sent.clone());
            move || publish(&url, &stop, &sent)
        });
        Self { stop, sent, publishing }
    }

    /// Ends it; how many readings were published and confirmed.
    fn end(self) -> i64 {
        self.stop.store(true, Ordering::SeqCst);
        self.publishing.join().unwrap();
        self.sent.load(Ordering::SeqCst)
    }

    fn sent(&self) -> i64 {
        self.sent.load(Ordering::SeqCst)
    }
}

fn publish(url: &str, stop: &AtomicBool, sent: &AtomicI64) {
    let mut clients = Clients::of(url);
    let outbox = clients.publisher();
    clients.run(async {
        let mut receipts = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            let first = sent.load(Ordering::SeqCst);
            receipts.push(outbox.submit((first..first + CHUNK).map(message).collect()).await);
            sent.store(first + CHUNK, Ordering::SeqCst);
            tokio::time::sleep(PAUSE).await;
        }
        for receipt in receipts {
            receipt.await.unwrap();
        }
    });
}

fn message(n: i64) -> Outgoing {
    Outgoing::new(format!("fleet/d-{}/telemetry", n % 5), format!(r#"{{"ts": {}, "n": {n}}}"#, BASE + n))
}

/// The pauses before each blow, in milliseconds: drawn once from a fixed seed.
fn pauses(seed: u64, count: usize) -> Vec<u64> {
    let mut state = seed;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        100 + (state >> 33) % 350
    };
    (0..count).map(|_| draw()).collect()
}

fn ingest(site: &Site) -> Service {
    let mut service = site.start(&["ingest", "--json"]);
    service.says("ingest runs");
    service
}

/// Waits for new readings in the archive, so that the next blow falls in mid-stream.
fn wait_for_more(archive: &mut Archive) {
    let before = archive.count(Table::Telemetry);
    wait_until("readings in the archive", || archive.count(Table::Telemetry) > before);
}

/// Waits until every number below `total` is in the archive; how many rows there are in all.
fn assert_all_archived(archive: &mut Archive, total: i64) -> usize {
    let mut rows = Vec::new();
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        if archive.count(Table::Telemetry) as i64 >= total {
            rows = archive.readings("n");
        }
        let distinct: BTreeSet<(String, i64)> = rows.iter().map(|r| (r.0.clone(), r.1)).collect();
        if distinct.len() as i64 == total {
            break;
        }
        assert!(std::time::Instant::now() < until, "{} of {total} readings are in the archive", distinct.len());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(rows.iter().all(|(device, ts, n)| *n == (*ts - BASE) as f64 && *device == format!("d-{}", (ts - BASE) % 5)));
    assert_eq!(archive.count(Table::Quarantine), 0);
    rows.len()
}

#[test]
fn nothing_is_lost_and_nothing_archived_twice_over_kill_9_and_a_broker_restart() {
    let Some((rows, total)) = killed_again_and_again("journal") else { return };
    assert_eq!(rows, total, "one ingester with a journal archives each reading once");
}

#[test]
fn in_strict_mode_nothing_is_lost_over_kill_9_and_a_broker_restart() {
    let Some((rows, total)) = killed_again_and_again("object") else { return };
    // Without a journal, what was stored and not yet acknowledged comes again after a kill; readers and compaction drop it.
    assert!((total..2 * total).contains(&rows), "{rows} rows for {total} readings");
}

/// Rows in the archive, and readings published.
fn killed_again_and_again(ack: &str) -> Option<(usize, usize)> {
    let mut broker = mosquitto(&format!("durability: kill -9, ack = {ack}"))?;
    let _turn = beside_others();
    let site = Site::new(CONFIG).with("HOMEWARD_BROKER_URL", &broker.url()).with("HOMEWARD_INGEST_ACK", ack);
    let mut archive = Archive::of(&site);
    let mut running = ingest(&site);
    let stream = Stream::start(&broker.url());
    for (round, pause) in pauses(7, 8).into_iter().enumerate() {
        wait_for_more(&mut archive);
        std::thread::sleep(Duration::from_millis(pause));
        if round == 3 {
            broker.restart().unwrap();
            continue;
        }
        running.kill();
        assert!((archive.count(Table::Telemetry) as i64) < stream.sent(), "killed at rest: the blow proves nothing");
        running = ingest(&site);
    }
    let total = stream.end();
    let rows = assert_all_archived(&mut archive, total);
    let done = running.terminate();
    assert_eq!(done.code, Some(0), "{done:?}");
    Some((rows, total as usize))
}

#[test]
fn sigterm_stores_and_releases_what_is_held_so_that_nothing_comes_again() {
    let Some(broker) = mosquitto("durability: SIGTERM") else { return };
    let _turn = beside_others();
    // A batch is never full and never old: only the word to stop stores it.
    let site = Site::new(CONFIG).with("HOMEWARD_BROKER_URL", &broker.url()).with("HOMEWARD_INGEST_MAX_AGE", "10m");
    let site = site.with("HOMEWARD_INGEST_MAX_ROWS", "30000");
    let mut archive = Archive::of(&site);
    let mut running = ingest(&site);
    let stream = Stream::start(&broker.url());
    for pause in pauses(11, 4) {
        std::thread::sleep(Duration::from_millis(pause + 100));
        let before = archive.count(Table::Telemetry);
        let done = running.terminate();
        assert_eq!(done.code, Some(0), "{done:?}");
        let counts: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        let stored = (archive.count(Table::Telemetry) - before) as u64;
        assert!(stored > 0, "told to stop at rest: {counts}");
        assert_eq!((&counts["released"], &counts["messages"]), (&stored.into(), &stored.into()), "{counts}");
        running = ingest(&site);
    }
    let total = stream.end();
    assert!(running.terminate().code == Some(0));
    // The last one stopped while messages may still have been on their way to it.
    let site = site.with("HOMEWARD_INGEST_MAX_AGE", "50ms");
    let last = ingest(&site);
    let rows = assert_all_archived(&mut archive, total);
    assert_eq!(rows as i64, total, "a restart after SIGTERM archived readings twice");
    assert_eq!(last.terminate().code, Some(0));

    let idle = ingest(&site);
    std::thread::sleep(Duration::from_millis(300));
    let done = idle.terminate();
    let counts: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(counts["messages"], 0, "all was released, and yet it came again: {counts}");
}
