//! The whole loop on real input, through Mosquitto: C-MAPSS FD001 published, archived, learnt, scored, called.

use std::collections::BTreeMap;
use std::process::Command;

use homeward_broker::testing::Mosquitto;
use homeward_store::keys::Table;
use serde_json::Value;

use crate::harness::archive::Archive;
use crate::harness::mqtt::{Clients, json, topic};
use crate::harness::{Site, beside_others, data, files, mosquitto, pyarrow, wait_until, workspace};

const READINGS: usize = 20_631;
const ENGINES: usize = 100;
/// An engine with at most so many cycles left is one that should be called.
const HORIZON_CYCLES: u32 = 30;
/// A device that nobody else publishes for: once it has a health, everything before it was scored.
const LAST: &str = "zz-last";

fn site() -> Site {
    Site::new(&std::fs::read_to_string(workspace("data/cmapss.toml")).unwrap())
}

#[test]
fn test_engines_are_called_before_they_fail() {
    let Some(train) = data("fd001", "cmapss/train_FD001.txt.gz") else { return };
    let Some(test) = data("fd001", "cmapss/test_FD001.txt.gz") else { return };
    let Some(truth) = data("fd001", "cmapss/RUL_FD001.txt") else { return };
    let Some(broker) = mosquitto("fd001") else { return };
    let _turn = beside_others();
    let site = site().with("HOMEWARD_BROKER_URL", &broker.url());
    archive(&site, train.to_str().unwrap());
    let trained = site.json(&["train"]);
    assert_eq!(trained["promoted"], true, "{trained}");
    assert_eq!(trained["metrics"]["outcomes"].as_array().map(Vec::len), Some(ENGINES), "{}", trained["metrics"]["outcomes"]);

    let (healths, calls) = fly(&site, &broker, test.to_str().unwrap());
    let standing: Vec<&Value> = healths.values().filter(|h| !h["alert"].is_null()).collect();
    assert_f1(&healths, &std::fs::read_to_string(truth).unwrap());
    for health in standing {
        let call = calls.iter().find(|(_, c)| c["alert_id"] == health["alert"]["alert_id"] && c["state"] == "raised");
        let (to, call) = call.unwrap_or_else(|| panic!("no call for {health}"));
        assert_call(to, call, health, &trained);
    }
    assert_retained(&broker, healths.len());
    if pyarrow("fd001: the archive from Python").is_some() {
        assert_read_by_pyarrow(&site, train.to_str().unwrap());
    }
}

/// Publishes the training engines and has them archived.
fn archive(site: &Site, file: &str) {
    let mut ingest = site.start(&["ingest"]);
    ingest.says("ingest runs");
    let published = site.json(&["publish", file, "--format", "cmapss"]);
    assert_eq!((&published["published"], &published["bad_lines"]), (&(READINGS + ENGINES).into(), &0.into()));
    let mut archive = Archive::of(site);
    wait_until("all readings and failures in the archive", || {
        archive.count(Table::Telemetry) >= READINGS && archive.count(Table::Events) >= ENGINES
    });
    let done = ingest.terminate();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!([Table::Telemetry, Table::Events, Table::Quarantine].map(|t| archive.count(t)), [READINGS, ENGINES, 0]);
}

/// Publishes the test engines while predict runs; the last health of each, and the calls that a witness saw, by topic.
fn fly(site: &Site, broker: &Mosquitto, file: &str) -> (BTreeMap<String, Value>, Vec<(String, Value)>) {
    let mut clients = Clients::of(&broker.url());
    let mut witness = clients.subscribe("witness", &["fleet/+/return-to-base"]);
    let mut watcher = clients.subscribe("watcher", &["fleet/+/health"]);
    let mut predict = site.start(&["predict"]);
    predict.says("champion in service");
    site.ok(&["publish", file, "--format", "cmapss"]);
    clients.publish(vec![(format!("fleet/{LAST}/telemetry"), br#"{"ts": 1577840400000}"#.to_vec())]);
    let last = format!("fleet/{LAST}/health");
    clients.hear(&mut watcher, "the last device's health", |heard| heard.iter().any(|m| m.topic == last.as_bytes()));
    let done = predict.terminate();
    assert_eq!(done.code, Some(0), "{done:?}");
    let mut healths = watcher.last();
    healths.remove(&last).unwrap();
    assert_eq!(healths.len(), ENGINES);
    let alerts = healths.values().filter(|h| !h["alert"].is_null()).count();
    clients.hear(&mut witness, "a call for every alert", |heard| heard.iter().filter(|m| json(m)["state"] == "raised").count() >= alerts);
    (healths, witness.heard.iter().map(|m| (topic(m), json(m))).collect())
}

/// Compares whether an alert stands at an engine's last cycle with the cycles it had left.
#[allow(clippy::print_stderr)]
fn assert_f1(healths: &BTreeMap<String, Value>, truth: &str) {
    let left: Vec<u32> = truth.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert_eq!(left.len(), ENGINES);
    let (mut hits, mut false_alarms, mut missed) = (0.0, 0.0, 0.0);
    for (engine, left) in (1..).zip(left) {
        let called = !healths[&format!("fleet/fd001-test-{engine:03}/health")]["alert"].is_null();
        match (called, left <= HORIZON_CYCLES) {
            (true, true) => hits += 1.0,
            (true, false) => false_alarms += 1.0,
            (false, true) => missed += 1.0,
            (false, false) => (),
        }
    }
    let f1 = 2.0 * hits / (2.0 * hits + false_alarms + missed);
    eprintln!("fd001: F1 {f1:.3} ({hits} called in time, {false_alarms} false alarms, {missed} missed)");
    assert!(f1 >= 0.80, "F1 {f1:.3}");
}

/// Every field of the call that a device may rely on.
fn assert_call(to: &str, call: &Value, health: &Value, trained: &Value) {
    let fields: Vec<&str> = call.as_object().unwrap().keys().map(String::as_str).collect();
    let documented = [
        "action",
        "alert_id",
        "component",
        "cost",
        "device",
        "expires_at",
        "model",
        "reasons",
        "revision",
        "risks",
        "state",
        "threshold",
        "ts",
    ];
    assert_eq!(fields.iter().copied().collect::<std::collections::BTreeSet<_>>(), documented.into(), "{call}");
    assert_eq!(to, format!("fleet/{}/return-to-base", call["device"].as_str().unwrap()));
    assert_eq!((&call["device"], &call["action"]), (&health["device"], &"return".into()), "{call}");
    assert!(call["alert_id"].as_str().unwrap().len() == 32 && call["revision"].as_u64() >= Some(1), "{call}");
    assert_eq!(call["expires_at"].as_i64().unwrap() - call["ts"].as_i64().unwrap(), 2 * 3_600_000, "{call}");
    let (risk, threshold) = (&call["risks"][0], call["threshold"].as_f64().unwrap());
    assert_eq!(risk["horizon_s"].as_f64(), Some(30.0 * 3600.0), "{call}");
    assert!(call["revision"] != 1 || risk["risk"].as_f64().unwrap() >= threshold, "{call}");
    assert_eq!(call["model"], serde_json::json!({"name": "cmapss", "version": trained["version"]}), "{call}");
    assert_eq!(call["component"], "engine", "{call}");
    let reason = &call["reasons"][0];
    assert!(reason["feature"].as_str().is_some_and(|f| f.contains('.')) && reason["contribution"].as_f64() > Some(0.0), "{call}");
    assert!(reason.get("value").is_some() && reason.get("typical").is_some(), "{call}");
    assert!(call["cost"]["continue"].as_f64() > Some(0.0) && call["cost"]["return"].as_f64() > Some(0.0), "{call}");
    assert_eq!(health["advice"], "return", "{health}");
}

/// Who comes late hears how everyone is, and no old calls.
fn assert_retained(broker: &Mosquitto, engines: usize) {
    let clients = Clients::of(&broker.url());
    let mut late = clients.subscribe("late", &["fleet/+/return-to-base", "fleet/+/health"]);
    clients.hear(&mut late, "the retained health of all", |heard| heard.len() > engines);
    assert!(late.heard.iter().all(|m| m.retained && topic(m).ends_with("/health")));
}

/// Row count, types, partitions and values, read by code that is not ours.
fn assert_read_by_pyarrow(site: &Site, raw: &str) {
    const SCRIPT: &str = r#"
import gzip, json, sys
import pyarrow.compute as pc, pyarrow.dataset as ds
store, raw = sys.argv[1:]
read = lambda table: ds.dataset(f"{store}/{table}", format="parquet", partitioning="hive").to_table()
t, e = read("telemetry"), read("events")
rows = [line.split() for line in gzip.open(raw, "rt")]
device = [f"fd001-train-{int(r[0]):03}" for r in rows]
ts = [1577836800000 + int(r[1]) * 3600000 for r in rows]
ours = zip(t["device"].to_pylist(), pc.cast(t["ts"], "int64").to_pylist(), t["total_temp_hpc_outlet"].to_pylist())
print(json.dumps({
    "rows": t.num_rows,
    "events": [e.num_rows, sorted(set(e["event"].to_pylist())), sorted(set(e["component"].to_pylist())), len(set(e["device"].to_pylist()))],
    "types": {f.name: str(f.type) for f in t.schema},
    "dates": pc.all(pc.equal(pc.strftime(t["ts"], "%Y-%m-%d"), pc.cast(t["date"], "string"))).as_py(),
    "values": sorted(ours) == sorted(zip(device, ts, (float(r[7]) for r in rows))),
    "extra": t["extra"].null_count,
}))
"#;
    let store = site.path("store");
    let answer = Command::new("python3").args(["-c", SCRIPT, store.to_str().unwrap(), raw]).output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let found: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(found["rows"], READINGS);
    assert_eq!(found["events"], serde_json::json!([ENGINES, ["failure"], ["engine"], ENGINES]));
    let types = [
        ("device", "string"),
        ("ts", "timestamp[ms, tz=UTC]"),
        ("received_at", "timestamp[ms, tz=UTC]"),
        ("seq", "int64"),
        ("idx", "int32"),
        ("fan_speed", "double"),
        ("extra", "string"),
    ];
    for (column, kind) in types {
        assert_eq!(found["types"][column], kind, "{column}");
    }
    assert!(found["types"].get("date").is_some(), "no partition column: {}", found["types"]);
    assert_eq!((&found["dates"], &found["values"]), (&true.into(), &true.into()), "{found}");
    assert_eq!(found["extra"], READINGS, "C-MAPSS has no field that no signal claims");
}

/// Failure times dealt out anew: no engine keeps its own.
fn shuffled(failures: &[(String, i64, String)], seed: u64) -> String {
    let mut order: Vec<usize> = (0..failures.len()).collect();
    let mut state = seed;
    // Sattolo's shuffle: one cycle through all engines.
    for i in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(i, (state >> 33) as usize % i);
    }
    let line = |(i, from): (usize, &usize)| {
        assert_ne!(i, *from, "an engine kept its own failure");
        let payload = serde_json::json!({"ts": failures[*from].1, "event": "failure", "component": "engine"});
        format!("{}\n", serde_json::json!({"topic": format!("fleet/{}/events", failures[i].0), "payload": payload}))
    };
    order.iter().enumerate().map(line).collect()
}

#[test]
fn shuffled_labels_teach_nothing_worth_promoting() {
    let Some(train) = data("fd001: shuffled", "cmapss/train_FD001.txt.gz") else { return };
    let _turn = beside_others();
    let train = train.to_str().unwrap();
    let original = site();
    original.ok(&["import", train, "--format", "cmapss"]);
    let failures = Archive::of(&original).events();
    assert_eq!(failures.len(), ENGINES);
    for seed in [1, 2, 3] {
        let site = site();
        site.ok(&["import", train, "--format", "cmapss", "--no-events"]);
        std::fs::write(site.path("events.jsonl"), shuffled(&failures, seed)).unwrap();
        let imported = site.json(&["import", "events.jsonl", "--format", "jsonl"]);
        assert_eq!(imported["events"], ENGINES, "{imported}");
        let trained = site.json(&["train"]);
        assert_eq!((&trained["version"], &trained["promoted"]), (&Value::Null, &false.into()), "shuffle {seed}: {trained}");
        assert!(trained["why"].as_str().unwrap().starts_with("nothing worth promoting"), "shuffle {seed}: {trained}");
        assert_eq!(site.json(&["models", "list"]), serde_json::json!([]), "shuffle {seed}");
        // The lock, given back, is not a model.
        let left = files(&site.path("store/models"));
        assert!(left.iter().all(|(name, _)| name.contains("training.json")), "shuffle {seed} left a model behind: {left:?}");
    }
}
