//! What a connection promises on the wire: what it announces, whom it trusts, when it ends, what it says on the next one.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::future::pending;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use homeward_broker::testing::Mosquitto;
use homeward_broker::{
    ConnectError, Credentials, Inbox, Journal, JournalOptions, MemoryInbox, MqttInbox, MqttOutbox, Options, Outbox, Outgoing, PublishError,
    Settings, Shelf, Tls,
};
use rumqttc::tokio_rustls::LazyConfigAcceptor;
use rumqttc::tokio_rustls::server::TlsStream;
use rumqttc::v5::mqttbytes::v5::{Connect, Packet, PingResp};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::Acceptor;
use support::fake::{Fake, Peer, connack};
use support::{PASSWORD, certificates, guarded, has_openssl, options, read, soon, texts, until};
use tokio::join;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);

type Running<S = MemoryInbox> = (Arc<MqttInbox<S>>, JoinHandle<()>);

/// An inbox at a fake broker, with the reader `r`.
async fn inbox_to<S: Shelf>(shelf: S, options: Options) -> Running<S> {
    let settings = Settings::check(options).unwrap();
    let running = soon(MqttInbox::connect_to(Arc::new(shelf), settings, &["t/#".into()], pending())).await.unwrap();
    running.0.attach("r").unwrap();
    running
}

async fn inbox(options: Options) -> Running {
    inbox_to(MemoryInbox::new(), options).await
}

fn plain(fake: &Fake) -> Options {
    options(&fake.url("mqtt"), "in")
}

/// Pings after three quarters of a second, so that tests need not wait for long.
fn impatient(fake: &Fake) -> Options {
    Options { keep_alive: SECOND, ..plain(fake) }
}

async fn leave<S: Shelf>((inbox, driver): Running<S>, peer: Peer) {
    inbox.finish();
    peer.hear_disconnect().await;
    soon(driver).await.unwrap();
}

// What CONNECT announces.

#[tokio::test]
async fn an_inbox_asks_to_go_on_with_its_session_and_for_packets_of_any_size() {
    let fake = Fake::start().await;
    let session_expiry = Duration::from_secs(3_600);
    let own = Options { session_expiry, receive_maximum: 123, max_packet_bytes: 1 << 20, ..options(&fake.url("mqtt"), "fleet-in") };
    let accepting = async {
        let mut peer = Peer::new(fake.socket().await);
        let connect = peer.accept(&connack(false)).await;
        peer.grant().await;
        (peer, connect)
    };
    let (_running, (_peer, connect)) = join!(inbox(own), accepting);
    let Connect { keep_alive, client_id, clean_start, properties } = connect;
    assert_eq!((client_id.as_str(), keep_alive, clean_start), ("fleet-in", 30, false));
    let announced = properties.unwrap();
    assert_eq!((announced.session_expiry_interval, announced.receive_maximum), (Some(3_600), Some(123)));
    assert_eq!(announced.max_packet_size, None, "a broker drops what is larger, silently");
    assert_eq!(announced.topic_alias_max, None, "aliases are not understood");
}

#[tokio::test]
async fn an_outbox_asks_for_a_session_that_begins_and_ends_with_its_connection() {
    let fake = Fake::start().await;
    let settings = Settings::check(options(&fake.url("mqtt"), "out")).unwrap();
    let accepting = async {
        let mut peer = Peer::new(fake.socket().await);
        let connect = peer.accept(&connack(false)).await;
        (peer, connect)
    };
    let (_outbox, (_peer, connect)) = join!(MqttOutbox::connect(settings, pending()), accepting);
    assert!(connect.clean_start);
    assert_eq!(connect.properties.unwrap().session_expiry_interval, Some(0));
}

// The watchdog.

#[tokio::test]
async fn a_broker_that_does_not_answer_pings_is_left_and_found_again() {
    let fake = Fake::start().await;
    let ((inbox, _driver), mut silent) = join!(inbox(impatient(&fake)), fake.accept_and_grant(false));
    silent.hear_ping().await;
    // The silent connection is held open until here: the client leaves it by itself.
    let mut next = fake.accept(true).await;
    assert!(silent.next().await.is_none(), "one ping is enough, and the old connection is closed");
    next.deliver(1, "heard").await;
    assert_eq!(texts(&read(&*inbox, 0, 1).await), ["heard"]);
    assert_eq!((inbox.stats().reconnects, inbox.stats().session_lost), (1, 0));
}

#[tokio::test]
async fn a_broker_that_answers_pings_is_kept() {
    let fake = Fake::start().await;
    let ((inbox, _driver), mut peer) = join!(inbox(impatient(&fake)), fake.accept_and_grant(false));
    // Longer than the silence that ends a connection.
    for _ in 0..8 {
        peer.hear_ping().await;
        peer.say(Packet::PingResp(PingResp)).await;
    }
    assert!(inbox.stats().connected);
    assert_eq!(inbox.stats().reconnects, 0);
}

#[tokio::test]
async fn the_keep_alive_of_the_broker_replaces_ours() {
    let fake = Fake::start().await;
    let accepting = async {
        let mut peer = Peer::new(fake.socket().await);
        // Accepted, with the property Server Keep Alive: 1 s.
        peer.accept(&[0x20, 6, 0, 0, 3, 0x13, 0, 1]).await;
        peer.grant().await;
        peer
    };
    let (_running, mut peer) = join!(inbox(Options { keep_alive: 60 * SECOND, ..plain(&fake) }), accepting);
    peer.hear_ping().await;
}

// What an earlier connection leaves behind.

#[tokio::test]
async fn a_release_from_before_a_reconnect_does_not_acknowledge_another_message_under_the_same_packet_id() {
    let fake = Fake::start().await;
    let ((inbox, driver), mut peer) = join!(inbox(impatient(&fake)), fake.accept_and_grant(false));
    peer.deliver(1, "first").await;
    read(&*inbox, 0, 1).await;
    drop(peer);
    let mut peer = fake.accept(true).await;
    peer.deliver(1, "second").await;
    assert_eq!(texts(&read(&*inbox, 1, 1).await), ["second"]);

    inbox.release("r", 1).unwrap();
    until(|| inbox.stats().acked + inbox.stats().stale_acks_dropped == 1).await;
    // The first ping may have left before the release; a PUBACK would leave before the second.
    for _ in 0..2 {
        peer.hear_ping().await;
        peer.say(Packet::PingResp(PingResp)).await;
    }
    inbox.release("r", 2).unwrap();
    assert_eq!(peer.hear_puback().await, 1);
    assert_eq!((inbox.stats().acked, inbox.stats().stale_acks_dropped), (1, 1));
    leave((inbox, driver), peer).await;
}

/// Everything this process logs as an error; each test finds its own by the address of its broker.
static ERRORS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Tap;

impl io::Write for Tap {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        ERRORS.lock().unwrap().write(line)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One subscriber for the process: one for each thread could miss what another thread's test caused to be logged first.
fn listen_to_errors() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_ansi(false).with_writer(|| Tap).init());
}

fn errors_at(fake: &Fake) -> Vec<String> {
    let all = String::from_utf8(ERRORS.lock().unwrap().clone()).unwrap();
    all.lines().filter(|line| line.contains(&fake.url("mqtt"))).map(str::to_owned).collect()
}

fn assert_one_loss(fake: &Fake) {
    let errors = errors_at(fake);
    assert!(errors.len() == 1 && errors[0].contains("the broker has lost our session"), "{errors:?}");
}

#[tokio::test]
async fn a_session_lost_between_two_connections_is_counted_logged_and_subscribed_again() {
    listen_to_errors();
    let fake = Fake::start().await;
    let (running, peer) = join!(inbox(plain(&fake)), fake.accept_and_grant(false));
    let lost = || running.0.stats().session_lost;
    assert_eq!((lost(), errors_at(&fake)), (0, vec![]), "a first session is no loss");
    drop(peer);
    let peer = fake.accept_and_grant(false).await;
    until(|| running.0.stats().connected).await;
    assert_eq!(lost(), 1);
    assert_one_loss(&fake);
    drop(peer);
    let peer = fake.accept(true).await;
    until(|| running.0.stats().reconnects == 2).await;
    assert_eq!(lost(), 1, "what the broker still has is not lost");
    assert_one_loss(&fake);
    leave(running, peer).await;
}

/// By the next connection the broker has a session of ours again, but one without a subscription.
#[tokio::test]
async fn a_subscription_that_was_cut_off_is_asked_for_again() {
    let fake = Fake::start().await;
    let ((inbox, _driver), peer) = join!(inbox(plain(&fake)), fake.accept_and_grant(false));
    drop(peer);
    let mut peer = fake.accept(false).await;
    peer.hear_subscribe().await;
    drop(peer);
    let mut peer = fake.accept_and_grant(true).await;
    peer.deliver(1, "heard").await;
    read(&*inbox, 0, 1).await;
    assert_eq!((inbox.stats().reconnects, inbox.stats().session_lost), (2, 1));
}

/// A SUBSCRIBE makes Mosquitto send all that it has queued, whatever the window.
#[tokio::test]
async fn a_session_that_was_granted_the_same_before_is_asked_again_only_when_nothing_comes() {
    let (fake, folder) = (Fake::start().await, tempfile::tempdir().unwrap());
    let journal = || Journal::open(JournalOptions::new(folder.path(), [7; 8])).unwrap();
    let (running, peer) = join!(inbox_to(journal(), plain(&fake)), fake.accept_and_grant(false));
    leave(running, peer).await;
    let (running, mut peer) = join!(inbox_to(journal(), plain(&fake)), fake.accept(true));
    for id in 1..=8 {
        peer.deliver(id, &format!("m{id}")).await;
        assert_eq!(peer.hear_puback().await, id, "and no SUBSCRIBE");
        tokio::time::sleep(SECOND * 3 / 10).await;
    }
    peer.grant().await;
    leave(running, peer).await;
}

#[tokio::test]
async fn more_than_can_be_held_before_a_subscription_is_granted_is_left_to_another_connection() {
    let fake = Fake::start().await;
    let small = Options { max_held_bytes: 1 << 20, ..plain(&fake) };
    let large = "x".repeat(1 << 20);
    let flooding = async {
        let mut peer = fake.accept(true).await;
        peer.deliver(1, &large).await;
        tokio::time::sleep(SECOND / 5).await;
        peer.deliver(2, "m2").await;
        peer.grant().await;
        assert!(peer.next().await.is_none(), "the connection goes on, without a message that is never acknowledged");
        let mut peer = fake.accept(true).await;
        peer.deliver(1, &large).await;
        peer.deliver(2, "m2").await;
        peer
    };
    let ((inbox, _driver), mut peer) = join!(inbox(small), flooding);
    let mut next = 0;
    let mut got = Vec::new();
    while got.last() != Some(&2) {
        let messages = read(&*inbox, next, 1).await;
        next += 1;
        inbox.release("r", next).unwrap();
        got.push(messages[0].payload.len());
    }
    assert_eq!(got, [1 << 20, 1 << 20, 2], "the first came by both connections");
    assert_eq!((peer.hear_puback().await, peer.hear_puback().await), (1, 2));
}

#[tokio::test]
async fn a_journal_that_was_filled_in_an_earlier_run_misses_its_session_at_the_first_connection() {
    listen_to_errors();
    let (fake, folder) = (Fake::start().await, tempfile::tempdir().unwrap());
    let run = async |session_present| {
        let journal = Journal::open(JournalOptions::new(folder.path(), [7; 8])).unwrap();
        let (running, mut peer) = join!(inbox_to(journal, plain(&fake)), fake.accept_and_grant(session_present));
        let lost = running.0.stats().session_lost;
        peer.deliver(1, "kept").await;
        peer.hear_puback().await;
        leave(running, peer).await;
        lost
    };
    assert_eq!((run(false).await, errors_at(&fake)), (0, vec![]), "an empty journal has nothing to miss");
    assert_eq!(run(true).await, 0);
    assert_eq!(errors_at(&fake), [""; 0]);
    assert_eq!(run(false).await, 1);
    assert_one_loss(&fake);
}

// TLS: the protocols of ALPN. What certificates do is in refusals.rs.

/// What a client says before anything is encrypted.
#[derive(Debug, PartialEq, Eq)]
struct Hello {
    protocols: Option<Vec<String>>,
    server_name: Option<String>,
}

fn server(folder: &Path, protocol: &str) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(folder.join("broker.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("broker.key")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let mut config = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![protocol.into()];
    Arc::new(config)
}

async fn shake_hands(fake: &Fake, config: Arc<ServerConfig>) -> (Hello, io::Result<TlsStream<TcpStream>>) {
    let start = soon(LazyConfigAcceptor::new(Acceptor::default(), fake.socket().await)).await.unwrap();
    let said = start.client_hello();
    let protocols = said.alpn().map(|names| names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect());
    let hello = Hello { protocols, server_name: said.server_name().map(str::to_owned) };
    (hello, soon(start.into_stream(config)).await)
}

/// Connects an inbox to a server of AWS' protocol: what it said, and what was chosen.
async fn hello_with(alpn: &[&str]) -> (Hello, Option<Vec<u8>>) {
    let (fake, folder) = (Fake::start().await, tempfile::tempdir().unwrap());
    certificates(folder.path());
    let accepting = async {
        let (hello, stream) = shake_hands(&fake, server(folder.path(), "x-amzn-mqtt-ca")).await;
        let mut peer = Peer::new(stream.unwrap());
        peer.accept(&connack(false)).await;
        peer.grant().await;
        (hello, peer)
    };
    let (_running, (hello, peer)) = join!(inbox(encrypted(&fake, folder.path(), alpn)), accepting);
    (hello, peer.stream().get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
}

fn encrypted(fake: &Fake, folder: &Path, alpn: &[&str]) -> Options {
    let alpn = alpn.iter().map(|&name| name.to_owned()).collect();
    let tls = Tls { ca_file: Some(folder.join("ca.pem")), alpn, ..Tls::default() };
    Options { tls, ..options(&fake.url("mqtts"), "in") }
}

fn at_localhost(protocols: Option<&[&str]>) -> Hello {
    let protocols = protocols.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    Hello { protocols, server_name: Some("localhost".into()) }
}

#[tokio::test]
async fn alpn_names_the_configured_protocols_in_their_order() {
    if !has_openssl() {
        return;
    }
    let (hello, chosen) = hello_with(&["x-amzn-mqtt-ca"]).await;
    assert_eq!(hello, at_localhost(Some(&["x-amzn-mqtt-ca"])));
    assert_eq!(chosen.unwrap(), b"x-amzn-mqtt-ca");
    let (hello, _) = hello_with(&["mqtt", "x-amzn-mqtt-ca"]).await;
    assert_eq!(hello, at_localhost(Some(&["mqtt", "x-amzn-mqtt-ca"])));
}

#[tokio::test]
async fn without_configuration_alpn_is_not_used() {
    if has_openssl() {
        assert_eq!(hello_with(&[]).await, (at_localhost(None), None));
    }
}

#[tokio::test]
async fn a_server_that_speaks_none_of_the_protocols_is_a_clear_error() {
    if !has_openssl() {
        return;
    }
    let (fake, folder) = (Fake::start().await, tempfile::tempdir().unwrap());
    certificates(folder.path());
    let settings = Settings::check(encrypted(&fake, folder.path(), &["x-amzn-mqtt-ca"])).unwrap();
    let filters = ["t/#".to_owned()];
    let (refused, _) = join!(soon(MqttInbox::connect(settings, &filters, pending())), shake_hands(&fake, server(folder.path(), "mqtt")));
    let error = refused.err().expect("this cannot succeed");
    assert!(matches!(&error, ConnectError::Tls { reason, .. } if reason.contains("NoApplicationProtocol")), "{error}");
}

// Least rights.

/// The rules of docs/brokers.md in short: ingest only listens, predict alone calls a device home.
const RULES: &str = "\
user ingest
topic read fleet/+/telemetry
topic read fleet/+/events
user predict
topic write fleet/+/return-to-base
user d1
topic write fleet/d1/telemetry
topic write fleet/d1/events
topic read fleet/d1/return-to-base
";

fn fleet(folder: &Path) -> Vec<String> {
    guarded(folder, &["ingest", "predict", "d1"], RULES)
}

fn settings_of(user: &str, url: &str, client_id: &str) -> Settings {
    let credentials = Some(Credentials { user: user.into(), password: PASSWORD.into() });
    Settings::check(Options { credentials, ..options(url, client_id) }).unwrap()
}

async fn hears(user: &str, url: &str, filter: &str) -> Running {
    let settings = settings_of(user, url, &format!("{user}-in"));
    let running = soon(MqttInbox::connect(settings, &[filter.into()], pending())).await.unwrap();
    running.0.attach("r").unwrap();
    running
}

/// Publishes as a user; the payload is the user's name.
async fn says(user: &'static str, url: &str, topic: &str) -> Result<(), PublishError> {
    let (outbox, _driver) = MqttOutbox::connect(settings_of(user, url, &format!("{user}-out")), pending()).await.unwrap();
    soon(outbox.publish(Outgoing::new(topic, user))).await
}

fn not_authorized(topic: &str) -> Result<(), PublishError> {
    Err(PublishError::Refused { topic: topic.into(), code: "NotAuthorized".into() })
}

#[tokio::test]
async fn only_predict_can_call_a_device_home() {
    let Some(broker) = Mosquitto::start_with("mqtt", fleet) else { return };
    let broker = broker.unwrap();
    let (url, call) = (broker.url(), "fleet/d1/return-to-base");
    let (device, _driver) = hears("d1", &url, call).await;
    for user in ["ingest", "d1"] {
        assert_eq!(says(user, &url, call).await, not_authorized(call), "{user}");
    }
    assert_eq!(says("predict", &url, call).await, Ok(()));
    // The broker keeps the order: what the others said would have come before.
    assert_eq!(texts(&read(&*device, 0, 1).await), ["predict"]);
}

#[tokio::test]
async fn ingest_hears_telemetry_and_events_and_nothing_else() {
    let Some(broker) = Mosquitto::start_with("mqtt", fleet) else { return };
    let broker = broker.unwrap();
    let (ingest, _driver) = hears("ingest", &broker.url(), "fleet/#").await;
    for (user, topic) in [("predict", "fleet/d1/return-to-base"), ("d1", "fleet/d1/telemetry"), ("d1", "fleet/d1/events")] {
        assert_eq!(says(user, &broker.url(), topic).await, Ok(()), "{user}: {topic}");
    }
    let got: Vec<_> = read(&*ingest, 0, 2).await.into_iter().map(|message| message.topic).collect();
    assert_eq!(got, ["fleet/d1/telemetry", "fleet/d1/events"]);
    assert_eq!(ingest.stats().received, 2);
    let elsewhere = "fleet/d1/telemetry";
    assert_eq!(says("ingest", &broker.url(), elsewhere).await, not_authorized(elsewhere), "it listens only");
}
