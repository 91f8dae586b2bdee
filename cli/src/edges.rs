//! The edges a command needs: store, registry, connections, and the word to stop.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use homeward_broker::{Journal, MqttInbox, MqttOutbox, Settings, Shelf};
use homeward_store::keys::WriterId;
use homeward_store::{Registry, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;

/// The archive and the models.
pub(crate) fn store(config: &Config) -> anyhow::Result<Store> {
    Ok(Store::open(&config.store, config.store_options.iter().cloned())?.with_timeout(config.store_timeout))
}

/// The fleet's models.
pub(crate) fn registry(config: &Config, store: &Store) -> anyhow::Result<Registry> {
    Ok(Registry::new(store.clone(), config.fleet.name.parse()?))
}

/// The broker's settings under the client name of a service.
pub(crate) fn client(config: &Config, service: &str) -> anyhow::Result<Settings> {
    Ok(config.broker.with_client_id(format!("{}-{service}", config.broker.client_id()))?)
}

/// A service's journal, made if there is none. Blocks while an earlier run's messages are checked.
pub(crate) async fn journal(config: &Config, service: &str, skip_damaged: bool) -> anyhow::Result<Arc<Journal>> {
    let mut options = config.journal.clone();
    options.dir = options.dir.join(service);
    options.new_id = random()?;
    options.skip_damaged = skip_damaged;
    Ok(Arc::new(tokio::task::spawn_blocking(move || Journal::open(options)).await??))
}

/// A service's inbox on a shelf of its own.
pub(crate) async fn inbox_on<S: Shelf>(
    config: &Config,
    service: &str,
    shelf: Arc<S>,
    filters: &[String],
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<(Arc<MqttInbox<S>>, JoinHandle<()>)> {
    let connected = MqttInbox::connect_to(shelf, client(config, service)?, filters, stop).await;
    connected.with_context(|| format!("broker {}", config.broker.url()))
}

/// A service's inbox in memory.
pub(crate) async fn inbox(
    config: &Config,
    service: &str,
    filters: &[String],
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<(Arc<MqttInbox>, JoinHandle<()>)> {
    MqttInbox::connect(client(config, service)?, filters, stop).await.with_context(|| format!("broker {}", config.broker.url()))
}

/// A service's outbox.
pub(crate) async fn outbox(
    config: &Config,
    service: &str,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<(Arc<MqttOutbox>, JoinHandle<()>)> {
    MqttOutbox::connect(client(config, service)?, stop).await.with_context(|| format!("broker {}", config.broker.url()))
}

/// A writer's name, minted at random.
pub(crate) fn new_writer() -> anyhow::Result<WriterId> {
    Ok(WriterId::from_bytes(random()?))
}

/// Random bytes for a name.
pub(crate) fn random() -> anyhow::Result<[u8; 8]> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| anyhow::anyhow!("no random bytes for a name: {e}"))?;
    Ok(random)
}

/// Milliseconds since 1970 UTC.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// The word to stop, for any number of listeners.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Stops at SIGTERM, Ctrl-C, or when the sender says so.
    pub(crate) fn on_signal() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        let heard = sender.clone();
        tokio::spawn(async move {
            signal().await;
            tracing::info!("stopping: finishing what is in flight");
            heard.send_replace(true);
        });
        (sender, Self(receiver))
    }

    /// Ends when the word is given.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut heard = self.0.clone();
        async move {
            _ = heard.wait_for(|stop| *stop).await;
        }
    }

    /// Ends `grace` after the word: for what would wait for ever, such as a store that is away.
    pub(crate) fn wait_and(&self, grace: Duration) -> impl Future<Output = ()> + Send + 'static {
        let word = self.wait();
        async move {
            word.await;
            tokio::time::sleep(grace).await;
        }
    }

    /// Whether the word was given.
    pub(crate) fn given(&self) -> bool {
        *self.0.borrow()
    }
}

async fn signal() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! { _ = interrupt => (), _ = terminate.recv() => () }
        }
        Err(_) => _ = interrupt.await,
    }
    #[cfg(not(unix))]
    {
        _ = interrupt.await;
    }
}
