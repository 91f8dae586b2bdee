//! A broker inside this process (rumqttd), for the demo and for tests that need no durability.
//!
//! It keeps sessions in memory only, and resuming one session twice with manual acknowledgements
//! can stall it: use a real broker wherever messages must survive.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};

/// How long the broker may take until it accepts connections.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// The largest message it takes.
const MAX_PAYLOAD: usize = 16 << 20;

/// Why the embedded broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Another address must be given.
    #[error("cannot listen on {addr}: {reason}")]
    Address {
        /// What was given.
        addr: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It did not come up; nothing the caller gave is wrong.
    #[error("the embedded broker did not start: {0}")]
    Start(String),
}

/// Messages that rumqttd has on their way to a client unacknowledged; it cannot be set.
pub const IN_FLIGHT: usize = 100;

/// The embedded broker.
pub struct Broker;

/// A running embedded broker.
#[derive(Debug, Clone)]
pub struct Handle {
    v5: SocketAddr,
    v4: SocketAddr,
}

impl Broker {
    /// Starts a broker for MQTT 5 on `addr` (port 0: a free one) and for MQTT 3.1.1 on a free port
    /// of the same address, and waits until both accept connections. Blocks for a moment.
    ///
    /// The broker has threads of its own and lives as long as the process: rumqttd cannot be stopped.
    ///
    /// # Errors
    /// [`EmbeddedError::Address`] where `addr` cannot be listened on, [`EmbeddedError::Start`] otherwise.
    pub fn start(addr: &str) -> Result<Handle, EmbeddedError> {
        let wrong = |reason: String| EmbeddedError::Address { addr: addr.to_owned(), reason };
        let given: SocketAddr = addr.parse().map_err(|_| wrong("it is not of the form 127.0.0.1:1883".into()))?;
        // Both are held until both are known, so that they differ.
        let first = TcpListener::bind(given).map_err(|e| wrong(e.to_string()))?;
        let second = TcpListener::bind(SocketAddr::new(given.ip(), 0)).map_err(|e| wrong(e.to_string()))?;
        let v5 = first.local_addr().map_err(|e| wrong(e.to_string()))?;
        let v4 = second.local_addr().map_err(|e| wrong(e.to_string()))?;
        drop((first, second));
        let mut broker = rumqttd::Broker::new(config(v5, v4));
        thread::Builder::new()
            .name("embedded-broker".into())
            .spawn(move || {
                if let Err(e) = broker.start() {
                    tracing::error!(error = %e, "the embedded broker ended");
                }
            })
            .map_err(|e| EmbeddedError::Start(e.to_string()))?;
        wait_for(v5)?;
        wait_for(v4)?;
        Ok(Handle { v5, v4 })
    }
}

impl Handle {
    /// Where it speaks MQTT 5, as `mqtt://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.v5)
    }

    /// Where it speaks MQTT 3.1.1.
    pub fn url_v4(&self) -> String {
        format!("mqtt://{}", self.v4)
    }
}

fn wait_for(addr: SocketAddr) -> Result<(), EmbeddedError> {
    let until = Instant::now() + STARTS_WITHIN;
    loop {
        match TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
            Ok(_) => return Ok(()),
            Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            Err(e) => return Err(EmbeddedError::Start(format!("{addr}: {e}"))),
        }
    }
}

fn config(v5: SocketAddr, v4: SocketAddr) -> Config {
    Config {
        router: RouterConfig {
            max_connections: 1024,
            max_outgoing_packet_count: 200,
            max_segment_size: 16 << 20,
            // Old messages are dropped beyond these segments: 256 MiB for each filter.
            max_segment_count: 16,
            ..RouterConfig::default()
        },
        v5: Some(HashMap::from([("v5".to_owned(), server("embedded-v5", v5))])),
        v4: Some(HashMap::from([("v4".to_owned(), server("embedded-v4", v4))])),
        ..Config::default()
    }
}

fn server(name: &str, listen: SocketAddr) -> ServerSettings {
    ServerSettings {
        name: name.to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5_000,
            max_payload_size: MAX_PAYLOAD,
            // Of what a client publishes; rumqttd itself never has more than 100 unacknowledged on their way to a client.
            max_inflight_count: 1_000,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    }
}
