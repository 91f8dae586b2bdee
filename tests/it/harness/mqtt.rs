//! MQTT clients of the tests' own: a publisher and subscribers that the services know nothing of.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use homeward_broker::{Inbox, Message, MqttInbox, MqttOutbox, Options, Outbox, Outgoing, Settings};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::PATIENCE;

/// Clients of one broker, driven by a runtime of their own.
pub(crate) struct Clients {
    url: String,
    runtime: Runtime,
    publisher: Option<Arc<MqttOutbox>>,
}

/// A subscriber with all that it has heard.
pub(crate) struct Subscriber {
    inbox: Arc<MqttInbox>,
    next: u64,
    pub(crate) heard: Vec<Message>,
}

impl Clients {
    pub(crate) fn of(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { url: url.to_owned(), runtime, publisher: None }
    }

    fn settings(&self, name: &str) -> Settings {
        Settings::check(Options { stop_within: Duration::from_secs(5), ..Options::new(&self.url, name) }).unwrap()
    }

    /// Runs a future to its end, at most as long as a test waits.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await }).expect("the broker answers in time")
    }

    /// The publisher, connected at its first use.
    pub(crate) fn publisher(&mut self) -> Arc<MqttOutbox> {
        if self.publisher.is_none() {
            let settings = self.settings("test-publisher");
            let (outbox, _) = self.run(MqttOutbox::connect(settings, std::future::pending())).unwrap();
            self.publisher = Some(outbox);
        }
        self.publisher.clone().unwrap()
    }

    /// Publishes and waits until all is confirmed.
    pub(crate) fn publish(&mut self, messages: Vec<(String, Vec<u8>)>) {
        let outbox = self.publisher();
        let messages = messages.into_iter().map(|(topic, payload)| Outgoing::new(topic, payload)).collect();
        self.run(outbox.publish_all(messages)).unwrap();
    }

    /// Subscribes under a name of its own, and waits until the broker has said so.
    pub(crate) fn subscribe(&self, name: &str, filters: &[&str]) -> Subscriber {
        let filters: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
        let (inbox, _) = self.run(MqttInbox::connect(self.settings(name), &filters, std::future::pending())).unwrap();
        let next = inbox.attach("test").unwrap();
        Subscriber { inbox, next, heard: Vec::new() }
    }

    /// Lets a subscriber hear on until `enough`.
    pub(crate) fn hear(&self, subscriber: &mut Subscriber, what: &str, enough: impl Fn(&[Message]) -> bool) {
        let hearing = async {
            while !enough(&subscriber.heard) {
                subscriber.inbox.read("test", subscriber.next, 4096, &mut subscriber.heard).await.unwrap();
                subscriber.next = subscriber.heard.last().unwrap().position + 1;
                subscriber.inbox.release("test", subscriber.next).unwrap();
            }
        };
        let heard = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, hearing).await });
        assert!(heard.is_ok(), "waited in vain: {what}; heard {} messages", subscriber.heard.len());
    }
}

impl Subscriber {
    /// The last payload of each topic, as JSON.
    pub(crate) fn last(&self) -> BTreeMap<String, Value> {
        self.heard.iter().map(|m| (topic(m), json(m))).collect()
    }
}

/// A message's topic as text.
pub(crate) fn topic(message: &Message) -> String {
    String::from_utf8(message.topic.to_vec()).unwrap()
}

/// A message's payload as JSON.
pub(crate) fn json(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}
