//! CONNECT and CONNACK: from settings to a session at the broker.

use std::io;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnAckProperties, Connect, ConnectProperties, ConnectReturnCode, Login, Packet};
use tokio::time::{Instant, sleep, timeout};

use crate::settings::Settings;
use crate::wire::{Lost, Wire};

/// How long one attempt may take, from the socket to the CONNACK.
const ATTEMPT: Duration = Duration::from_secs(10);
/// First and longest pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A connection that lived this long was a good one: the next pause is the first again.
const SETTLED: Duration = Duration::from_secs(5);

/// How a CONNACK begins.
const CONNACK: u8 = 0x20;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The broker could not be reached: worth trying again.
    #[error("{url}: cannot reach the broker: {reason}")]
    Unreachable {
        /// The broker.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The broker said no: user, password, client id or its rules must change.
    #[error("{url}: the broker refused client {client_id:?}: {code}")]
    Refused {
        /// The broker.
        url: String,
        /// Who asked.
        client_id: String,
        /// The CONNACK's reason, as `NotAuthorized` or `BadUserNamePassword`, and the broker's words.
        code: String,
    },
    /// TLS failed: a certificate, a key or the trust in one must change.
    #[error("{url}: TLS failed: {reason}")]
    Tls {
        /// The broker.
        url: String,
        /// What rustls found.
        reason: String,
    },
    /// The broker refused a subscription: the filter or the broker's rules must change.
    #[error("{url}: the broker refused the subscription to {filter:?}: {code}")]
    Subscription {
        /// The broker.
        url: String,
        /// The filter.
        filter: String,
        /// The SUBACK's reason, as `NotAuthorized`; or what is wrong with the filter.
        code: String,
    },
    /// What answers is not an MQTT 5 broker.
    #[error("{url}: this does not speak MQTT 5: {reason}")]
    Protocol {
        /// The broker.
        url: String,
        /// What it sent.
        reason: String,
    },
}

impl ConnectError {
    /// Whether the same attempt may succeed later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// What the broker allows on this connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many unconfirmed publishes it takes.
    pub(crate) in_flight: usize,
    /// The largest packet it takes, in bytes.
    pub(crate) packet: usize,
    /// Whether it keeps retained messages.
    pub(crate) retain: bool,
    /// Whether it confirms publishes at all.
    pub(crate) qos1: bool,
}

/// A connection whose CONNECT was accepted.
pub(crate) struct Session {
    pub(crate) wire: Wire,
    /// The broker still had our session.
    pub(crate) present: bool,
    pub(crate) limits: Limits,
}

/// What kind of session is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Kept by the broker for the settings' expiry.
    Kept,
    /// Begun anew, forgotten at the end.
    Fresh,
}

/// One attempt.
pub(crate) async fn connect(settings: &Settings, kind: Kind) -> Result<Session, ConnectError> {
    match timeout(ATTEMPT, attempt(settings, kind)).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(settings, format!("no answer within {ATTEMPT:?}"))),
    }
}

/// Attempts until one succeeds, one is refused, or it is `until`.
pub(crate) async fn connect_until(settings: &Settings, kind: Kind, until: Instant) -> Result<Session, ConnectError> {
    let mut pause = Pause::default();
    loop {
        match connect(settings, kind).await {
            Err(e) if e.may_pass() && Instant::now() < until => {
                tracing::debug!(error = %e, "no broker yet");
                sleep(pause.next(Duration::ZERO).min(until.saturating_duration_since(Instant::now()))).await;
            }
            result => return result,
        }
    }
}

/// The growing pause between attempts.
#[derive(Default)]
pub(crate) struct Pause(Option<Duration>);

impl Pause {
    /// Makes the next pause the longest, unless the connection proves good.
    pub(crate) fn lengthen(&mut self) {
        self.0 = Some(PAUSE.1);
    }

    /// The next pause, after a connection that lived `lived`.
    pub(crate) fn next(&mut self, lived: Duration) -> Duration {
        let pause = match self.0 {
            Some(last) if lived < SETTLED => (last * 2).min(PAUSE.1),
            _ => PAUSE.0,
        };
        self.0 = Some(pause);
        pause
    }
}

async fn attempt(settings: &Settings, kind: Kind) -> Result<Session, ConnectError> {
    let failed = |e: Lost| describe(settings, e);
    let mut wire = Wire::open(settings).await.map_err(|e| failed(e.into()))?;
    wire.send(&hello(settings, kind)).map_err(failed)?;
    loop {
        wire.turn(true).await.map_err(failed)?;
        // Another protocol's greeting can look like the start of a long packet: do not wait for it.
        if let Some(first) = wire.first_byte()
            && first != CONNACK
        {
            return Err(failed(Lost::Protocol(format!("its first byte is {first:#04x}, not a CONNACK's"))));
        }
        match wire.next_packet().map_err(failed)? {
            None => {}
            Some(Packet::ConnAck(answer)) => return accept(settings, kind, wire, answer),
            Some(other) => return Err(failed(Lost::Protocol(format!("{other:?} before CONNACK")))),
        }
    }
}

fn hello(settings: &Settings, kind: Kind) -> Packet {
    let options = &settings.options;
    let expiry = match kind {
        Kind::Kept => u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX),
        Kind::Fresh => 0,
    };
    let properties = ConnectProperties {
        session_expiry_interval: Some(expiry),
        receive_maximum: Some(options.receive_maximum),
        ..ConnectProperties::new()
    };
    let connect = Connect {
        keep_alive: u16::try_from(options.keep_alive.as_secs()).unwrap_or(u16::MAX),
        client_id: options.client_id.clone(),
        clean_start: kind == Kind::Fresh,
        properties: Some(properties),
    };
    let login = options.credentials.as_ref().map(|c| Login::new(&c.user, &c.password));
    Packet::Connect(connect, None, login)
}

fn accept(settings: &Settings, kind: Kind, mut wire: Wire, answer: ConnAck) -> Result<Session, ConnectError> {
    if answer.code != ConnectReturnCode::Success {
        let words = answer.properties.and_then(|p| p.reason_string);
        return Err(ConnectError::Refused {
            url: settings.url().to_owned(),
            client_id: settings.client_id().to_owned(),
            code: words.map_or_else(|| format!("{:?}", answer.code), |w| format!("{:?} ({w})", answer.code)),
        });
    }
    let given = answer.properties.as_ref();
    if let Some(seconds) = given.and_then(|p| p.server_keep_alive) {
        wire.set_keep_alive(seconds);
    }
    if kind == Kind::Kept {
        warn_of_short_expiry(settings, given);
    }
    Ok(Session { wire, present: answer.session_present, limits: limits(given) })
}

fn warn_of_short_expiry(settings: &Settings, given: Option<&ConnAckProperties>) {
    let asked = settings.options.session_expiry.as_secs();
    if let Some(got) = given.and_then(|p| p.session_expiry_interval)
        && u64::from(got) < asked
    {
        tracing::warn!(asked_s = asked, got_s = got, "the broker keeps the session for less time than asked");
    }
}

fn limits(given: Option<&ConnAckProperties>) -> Limits {
    Limits {
        in_flight: usize::from(given.and_then(|p| p.receive_max).unwrap_or(u16::MAX).max(1)),
        packet: given.and_then(|p| p.max_packet_size).map_or(usize::MAX, |n| n as usize),
        retain: given.and_then(|p| p.retain_available) != Some(0),
        qos1: given.and_then(|p| p.max_qos) != Some(0),
    }
}

fn unreachable(settings: &Settings, reason: String) -> ConnectError {
    ConnectError::Unreachable { url: settings.url().to_owned(), reason }
}

/// Sorts the end of a connection that was not yet one by what helps against it.
pub(crate) fn describe(settings: &Settings, lost: Lost) -> ConnectError {
    let url = settings.url().to_owned();
    match lost {
        Lost::Io(e) if is_tls(&e) => ConnectError::Tls { url, reason: e.to_string() },
        Lost::Protocol(reason) => ConnectError::Protocol { url, reason },
        other => unreachable(settings, other.to_string()),
    }
}

fn is_tls(e: &io::Error) -> bool {
    e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_to_ten_seconds_and_begins_anew_after_a_good_connection() {
        let mut pause = Pause::default();
        let millis: Vec<_> = (0..9).map(|_| pause.next(Duration::ZERO).as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(pause.next(SETTLED).as_millis(), 100);
    }
}
