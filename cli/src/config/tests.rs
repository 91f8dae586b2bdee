//! Every mistake of a configuration is found before anything connects, and its key is named.

use super::*;

fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::parse(text, env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

fn changed(from: &str, to: &str) -> String {
    assert!(SAMPLE.contains(from), "{from} is not in the sample");
    SAMPLE.replacen(from, to, 1)
}

#[test]
fn the_sample_is_good() {
    let config = parse(SAMPLE, &[]).unwrap();
    assert_eq!((config.fleet.measured, config.fleet.components.len()), (20, 5));
}

#[test]
fn mistakes_name_their_key_and_fit_a_line() {
    let cases = [
        (changed("range = [0, 60]", "range = [60, 0]"), "fleet.signals.battery_v.range"),
        (changed("range = [0, 60]", "range = \"big\""), "fleet.signals.battery_v.range"),
        (changed("at = \"/battery/v\"", "at = \"battery/v\""), "fleet.signals.battery_v.at"),
        (changed("windows = [\"10s\"", "windows = [\"soon\""), "fleet.windows"),
        (changed("product = [\"battery_v\"", "product = [\"voltage\""), "fleet.derived.power.product"),
        (changed("url = \"mqtt://127.0.0.1:1883\"", "url = \"http://x\""), "broker.url"),
        (changed("url = \"mqtt://127.0.0.1:1883\"", "client_id = \"a#\""), "broker.client_id"),
        (changed("url = \"file://./homeward-data\"", "url = \"ftp://x\""), "store.url"),
        (changed("max_age = \"10s\"", "max_age = 10"), "ingest.max_age"),
        (changed("horizons = [\"10m\"]", "horizon = [\"10m\"]"), "train.horizon"),
        (changed("failure = 2000", "failure = 20"), "costs.failure"),
        (changed("raise_readings = 3", "raise_readings = -3"), "decide.raise_readings"),
        (changed("name = \"drone\"", "nickname = \"drone\""), "fleet.nickname"),
        (changed("[store]", "[stores]"), "stores"),
        (changed("[costs]", "[costs"), "line"),
    ];
    for (text, key) in cases {
        let error = parse(&text, &[]).err().unwrap_or_else(|| panic!("{key}: accepted"));
        assert!(error.key.starts_with(key), "expected {key}, got {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn the_environment_goes_over_the_file() {
    let env = [
        ("HOMEWARD_BROKER_URL", "mqtts://elsewhere:1884"),
        ("HOMEWARD_INGEST_MAX_ROWS", "1000"),
        ("HOMEWARD_BROKER_CLIENT_ID", "17"),
        ("HOMEWARD_TRAIN_HORIZONS", "[\"5m\", \"10m\"]"),
        ("HOMEWARD_BROKER_TLS_ALPN", "[\"mqtt\"]"),
        ("HOMEWARD_LOG", "debug"),
        ("PATH", "x"),
    ];
    let config = parse(SAMPLE, &env).unwrap();
    assert_eq!(config.broker.url(), "mqtts://elsewhere:1884");
    assert_eq!((config.ingest.max_rows, config.broker.client_id()), (1000, "17"));
    assert_eq!((config.train.horizons.len(), config.written.broker.tls.alpn.len()), (2, 1));
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let key = |name: &str, value: &str| parse(SAMPLE, &[(name, value)]).unwrap_err().key;
    assert_eq!(key("HOMEWARD_BROKR_URL", "x"), "HOMEWARD_BROKR_URL");
    assert!(key("HOMEWARD_INGEST_MAX_ROWS", "many").starts_with("HOMEWARD_INGEST_MAX_ROWS"));
    assert!(key("HOMEWARD_INGEST_ROWS", "1").starts_with("HOMEWARD_INGEST_ROWS"));
}

#[test]
fn the_password_comes_from_the_environment_or_a_file_only() {
    assert_eq!(parse(&changed("[broker]\n", "[broker]\npassword = \"x\"\n"), &[]).unwrap_err().key, "broker.password");
    assert_eq!(parse(SAMPLE, &[("HOMEWARD_BROKER_PASSWORD", "x")]).unwrap_err().key, "broker.user");
    assert!(parse(&changed("[broker]\n", "[broker]\nuser = \"u\"\n"), &[("HOMEWARD_BROKER_PASSWORD", "x")]).is_ok());
    assert_eq!(
        parse(&changed("[broker]\n", "[broker]\nuser = \"u\"\npassword_file = \"/nonexistent\"\n"), &[]).unwrap_err().key,
        "broker.password_file"
    );
}
