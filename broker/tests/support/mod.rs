//! What the tests of this crate share.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code)]

use std::future::Future;
use std::time::Duration;

use homeward_broker::{Inbox, Message, Options, Settings};

/// Waits for what has to happen; a test that hangs fails instead.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("nothing happened for 20 s")
}

/// Waits until a condition holds.
pub async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub fn settings(url: &str, client_id: &str) -> Settings {
    Settings::check(options(url, client_id)).unwrap()
}

pub fn options(url: &str, client_id: &str) -> Options {
    Options { stop_within: Duration::from_secs(5), patience: Duration::ZERO, ..Options::new(url, client_id) }
}

pub fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect()
}

/// Reads on from `from` until `count` messages are there.
pub async fn read(inbox: &impl Inbox, from: u64, count: usize) -> Vec<Message> {
    let mut got = Vec::new();
    while got.len() < count {
        let next = from + got.len() as u64;
        soon(inbox.read("r", next, count - got.len(), &mut got)).await.unwrap();
    }
    got
}
