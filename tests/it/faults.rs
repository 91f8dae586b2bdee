//! The fault harness: a publisher at full speed, and everything between it and the archive is struck at random. Afterwards every number that the
//! publisher saw a PUBACK for is in the archive exactly once, read raw, or in quarantine.
//!
//! `HOMEWARD_TEST_SEED` replays the faults of a run, which prints its seed; `HOMEWARD_TEST_MESSAGES` makes it longer (1,000,000, say);
//! `HOMEWARD_TEST_RAW` names a folder that keeps the archive for a look.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use homeward_broker::testing::Mosquitto;
use homeward_broker::{Outbox, Outgoing};
use homeward_store::Store;
use homeward_store::keys::{Prefix, Table};
use homeward_store::testing::{FaultProxy, S3Server, StoreFault};

use crate::harness::mqtt::Clients;
use crate::harness::proxy::Proxy;
use crate::harness::{Service, Site, SmallDisk, alone, duckdb, mosquitto, s3};

const CONFIG: &str = r#"
[fleet]
name = "t"
[fleet.signals]
n = { at = "/n" }
[ingest]
max_age = "300ms"
[journal]
segment_bytes = 1048576
"#;
const BASE: i64 = 1_764_000_000_000;
/// Every such number is sent as junk, for the quarantine.
const JUNK: usize = 997;
/// How often ingest is killed at least, and messages, in a run of CI.
const KILLS: usize = 50;
const MESSAGES: usize = 150_000;
/// How long healing may take after the last blow, without a sign of it.
const HEALING: Duration = Duration::from_secs(120);

/// What strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// SIGKILL to ingest.
    Kill,
    /// SIGTERM to the broker, which comes back.
    Broker,
    /// The connection between ingest and broker is cut.
    Cut,
    /// The store does this for a while.
    Store(StoreFault),
    /// The disk under the journal is full for a while.
    Disk,
}

/// Numbers drawn from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn pause(&mut self, most_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.below(most_ms)));
    }
}

/// All blows of a run in their random order.
fn schedule(dice: &mut Dice, disk: bool) -> Vec<Blow> {
    let mut blows = vec![Blow::Kill; KILLS];
    blows.extend([Blow::Broker; 4]);
    blows.extend([Blow::Cut; 8]);
    for fault in [StoreFault::Refuse, StoreFault::Hang, StoreFault::HangAfterStoring, StoreFault::Half500, StoreFault::CutMidway] {
        blows.extend([Blow::Store(fault); 3]);
    }
    if disk {
        blows.extend([Blow::Disk; 3]);
    }
    for i in (1..blows.len()).rev() {
        blows.swap(i, dice.below(i as u64 + 1) as usize);
    }
    blows
}

/// Publishes numbers from 0 in bursts at full speed.
struct Publisher {
    bursts: mpsc::Sender<usize>,
    publishing: JoinHandle<usize>,
}

impl Publisher {
    fn start(url: &str) -> Self {
        let (bursts, orders) = mpsc::channel::<usize>();
        let url = url.to_owned();
        Self { bursts, publishing: std::thread::spawn(move || publish(&url, &orders)) }
    }

    fn burst(&self, messages: usize) {
        self.bursts.send(messages).unwrap();
    }

    /// Waits until all is confirmed; how many there were.
    fn end(self) -> usize {
        drop(self.bursts);
        self.publishing.join().unwrap()
    }
}

fn publish(url: &str, orders: &mpsc::Receiver<usize>) -> usize {
    let mut clients = Clients::of(url);
    let outbox = clients.publisher();
    let (mut next, mut receipts) = (0, Vec::new());
    while let Ok(count) = orders.recv() {
        for first in (next..next + count).step_by(500) {
            let messages = (first..(first + 500).min(next + count)).map(message).collect();
            receipts.push(clients.run(outbox.submit(messages)));
        }
        next += count;
    }
    // A receipt is the broker's PUBACK for each message of the burst.
    for receipt in receipts {
        clients.run(receipt).unwrap();
    }
    next
}

fn message(n: usize) -> Outgoing {
    let topic = format!("fleet/d-{}/telemetry", n % 23);
    let open = if n.is_multiple_of(JUNK) { "" } else { "}" };
    Outgoing::new(topic, format!(r#"{{"ts": {}, "n": {n}, "more": "unclaimed"{open}"#, BASE + n as i64))
}

/// Broker, store and journal of a run, each behind something that can strike it.
struct Field {
    broker: Mosquitto,
    wire: Proxy,
    server: S3Server,
    store: FaultProxy,
    disk: Option<SmallDisk>,
}

impl Field {
    fn strike(&mut self, blow: Blow, dice: &mut Dice, ingest: &mut Ingest) {
        match blow {
            Blow::Kill => ingest.kill_and_start(dice),
            Blow::Broker => self.broker.restart().unwrap(),
            Blow::Cut => self.wire.cut(),
            Blow::Store(fault) => {
                self.store.set(fault);
                std::thread::sleep(Duration::from_millis(300 + dice.below(1_500)));
                // Half the time ingest is killed while the store fails.
                if dice.below(2) == 0 {
                    ingest.kill_and_start(dice);
                }
                self.store.set(StoreFault::None);
            }
            Blow::Disk => self.fill_the_disk(dice),
        }
    }

    fn fill_the_disk(&self, dice: &mut Dice) {
        let _ballast = self.disk.as_ref().map(SmallDisk::fill);
        std::thread::sleep(Duration::from_millis(500 + dice.below(1_000)));
    }
}

/// The ingest that is struck.
struct Ingest<'a> {
    site: &'a Site,
    running: Option<Service>,
    kills: usize,
    /// What those that were killed had said.
    said: String,
}

impl<'a> Ingest<'a> {
    fn start(site: &'a Site) -> Self {
        Self { site, running: Some(site.start(&["ingest", "--json"])), kills: 0, said: String::new() }
    }

    fn kill_and_start(&mut self, dice: &mut Dice) {
        if let Some(mut running) = self.running.take() {
            // Between blows it must not have ended by itself; a disk that is full at its start is the one excuse, and is healed by then.
            assert!(running.is_running(), "ingest ended by itself: {}", running.said());
            self.kills += 1;
            self.said += &format!("--- {} until kill {}\n", running.said(), self.kills);
            running.kill();
        }
        dice.pause(60);
        self.running = Some(self.site.start(&["ingest", "--json"]));
    }

    fn end(mut self) {
        let done = self.running.take().unwrap().terminate();
        assert_eq!(done.code, Some(0), "{done:?}");
    }
}

fn env_or<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[allow(clippy::print_stderr, reason = "the seed that replays a run must be seen")]
fn seed() -> u64 {
    let drawn = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 % 1_000_000;
    let seed = env_or("HOMEWARD_TEST_SEED", drawn);
    eprintln!("faults: HOMEWARD_TEST_SEED={seed} replays this run");
    seed
}

/// A field, and a site whose ingest reaches it.
fn field(test: &str) -> Option<(Field, Site)> {
    let broker = mosquitto(test)?;
    let server = s3(test)?;
    duckdb(test)?;
    let wire = Proxy::to(&broker.url()["mqtt://".len()..]);
    let store = FaultProxy::start(server.address()).unwrap();
    let mut site = Site::new(CONFIG).with("HOMEWARD_BROKER_URL", &wire.url()).with("HOMEWARD_STORE_URL", &server.url("f"));
    for (name, value) in server.options() {
        site = site.with(&name, &value);
    }
    let site = site.with("AWS_ENDPOINT", &format!("http://{}", store.address())).with("HOMEWARD_STORE_TIMEOUT", "2s");
    let disk = SmallDisk::at(test, &site.path("homeward-journal"), "48m");
    Some((Field { broker, wire, server, store, disk }, site))
}

#[test]
fn every_acknowledged_number_is_archived_once_whatever_strikes() {
    let Some((mut field, site)) = field("faults") else { return };
    let _turn = alone();
    let seed = seed();
    let mut dice = Dice(seed);
    let blows = schedule(&mut dice, field.disk.is_some());
    let messages: usize = env_or("HOMEWARD_TEST_MESSAGES", MESSAGES);
    let mut ingest = Ingest::start(&site);
    ingest.running.as_mut().unwrap().says("ingest runs");
    let publisher = Publisher::start(&field.broker.url());
    for blow in &blows {
        publisher.burst(messages.div_ceil(blows.len()));
        dice.pause(400);
        field.strike(*blow, &mut dice, &mut ingest);
    }
    let total = publisher.end();
    assert!(ingest.kills >= KILLS && total >= messages);
    wait_for_all(&field, total, &mut ingest);
    let said = std::mem::take(&mut ingest.said);
    ingest.end();
    let raw = Raw::of(&field.server, &site);
    raw.assert_all(total, &format!("seed {seed}, {said}"));
    raw.assert_once(&format!("seed {seed}, {said}"));
}

/// Waits until there are as many rows in the bucket as there were messages; gives up when there have been no new ones for long.
fn wait_for_all(field: &Field, total: usize, ingest: &mut Ingest) {
    let store = bucket(&field.server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut seen = std::collections::BTreeMap::new();
    let (mut rows, mut since) = (0, Instant::now());
    while rows < total {
        let before = std::mem::take(&mut rows);
        for table in [Table::Telemetry, Table::Quarantine] {
            for entry in runtime.block_on(store.list(&Prefix::Table(table))).unwrap() {
                rows += *seen.entry(entry.key.clone()).or_insert_with(|| {
                    let bytes = runtime.block_on(store.get(&entry.key)).unwrap();
                    homeward_store::archive::describe(bytes).unwrap().rows
                }) as usize;
            }
        }
        if rows > before {
            since = Instant::now();
        }
        let ingest = ingest.running.as_mut().unwrap();
        let hopeless = !ingest.is_running() || since.elapsed() > HEALING;
        assert!(!hopeless, "{rows} of {total} rows in the bucket, no more since {:?}; ingest said: {}", since.elapsed(), ingest.said());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn bucket(server: &S3Server) -> Store {
    Store::open(&server.url("f"), server.options().into_iter()).unwrap()
}

/// The archive as DuckDB sees the bare files, which knows nothing of Homeward.
struct Raw {
    /// Number and the positions it was archived from.
    telemetry: Vec<(usize, Vec<usize>)>,
    quarantined: Vec<usize>,
}

impl Raw {
    fn of(server: &S3Server, site: &Site) -> Self {
        // What an earlier look took is gone: compaction deletes.
        let folder = std::env::var_os("HOMEWARD_TEST_RAW").map_or_else(|| site.path("raw"), std::path::PathBuf::from);
        _ = std::fs::remove_dir_all(&folder);
        let store = bucket(server);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for entry in runtime.block_on(store.list(&Prefix::All)).unwrap() {
            let file = folder.join(entry.key.to_string());
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, runtime.block_on(store.get(&entry.key)).unwrap()).unwrap();
        }
        let text = ask_duckdb(&folder);
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let number = |v: &serde_json::Value| v.as_u64().unwrap() as usize;
        let telemetry = answer["telemetry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| (number(&r[0]), r[1].as_array().unwrap().iter().map(number).collect()))
            .collect();
        let quarantined = answer["quarantine"].as_array().unwrap().iter().map(number).collect();
        Self { telemetry, quarantined }
    }

    /// Every number is there.
    fn assert_all(&self, total: usize, run: &str) {
        let mut there = vec![false; total];
        self.telemetry.iter().for_each(|(n, _)| there[*n] = true);
        self.quarantined.iter().for_each(|n| there[*n] = true);
        let missing: Vec<usize> = (0..total).filter(|n| !there[*n]).collect();
        assert!(
            missing.is_empty(),
            "{run}: {} of {total} acknowledged numbers are nowhere: {:?}…",
            missing.len(),
            &missing[..missing.len().min(9)]
        );
        assert!(self.quarantined.iter().all(|n| n % JUNK == 0) && self.telemetry.iter().all(|(n, _)| n % JUNK != 0));
    }

    /// No number is in the archive twice.
    fn assert_once(&self, run: &str) {
        let twice: Vec<_> = self.telemetry.iter().filter(|(_, seqs)| seqs.len() > 1).collect();
        assert!(
            twice.is_empty(),
            "{run}: {} numbers are archived more than once, from these positions: {:?}…",
            twice.len(),
            &twice[..twice.len().min(9)]
        );
    }
}

fn ask_duckdb(folder: &Path) -> String {
    const SCRIPT: &str = r#"
import duckdb, json, os, re, sys
os.chdir(sys.argv[1])
t = duckdb.sql("select n::bigint, list(seq order by seq) from read_parquet('telemetry/**/*.parquet', hive_partitioning=true, union_by_name=true) group by 1 order by 1").fetchall() if os.path.isdir("telemetry") else []
q = duckdb.sql("select payload from read_parquet('quarantine/**/*.parquet', hive_partitioning=true)").fetchall() if os.path.isdir("quarantine") else []
numbers = [int(re.search(rb'"n": (\d+)', bytes(p[0])).group(1)) for p in q]
print(json.dumps({"telemetry": t, "quarantine": numbers}))
"#;
    let out = Command::new("python3").args(["-c", SCRIPT]).arg(folder).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn several_ingesters_share_the_messages_and_one_may_die() {
    let test = "faults: several ingesters";
    let (Some(broker), Some(server), Some(())) = (mosquitto(test), s3(test), duckdb(test)) else { return };
    let _turn = alone();
    let site = |name: &str| {
        let site = Site::new(CONFIG).with("HOMEWARD_BROKER_URL", &broker.url()).with("HOMEWARD_STORE_URL", &server.url("f"));
        let site = server.options().iter().fold(site, |site, (name, value)| site.with(name, value));
        site.with("HOMEWARD_BROKER_CLIENT_ID", name).with("HOMEWARD_BROKER_SHARE", "archive")
    };
    let sites = ["one", "two", "three"].map(site);
    let mut services: Vec<Service> = sites.iter().map(|site| site.start(&["ingest", "--json"])).collect();
    services.iter_mut().for_each(|s| s.says("ingest runs"));
    let publisher = Publisher::start(&broker.url());
    publisher.burst(30_000);
    std::thread::sleep(Duration::from_millis(150));
    // It never comes back; what it had not acknowledged goes to the others, what it had is in its journal, which is not lost with it.
    services.remove(0).kill();
    publisher.burst(30_000);
    let total = publisher.end();
    let last_words = sites[0].start(&["ingest", "--json"]);
    let started = Instant::now();
    let mut raw = Raw::of(&server, &sites[0]);
    while raw.telemetry.len() + raw.quarantined.len() < total && started.elapsed() < HEALING {
        std::thread::sleep(Duration::from_millis(500));
        raw = Raw::of(&server, &sites[0]);
    }
    services.push(last_words);
    services.into_iter().for_each(|s| assert_eq!(s.terminate().code, Some(0)));
    Raw::of(&server, &sites[0]).assert_all(total, "before compaction");
    let compacted = sites[0].json(&["compact"]);
    assert!(compacted["objects_after"].as_u64().unwrap() >= 1, "{compacted}");
    let raw = Raw::of(&server, &sites[0]);
    raw.assert_all(total, "after compaction");
    raw.assert_once("after compaction");
}
