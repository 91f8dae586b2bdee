//! Scored live through Mosquitto, with late, repeated and jumping readings, predict killed and stopped in mid-stream; then scored again from the
//! archive: the same bits, and one that is changed is found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use homeward_broker::testing::Mosquitto;
use homeward_models::artifact::{Lineage, Model};
use homeward_models::calibration::Calibration;
use homeward_models::cost::{Costs, WrittenCosts};
use homeward_models::decision::{Rules, WrittenDecide};
use homeward_models::ensemble::{Arithmetic, Ensemble, Link, Node};
use homeward_models::features::FeatureSpec;
use homeward_models::form::Form;
use homeward_models::label::Target;
use homeward_models::{Fleet, WrittenFleet};
use homeward_store::archive::{ScoreBatch, ScoreRow, TelemetryBatch, TelemetryRow, WriteOptions, read_scores, read_telemetry};
use homeward_store::keys::{ModelVersion, Table};
use homeward_store::{Registry, Store};
use serde_json::Value;

use crate::harness::archive::Archive;
use crate::harness::mqtt::{Clients, json};
use crate::harness::{Site, beside_others, data, mosquitto, wait_until, workspace};

const HORIZONS: [i64; 2] = [60_000, 600_000];
const TREES: u64 = 40;

/// A number that looks random.
fn noise(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A model of two horizons whose risks follow many features: trees of three splits at places that readings really pass.
fn model(fleet: &Fleet) -> Model {
    let spec = FeatureSpec::new(fleet);
    let (mut nodes, mut leaves, mut roots) = (Vec::new(), Vec::new(), Vec::new());
    for tree in 0..TREES {
        let root = nodes.len() as i32;
        roots.push(root);
        for n in 0..3 {
            let seed = noise(tree * 3 + n);
            let feature = (seed % spec.len() as u64) as u32;
            let threshold = [0.0, 0.2, 0.5, 1.0, 5.0, 15.0, 40.0, 5_000.0][(seed >> 32) as usize % 8];
            let first = -1 - (leaves.len() / 2) as i32;
            let (left, right) = if n == 0 { (root + 1, root + 2) } else { (first, first - 1) };
            nodes.push(Node { feature, threshold, missing_left: seed.is_multiple_of(3), left, right });
            if n > 0 {
                leaves.extend((0..4).map(|k| (noise(seed + k) % 1_000) as f64 / 2_000.0));
            }
        }
    }
    let cover = vec![1.0; leaves.len() / 2];
    let ensemble = Ensemble {
        link: Link::Mean,
        arithmetic: Arithmetic::default(),
        features: spec.len(),
        horizons: 2,
        base: vec![0.0; 2],
        roots,
        nodes,
        leaves,
        cover,
    };
    let scores: Vec<f64> = (0..50).map(|i| f64::from(i) / 100.0).collect();
    let labels: Vec<bool> = (0..50).map(|i| noise(i) % 50 < i).collect();
    let calibration =
        vec![Calibration::fit_isotonic(&scores, &labels, None).unwrap(), Calibration::fit_platt(&scores, &labels, None).unwrap()];
    let (decide, money) = (WrittenDecide::default(), WrittenCosts::default());
    Model {
        target: Target::Failure,
        horizons: HORIZONS.to_vec(),
        learner: "test".into(),
        form: Form::Ensemble(ensemble),
        calibration,
        threshold: 0.5,
        rules: Rules::check(&decide).unwrap(),
        decide,
        costs: Costs::check(&money, HORIZONS[1]).unwrap(),
        money,
        typical: vec![0.0; spec.len()],
        drift: None,
        signatures: None,
        self_test: vec![],
        lineage: Lineage { objects: vec![], settings: "0".into(), seed: 1, code: "test".into() },
        metrics: Value::Null,
        spec,
    }
}

/// The fleet configured in `config`.
fn fleet(config: &str) -> Fleet {
    let table: toml::Table = std::fs::read_to_string(workspace(config)).unwrap().parse().unwrap();
    let written: WrittenFleet = table["fleet"].clone().try_into().unwrap();
    Fleet::check(&written).unwrap()
}

/// Makes a model the champion of the fleet configured in `config`; another one when it is called again.
fn promote(site: &Site, config: &str, number: u64) {
    let fleet = fleet(config);
    let mut model = model(&fleet);
    model.threshold += number as f64 / 100.0;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&format!("file://{}", site.path("store").display()), std::iter::empty()).unwrap();
        let registry = Registry::new(store, fleet.written().name.parse().unwrap());
        let version = ModelVersion::new(1_764_000_000_000 + number as i64 * 1_000, number).unwrap();
        let bytes = Bytes::from(model.to_bytes().unwrap());
        registry.put_version(&version, bytes, Bytes::from_static(b"{}"), None).await.unwrap();
        registry.promote(&version, "test", 1_764_000_000_000).await.unwrap();
    });
}

fn site(config: &str, broker: &Mosquitto) -> Site {
    Site::new(&std::fs::read_to_string(workspace(config)).unwrap())
        .with("HOMEWARD_BROKER_URL", &broker.url())
        .with("HOMEWARD_INGEST_MAX_AGE", "200ms")
        .with("HOMEWARD_PREDICT_SCORE_SHARE", "1")
        .with("HOMEWARD_PREDICT_FEATURE_SHARE", "0.1")
        .with("HOMEWARD_PREDICT_RELOAD_EVERY", "100ms")
        .with("HOMEWARD_PREDICT_KEEP_EVERY", "150ms")
}

/// A simulated fleet's messages in two parts. From the second on the clocks of some drones are wrong, by minutes, to either side.
fn simulate(site: &Site) -> Vec<String> {
    site.ok(&["simulate", "--out", "fleet.jsonl", "--drones", "8", "--hours", "0.6", "--seed", "3"]);
    let text = std::fs::read_to_string(site.path("fleet.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let half = lines.len() / 2;
    let late = lines[half..].iter().map(|line| {
        let mut message: Value = serde_json::from_str(line).unwrap();
        let topic = message["topic"].as_str().unwrap();
        let by = [("d-002/telemetry", -90_000), ("d-003/telemetry", 120_000)].iter().find(|(t, _)| topic.ends_with(t)).map_or(0, |b| b.1);
        // Keys keep no order in a serde map, and the decoder asks for none.
        if by != 0 {
            let ts = message["payload"]["ts"].as_i64().unwrap();
            message["payload"]["ts"] = (ts + by).into();
        }
        message.to_string()
    });
    let parts = [lines[..half].join("\n"), late.collect::<Vec<_>>().join("\n")];
    for (i, part) in parts.iter().enumerate() {
        std::fs::write(site.path(&format!("part-{i}.jsonl")), part).unwrap();
    }
    parts.iter().map(|p| p.lines().count().to_string()).collect()
}

/// A row of the scores: position, kind, reason, alert.
type Told = (i64, String, String, Option<String>);

/// Rows of the scores, device by device in the order in which predict wrote them.
fn told(site: &Site) -> BTreeMap<String, Vec<Told>> {
    let mut told: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for (_, bytes) in Archive::of(site).objects(Table::Scores) {
        let table = read_scores(bytes).unwrap();
        for i in 0..table.len() {
            let text = |t: Option<&str>| t.unwrap_or_default().to_owned();
            let row = (table.seq[i], text(table.kind.get(i)), text(table.reason.get(i)), table.alert_id.get(i).map(String::from));
            told.entry(text(table.device.get(i))).or_default().push(row);
        }
    }
    told.values_mut().for_each(|rows| rows.sort());
    told
}

#[test]
fn the_archive_gives_the_bits_that_were_given_live_and_a_changed_one_is_found() {
    let Some(broker) = mosquitto("audit") else { return };
    let _turn = beside_others();
    let site = site("homeward.toml", &broker);
    promote(&site, "homeward.toml", 1);
    simulate(&site);
    let mut ingest = site.start(&["ingest"]);
    ingest.says("ingest runs");
    let mut predict = site.start(&["predict"]);
    predict.says("champion in service");
    let clients = Clients::of(&broker.url());
    let mut witness = clients.subscribe("witness", &["fleet/+/return-to-base"]);

    site.ok(&["publish", "part-0.jsonl", "--format", "jsonl", "--rate", "4000"]);
    // Killed twice while it scores, once right after a new model came.
    let mut publishing = site.start(&["publish", "part-1.jsonl", "--format", "jsonl", "--rate", "2500"]);
    for number in [2, 3] {
        std::thread::sleep(Duration::from_millis(400));
        predict.kill();
        promote(&site, "homeward.toml", number);
        predict = site.start(&["predict"]);
        predict.says("champion in service");
    }
    wait_until("all is published", || !publishing.is_running());
    let done = predict.terminate();
    assert_eq!(done.code, Some(0), "{done:?}");
    let predict = site.start(&["predict"]);
    let sent = lines(&site, "part-0.jsonl") + lines(&site, "part-1.jsonl");
    let mut archive = Archive::of(&site);
    wait_until("all readings archived", || archive.count(Table::Telemetry) + archive.count(Table::Events) >= sent - 20);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(ingest.terminate().code, Some(0));
    assert_eq!(predict.terminate().code, Some(0));

    let found = site.json(&["audit", "--strict"]);
    let count = |name: &str| found[name].as_u64().unwrap();
    assert_eq!((&found["differing"], &found["other_input"]), (&serde_json::json!([]), &serde_json::json!([])));
    said("a simulated fleet", &found);
    assert!(count("scored") > 10_000 && count("compared") * 1_000 >= count("scored") * 999, "{found}");
    assert!(
        count("with_features") * 20 > count("scored") && count("with_features") * 5 < count("scored"),
        "a tenth keeps its features: {found}"
    );
    assert_disorder(&site);
    assert_alerts(&site, &clients, &mut witness);
    changed_bits(&site);
}

/// Tells people how much was compared.
#[allow(clippy::print_stderr)]
fn said(name: &str, found: &Value) {
    eprintln!("{name}: {} of {} scored rows compared, {} not archived yet", found["compared"], found["scored"], found["not_archived"]);
}

fn lines(site: &Site, file: &str) -> usize {
    std::fs::read_to_string(site.path(file)).unwrap().lines().count()
}

/// The history was as untidy as it was to be.
fn assert_disorder(site: &Site) {
    let told = told(site);
    let mut reasons: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (_, kind, reason, _) in told.values().flatten() {
        *reasons.entry((kind.clone(), reason.clone())).or_default() += 1;
    }
    for (kind, reason) in [("start", "new"), ("start", "restored"), ("start", "clock_step"), ("refused", "late"), ("event", "attributes")] {
        assert!(reasons.contains_key(&(kind.into(), reason.into())), "no {kind} {reason} among {reasons:?}");
    }
    assert!(reasons.iter().any(|((kind, reason), n)| kind == "scored" && reason == "model" && *n > 8), "{reasons:?}");
}

/// Over kills and restarts an alert is raised once, under one name, and raised and cleared take turns; a witness heard of every one of them.
fn assert_alerts(site: &Site, clients: &Clients, witness: &mut crate::harness::mqtt::Subscriber) {
    let mut names = BTreeSet::new();
    for (device, rows) in told(site) {
        let mut standing: Option<String> = None;
        for (_, _, reason, alert) in rows {
            let Some(alert) = alert else { continue };
            if reason == "raised" {
                assert_eq!(standing, None, "{device} was raised twice");
                assert!(names.insert(alert.clone()), "{alert} was raised twice");
                standing = Some(alert);
            } else {
                assert_eq!(standing.take(), Some(alert), "{device} was cleared otherwise than raised");
            }
        }
    }
    assert!(names.len() >= 3, "{} alerts prove little", names.len());
    clients.hear(witness, "every alert", |heard| {
        let called: BTreeSet<String> = heard.iter().map(|m| json(m)["alert_id"].as_str().unwrap().to_owned()).collect();
        // Beyond the share of the fleet that may be called at once only the operators are told.
        !called.is_empty() && called.is_subset(&names)
    });
}

/// One bit of a risk, one of a feature, and one of a reading, changed in the archive: both are found and named.
fn changed_bits(site: &Site) {
    // The last object may be of a moment in which no features were kept: they are of one row in a hundred.
    let objects = Archive::of(site).objects(Table::Scores).into_iter().rev();
    let mut tables = objects.map(|(path, bytes)| (path, read_scores(bytes.clone()).unwrap(), bytes));
    let (path, table, bytes) = tables.find(|(_, table, _)| (0..table.len()).any(|i| !table.features_of(i).is_empty())).unwrap();
    let at = (0..table.len()).rfind(|i| table.kind.get(*i) == Some("scored")).unwrap();
    write(site, &path, with_bit(&table, at, None));
    let done = site.run(&["audit", "--json"]);
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((done.code, found["differing"].as_array().map(Vec::len)), (Some(1), Some(1)), "{found}");
    let named = &found["differing"][0];
    assert_eq!((named["device"].as_str(), named["ts"].as_i64()), (table.device.get(at), Some(table.ts[at])), "{named}");
    assert_ne!(named["archived_bits"], named["again_bits"]);
    assert_eq!(named["what"], "risk_2", "{named}");

    let at = (0..table.len()).rfind(|i| !table.features_of(*i).is_empty()).unwrap();
    write(site, &path, with_bit(&table, at, Some(5)));
    let found: Value = serde_json::from_str(&site.run(&["audit", "--json"]).stdout).unwrap();
    let named = &found["differing"][0];
    let (device, ts) = (named["device"].as_str(), named["ts"].as_i64());
    assert_eq!((found["differing"].as_array().map(Vec::len), device, ts), (Some(1), table.device.get(at), Some(table.ts[at])), "{found}");
    let feature = FeatureSpec::new(&fleet("homeward.toml")).name(5);
    assert_eq!(named["what"].as_str(), Some(feature.as_str()), "{named}");
    write(site, &path, bytes);

    let (path, bytes) = Archive::of(site).objects(Table::Telemetry).pop().unwrap();
    let table = read_telemetry(bytes).unwrap();
    let at = table.len() / 2;
    let mut batch = TelemetryBatch::new(table.signals.iter().map(|s| s.0.clone()).collect()).unwrap();
    for i in 0..table.len() {
        let mut values: Vec<f64> = table.signals.iter().map(|s| s.1[i]).collect();
        if i == at {
            values[0] = f64::from_bits(values[0].to_bits() ^ 1);
        }
        let (device, extra) = (table.device.get(i).unwrap(), table.extra.get(i));
        let (ts, received_at, seq, idx) = (table.ts[i], table.received_at[i], table.seq[i], table.idx[i]);
        batch.push(&TelemetryRow { device, ts, received_at, seq, idx, values: &values, extra }).unwrap();
    }
    write(site, &path, batch.encode(&WriteOptions::default()).unwrap());
    let found = site.json(&["audit"]);
    assert_eq!(found["differing"], serde_json::json!([]), "{found}");
    let named = &found["other_input"][0];
    assert_eq!((named["device"].as_str(), named["ts"].as_i64()), (table.device.get(at), Some(table.ts[at])), "{named}");
    assert_eq!(site.run(&["audit", "--strict"]).code, Some(1));
}

/// The rows of a scores object with the last bit of one row's second risk, or of a feature, turned.
fn with_bit(table: &homeward_store::archive::ScoreTable, at: usize, feature: Option<usize>) -> Bytes {
    let mut batch = ScoreBatch::default();
    for i in 0..table.len() {
        let mut risks = table.risks_of(i);
        let mut features = table.features_of(i);
        if i == at {
            let changed = feature.map_or(&mut risks[1], |f| &mut features[f]);
            *changed = f64::from_bits(changed.to_bits() ^ 1);
        }
        batch.push(&ScoreRow {
            device: table.device.get(i).unwrap(),
            ts: table.ts[i],
            received_at: table.received_at[i],
            seq: table.seq[i],
            idx: table.idx[i],
            kind: table.kind.get(i).unwrap(),
            n: table.n[i],
            chain: table.chain[i],
            content: table.content[i],
            risks: &risks,
            threshold: table.threshold[i],
            model_version: table.model_version.get(i),
            reason: table.reason.get(i),
            alert_id: table.alert_id.get(i),
            features: &features,
        });
    }
    batch.encode(&WriteOptions::default()).unwrap()
}

fn write(site: &Site, key: &str, bytes: Bytes) {
    std::fs::write(site.path("store").join(key), bytes).unwrap();
}

/// A public data set, published as it is, gives the same bits again.
fn public(name: &str, config: &str, files: &[PathBuf], format: &str) {
    let Some(broker) = mosquitto(name) else { return };
    let _turn = beside_others();
    let site = site(config, &broker);
    promote(&site, config, 1);
    let mut ingest = site.start(&["ingest"]);
    ingest.says("ingest runs");
    let mut predict = site.start(&["predict"]);
    predict.says("champion in service");
    let files: Vec<&str> = files.iter().map(|f| f.to_str().unwrap()).collect();
    let published = site.json(&[&["publish"], &files[..], &["--format", format]].concat());
    let sent = published["published"].as_u64().unwrap() as usize;
    let mut archive = Archive::of(&site);
    wait_until("all of it archived", || archive.count(Table::Telemetry) + archive.count(Table::Events) >= sent);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(ingest.terminate().code, Some(0));
    assert_eq!(predict.terminate().code, Some(0));
    let found = site.json(&["audit", "--strict"]);
    assert_eq!((&found["differing"], &found["other_input"]), (&serde_json::json!([]), &serde_json::json!([])));
    said(name, &found);
    let (scored, compared) = (found["scored"].as_u64().unwrap(), found["compared"].as_u64().unwrap());
    assert!(scored as usize > sent / 2 && compared * 1_000 >= scored * 999, "{found}");
}

#[test]
fn fd001_gives_the_bits_that_were_given_live() {
    let name = "audit: FD001";
    let Some(file) = data(name, "cmapss/train_FD001.txt.gz") else { return };
    public(name, "data/cmapss.toml", &[file], "cmapss");
}

#[test]
fn the_alfa_flights_give_the_bits_that_were_given_live() {
    let name = "audit: ALFA";
    let Some(one) = data(name, "alfa/elevator/carbonZ_2018-09-11-15-05-11_1_elevator_failure.csv.gz") else { return };
    let folders = std::fs::read_dir(one.ancestors().nth(2).unwrap()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir());
    let mut flights: Vec<PathBuf> = folders.flat_map(|f| std::fs::read_dir(f).unwrap().map(|e| e.unwrap().path())).collect();
    flights.sort();
    public(name, "data/alfa.toml", &flights, "alfa");
}
