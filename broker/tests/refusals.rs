//! What a broker can say no to, and how it is told: passwords, rules, certificates, reason codes.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::future::pending;
use std::path::Path;

use homeward_broker::testing::Mosquitto;
use homeward_broker::{ConnectError, Credentials, Inbox, MqttInbox, MqttOutbox, Options, Outbox, Outgoing, PublishError, Settings, Tls};
use support::{PASSWORD, certificates, guarded, options, read, settings, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// CONNACK: accepted, a new session, no properties.
const ACCEPTED: &[u8] = &[0x20, 3, 0, 0, 0];

/// A broker that answers each chunk it reads with the next of `answers`, once.
async fn scripted(answers: &'static [&'static [u8]]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut heard = [0; 4096];
        for answer in answers {
            let _ = socket.read(&mut heard).await;
            socket.write_all(answer).await.unwrap();
        }
        while socket.read(&mut heard).await.is_ok_and(|n| n > 0) {}
    });
    url
}

async fn inbox_error(settings: Settings) -> ConnectError {
    soon(MqttInbox::connect(settings, &["t/#".into()], pending())).await.err().expect("this cannot succeed")
}

async fn published(answers: &'static [&'static [u8]], message: Outgoing) -> Result<(), PublishError> {
    let url = scripted(answers).await;
    let (outbox, _driver) = MqttOutbox::connect(settings(&url, "out"), pending()).await.unwrap();
    soon(outbox.publish(message)).await
}

#[tokio::test]
async fn a_refused_connection_says_what_the_broker_said() {
    let url = scripted(&[&[0x20, 3, 0, 0x86, 0]]).await;
    let error = inbox_error(settings(&url, "in")).await;
    assert!(matches!(&error, ConnectError::Refused { code, .. } if code == "BadUserNamePassword"), "{error}");
    assert!(!error.may_pass());
}

#[tokio::test]
async fn a_refused_subscription_names_filter_and_reason() {
    let url = scripted(&[ACCEPTED, &[0x90, 4, 0, 1, 0, 0x87]]).await;
    let error = inbox_error(settings(&url, "in")).await;
    let expected =
        |e: &ConnectError| matches!(e, ConnectError::Subscription { filter, code, .. } if filter == "t/#" && code == "NotAuthorized");
    assert!(expected(&error), "{error}");
}

#[tokio::test]
async fn a_subscription_without_confirmation_is_refused() {
    let url = scripted(&[ACCEPTED, &[0x90, 4, 0, 1, 0, 0]]).await;
    let error = inbox_error(settings(&url, "in")).await;
    assert!(error.to_string().contains("QoS 1 is needed"), "{error}");
}

#[tokio::test]
async fn a_bad_filter_is_found_before_anything_connects() {
    let error = MqttInbox::connect(settings("mqtt://127.0.0.1:1", "in"), &["a/#/b".into()], pending()).await.err();
    assert!(matches!(error, Some(ConnectError::Subscription { filter, .. }) if filter == "a/#/b"));
}

#[tokio::test]
async fn a_broker_that_is_not_there_may_come() {
    let error = inbox_error(settings("mqtt://127.0.0.1:1", "in")).await;
    assert!(error.may_pass(), "{error}");
}

#[tokio::test]
async fn what_does_not_speak_mqtt_is_named() {
    let url = scripted(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]).await;
    let error = inbox_error(settings(&url, "in")).await;
    assert!(matches!(error, ConnectError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_puback_with_an_error_is_one_and_no_subscriber_is_none() {
    let one = || Outgoing::new("t/a", "x");
    assert_eq!(published(&[ACCEPTED, &[0x40, 2, 0, 1]], one()).await, Ok(()));
    assert_eq!(published(&[ACCEPTED, &[0x40, 3, 0, 1, 0x10]], one()).await, Ok(()));
    let quota = published(&[ACCEPTED, &[0x40, 4, 0, 1, 0x97, 0]], one()).await;
    assert_eq!(quota, Err(PublishError::Refused { topic: "t/a".into(), code: "QuotaExceeded".into() }));
}

#[tokio::test]
async fn what_the_broker_does_not_take_is_not_sent() {
    // CONNACK with maximum packet size 100; with retain not available; with maximum QoS 0.
    let large = published(&[&[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 100]], Outgoing::new("t", vec![0; 200])).await;
    assert!(matches!(large, Err(PublishError::Unfit { .. })), "{large:?}");
    let kept = Outgoing { retain: true, ..Outgoing::new("t", "x") };
    let retain = published(&[&[0x20, 5, 0, 0, 2, 0x25, 0]], kept).await;
    assert!(matches!(retain, Err(PublishError::Unfit { .. })), "{retain:?}");
    let confirmed = published(&[&[0x20, 5, 0, 0, 2, 0x24, 0]], Outgoing::new("t", "x")).await;
    assert!(matches!(confirmed, Err(PublishError::Unfit { .. })), "{confirmed:?}");
}

/// A broker that knows one user, who may write below `t/` only.
fn one_pilot(folder: &Path) -> Vec<String> {
    guarded(folder, &["pilot"], "user pilot\ntopic readwrite t/#\n")
}

fn login(url: &str, password: &str) -> Settings {
    let credentials = Some(Credentials { user: "pilot".into(), password: password.into() });
    Settings::check(Options { credentials, ..options(url, "c") }).unwrap()
}

#[tokio::test]
async fn a_wrong_password_is_a_clear_error_and_the_right_one_opens() {
    let Some(broker) = Mosquitto::start_with("mqtt", one_pilot) else { return };
    let broker = broker.unwrap();
    let error = inbox_error(login(&broker.url(), "wrong")).await;
    assert!(matches!(&error, ConnectError::Refused { code, .. } if code == "NotAuthorized"), "{error}");
    let (outbox, _driver) = MqttOutbox::connect(login(&broker.url(), PASSWORD), pending()).await.unwrap();
    soon(outbox.publish(Outgoing::new("t/a", "x"))).await.unwrap();
    let refused = soon(outbox.publish(Outgoing::new("elsewhere", "x"))).await;
    assert_eq!(refused, Err(PublishError::Refused { topic: "elsewhere".into(), code: "NotAuthorized".into() }));
}

fn mutual(folder: &Path) -> Vec<String> {
    certificates(folder);
    let line = |key: &str, file: &str| format!("{key} {}", folder.join(file).display());
    vec![
        "allow_anonymous true".into(),
        line("cafile", "ca.pem"),
        line("certfile", "broker.pem"),
        line("keyfile", "broker.key"),
        "require_certificate true".into(),
    ]
}

fn one_sided(folder: &Path) -> Vec<String> {
    mutual(folder).into_iter().filter(|line| line != "require_certificate true").collect()
}

fn secured(broker: &Mosquitto, identity: bool) -> Settings {
    let file = |name: &str| broker.folder().join(name);
    let tls = Tls {
        ca_file: Some(file("ca.pem")),
        cert_file: identity.then(|| file("client.pem")),
        key_file: identity.then(|| file("client.key")),
        alpn: Vec::new(),
    };
    Settings::check(Options { tls, ..options(&broker.url(), "in") }).unwrap()
}

async fn loops_back(settings: &Settings) {
    let (inbox, _reader) = MqttInbox::connect(settings.clone(), &["t/#".into()], pending()).await.unwrap();
    inbox.attach("r").unwrap();
    let other = settings.with_client_id("out").unwrap();
    let (outbox, _writer) = MqttOutbox::connect(other, pending()).await.unwrap();
    let many = (0..2_000).map(|n| Outgoing::new("t/a", n.to_string())).collect();
    soon(outbox.publish_all(many)).await.unwrap();
    assert_eq!(read(&*inbox, 0, 2_000).await[1_999].payload, "1999");
}

#[tokio::test]
async fn tls_trusts_only_who_is_named() {
    let Some(broker) = Mosquitto::start_with("mqtts", one_sided) else { return };
    let broker = broker.unwrap();
    loops_back(&secured(&broker, false)).await;
    let stranger = tempfile::tempdir().unwrap();
    certificates(stranger.path());
    let tls = Tls { ca_file: Some(stranger.path().join("ca.pem")), ..Tls::default() };
    let error = inbox_error(Settings::check(Options { tls, ..options(&broker.url(), "in") }).unwrap()).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn mutual_tls_wants_our_certificate() {
    let Some(broker) = Mosquitto::start_with("mqtts", mutual) else { return };
    let broker = broker.unwrap();
    loops_back(&secured(&broker, true)).await;
    let error = inbox_error(secured(&broker, false)).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
}
