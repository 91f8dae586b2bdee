//! Mistakes in configuration, environment and arguments: exit 2, one line that names the key, before anything connects.

use std::io::ErrorKind;
use std::net::TcpListener;

use crate::harness::{Site, beside_others, workspace};

/// A change to the sample configuration, the command, and what the one line must name.
struct Mistake {
    from: &'static str,
    to: &'static str,
    env: Option<(&'static str, &'static str)>,
    args: &'static [&'static str],
    names: &'static str,
}

const fn file(from: &'static str, to: &'static str, names: &'static str) -> Mistake {
    Mistake { from, to, env: None, args: &["ingest"], names }
}

const fn env(name: &'static str, value: &'static str, names: &'static str) -> Mistake {
    Mistake { from: "", to: "", env: Some((name, value)), args: &["predict"], names }
}

const fn args(args: &'static [&'static str], names: &'static str) -> Mistake {
    Mistake { from: "", to: "", env: None, args, names }
}

const MISTAKES: &[Mistake] = &[
    file("[store]", "[stores]", "stores"),
    file("[broker]", "[broker]\nkeepalive = \"30s\"", "broker.keepalive"),
    file("max_age = \"10s\"", "max_age = 10", "ingest.max_age"),
    file("max_age = \"10s\"", "max_age = \"soon\"", "ingest.max_age"),
    file("max_age = \"10s\"", "ack = \"object\"\nmax_rows = 60000", "ingest.max_rows"),
    file("range = [0, 60]", "range = [60, 0]", "fleet.signals.battery_v.range"),
    file("product = [\"battery_v\"", "product = [\"voltage\"", "fleet.derived.power.product"),
    file("at = \"/battery/v\"", "at = \"battery/v\"", "fleet.signals.battery_v.at"),
    file("url = \"file://./homeward-data\"", "url = \"ftp://host/x\"", "store.url"),
    file("horizons = [\"10m\"]", "horizons = []", "train.horizons"),
    file("failure = 2000", "failure = -1", "costs.failure"),
    file("raise_readings = 3", "raise_readings = 0", "decide.raise_readings"),
    file("raise_readings = 3", "raise_readings = 3\nmargin = 0.5", "decide.margin"),
    file("position = [\"lat\", \"lon\"]", "position = [\"lat\", \"long\"]", "decide.position"),
    file("[broker]", "[broker]\npassword = \"secret\"", "broker.password"),
    file("[costs]", "[costs", "line "),
    env("HOMEWARD_BROKER_URL", "http://host", "broker.url"),
    env("HOMEWARD_BROKR_URL", "mqtt://host", "HOMEWARD_BROKR_URL"),
    env("HOMEWARD_INGEST_MAX_ROWS", "many", "HOMEWARD_INGEST_MAX_ROWS"),
    env("HOMEWARD_PREDICT_SCORE_SHARE", "2", "predict.score_share"),
    env("HOMEWARD_DECIDE_SPEED", "-3", "decide.speed"),
    env("HOMEWARD_BROKER_PASSWORD", "secret", "broker.user"),
    env("HOMEWARD_BROKER_TLS_CA", "/nowhere/ca.pem", "TLS options are given"),
    args(&["fly"], "fly"),
    args(&["predict", "--dryrun"], "--dryrun"),
    args(&["ingest", "--config", "nowhere.toml"], "nowhere.toml"),
    args(&["train", "--promote", "perhaps"], "promote"),
    args(&["train", "--every", "soon"], "--every"),
    args(&["simulate", "--speed", "fast"], "--speed"),
    args(&["simulate", "--start", "yesterday"], "--start"),
    args(&["simulate", "--drones", "0"], "--drones"),
    args(&["publish", "homeward.toml", "--format", "cmapss", "--rate", "0"], "--rate"),
    args(&["import", "homeward.toml", "--format", "csv"], "source"),
    args(&["models", "promote", "newest"], "newest"),
];

#[test]
fn every_mistake_is_named_in_one_line_before_anything_connects() {
    let _turn = beside_others();
    let sample = std::fs::read_to_string(workspace("homeward.toml")).unwrap();
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    broker.set_nonblocking(true).unwrap();
    let url = format!("mqtt://{}", broker.local_addr().unwrap());
    let sample = sample.replace("mqtt://127.0.0.1:1883", &url);
    for mistake in MISTAKES {
        assert_named(mistake, &sample, &broker);
    }
}

fn assert_named(mistake: &Mistake, sample: &str, broker: &TcpListener) {
    assert!(sample.contains(mistake.from), "{} is not in the sample", mistake.from);
    let mut site = Site::new(&sample.replacen(mistake.from, mistake.to, 1)).without("HOMEWARD_STORE_URL");
    if let Some((name, value)) = mistake.env {
        site = site.with(name, value);
    }
    let done = site.run(mistake.args);
    let what = format!("{} {:?} {:?}: {done:?}", mistake.to, mistake.env, mistake.args);
    assert_eq!(done.code, Some(2), "{what}");
    assert_eq!((done.stderr.lines().count(), done.stdout.as_str()), (1, ""), "{what}");
    assert!(done.stderr.contains(mistake.names), "not named: {what}");
    assert!(!done.stderr.contains("secret"), "told a secret: {what}");
    assert!(broker.accept().is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "connected: {what}");
    assert!(!site.path("homeward-data").exists(), "made a store: {what}");
}

#[test]
fn the_sample_configuration_is_good() {
    let _turn = beside_others();
    let site = Site::new(&std::fs::read_to_string(workspace("homeward.toml")).unwrap());
    let done = site.run(&["check", "--offline"]);
    assert_eq!(done.code, Some(0), "{done:?}");
}
