//! `homeward.toml`: as written, then checked. Every mistake is found before anything connects and is named by its key.

mod env;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use homeward_models::cost::WrittenCosts;
use homeward_models::decision::WrittenDecide;
use homeward_models::time::parse_duration;
use homeward_models::topic::{Topics, WrittenTopics};
use homeward_models::{ConfigError, Fleet, WrittenFleet};
use serde::Deserialize;

pub use source::WrittenSource;

/// The sample fleet, for commands that need no file.
const SAMPLE: &str = include_str!("../../homeward.toml");
const DEFAULT_FILE: &str = "homeward.toml";

/// The configuration file as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The fleet.
    pub fleet: WrittenFleet,
    /// Topic templates.
    #[serde(default)]
    pub topics: WrittenTopics,
    /// How to reach the broker.
    #[serde(default)]
    pub broker: WrittenBroker,
    /// Where the archive and the registry are.
    #[serde(default)]
    pub store: WrittenStore,
    /// Where messages wait on disk.
    #[serde(default)]
    pub journal: WrittenJournal,
    /// Archiving.
    #[serde(default)]
    pub ingest: homeward_ingest::WrittenIngest,
    /// Merging small objects, temperature, retention.
    #[serde(default)]
    pub compact: homeward_ingest::WrittenCompact,
    /// What operators look at.
    #[serde(default)]
    pub serve: WrittenServe,
    /// Learning.
    #[serde(default)]
    pub train: homeward_train::WrittenTrain,
    /// What things cost.
    #[serde(default)]
    pub costs: WrittenCosts,
    /// Raising and clearing.
    #[serde(default)]
    pub decide: WrittenDecide,
    /// Live scoring.
    #[serde(default)]
    pub predict: homeward_predict::WrittenPredict,
    /// How CSV and JSON lines map to readings.
    #[serde(default)]
    pub source: Option<WrittenSource>,
}

/// `[broker]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenBroker {
    /// `mqtt://host:port` or `mqtts://host:port`, default this machine's 1883.
    pub url: String,
    /// Beginning of the clients' names, default `homeward`; each service adds its own.
    pub client_id: String,
    /// How long the broker keeps a session without a connection, default 7 days.
    pub session_expiry: String,
    /// Longest silence on a connection, default 30 s.
    pub keep_alive: String,
    /// Unacknowledged messages that the broker may send. Default: 16,384, so that a broker that sends several windows at once still stays within
    /// what is remembered of redeliveries; 65,535 with `ack = "object"`, whose rate is this over the time a batch is held.
    pub receive_maximum: Option<u16>,
    /// Name of a group of ingesters that share the fleet's messages (`$share/{share}/…`); each needs a client_id of its own. Default: none.
    pub share: Option<String>,
    /// User, if the broker wants one.
    pub user: Option<String>,
    /// File with the password; or `HOMEWARD_BROKER_PASSWORD`.
    pub password_file: Option<PathBuf>,
    /// TLS, for `mqtts`.
    pub tls: WrittenTls,
}

/// `[broker.tls]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenTls {
    /// PEM file of the authorities that may sign the broker's certificate; default the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of our certificate chain, for mutual TLS.
    pub cert: Option<PathBuf>,
    /// PEM file of our key.
    pub key: Option<PathBuf>,
    /// ALPN protocols.
    pub alpn: Vec<String>,
}

impl Default for WrittenBroker {
    fn default() -> Self {
        Self {
            url: "mqtt://127.0.0.1:1883".into(),
            client_id: "homeward".into(),
            session_expiry: "7d".into(),
            keep_alive: "30s".into(),
            receive_maximum: None,
            share: None,
            user: None,
            password_file: None,
            tls: WrittenTls::default(),
        }
    }
}

/// `[journal]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenJournal {
    /// Folder of the journals, one below it for each service; default `homeward-journal`.
    pub dir: PathBuf,
    /// Bytes that may wait there unreleased; then messages stay at the broker. Default 16 GiB.
    pub max_bytes: u64,
    /// Size of a segment file; default 64 MiB.
    pub segment_bytes: u64,
    /// A message waits this long for the fsync that it shares with others; default 5 ms.
    pub sync_every: String,
    /// Bytes that are synced at once without waiting; default 1 MiB.
    pub sync_bytes: usize,
}

impl Default for WrittenJournal {
    fn default() -> Self {
        let default = homeward_broker::JournalOptions::new(PathBuf::from("homeward-journal"), [0; 8]);
        Self {
            dir: default.dir,
            max_bytes: default.max_bytes,
            segment_bytes: default.segment_bytes,
            sync_every: "5ms".into(),
            sync_bytes: default.sync_bytes,
        }
    }
}

/// `[serve]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenServe {
    /// `address:port` for `/metrics`, `/healthz` and `/readyz`; default empty: not served.
    pub listen: String,
    /// `/readyz` turns red when a batch has been on its way to the store for this long; default 60 s.
    pub store_grace: String,
}

impl Default for WrittenServe {
    fn default() -> Self {
        Self { listen: String::new(), store_grace: "60s".into() }
    }
}

/// `[serve]`, checked.
#[derive(Debug, Clone)]
pub struct Serve {
    /// Where to listen; `None` for nowhere.
    pub listen: Option<String>,
    /// How long a batch may be on its way to the store.
    pub store_grace: Duration,
}

/// `[store]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenStore {
    /// `file:///path`, `file://./path`, `memory:///`, `s3://bucket/prefix`, `gs://…`, `az://…`; default `file://./homeward-data`.
    pub url: String,
    /// How long a request may take before it is made again; default 30 s.
    pub timeout: String,
}

impl Default for WrittenStore {
    fn default() -> Self {
        Self { url: "file://./homeward-data".into(), timeout: "30s".into() }
    }
}

/// The configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The fleet.
    pub fleet: Fleet,
    /// Its topics.
    pub topics: Topics,
    /// How to reach the broker; a service adds its name to the client's.
    pub broker: homeward_broker::Settings,
    /// Where archive and registry are.
    pub store: String,
    /// How long a request to the store may take.
    pub store_timeout: Duration,
    /// What the store may need: the environment.
    pub store_options: Vec<(String, String)>,
    /// The journals; `dir` is the folder above those of the services.
    pub journal: homeward_broker::JournalOptions,
    /// Group of ingesters that share the messages.
    pub share: Option<String>,
    /// Archiving.
    pub ingest: homeward_ingest::Settings,
    /// Compaction.
    pub compact: homeward_ingest::CompactSettings,
    /// What operators look at.
    pub serve: Serve,
    /// Learning.
    pub train: homeward_train::Settings,
    /// Live scoring.
    pub predict: homeward_predict::Settings,
    /// How CSV and JSON lines map to readings, if said.
    pub source: Option<WrittenSource>,
    /// What was written, for changes by arguments.
    pub written: Written,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// A value is wrong.
    #[error("{file}: {error}")]
    Value {
        /// The file, or where else it came from.
        file: String,
        /// The key, what was found and what would be right.
        error: ConfigError,
    },
    /// The file cannot be read.
    #[error("{file}: {error} (homeward.toml of the repository is a sample)")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        error: std::io::Error,
    },
}

impl Config {
    /// Loads `path` (default `homeward.toml` here; the sample fleet if there is none and the command needs none), puts the environment over it, and
    /// checks everything.
    pub fn load(path: Option<&Path>, needs_file: bool, env: impl Iterator<Item = (String, String)>) -> Result<Self, BadConfig> {
        let file = path.unwrap_or(Path::new(DEFAULT_FILE));
        let name = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(_) if path.is_none() && !needs_file => SAMPLE.to_owned(),
            Err(error) => return Err(BadConfig::File { file: name, error }),
        };
        Self::parse(&text, env).map_err(|error| BadConfig::Value { file: name, error })
    }

    /// Reads and checks a configuration's text under an environment.
    pub fn parse(text: &str, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let env: BTreeMap<String, String> = env.collect();
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| not_toml(text, &e))?;
        let written: Written = env::read(table, &env)?;
        Self::check(written, env)
    }

    /// Checks a written configuration.
    pub fn check(written: Written, env: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let fleet = Fleet::check(&written.fleet)?;
        let topics = Topics::check(&written.topics)?;
        let train = homeward_train::Settings::check(&written.train, &written.decide, &written.costs)?;
        let ingest = homeward_ingest::Settings::check(&written.ingest, receive_maximum(&written))?;
        let predict =
            homeward_predict::Settings::check(&written.predict, &written.decide, &fleet, ingest.max_message_bytes, ingest.hourly)?;
        let compact = homeward_ingest::CompactSettings::check(&written.compact)?;
        let broker = broker(&written.broker, receive_maximum(&written), ingest.max_clock_skew_ms, &env)?;
        let journal = journal(&written.journal, ingest.max_clock_skew_ms)?;
        let (share, serve) = (share(&written.broker)?, serve(&written.serve)?);
        let store_options: Vec<(String, String)> = env.into_iter().collect();
        if let Err(error) = homeward_store::Store::check(&written.store.url, store_options.iter().cloned()) {
            return Err(ConfigError::new("store.url", format!("{:?}", written.store.url), error.to_string()));
        }
        if let Some(source) = &written.source {
            source.check()?;
        }
        Ok(Self {
            fleet,
            topics,
            broker,
            store: written.store.url.clone(),
            store_timeout: duration("store.timeout", &written.store.timeout)?,
            store_options,
            journal,
            share,
            ingest,
            compact,
            serve,
            train,
            predict,
            source: written.source.clone(),
            written,
        })
    }
}

/// TOML's own complaint, cut to a line.
fn not_toml(text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
    ConfigError::new(format!("line {line}"), "no TOML", error.message().lines().collect::<Vec<_>>().join(" "))
}

fn duration(key: &str, text: &str) -> Result<Duration, ConfigError> {
    Ok(Duration::from_millis(parse_duration(key, text)?.unsigned_abs()))
}

fn journal(w: &WrittenJournal, max_ahead_ms: i64) -> Result<homeward_broker::JournalOptions, ConfigError> {
    let mut options = homeward_broker::JournalOptions::new(w.dir.clone(), [0; 8]);
    options.max_bytes = w.max_bytes;
    options.segment_bytes = w.segment_bytes;
    options.sync_every = duration("journal.sync_every", &w.sync_every)?;
    options.sync_bytes = w.sync_bytes;
    options.max_ahead_ms = max_ahead_ms;
    match options.check() {
        Ok(()) => Ok(options),
        Err(homeward_broker::SettingsError::Invalid { key, found, wanted }) => {
            Err(ConfigError::new(format!("journal.{key}"), found, wanted))
        }
        Err(error) => Err(ConfigError::new("journal.dir", error.to_string(), "a folder")),
    }
}

fn share(w: &WrittenBroker) -> Result<Option<String>, ConfigError> {
    let wanted = "a group's name without / + and #";
    match w.share.as_deref().filter(|s| !s.is_empty()) {
        Some(name) if name.contains(['/', '+', '#']) => Err(ConfigError::new("broker.share", format!("{name:?}"), wanted)),
        name => Ok(name.map(str::to_owned)),
    }
}

fn serve(w: &WrittenServe) -> Result<Serve, ConfigError> {
    let listen = (!w.listen.is_empty()).then(|| w.listen.clone());
    if let Some(text) = &listen
        && text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).is_none()
    {
        return Err(ConfigError::new("serve.listen", format!("{text:?}"), "address:port, as 127.0.0.1:9464"));
    }
    Ok(Serve { listen, store_grace: duration("serve.store_grace", &w.store_grace)? })
}

/// See [`WrittenBroker::receive_maximum`].
fn receive_maximum(w: &Written) -> u16 {
    w.broker.receive_maximum.unwrap_or(if w.ingest.ack == "object" { u16::MAX } else { 1 << 14 })
}

fn broker(
    w: &WrittenBroker,
    receive_maximum: u16,
    max_ahead_ms: i64,
    env: &BTreeMap<String, String>,
) -> Result<homeward_broker::Settings, ConfigError> {
    let mut options = homeward_broker::Options::new(&w.url, &w.client_id);
    options.max_ahead = Duration::from_millis(max_ahead_ms.unsigned_abs());
    options.session_expiry = duration("broker.session_expiry", &w.session_expiry)?;
    options.keep_alive = duration("broker.keep_alive", &w.keep_alive)?;
    options.receive_maximum = receive_maximum;
    options.credentials = credentials(w, env)?;
    options.tls = homeward_broker::Tls {
        ca_file: w.tls.ca.clone(),
        cert_file: w.tls.cert.clone(),
        key_file: w.tls.key.clone(),
        alpn: w.tls.alpn.clone(),
    };
    homeward_broker::Settings::check(options).map_err(|error| match error {
        homeward_broker::SettingsError::Invalid { key, found, wanted } => ConfigError::new(broker_key(key), found, wanted),
        homeward_broker::SettingsError::File { key, path, reason } => {
            ConfigError::new(broker_key(key), format!("{path:?}: {reason}"), "a readable PEM file")
        }
    })
}

/// The configuration's key for the option of that name.
fn broker_key(option: &str) -> String {
    format!("broker.{}", option.trim_end_matches("_file"))
}

/// User and password; the password comes from the environment or a file, never from the configuration itself.
fn credentials(w: &WrittenBroker, env: &BTreeMap<String, String>) -> Result<Option<homeward_broker::Credentials>, ConfigError> {
    let from_file = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|e| ConfigError::new("broker.password_file", format!("{}: {e}", path.display()), "a readable file with the password"))
    };
    let password = match (env.get(env::PASSWORD), &w.password_file) {
        (Some(password), _) => Some(password.clone()),
        (None, Some(path)) => Some(from_file(path)?),
        (None, None) => None,
    };
    match (&w.user, password) {
        (Some(user), password) => Ok(Some(homeward_broker::Credentials { user: user.clone(), password: password.unwrap_or_default() })),
        (None, Some(_)) => Err(ConfigError::new("broker.user", "a password without a user", "the user's name")),
        (None, None) => Ok(None),
    }
}
