//! The environment over the file: `HOMEWARD_BROKER_URL` over `[broker] url`, `HOMEWARD_BROKER_TLS_CA` over `[broker.tls] ca`.

use std::collections::BTreeMap;

use homeward_models::ConfigError;
use toml::{Table, Value};

use super::Written;

const PREFIX: &str = "HOMEWARD_";
/// The one secret.
pub(super) const PASSWORD: &str = "HOMEWARD_BROKER_PASSWORD";
/// Variables that are no keys.
const OTHERS: [&str; 3] = [PASSWORD, "HOMEWARD_LOG", "HOMEWARD_LOG_FORMAT"];
/// Names under which tests find their things.
const TESTS: &str = "HOMEWARD_TEST_";
const SECTIONS: [&str; 16] = [
    "broker.tls",
    "compact.cold",
    "compact.retain",
    "fleet",
    "topics",
    "broker",
    "store",
    "journal",
    "ingest",
    "compact",
    "serve",
    "train",
    "costs",
    "decide",
    "predict",
    "source",
];
/// How many of them are sections of a section.
const NESTED: usize = 3;

/// The written configuration with the environment over it.
pub(super) fn read(mut table: Table, env: &BTreeMap<String, String>) -> Result<Written, ConfigError> {
    let mut written = deserialize(table.clone())?;
    for (name, value) in env.iter().filter(|(n, _)| n.starts_with(PREFIX) && !n.starts_with(TESTS) && !OTHERS.contains(&n.as_str())) {
        let (section, key) = place(name)?;
        // A text that reads as a number may still be meant as text: the key's type decides.
        let as_text = with(&table, section, &key, Value::String(value.clone()));
        let as_typed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v")).map(|v| with(&table, section, &key, v));
        let outcome = match deserialize(as_text.clone()) {
            Ok(ok) => Ok((as_text, ok)),
            Err(error) => as_typed.and_then(|t| Some((t.clone(), deserialize(t).ok()?))).ok_or(error),
        };
        (table, written) = outcome.map_err(|e| ConfigError { key: format!("{name} ({})", e.key), ..e })?;
    }
    Ok(written)
}

/// The section and key that a variable names.
fn place(name: &str) -> Result<(&'static str, String), ConfigError> {
    let rest = name[PREFIX.len()..].to_ascii_lowercase();
    let of = |section: &&'static str| {
        let key = rest.strip_prefix(&section.replace('.', "_"))?.strip_prefix('_')?;
        (!key.is_empty()).then(|| (*section, key.to_owned()))
    };
    let unknown = || {
        ConfigError::new(
            name,
            "no key of the configuration",
            format!("HOMEWARD_<SECTION>_<KEY> with a section of {}", SECTIONS[NESTED..].join(", ")),
        )
    };
    SECTIONS.iter().find_map(of).ok_or_else(unknown)
}

fn with(table: &Table, section: &str, key: &str, value: Value) -> Table {
    let mut all = table.clone();
    let mut at = &mut all;
    for part in section.split('.') {
        let entry = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = entry else { return table.clone() };
        at = inner;
    }
    at.insert(key.to_owned(), value);
    all
}

fn deserialize(table: Table) -> Result<Written, ConfigError> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        let said = error.into_inner().message().lines().collect::<Vec<_>>().join(" ");
        name_the_key(&path, &said)
    })
}

/// serde's message with its key: an unknown field is named with its section, a missing one likewise.
fn name_the_key(path: &str, said: &str) -> ConfigError {
    let section = if path == "." { String::new() } else { format!("{path}.") };
    let quoted = |word: &str| said.split_once(word).and_then(|(_, rest)| rest.split('`').nth(1)).map(str::to_owned);
    if let Some(field) = quoted("unknown field ") {
        let expected = said.split_once(", expected ").map_or("none", |(_, e)| e);
        // serde's path may or may not end with the unknown field itself.
        let section = section.strip_suffix(&format!("{field}.")).unwrap_or(&section);
        return ConfigError::new(format!("{section}{field}"), "an unknown key", expected);
    }
    if let Some(field) = quoted("missing field ") {
        return ConfigError::new(format!("{section}{field}"), "nothing", "a value: this key has no default");
    }
    let (found, expected) = said.split_once(", expected ").unwrap_or((said, "a value of another kind"));
    let found = found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ").trim_start_matches("invalid length ");
    ConfigError::new(path, found, expected)
}
