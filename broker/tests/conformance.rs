//! One suite that both twins of each edge pass: in memory, over Mosquitto, and over the embedded broker.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use homeward_broker::testing::Mosquitto;
use homeward_broker::{
    Inbox, InboxError, Incoming, Journal, JournalOptions, MemoryInbox, MemoryOutbox, Message, MqttInbox, MqttOutbox, Outbox, Outgoing,
    PublishError, ReadError, Shelf, embedded,
};
use support::{settings, soon, texts};
use tempfile::TempDir;
use tokio::time::timeout;

/// How messages get into the inbox under test: straight, or through a broker.
enum Feed {
    Straight,
    Through(Arc<MqttOutbox>),
}

impl Feed {
    async fn send(&self, inbox: &impl Inbox, texts: impl IntoIterator<Item = usize>) {
        for text in texts.into_iter().map(|n| n.to_string()) {
            match self {
                Self::Straight => _ = inbox.append(Incoming::new("t/a", text, 7)),
                Self::Through(outbox) => soon(outbox.publish(Outgoing::new("t/a", text))).await.unwrap(),
            }
        }
    }
}

async fn read_from(inbox: &impl Inbox, reader: &str, from: u64, count: usize) -> Vec<Message> {
    let mut got = Vec::new();
    while got.len() < count {
        let next = from + got.len() as u64;
        soon(inbox.read(reader, next, count - got.len(), &mut got)).await.unwrap();
    }
    got
}

/// Everything an inbox promises. The inbox is empty and fresh.
async fn inbox_conforms(inbox: impl Inbox, feed: Feed) {
    let first = inbox.attach("archive").unwrap();
    assert_eq!(inbox.attach("score").unwrap(), first);
    assert_eq!((inbox.released(), inbox.len()), (first, 0));
    keeps_order_and_positions(&inbox, &feed, first).await;
    gives_the_same_again_before_release(&inbox, first).await;
    frees_only_what_all_released(&inbox, first).await;
    refuses_what_makes_no_sense(&inbox, first);
    wakes_a_waiting_reader(&inbox, &feed, first).await;
    ends_after_what_is_left(&inbox, first).await;
}

async fn keeps_order_and_positions(inbox: &impl Inbox, feed: &Feed, first: u64) {
    feed.send(inbox, 0..10).await;
    let got = read_from(inbox, "archive", first, 10).await;
    assert_eq!(texts(&got), (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    let positions: Vec<_> = got.iter().map(|m| m.position).collect();
    assert_eq!(positions, (first..first + 10).collect::<Vec<_>>());
    assert!(got.iter().all(|m| m.topic == "t/a" && !m.duplicate && !m.retained && m.received_at_ms > 0));
}

async fn gives_the_same_again_before_release(inbox: &impl Inbox, first: u64) {
    let again = read_from(inbox, "archive", first + 3, 4).await;
    assert_eq!(texts(&again), ["3", "4", "5", "6"]);
    let mut most = Vec::new();
    inbox.read("score", first, 2, &mut most).await.unwrap();
    assert_eq!(texts(&most), ["0", "1"], "at most what was asked for");
}

async fn frees_only_what_all_released(inbox: &impl Inbox, first: u64) {
    inbox.release("archive", first + 8).unwrap();
    assert_eq!((inbox.released(), inbox.len()), (first, 10), "the other reader still needs them");
    inbox.release("score", first + 5).unwrap();
    assert_eq!((inbox.released(), inbox.len()), (first + 5, 5));
    inbox.release("archive", first + 2).unwrap();
    assert_eq!(inbox.attach("archive").unwrap(), first + 8, "a release is never taken back");
    assert_eq!(inbox.attach("late").unwrap(), first + 5, "a new reader begins at what is held");
    inbox.release("late", first + 10).unwrap();
    let skipped = read_from(inbox, "score", first, 1).await;
    assert_eq!(skipped[0].position, first + 5, "what is forgotten is skipped");
}

fn refuses_what_makes_no_sense(inbox: &impl Inbox, first: u64) {
    let unattached = inbox.release("nobody", first).unwrap_err();
    assert_eq!(unattached, InboxError::Unattached { reader: "nobody".into() });
    let beyond = inbox.release("score", first + 11).unwrap_err();
    assert_eq!(beyond, InboxError::BeyondEnd { reader: "score".into(), up_to: first + 11, end: first + 10 });
    assert!(inbox.attach("").is_err());
}

async fn wakes_a_waiting_reader(inbox: &impl Inbox, feed: &Feed, first: u64) {
    let mut got = Vec::new();
    let nothing = timeout(Duration::from_millis(50), inbox.read("score", first + 10, 5, &mut got)).await;
    assert!(nothing.is_err() && got.is_empty(), "there is nothing yet");
    let (read, ()) = tokio::join!(soon(inbox.read("score", first + 10, 5, &mut got)), feed.send(inbox, [10]));
    read.unwrap();
    assert_eq!(texts(&got), ["10"]);
}

async fn ends_after_what_is_left(inbox: &impl Inbox, first: u64) {
    let mut got = Vec::new();
    let (read, ()) = tokio::join!(soon(inbox.read("score", first + 11, 5, &mut got)), async {
        tokio::task::yield_now().await;
        inbox.close();
    });
    assert_eq!(read, Err(ReadError::Closed), "a reader that waits is told");
    assert_eq!(texts(&read_from(inbox, "archive", first + 8, 3).await), ["8", "9", "10"]);
    assert_eq!(soon(inbox.read("archive", first + 11, 5, &mut got)).await, Err(ReadError::Closed));
    for reader in ["archive", "score", "late"] {
        inbox.release(reader, first + 11).unwrap();
    }
    assert_eq!(inbox.len(), 0, "releases count after the end");
}

/// Everything an outbox promises on a broker that refuses nothing. `stop` ends it.
async fn outbox_conforms(outbox: impl Outbox, stop: impl FnOnce()) {
    soon(outbox.publish(Outgoing::new("t/a", "one"))).await.unwrap();
    let many = (0..1000).map(|n| Outgoing::new("t/a", n.to_string())).collect();
    soon(outbox.publish_all(many)).await.unwrap();
    soon(outbox.publish_all(Vec::new())).await.unwrap();
    let quick = Outgoing { qos1: false, message_expiry_s: Some(9), ..Outgoing::new("t/b", "quick") };
    soon(outbox.publish(quick)).await.unwrap();
    for topic in ["", "a/+", "#"] {
        let refused = soon(outbox.publish(Outgoing::new(topic, "x"))).await;
        assert!(matches!(refused, Err(PublishError::Unfit { .. })), "{topic:?}: {refused:?}");
    }
    let mixed = vec![Outgoing::new("t/a", "good"), Outgoing::new("#", "bad"), Outgoing::new("t/a", "good")];
    let told = soon(outbox.publish_all(mixed)).await;
    assert!(matches!(told, Err(PublishError::Unfit { topic, .. }) if topic == "#"));
    stop();
    assert_eq!(soon(outbox.publish(Outgoing::new("t/a", "late"))).await, Err(PublishError::Stopped));
}

#[tokio::test]
async fn memory_inbox() {
    inbox_conforms(MemoryInbox::new(), Feed::Straight).await;
    inbox_conforms(MemoryInbox::starting_at(1_000), Feed::Straight).await;
}

fn journal(folder: &TempDir) -> Journal {
    Journal::open(JournalOptions::new(folder.path(), [7; 8])).unwrap()
}

#[tokio::test]
async fn journal_inbox() {
    let folder = tempfile::tempdir().unwrap();
    inbox_conforms(journal(&folder), Feed::Straight).await;
}

#[tokio::test]
async fn memory_outbox() {
    let outbox = Arc::new(MemoryOutbox::new());
    outbox_conforms(outbox.clone(), || outbox.stop()).await;
    assert_eq!(outbox.published().len(), 1 + 1000 + 1 + 2);
}

#[tokio::test]
async fn memory_outbox_fails_and_hangs_when_told() {
    let outbox = MemoryOutbox::new();
    outbox.fail_next(PublishError::Stopped);
    assert_eq!(outbox.publish(Outgoing::new("t", "1")).await, Err(PublishError::Stopped));
    outbox.hang();
    let receipt = outbox.submit(vec![Outgoing::new("t", "2")]).await;
    assert!(outbox.published().is_empty());
    outbox.resume();
    soon(receipt).await.unwrap();
    assert_eq!(outbox.take_published(), [Outgoing::new("t", "2")]);
}

async fn mqtt_conforms(url: &str) {
    mqtt_conforms_over(MemoryInbox::new(), url).await;
}

async fn mqtt_conforms_over(shelf: impl Shelf, url: &str) {
    let (outbox, sender) = MqttOutbox::connect(settings(url, "out"), pending()).await.unwrap();
    let (inbox, receiver) = MqttInbox::connect_to(Arc::new(shelf), settings(url, "in"), &["t/#".into()], pending()).await.unwrap();
    inbox_conforms(inbox.clone(), Feed::Through(outbox.clone())).await;
    soon(receiver).await.unwrap();
    assert_eq!(inbox.stats().acked, 11, "what became due after the close is acknowledged");
    outbox_conforms(outbox.clone(), || outbox.close()).await;
    soon(sender).await.unwrap();
    assert_eq!(outbox.stats().confirmed, 11 + 1 + 1000 + 1 + 2);
}

#[tokio::test]
async fn mqtt_over_mosquitto() {
    if let Some(broker) = Mosquitto::start() {
        mqtt_conforms(&broker.unwrap().url()).await;
    }
}

#[tokio::test]
async fn mqtt_over_the_embedded_broker() {
    let broker = embedded::Broker::start("127.0.0.1:0").unwrap();
    mqtt_conforms(&broker.url()).await;
}

#[tokio::test]
async fn mqtt_into_a_journal() {
    let (broker, folder) = (embedded::Broker::start("127.0.0.1:0").unwrap(), tempfile::tempdir().unwrap());
    mqtt_conforms_over(journal(&folder), &broker.url()).await;
}
