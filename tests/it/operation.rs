//! What operators see of a running ingest: metrics, readiness, a strict configuration that is refused, a lost session.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use homeward_broker::testing::Mosquitto;

use crate::harness::mqtt::Clients;
use crate::harness::{Service, Site, beside_others, files, mosquitto, wait_until};

const CONFIG: &str = r#"
[fleet]
name = "t"
[fleet.signals]
n = { at = "/n" }
[ingest]
max_age = "100ms"
"#;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Status line and body of a GET.
fn get(port: u16, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

fn metric(port: u16, name: &str) -> f64 {
    let (_, page) = get(port, "/metrics").unwrap();
    let line = page.lines().find(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {name} in:\n{page}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn start(site: &Site) -> Service {
    let mut service = site.start(&["ingest", "--json"]);
    service.says("ingest runs");
    service
}

fn publish(broker: &Mosquitto, payloads: impl IntoIterator<Item = String>) {
    let messages = payloads.into_iter().map(|p| ("fleet/d-1/telemetry".to_owned(), p.into_bytes())).collect();
    Clients::of(&broker.url()).publish(messages);
}

#[test]
fn metrics_count_every_message_and_readiness_follows_the_store() {
    let Some(broker) = mosquitto("operation: metrics") else { return };
    let _turn = beside_others();
    let port = free_port();
    let site = Site::new(CONFIG)
        .with("HOMEWARD_BROKER_URL", &broker.url())
        .with("HOMEWARD_SERVE_LISTEN", &format!("127.0.0.1:{port}"))
        .with("HOMEWARD_SERVE_STORE_GRACE", "1s");
    let service = start(&site);
    let reading = |n: i64| format!(r#"{{"ts": {}, "n": {n}}}"#, 1_764_000_000_000 + n);
    publish(&broker, (0..10).map(reading).chain(["junk".to_owned(), reading(3)]));
    wait_until("12 messages archived", || metric(port, "homeward_archived_total") == 12.0);
    for (name, value) in [
        ("homeward_received_total", 12.0),
        ("homeward_journaled_total", 12.0),
        ("homeward_acknowledged_total", 12.0),
        ("homeward_archived_readings_total", 10.0),
        ("homeward_duplicates_total", 1.0),
        ("homeward_quarantined_total{reason=\"not_json\"}", 1.0),
        ("homeward_journal_messages", 0.0),
        ("homeward_oldest_unreleased_seconds", 0.0),
        ("homeward_broker_connected", 1.0),
        ("homeward_journal_full", 0.0),
        ("homeward_sessions_lost_total", 0.0),
    ] {
        assert_eq!(metric(port, name), value, "{name}");
    }
    assert!(metric(port, "homeward_fsync_seconds_count") >= 1.0 && metric(port, "homeward_put_seconds_count") >= 1.0);
    assert!(metric(port, "homeward_received_bytes_total") > 300.0 && metric(port, "homeward_objects_bytes_total") > 300.0);
    assert_eq!(get(port, "/healthz").unwrap().0, "HTTP/1.1 200 OK");
    assert_eq!(get(port, "/readyz").unwrap(), ("HTTP/1.1 200 OK".to_owned(), "ready\n".to_owned()));

    // The store goes away: its folder becomes a file.
    let (store, aside) = (site.path("store"), site.path("aside"));
    std::fs::rename(&store, &aside).unwrap();
    std::fs::write(&store, "not a folder").unwrap();
    publish(&broker, [reading(100)]);
    wait_until("readiness is red", || get(port, "/readyz").unwrap().0.contains("503"));
    assert!(get(port, "/readyz").unwrap().1.starts_with("store: a batch has been on its way for"));
    assert!(metric(port, "homeward_store_waiting_seconds") >= 1.0 && metric(port, "homeward_oldest_unreleased_seconds") >= 1.0);
    assert_eq!(metric(port, "homeward_acknowledged_total"), 13.0, "the journal has it: it is acknowledged");
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&aside, &store).unwrap();
    wait_until("readiness is green again", || get(port, "/readyz").unwrap().0.contains("200"));
    assert_eq!(metric(port, "homeward_archived_total"), 13.0);
    assert_eq!(service.terminate().code, Some(0));
}

#[test]
fn a_strict_configuration_that_would_stall_is_refused_with_the_largest_rate() {
    let Some(Ok(broker)) = Mosquitto::start_with("mqtt", |_| vec!["allow_anonymous true".into(), "max_inflight_messages 20".into()]) else {
        return;
    };
    let _turn = beside_others();
    let site = Site::new(CONFIG).with("HOMEWARD_BROKER_URL", &broker.url()).with("HOMEWARD_INGEST_MAX_AGE", "10s");
    let strict = site.with("HOMEWARD_INGEST_ACK", "object");
    let done = strict.run(&["ingest"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("2.0 messages/s") && done.stderr.contains("ingest.max_rows"), "{}", done.stderr);
    let fits = strict.with("HOMEWARD_INGEST_MAX_ROWS", "10");
    assert_eq!(start(&fits).terminate().code, Some(0));
    let journal = fits.with("HOMEWARD_INGEST_ACK", "journal").with("HOMEWARD_INGEST_MAX_ROWS", "65536");
    assert_eq!(start(&journal).terminate().code, Some(0));
}

#[test]
fn a_session_that_the_broker_lost_between_two_runs_is_an_error_in_the_log_and_a_metric() {
    let Some(mut broker) = mosquitto("operation: lost session") else { return };
    let _turn = beside_others();
    let port = free_port();
    let site = Site::new(CONFIG).with("HOMEWARD_BROKER_URL", &broker.url()).with("HOMEWARD_SERVE_LISTEN", &format!("127.0.0.1:{port}"));
    let first = start(&site);
    publish(&broker, [r#"{"ts": 1764000000000, "n": 1}"#.to_owned()]);
    wait_until("it is archived", || metric(port, "homeward_archived_total") == 1.0);
    assert!(!first.said().contains("lost our session"), "{}", first.said());
    assert_eq!(first.terminate().code, Some(0));
    broker.stop().unwrap();
    broker.forget().unwrap();
    broker.run().unwrap();
    let second = start(&site);
    assert_eq!(metric(port, "homeward_sessions_lost_total"), 1.0);
    assert!(second.said().contains("ERROR") && second.said().contains("lost our session"), "{}", second.said());
    assert_eq!(second.terminate().code, Some(0));
}

#[test]
fn two_ingests_on_one_journal_are_told_apart() {
    let Some(broker) = mosquitto("operation: two on one journal") else { return };
    let _turn = beside_others();
    let site = Site::new(CONFIG).with("HOMEWARD_BROKER_URL", &broker.url());
    let first = start(&site);
    let second = site.run(&["ingest"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("homeward-journal") && second.stderr.lines().count() == 1, "{}", second.stderr);
    assert_eq!(first.terminate().code, Some(0));
}

#[test]
fn a_damaged_journal_stops_ingest_by_place_and_skip_damaged_goes_on() {
    let Some(broker) = mosquitto("operation: damage") else { return };
    let _turn = beside_others();
    // The store is no folder: everything stays in the journal.
    let site = Site::new(CONFIG).with("HOMEWARD_BROKER_URL", &broker.url());
    let service = start(&site);
    std::fs::remove_dir_all(site.path("store")).unwrap();
    std::fs::write(site.path("store"), "not a folder").unwrap();
    for n in 0..20 {
        publish(&broker, [format!(r#"{{"ts": {}, "n": {n}}}"#, 1_764_000_000_000_i64 + n)]);
        std::thread::sleep(Duration::from_millis(10));
    }
    service.kill();
    let journal = site.path("homeward-journal/ingest");
    let (segment, bytes) = files(&journal).into_iter().find(|(name, _)| name.ends_with(".seg")).unwrap();
    let at = bytes.windows(7).position(|w| w == br#""n": 7}"#).unwrap();
    let mut bytes = bytes;
    bytes[at + 5] ^= 1;
    std::fs::write(journal.join(&segment), bytes).unwrap();
    std::fs::remove_file(site.path("store")).unwrap();

    let stopped = site.run(&["ingest"]);
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    assert!(stopped.stderr.contains(&segment) && stopped.stderr.contains("--skip-damaged"), "{}", stopped.stderr);
    let mut skipping = site.start(&["ingest", "--skip-damaged"]);
    skipping.says("ingest runs");
    let mut archive = crate::harness::archive::Archive::of(&site);
    wait_until("19 readings in the archive", || archive.count(homeward_store::keys::Table::Telemetry) == 19);
    assert_eq!(skipping.terminate().code, Some(0));
    let kept: Vec<f64> = archive.readings("n").iter().map(|r| r.2).collect();
    assert_eq!(kept, (0..20).filter(|n| *n != 7).map(f64::from).collect::<Vec<_>>());
}

#[test]
fn a_damaged_journal_stops_predict_too_and_its_metrics_say_what_was_skipped_and_what_was_heard() {
    let Some(broker) = mosquitto("operation: predict's damage") else { return };
    let _turn = beside_others();
    let port = free_port();
    let site = Site::new(CONFIG)
        .with("HOMEWARD_BROKER_URL", &broker.url())
        .with("HOMEWARD_SERVE_LISTEN", &format!("127.0.0.1:{port}"))
        .with("HOMEWARD_PREDICT_KEEP_EVERY", "1h");
    // No model: every reading is heard, and none scored. What is remembered of it is kept every ten seconds, set to an hour here; until then all stays in the journal.
    let mut service = site.start(&["predict", "--json"]);
    service.says("predict runs");
    for n in 0..20 {
        publish(&broker, [format!(r#"{{"ts": {}, "n": {n}}}"#, 1_764_000_000_000_i64 + n)]);
    }
    wait_until("20 readings heard", || metric(port, "homeward_unscored_total") == 20.0);
    assert_eq!(metric(port, "homeward_journaled_total"), 20.0);
    assert_eq!(metric(port, "homeward_models_total"), 0.0);
    let (status, troubles) = get(port, "/readyz").unwrap();
    assert!(status.contains("503") && troubles.contains("model: none in service"), "{status} {troubles}");
    service.kill();
    let journal = site.path("homeward-journal/predict");
    let (segment, mut bytes) = files(&journal).into_iter().find(|(name, _)| name.ends_with(".seg")).unwrap();
    let at = bytes.windows(7).position(|w| w == br#""n": 7}"#).unwrap();
    bytes[at + 5] ^= 1;
    std::fs::write(journal.join(&segment), bytes).unwrap();

    let stopped = site.run(&["predict"]);
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    assert!(stopped.stderr.contains(&segment) && stopped.stderr.contains("--skip-damaged"), "{}", stopped.stderr);
    let mut skipping = site.start(&["predict", "--skip-damaged"]);
    skipping.says("predict runs");
    wait_until("19 readings heard", || metric(port, "homeward_unscored_total") == 19.0);
    assert!(metric(port, "homeward_journal_damaged_bytes_total") > 0.0);
    assert_eq!(skipping.terminate().code, Some(0));
}
