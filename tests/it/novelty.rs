//! A fleet that has not failed yet, from the outside: its drones that never failed are learnt from, those that did are flown live; what was scored live is
//! scored again from the archive, bit for bit.

use std::collections::BTreeSet;
use std::time::Duration;

use homeward_store::keys::Table;
use serde_json::{Value, json};

use crate::harness::archive::Archive;
use crate::harness::{Site, beside_others, mosquitto, wait_until, workspace};

/// Writes the drones that never fail to `healthy.jsonl` and the others to `failing.jsonl`; how many lines each, and the others' names.
fn parted(site: &Site) -> (usize, usize, BTreeSet<String>) {
    site.ok(&["simulate", "--out", "all.jsonl", "--drones", "12", "--hours", "2", "--seed", "5", "--ignore-calls"]);
    let text = std::fs::read_to_string(site.path("all.jsonl")).unwrap();
    let device = |line: &str| serde_json::from_str::<Value>(line).unwrap()["topic"].as_str().unwrap().split('/').nth(1).unwrap().to_owned();
    let failed: BTreeSet<String> = text.lines().filter(|l| l.contains(r#""event":"failure""#)).map(device).collect();
    let (failing, healthy): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| failed.contains(&device(line)));
    std::fs::write(site.path("healthy.jsonl"), healthy.join("\n")).unwrap();
    std::fs::write(site.path("failing.jsonl"), failing.join("\n")).unwrap();
    (healthy.len(), failing.len(), failed)
}

#[test]
fn a_fleet_without_a_failure_has_a_model_that_serves_calls_and_is_audited() {
    let Some(broker) = mosquitto("novelty") else { return };
    let _turn = beside_others();
    let site = Site::new(&std::fs::read_to_string(workspace("homeward.toml")).unwrap())
        .with("HOMEWARD_BROKER_URL", &broker.url())
        .with("HOMEWARD_TRAIN_LEARNER", "auto")
        .with("HOMEWARD_INGEST_MAX_AGE", "200ms")
        .with("HOMEWARD_PREDICT_SCORE_SHARE", "1");
    let (healthy, failing, failed) = parted(&site);
    assert!(healthy > 1_000 && failing > 1_000 && failed.len() > 1, "{healthy} {failing} {failed:?}");
    site.ok(&["import", "healthy.jsonl", "--format", "jsonl"]);

    // Nothing is promoted that nothing can prove; asked for, it is.
    let unasked = site.json(&["train"]);
    assert_eq!((&unasked["promoted"], &unasked["version"]), (&false.into(), &Value::Null));
    assert!(unasked["why"].as_str().unwrap().starts_with("no failure that could prove anything"), "{}", unasked["why"]);
    let trained = site.json(&["train", "--promote", "always"]);
    let metrics = &trained["metrics"];
    assert_eq!((&trained["promoted"], &metrics["learner"], &metrics["policy"]["failures"]), (&true.into(), &"novelty".into(), &0.into()));
    assert_eq!((&metrics["average_precision"], &metrics["false_alarms_allowed"]), (&Value::Null, &json!(1.0)));
    let onnx = site.run(&["models", "export", "--out", "model.onnx"]);
    assert!(onnx.code == Some(1) && onnx.stderr.contains("a novelty model: it has no trees"), "{onnx:?}");

    let mut archive = Archive::of(&site);
    let before = archive.count(Table::Telemetry) + archive.count(Table::Events);
    let mut ingest = site.start(&["ingest"]);
    ingest.says("ingest runs");
    let mut predict = site.start(&["predict"]);
    predict.says("champion in service");
    let sent = site.json(&["publish", "failing.jsonl", "--format", "jsonl"])["published"].as_u64().unwrap() as usize;
    wait_until("all of it archived", || archive.count(Table::Telemetry) + archive.count(Table::Events) >= before + sent - 20);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(ingest.terminate().code, Some(0));
    assert_eq!(predict.terminate().code, Some(0));

    let found = site.json(&["audit", "--strict"]);
    assert_eq!((&found["differing"], &found["other_input"]), (&json!([]), &json!([])), "{found}");
    let (scored, compared) = (found["scored"].as_u64().unwrap(), found["compared"].as_u64().unwrap());
    assert!(scored as usize > sent / 2 && compared == scored, "{found}");
    let mut raised = BTreeSet::new();
    for (_, bytes) in archive.objects(Table::Scores) {
        let table = homeward_store::archive::read_scores(bytes).unwrap();
        raised.extend(
            (0..table.len()).filter(|i| table.reason.get(*i) == Some("raised")).filter_map(|i| table.device.get(i)).map(String::from),
        );
    }
    assert!(2 * raised.intersection(&failed).count() >= failed.len(), "of {failed:?} only {raised:?} were called");
}
