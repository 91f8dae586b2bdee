//! `homeward check`: what in configuration, broker or store would fail. The configuration is checked by loading it.

use std::time::Duration;

use bytes::Bytes;
use homeward_broker::{MqttInbox, MqttOutbox};
use homeward_models::features::FeatureSpec;
use homeward_store::keys::{ArchiveKey, Key, Partition, Table};
use serde::Serialize;

use crate::config::Config;
use crate::{Failed, edges, report};

#[derive(Serialize)]
struct Finding {
    what: String,
    ok: bool,
    detail: String,
}

pub(crate) async fn run(config: &Config, offline: bool, json: bool) -> anyhow::Result<()> {
    let features = FeatureSpec::new(&config.fleet).len();
    let fleet = format!(
        "{} signals, {} derived, {} features, {} components",
        config.fleet.measured,
        config.fleet.channels.len() - config.fleet.measured,
        features,
        config.fleet.components.len()
    );
    let mut findings = vec![Finding { what: "configuration".into(), ok: true, detail: fleet }];
    if !offline {
        findings.push(finding(format!("store {}", config.store), store(config).await));
        findings.push(finding(format!("broker {}", config.broker.url()), broker(config).await));
    }
    let failed = findings.iter().filter(|f| !f.ok).count();
    report::outcome(json, &findings, || {
        let line = |f: &Finding| format!("{} {}: {}", if f.ok { "ok  " } else { "FAIL" }, f.what, f.detail);
        findings.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    if failed > 0 { Err(Failed(format!("{failed} of {} checks failed", findings.len())).into()) } else { Ok(()) }
}

fn finding(what: String, outcome: anyhow::Result<String>) -> Finding {
    match outcome {
        Ok(detail) => Finding { what, ok: true, detail },
        Err(error) => Finding { what, ok: false, detail: report::chain(&error) },
    }
}

/// Puts, reads and deletes a small object.
async fn store(config: &Config) -> anyhow::Result<String> {
    let store = edges::store(config)?;
    let key: Key = ArchiveKey::new(Partition::day(Table::Quarantine, 0)?, edges::new_writer()?, 0, 0)?.into();
    store.put_new(&key, Bytes::from_static(b"homeward check")).await?;
    let read = store.get(&key).await;
    store.delete(&key).await?;
    let champion = edges::registry(config, &store)?.champion().await?;
    read?;
    Ok(format!("put, read and deleted an object; champion: {}", champion.map_or("none yet".into(), |c| c.version.to_string())))
}

/// Subscribes as the services do, under a name of its own that leaves no session behind.
async fn broker(config: &Config) -> anyhow::Result<String> {
    let settings = edges::client(config, &format!("check-{}", edges::new_writer()?))?.without_session();
    let filters = [config.topics.telemetry.filter(), config.topics.events.filter(), config.topics.ack.filter()];
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let waiting = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
        _ = stopped.wait_for(|s| *s).await;
    };
    let (inbox, inbox_driver) = MqttInbox::connect(settings.clone(), &filters, waiting(stopped.clone())).await?;
    let (_outbox, outbox_driver) =
        MqttOutbox::connect(settings.with_client_id(format!("{}-out", settings.client_id()))?, waiting(stopped)).await?;
    stop.send_replace(true);
    inbox.finish();
    _ = tokio::time::timeout(Duration::from_secs(5), async { (inbox_driver.await, outbox_driver.await) }).await;
    Ok("connected, subscribed".into())
}
