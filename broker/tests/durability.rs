//! What survives when clients and a real broker come and go. Skipped, loudly, without Mosquitto.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use homeward_broker::testing::Mosquitto;
use homeward_broker::{Inbox, MqttInbox, MqttOutbox, Outbox, Outgoing, PublishError};
use support::{read, settings, soon, texts, until};
use tokio::task::JoinHandle;

async fn inbox(url: &str) -> (Arc<MqttInbox>, JoinHandle<()>) {
    let (inbox, driver) = MqttInbox::connect(settings(url, "in"), &["t/#".into()], pending()).await.unwrap();
    inbox.attach("r").unwrap();
    (inbox, driver)
}

async fn outbox(url: &str) -> (Arc<MqttOutbox>, JoinHandle<()>) {
    MqttOutbox::connect(settings(url, "out"), pending()).await.unwrap()
}

async fn publish(url: &str, texts: impl IntoIterator<Item = usize>) {
    let (outbox, driver) = outbox(url).await;
    soon(outbox.publish_all(numbers(texts))).await.unwrap();
    drop(outbox);
    soon(driver).await.unwrap();
}

fn numbers(numbers: impl IntoIterator<Item = usize>) -> Vec<Outgoing> {
    numbers.into_iter().map(|n| Outgoing::new("t/a", n.to_string())).collect()
}

fn names(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|n| n.to_string()).collect()
}

async fn leave(inbox: Arc<MqttInbox>, driver: JoinHandle<()>) {
    inbox.finish();
    soon(driver).await.unwrap();
}

#[tokio::test]
async fn the_next_client_gets_what_was_not_released_and_nothing_else() {
    let Some(broker) = Mosquitto::start() else { return };
    let broker = broker.unwrap();
    let url = broker.url();
    let (first, driver) = inbox(&url).await;
    assert!(!first.resumed());
    publish(&url, 0..10).await;
    read(&*first, 0, 10).await;
    first.release("r", 6).unwrap();
    leave(first, driver).await;

    publish(&url, 10..12).await;
    let (second, driver) = inbox(&url).await;
    assert!(second.resumed());
    let got = read(&*second, 0, 6).await;
    assert_eq!(texts(&got), names(6..12));
    assert!(got[..4].iter().all(|m| m.duplicate) && !got[4].duplicate, "the broker marks repetitions");
    second.release("r", 6).unwrap();
    leave(second, driver).await;

    let (third, driver) = inbox(&url).await;
    publish(&url, [12]).await;
    assert_eq!(texts(&read(&*third, 0, 1).await), ["12"]);
    leave(third, driver).await;
}

#[tokio::test]
async fn an_abrupt_end_releases_nothing_that_was_not_released() {
    let Some(broker) = Mosquitto::start() else { return };
    let broker = broker.unwrap();
    let (first, driver) = inbox(&broker.url()).await;
    publish(&broker.url(), 0..5).await;
    read(&*first, 0, 5).await;
    first.release("r", 2).unwrap();
    until(|| first.stats().acked == 2).await;
    driver.abort();
    let _ = driver.await;
    let (second, driver) = inbox(&broker.url()).await;
    // The two were written to the socket before the end; the broker may or may not have read them.
    let got = read(&*second, 0, 3).await;
    assert!(texts(&got).ends_with(&names(2..5)) || texts(&read(&*second, 0, 5).await) == names(0..5));
    leave(second, driver).await;
}

#[tokio::test]
async fn a_broker_restart_loses_nothing_and_the_clients_go_on() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut broker = broker.unwrap();
    let (inbox, receiver) = inbox(&broker.url()).await;
    let (outbox, sender) = outbox(&broker.url()).await;
    soon(outbox.publish_all(numbers(0..100))).await.unwrap();
    read(&*inbox, 0, 100).await;
    inbox.release("r", 100).unwrap();
    until(|| inbox.stats().acked == 100).await;

    broker.stop().unwrap();
    let receipt = outbox.submit(numbers(100..1100)).await;
    broker.run().unwrap();
    soon(receipt).await.unwrap();
    assert_eq!(texts(&read(&*inbox, 100, 1000).await), names(100..1100));
    let stats = inbox.stats();
    assert_eq!((stats.reconnects, stats.session_lost, stats.stale_acks_dropped), (1, 0, 0));
    assert_eq!(outbox.stats().confirmed, 1100);
    leave(inbox, receiver).await;
    drop(outbox);
    soon(sender).await.unwrap();
}

#[tokio::test]
async fn publishes_in_flight_when_the_broker_dies_are_sent_again() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut broker = broker.unwrap();
    let (outbox, driver) = outbox(&broker.url()).await;
    let receipt = outbox.submit(numbers(0..100_000)).await;
    broker.kill().unwrap();
    broker.run().unwrap();
    soon(receipt).await.unwrap();
    assert_eq!((outbox.stats().confirmed, outbox.stats().failed), (100_000, 0));
    until(|| outbox.stats().reconnects >= 1).await;
    drop(outbox);
    soon(driver).await.unwrap();
}

#[tokio::test]
async fn an_acknowledgement_from_before_a_reconnect_confirms_nothing_after_it() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut broker = broker.unwrap();
    let url = broker.url();
    let (first, driver) = inbox(&url).await;
    publish(&url, 0..3).await;
    read(&*first, 0, 3).await;
    broker.restart().unwrap();
    let repeated = read(&*first, 3, 3).await;
    assert_eq!(texts(&repeated), names(0..3));
    first.release("r", 3).unwrap();
    until(|| first.stats().stale_acks_dropped == 3).await;
    assert_eq!(first.stats().acked, 0);
    leave(first, driver).await;

    let (second, driver) = inbox(&url).await;
    assert_eq!(texts(&read(&*second, 0, 3).await), names(0..3), "the broker still holds all of them");
    leave(second, driver).await;
}

#[tokio::test]
async fn a_lost_session_is_counted_and_subscribed_again() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut broker = broker.unwrap();
    let url = broker.url();
    let (inbox, driver) = inbox(&url).await;
    broker.stop().unwrap();
    broker.forget().unwrap();
    broker.run().unwrap();
    until(|| inbox.stats().reconnects == 1).await;
    assert_eq!(inbox.stats().session_lost, 1);
    soon(async {
        // The subscription follows the reconnect; until then nobody keeps what is published.
        while inbox.is_empty() {
            publish(&url, [1]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    leave(inbox, driver).await;
}

#[tokio::test]
async fn a_message_of_a_megabyte_arrives_whole() {
    let Some(broker) = Mosquitto::start() else { return };
    let broker = broker.unwrap();
    let (inbox, receiver) = inbox(&broker.url()).await;
    let (outbox, _sender) = outbox(&broker.url()).await;
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    soon(outbox.publish(Outgoing::new("t/a", large.clone()))).await.unwrap();
    assert_eq!(read(&*inbox, 0, 1).await[0].payload, large);
    leave(inbox, receiver).await;
}

#[tokio::test]
async fn a_stop_waits_for_the_release_of_what_is_held_and_acknowledges_it() {
    let Some(broker) = Mosquitto::start() else { return };
    let broker = broker.unwrap();
    let url = broker.url();
    let (signal, shutdown) = tokio::sync::oneshot::channel::<()>();
    let (first, driver) = MqttInbox::connect(settings(&url, "in"), &["t/#".into()], async {
        let _ = shutdown.await;
    })
    .await
    .unwrap();
    first.attach("r").unwrap();
    publish(&url, 0..3).await;
    read(&*first, 0, 3).await;
    signal.send(()).unwrap();
    assert!(soon(first.read("r", 3, 1, &mut Vec::new())).await.is_err(), "readers are told");
    publish(&url, 3..5).await;
    first.release("r", 3).unwrap();
    soon(driver).await.unwrap();
    assert_eq!(first.stats().acked, 3);

    let (second, driver) = inbox(&url).await;
    assert_eq!(texts(&read(&*second, 0, 2).await), names(3..5), "what came during the stop stays with the broker");
    leave(second, driver).await;
}

#[tokio::test]
async fn a_call_that_expires_during_an_outage_is_not_sent() {
    let Some(broker) = Mosquitto::start() else { return };
    let mut broker = broker.unwrap();
    let (outbox, _driver) = outbox(&broker.url()).await;
    broker.stop().unwrap();
    let call = Outgoing { message_expiry_s: Some(1), ..Outgoing::new("t/call", "home") };
    let receipt = outbox.submit(vec![call]).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    broker.run().unwrap();
    assert_eq!(soon(receipt).await, Err(PublishError::Expired { topic: "t/call".into() }));
}

#[tokio::test]
async fn a_small_window_of_the_broker_is_kept() {
    let small = |_: &std::path::Path| vec!["allow_anonymous true".into(), "max_inflight_messages 7".into()];
    let Some(broker) = Mosquitto::start_with("mqtt", small) else { return };
    publish(&broker.unwrap().url(), 0..5_000).await;
}
