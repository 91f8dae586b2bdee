//! How to reach a broker: [`Options`] as given, [`Settings`] as checked.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use url::Url;

use crate::tls;

/// What was asked for, unchecked. [`Settings::check`] turns it into [`Settings`].
#[derive(Debug, Clone)]
pub struct Options {
    /// `mqtt://host:port` or `mqtts://host:port`; the port defaults to 1883 and 8883.
    pub url: String,
    /// The name of the session at the broker; two connections with one name push each other out.
    pub client_id: String,
    /// How long the broker keeps an inbox's session without a connection. Default: 7 days; at most 136 years.
    pub session_expiry: Duration,
    /// Longest silence on the connection. Default: 30 s; 1 s to 65,535 s.
    pub keep_alive: Duration,
    /// How many unacknowledged messages the broker may send. Default: 65,535, the most there is.
    pub receive_maximum: u16,
    /// The largest packet that is read. It is not announced to the broker, which would drop larger
    /// messages silently. Default: 256 MiB, the most MQTT knows.
    pub max_packet_bytes: u32,
    /// Bytes of messages that may wait unreleased before reading pauses. Default: 512 MiB.
    pub max_held_bytes: usize,
    /// How far a device's clock may run ahead of the arrival of its message, for the verdict kept with it. Default: 1 h.
    pub max_ahead: Duration,
    /// How long the first connection is tried while the broker cannot be reached; a refusal ends it
    /// at once. Default: 10 s.
    pub patience: Duration,
    /// How long a stop waits for releases or confirmations that are still due. Default: 10 s.
    pub stop_within: Duration,
    /// User and password, if the broker wants them.
    pub credentials: Option<Credentials>,
    /// For `mqtts` only; the default trusts the system's certificates and shows none of its own.
    pub tls: Tls,
}

impl Options {
    /// The defaults for a broker and a client's name.
    pub fn new(url: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            client_id: client_id.into(),
            session_expiry: Duration::from_secs(7 * 24 * 3600),
            keep_alive: Duration::from_secs(30),
            receive_maximum: u16::MAX,
            max_packet_bytes: 256 << 20,
            max_held_bytes: 512 << 20,
            max_ahead: Duration::from_millis(crate::inbox::MAX_AHEAD_MS.unsigned_abs()),
            patience: Duration::from_secs(10),
            stop_within: Duration::from_secs(10),
            credentials: None,
            tls: Tls::default(),
        }
    }
}

/// A user and a password. `Debug` hides the password.
#[derive(Clone)]
pub struct Credentials {
    /// The user's name; not empty.
    pub user: String,
    /// The password; may be empty.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Certificates of a TLS connection, as PEM files.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Who may sign the broker's certificate. Default: whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain, for mutual TLS; with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// Our private key (PKCS#8, PKCS#1 or SEC1); with `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Protocols to name in ALPN, such as `mqtt` (AWS IoT Core on port 443). Default: none.
    pub alpn: Vec<String>,
}

/// Options that were found good. Certificates are read; nothing has been connected.
#[derive(Clone)]
pub struct Settings {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) options: Options,
}

/// Why options are not good. `key` is the option's name, as `tls.ca_file`.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The value must change.
    #[error("{key}: {found:?} is not good: {wanted}")]
    Invalid {
        /// The option.
        key: &'static str,
        /// What was given.
        found: String,
        /// What would be right.
        wanted: String,
    },
    /// The file that the option names must become readable, or hold what it should.
    #[error("{key}: {}: {reason}", path.display())]
    File {
        /// The option.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Settings {
    /// Checks options and reads the certificates they name.
    ///
    /// # Errors
    /// [`SettingsError`] for the first option that is not good, by its key.
    pub fn check(options: Options) -> Result<Self, SettingsError> {
        let (host, port, encrypted) = address(&options.url)?;
        check_client_id(&options.client_id)?;
        check_numbers(&options)?;
        if let Some(given) = &options.credentials
            && given.user.is_empty()
        {
            return Err(invalid("user", "", "a user name, or neither user nor password"));
        }
        let tls = match encrypted {
            true => Some(Arc::new(tls::client_config(&options.tls)?)),
            false => refuse_tls(&options)?,
        };
        Ok(Self { host, port, tls, options })
    }

    /// The same settings under another client's name: inbox and outbox are separate clients.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`] when the name is not good.
    pub fn with_client_id(&self, client_id: impl Into<String>) -> Result<Self, SettingsError> {
        let mut other = self.clone();
        other.options.client_id = client_id.into();
        check_client_id(&other.options.client_id)?;
        Ok(other)
    }

    /// The same settings for a connection that leaves no session behind.
    #[must_use]
    pub fn without_session(mut self) -> Self {
        self.options.session_expiry = Duration::ZERO;
        self
    }

    pub(crate) fn max_ahead_ms(&self) -> i64 {
        i64::try_from(self.options.max_ahead.as_millis()).unwrap_or(i64::MAX)
    }

    /// The client's name.
    pub fn client_id(&self) -> &str {
        &self.options.client_id
    }

    /// The broker's address as it was given.
    pub fn url(&self) -> &str {
        &self.options.url
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settings").field(&self.options).finish()
    }
}

/// Host, port and whether the connection is encrypted.
fn address(given: &str) -> Result<(String, u16, bool), SettingsError> {
    let wanted = "mqtt://host:port or mqtts://host:port";
    let url = Url::parse(given).map_err(|_| invalid("url", given, wanted))?;
    if !url.username().is_empty() || url.password().is_some() {
        // The URL is logged and shown, so what was found is not repeated here.
        let hidden = format!("{}://…@{}", url.scheme(), url.host_str().unwrap_or_default());
        return Err(invalid("url", &hidden, "no user or password in the URL; both have options of their own"));
    }
    let encrypted = match url.scheme() {
        "mqtt" => false,
        "mqtts" => true,
        _ => return Err(invalid("url", given, wanted)),
    };
    let bare = url.query().is_none() && url.fragment().is_none() && matches!(url.path(), "" | "/");
    let host = url.host_str().map(|host| host.trim_matches(['[', ']'])).unwrap_or_default();
    if !bare || host.is_empty() || url.port() == Some(0) {
        return Err(invalid("url", given, wanted));
    }
    let port = url.port().unwrap_or(if encrypted { 8883 } else { 1883 });
    Ok((host.to_owned(), port, encrypted))
}

fn check_client_id(id: &str) -> Result<(), SettingsError> {
    let wanted = if id.is_empty() {
        "a name: a session needs one to be found again"
    } else if id.contains(['+', '#']) {
        "a name without + and #, which would widen an access rule made from it"
    } else if id.chars().any(char::is_control) {
        "a name without control characters"
    } else if id.len() > 65_535 {
        "a name of at most 65,535 bytes"
    } else {
        return Ok(());
    };
    Err(invalid("client_id", id, wanted))
}

fn check_numbers(options: &Options) -> Result<(), SettingsError> {
    let seconds = |d: Duration| format!("{d:?}");
    if !(1..=65_535).contains(&options.keep_alive.as_secs()) {
        return Err(invalid("keep_alive", &seconds(options.keep_alive), "1 s to 65,535 s"));
    }
    if !(1..=u64::from(u32::MAX)).contains(&options.session_expiry.as_secs()) {
        let wanted = "1 s to 4,294,967,295 s (which stands for ever)";
        return Err(invalid("session_expiry", &seconds(options.session_expiry), wanted));
    }
    if options.receive_maximum == 0 {
        return Err(invalid("receive_maximum", "0", "1 to 65,535"));
    }
    if options.max_packet_bytes < 1024 {
        let wanted = "at least 1,024, and no less than the broker lets through";
        return Err(invalid("max_packet_bytes", &options.max_packet_bytes.to_string(), wanted));
    }
    if options.max_held_bytes < 1 << 20 {
        return Err(invalid("max_held_bytes", &options.max_held_bytes.to_string(), "at least 1,048,576"));
    }
    Ok(())
}

/// An unencrypted connection with certificates is a mistake that would go unnoticed.
fn refuse_tls(options: &Options) -> Result<Option<Arc<ClientConfig>>, SettingsError> {
    let given = &options.tls;
    if given.ca_file.is_some() || given.cert_file.is_some() || given.key_file.is_some() || !given.alpn.is_empty() {
        return Err(invalid("url", &options.url, "mqtts://host:port, since TLS options are given"));
    }
    Ok(None)
}

pub(crate) fn invalid(key: &'static str, found: &str, wanted: &str) -> SettingsError {
    SettingsError::Invalid { key, found: found.to_owned(), wanted: wanted.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(change: impl FnOnce(&mut Options)) -> String {
        let mut options = Options::new("mqtt://localhost:1883", "homeward");
        change(&mut options);
        match Settings::check(options) {
            Ok(_) => "good".to_owned(),
            Err(SettingsError::Invalid { key, .. } | SettingsError::File { key, .. }) => key.to_owned(),
        }
    }

    #[test]
    fn each_mistake_names_its_key() {
        assert_eq!(key_of(|_| ()), "good");
        for url in ["localhost:1883", "http://h:1", "mqtt://", "mqtt://h:0", "mqtt://h/x", "mqtt://u:p@h", "mqtt://h?a"] {
            assert_eq!(key_of(|o| o.url = url.into()), "url", "{url}");
        }
        for id in ["", "+", "a#", "a\n"] {
            assert_eq!(key_of(|o| o.client_id = id.into()), "client_id", "{id:?}");
        }
        assert_eq!(key_of(|o| o.keep_alive = Duration::ZERO), "keep_alive");
        assert_eq!(key_of(|o| o.session_expiry = Duration::ZERO), "session_expiry");
        assert_eq!(key_of(|o| o.receive_maximum = 0), "receive_maximum");
        assert_eq!(key_of(|o| o.max_packet_bytes = 1), "max_packet_bytes");
        assert_eq!(key_of(|o| o.max_held_bytes = 1), "max_held_bytes");
        assert_eq!(key_of(|o| o.tls.ca_file = Some("ca.pem".into())), "url");
        assert_eq!(key_of(|o| o.credentials = Some(Credentials { user: String::new(), password: "x".into() })), "user");
    }

    #[test]
    fn certificates_are_read_before_anything_connects() {
        let secure = |o: &mut Options| o.url = "mqtts://localhost".into();
        let missing = key_of(|o| {
            secure(o);
            o.tls.ca_file = Some("no-such-file.pem".into());
        });
        assert_eq!(missing, "tls.ca_file");
        let alone = key_of(|o| {
            secure(o);
            o.tls.cert_file = Some("cert.pem".into());
        });
        assert_eq!(alone, "tls.key_file");
    }

    #[test]
    fn the_password_is_never_shown() {
        let mut options = Options::new("mqtt://h", "id");
        options.credentials = Some(Credentials { user: "u".into(), password: "s3cret".into() });
        let settings = Settings::check(options).unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"));
        let url = Settings::check(Options::new("mqtt://u:s3cret@h", "id")).unwrap_err();
        assert!(!url.to_string().contains("s3cret"));
    }

    #[test]
    fn ports_default_by_scheme_and_ipv6_is_an_address() {
        assert_eq!(address("mqtt://h").unwrap(), ("h".into(), 1883, false));
        assert_eq!(address("mqtts://h").unwrap(), ("h".into(), 8883, true));
        assert_eq!(address("mqtt://[::1]:99").unwrap(), ("::1".into(), 99, false));
    }
}
