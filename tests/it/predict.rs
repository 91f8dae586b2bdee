//! Predict in this process, between an inbox and an outbox in memory: models that come and go, calls that repeat, clear and are held back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use homeward_broker::{Inbox, Incoming, MemoryInbox, MemoryOutbox, Outgoing};
use homeward_models::artifact::{Lineage, Model};
use homeward_models::cost::{Costs, WrittenCosts};
use homeward_models::decision::{Rules, WrittenDecide};
use homeward_models::ensemble::{Arithmetic, Ensemble, Link, Node};
use homeward_models::features::FeatureSpec;
use homeward_models::form::Form;
use homeward_models::label::Target;
use homeward_models::topic::{Topics, WrittenTopics};
use homeward_models::{Fleet, WrittenFleet};
use homeward_predict::{PredictError, Settings, Stats, WrittenPredict};
use homeward_store::keys::ModelVersion;
use homeward_store::{Registry, Store};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const HORIZON: i64 = 600_000;
/// A reading's value that the models call a risk of 0.9, and one of 0.1.
const HOT: f64 = 90.0;
const COOL: f64 = 20.0;

fn fleet(window: &str) -> Fleet {
    let signals = json!({"temp": {"at": "/temp", "component": "motor"}});
    let written: WrittenFleet = serde_json::from_value(json!({"name": "t", "windows": [window], "signals": signals})).unwrap();
    Fleet::check(&written).unwrap()
}

/// Raises at the first hot reading, clears 30 s after the last; calls again every 20 s, each good for 60 s.
fn decide() -> WrittenDecide {
    WrittenDecide { raise_for: "0s".into(), raise_readings: 1, max_raised_share: 0.2, ..Default::default() }
}

/// A tree of one split: a last temperature above `split` is a risk of 0.9.
fn model(fleet: &Fleet, split: f64) -> Model {
    let spec = FeatureSpec::new(fleet);
    let feature = (0..spec.len()).find(|f| spec.name(*f) == "temp.last").unwrap() as u32;
    let ensemble = Ensemble {
        link: Link::Mean,
        arithmetic: Arithmetic::default(),
        features: spec.len(),
        horizons: 1,
        base: vec![0.0],
        roots: vec![0],
        nodes: vec![Node { feature, threshold: split, missing_left: true, left: -1, right: -2 }],
        leaves: vec![0.1, 0.9],
        cover: vec![9.0, 1.0],
    };
    let (decide, money) = (decide(), WrittenCosts::default());
    Model {
        target: Target::Failure,
        horizons: vec![HORIZON],
        learner: "tree".into(),
        form: Form::Ensemble(ensemble),
        threshold: 0.5,
        rules: Rules::check(&decide).unwrap(),
        decide,
        costs: Costs::check(&money, HORIZON).unwrap(),
        money,
        typical: vec![COOL; spec.len()],
        calibration: vec![],
        drift: None,
        signatures: None,
        metrics: Value::Null,
        self_test: vec![],
        lineage: Lineage { objects: vec![], settings: "0".into(), seed: 1, code: "test".into() },
        spec,
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Predict at work.
struct Rig {
    inbox: Arc<MemoryInbox>,
    outbox: Arc<MemoryOutbox>,
    registry: Registry,
    stats: Arc<Stats>,
    running: JoinHandle<Result<(), PredictError>>,
    /// Time of the devices' first reading, an hour ago.
    base: i64,
    sent: u64,
}

impl Rig {
    /// Predict with a model in service that takes more than 50 degrees for a risk.
    async fn start(dry_run: bool) -> Self {
        let store = Store::open("memory:///", std::iter::empty()).unwrap();
        let registry = Registry::new(store, "t".parse().unwrap());
        let (inbox, outbox, stats) = (Arc::<MemoryInbox>::default(), Arc::<MemoryOutbox>::default(), Arc::<Stats>::default());
        let running = tokio::spawn({
            let (inbox, outbox, registry, stats) = (inbox.clone(), outbox.clone(), registry.clone(), stats.clone());
            let written = WrittenPredict { reload_every: "20ms".into(), health_every: "1ms".into(), ..Default::default() };
            let settings = Settings { dry_run, ..Settings::check(&written, &decide(), &fleet("6s"), 1 << 18, false).unwrap() };
            let topics = Topics::check(&WrittenTopics::default()).unwrap();
            async move {
                homeward_predict::run(inbox, outbox, registry, &fleet("6s"), &topics, &settings, None, stats, std::future::pending()).await
            }
        });
        let rig = Self { inbox, outbox, registry, stats, running, base: now_ms() - 3_600_000, sent: 0 };
        rig.promote(1, &model(&fleet("6s"), 50.0)).await;
        rig.until("the first model is in service", || rig.stats.counts().models == 1).await;
        rig
    }

    /// Stores a model and makes it the champion; its version's name.
    async fn promote(&self, number: u64, model: &Model) -> String {
        let version = ModelVersion::new(1_764_000_000_000, number).unwrap();
        self.registry.put_version(&version, Bytes::from(model.to_bytes().unwrap()), Bytes::from_static(b"{}"), None).await.unwrap();
        self.registry.promote(&version, "test", 1_764_000_000_000).await.unwrap();
        version.to_string()
    }

    async fn until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..2_000 {
            if done() {
                return;
            }
            assert!(!self.running.is_finished(), "predict ended while waiting: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("waited in vain: {what}");
    }

    /// Sends a message and returns what it caused to be published.
    async fn send(&mut self, topic: &str, payload: Value) -> Vec<Outgoing> {
        self.outbox.take_published();
        self.inbox.append(Incoming::new(topic.to_owned(), payload.to_string(), now_ms()));
        self.sent += 1;
        self.until("the message is handled", || self.inbox.released() == self.sent).await;
        self.outbox.take_published()
    }

    /// A reading of `device`, `second` seconds after the first.
    async fn reading(&mut self, device: &str, second: i64, temp: f64) -> Vec<Outgoing> {
        let ts = self.base + second * 1_000;
        self.send(&format!("fleet/{device}/telemetry"), json!({"ts": ts, "temp": temp})).await
    }

    /// The device's answer to a call.
    async fn answer(&mut self, call: &Value, status: &str) -> Vec<Outgoing> {
        let topic = format!("fleet/{}/return-to-base/ack", call["device"].as_str().unwrap());
        let ack = json!({"alert_id": call["alert_id"], "revision": call["revision"], "status": status, "by": "pilot", "reason": "why not"});
        self.send(&topic, ack).await
    }

    async fn end(self) {
        self.inbox.close();
        self.running.await.unwrap().unwrap();
    }
}

fn bodies(out: &[Outgoing], topic: &str) -> Vec<Value> {
    out.iter().filter(|o| o.topic == topic).map(|o| serde_json::from_slice(&o.payload).unwrap()).collect()
}

fn calls(out: &[Outgoing], device: &str) -> Vec<Value> {
    bodies(out, &format!("fleet/{device}/return-to-base"))
}

fn health(out: &[Outgoing], device: &str) -> Value {
    bodies(out, &format!("fleet/{device}/health")).pop().unwrap_or_else(|| panic!("no health of {device}: {out:?}"))
}

fn notes(out: &[Outgoing]) -> Vec<Value> {
    bodies(out, "fleet/operators")
}

/// The one call of a hot reading.
fn called(out: &[Outgoing], device: &str) -> Value {
    let calls = calls(out, device);
    assert_eq!(calls.len(), 1, "{out:?}");
    calls[0].clone()
}

#[tokio::test]
async fn a_promoted_model_is_taken_up_without_a_restart() {
    let mut rig = Rig::start(false).await;
    assert!(calls(&rig.reading("a", 0, 40.0).await, "a").is_empty());
    let second = rig.promote(2, &model(&fleet("6s"), 30.0)).await;
    rig.until("the second model is in service", || rig.stats.counts().models == 2).await;
    let out = rig.reading("a", 1, 40.0).await;
    let call = called(&out, "a");
    assert_eq!((&call["model"]["version"], &call["state"]), (&json!(second), &json!("raised")), "{call}");
    assert_eq!(call["ts"], rig.base + 1_000);
    // Back to a model that would not have raised: what stands goes on standing.
    rig.promote(3, &model(&fleet("6s"), 50.0)).await;
    rig.until("the third model is in service", || rig.stats.counts().models == 3).await;
    assert_eq!(health(&rig.reading("a", 2, 45.0).await, "a")["alert"]["alert_id"], call["alert_id"]);
    rig.end().await;
}

#[tokio::test]
async fn a_model_of_another_fingerprint_is_refused_and_the_one_in_service_goes_on() {
    let mut rig = Rig::start(false).await;
    let first = health(&rig.reading("a", 0, COOL).await, "a")["model"]["version"].clone();
    rig.promote(2, &model(&fleet("12s"), 10.0)).await;
    rig.until("the model is refused", || rig.stats.counts().models_refused == 1).await;
    let out = rig.reading("a", 1, COOL).await;
    assert!(calls(&out, "a").is_empty(), "the refused model raised: {out:?}");
    let out = rig.reading("a", 2, HOT).await;
    assert_eq!((&called(&out, "a")["model"]["version"], rig.stats.counts().models), (&first, 1));
    rig.end().await;
}

#[tokio::test]
async fn a_dry_run_scores_and_publishes_nothing() {
    let mut rig = Rig::start(true).await;
    for second in 0..3 {
        assert_eq!(rig.reading("a", second, HOT).await, []);
    }
    let counts = rig.stats.counts();
    assert_eq!((counts.scored, counts.raised, counts.calls), (3, 1, 0));
    rig.end().await;
}

#[tokio::test]
async fn a_call_expires_and_is_not_retained_and_health_is() {
    let mut rig = Rig::start(false).await;
    let out = rig.reading("a", 0, HOT).await;
    let of = |topic: &str| out.iter().find(|o| o.topic == topic).cloned().unwrap();
    let (call, health) = (of("fleet/a/return-to-base"), of("fleet/a/health"));
    assert_eq!((call.qos1, call.retain, call.message_expiry_s), (true, false, Some(60)));
    assert_eq!((health.qos1, health.retain, health.message_expiry_s), (true, true, None));
    let body = called(&out, "a");
    assert_eq!(body["expires_at"].as_i64().unwrap(), rig.base + 60_000);
    assert_eq!((&body["component"], &body["reasons"][0]["feature"]), (&json!("motor"), &json!("temp.last")));
    assert_eq!(body["risks"], json!([{"horizon_s": 600.0, "risk": 0.9}]));
    rig.end().await;
}

#[tokio::test]
async fn a_call_is_repeated_with_a_higher_revision_until_it_is_accepted() {
    let mut rig = Rig::start(false).await;
    let first = called(&rig.reading("a", 0, HOT).await, "a");
    let mut revisions = vec![first["revision"].clone()];
    for second in 1..=45 {
        for call in calls(&rig.reading("a", second, HOT).await, "a") {
            assert_eq!((&call["alert_id"], &call["state"]), (&first["alert_id"], &first["state"]));
            assert_eq!(call["ts"], rig.base + second * 1_000);
            revisions.push(call["revision"].clone());
        }
    }
    assert_eq!(revisions, [1, 2, 3], "raised, and again after 20 s and 40 s");
    let out = rig.answer(&first, "accepted").await;
    assert_eq!((&health(&out, "a")["alert"]["answer"], notes(&out).len()), (&json!("accepted"), 0));
    for second in 46..=120 {
        let out = rig.reading("a", second, HOT).await;
        assert!(calls(&out, "a").is_empty(), "called at {second} s though it was accepted");
    }
    rig.end().await;
}

#[tokio::test]
async fn a_rejected_call_is_not_repeated_and_the_operators_are_told() {
    let mut rig = Rig::start(false).await;
    let call = called(&rig.reading("a", 0, HOT).await, "a");
    let unknown = json!({"device": "a", "alert_id": "0".repeat(32), "revision": 1});
    assert_eq!(rig.answer(&unknown, "rejected").await, [], "an answer to a call that nobody made");
    let out = rig.answer(&call, "rejected").await;
    let notes = notes(&out);
    assert_eq!(notes.len(), 1, "{out:?}");
    assert_eq!((&notes[0]["note"], &notes[0]["device"], &notes[0]["alert_id"]), (&json!("call_rejected"), &json!("a"), &call["alert_id"]));
    assert!(notes[0]["detail"].as_str().unwrap().contains("why not"), "{}", notes[0]);
    for second in 1..=60 {
        assert!(calls(&rig.reading("a", second, HOT).await, "a").is_empty(), "called at {second} s though it was rejected");
    }
    rig.end().await;
}

#[tokio::test]
async fn maintenance_clears_and_so_does_a_low_risk_that_lasts() {
    let mut rig = Rig::start(false).await;
    let call = called(&rig.reading("a", 0, HOT).await, "a");
    let out = rig.send("fleet/a/events", json!({"ts": rig.base + 1_000, "event": "maintenance", "component": "motor"})).await;
    let cleared = called(&out, "a");
    assert_eq!((&cleared["state"], &cleared["alert_id"]), (&json!("cleared"), &call["alert_id"]));
    assert_eq!((&health(&out, "a")["alert"], &health(&out, "a")["advice"]), (&Value::Null, &json!("fly")));

    let again = called(&rig.reading("a", 10, HOT).await, "a");
    assert_ne!(again["alert_id"], call["alert_id"], "a new alert has a new name");
    let mut states = Vec::new();
    for second in 11..=45 {
        let out = rig.reading("a", second, COOL).await;
        states.extend(calls(&out, "a").into_iter().map(|c| (second, c["state"].as_str().unwrap().to_owned())));
    }
    // Low from second 11: the call is repeated at 30, and cleared after 30 s of low risk.
    assert_eq!(states, [(30, "raised".to_owned()), (41, "cleared".to_owned())]);
    rig.end().await;
}

#[tokio::test]
async fn an_inspection_that_finds_nothing_ends_the_episode_it_answers_and_no_other() {
    let mut rig = Rig::start(false).await;
    let call = called(&rig.reading("a", 0, HOT).await, "a");
    let inspected =
        |alert_id: Value| json!({"ts": rig.base + 1_000, "event": "inspection", "finding": "no_fault_found", "alert_id": alert_id});
    let (routine, answer) = (inspected(Value::Null), inspected(call["alert_id"].clone()));
    assert!(calls(&rig.send("fleet/a/events", routine).await, "a").is_empty(), "a routine inspection answers no alert");
    let cleared = called(&rig.send("fleet/a/events", answer).await, "a");
    assert_eq!((&cleared["state"], &cleared["alert_id"]), (&json!("cleared"), &call["alert_id"]));
    let again = called(&rig.reading("a", 600, HOT).await, "a");
    assert_ne!(again["alert_id"], call["alert_id"], "the next flight raises anew");
    rig.end().await;
}

#[tokio::test]
async fn beyond_the_raised_share_new_calls_go_to_the_operators_only() {
    let mut rig = Rig::start(false).await;
    for device in 0..10 {
        rig.reading(&format!("d-{device}"), 0, COOL).await;
    }
    let mut told = Vec::new();
    for device in ["d-0", "d-1", "d-2", "d-3"] {
        let out = rig.reading(device, 1, HOT).await;
        assert_eq!(health(&out, device)["advice"], "return", "{device} is raised all the same");
        let words: Vec<Value> = notes(&out).into_iter().map(|n| n["note"].clone()).collect();
        told.push((calls(&out, device).len(), words));
    }
    let over = json!("too_many_raised");
    assert_eq!(told, [(1, vec![]), (1, vec![]), (0, vec![over.clone()]), (0, vec![over])], "2 of 10 may be called");
    assert!(calls(&rig.reading("d-2", 30, HOT).await, "d-2").is_empty(), "a call held back is not repeated either");
    rig.end().await;
}
