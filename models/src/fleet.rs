//! A fleet: its signals, components and derived signals, as written and as checked.
//!
//! The written form is what `homeward.toml` and the model file hold; the checked form is what the code works with. All signals,
//! raw ones first and derived ones after them, are *channels*: columns of one vector of values.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::ConfigError;
use crate::time::{duration_name, parse_duration};

/// `[fleet]` as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenFleet {
    /// Name of the fleet and of its model in the registry: 1 to 64 characters of `a-z0-9_-`.
    pub name: String,
    /// Window lengths, default 10 s, 60 s, 10 min; at least 6 ms.
    #[serde(default = "default_windows")]
    pub windows: Vec<String>,
    /// How long after its first reading, and after each maintenance, a device's normal values are learnt; default 2 min.
    #[serde(default = "default_commissioning")]
    pub commissioning: String,
    /// The measured quantities by name, in the order of the archive's columns.
    pub signals: IndexMap<String, WrittenSignal>,
    /// Quantities computed from others by name; each may use signals and derived signals declared before it.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub derived: IndexMap<String, WrittenDerived>,
}

fn default_windows() -> Vec<String> {
    ["10s", "60s", "10m"].map(String::from).to_vec()
}

fn default_commissioning() -> String {
    "2m".into()
}

fn yes() -> bool {
    true
}

/// A signal as written: `battery_v = { at = "/battery/v", unit = "V", range = [0, 60], component = "battery" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenSignal {
    /// JSON Pointer (RFC 6901) to its place in a reading.
    pub at: String,
    /// Unit, for people.
    #[serde(default)]
    pub unit: String,
    /// Lowest and highest believable value; others are archived and count as missing for features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// What it watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Whether features are made of it, default true. A position is archived, but says nothing about wear.
    #[serde(default = "yes")]
    pub features: bool,
}

/// A derived signal as written: exactly one formula, e.g. `power = { product = ["battery_v", "battery_a"], unit = "W" }`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenDerived {
    /// Largest less smallest of those present; two at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<Vec<String>>,
    /// Mean of those present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<String>>,
    /// Smallest of those present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Vec<String>>,
    /// Largest of those present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Vec<String>>,
    /// Sum; missing if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum: Option<Vec<String>>,
    /// Product; missing if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<Vec<String>>,
    /// First over second; missing if one is or the second is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<[String; 2]>,
    /// The first signal less the median of all of them (itself included): one motor among its siblings. Two at least present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<Vec<String>>,
    /// Unit, for people.
    pub unit: String,
    /// What it watches; default the component that all its inputs share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Whether features are made of it, default true; `false` for a step on the way to another.
    pub features: Option<bool>,
}

/// Lowest and highest believable value of a signal, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Lowest.
    pub low: f64,
    /// Highest.
    pub high: f64,
}

impl Range {
    /// `value`, or NaN (missing) if it lies outside.
    pub fn or_missing(self, value: f64) -> f64 {
        if value >= self.low && value <= self.high { value } else { f64::NAN }
    }
}

/// How a derived signal is computed from the channels named by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formula {
    /// Largest less smallest of those present.
    Spread(Vec<usize>),
    /// Mean of those present.
    Mean(Vec<usize>),
    /// Smallest of those present.
    Min(Vec<usize>),
    /// Largest of those present.
    Max(Vec<usize>),
    /// Sum of all.
    Sum(Vec<usize>),
    /// Product of all.
    Product(Vec<usize>),
    /// First over second.
    Ratio(usize, usize),
    /// First less the median of all.
    Deviation(Vec<usize>),
}

/// Where a channel's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Measured: its place in a reading (unescaped JSON Pointer tokens) and believable range.
    Measured {
        /// The pointer as written.
        at: String,
        /// Its tokens.
        tokens: Vec<String>,
        /// Believable values.
        range: Option<Range>,
    },
    /// Computed.
    Derived(Formula),
}

/// One column of values: a measured or a derived signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Its name, the archive's column for a measured one.
    pub name: String,
    /// Unit, for people.
    pub unit: String,
    /// What it watches, an index into [`Fleet::components`].
    pub component: Option<usize>,
    /// Whether features are made of it.
    pub features: bool,
    /// Where its value comes from.
    pub source: Source,
}

/// A fleet, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// Name of the fleet and of its model.
    pub name: String,
    /// Window lengths in milliseconds, ascending.
    pub windows: Vec<i64>,
    /// Length of the commissioning stretch in milliseconds.
    pub commissioning: i64,
    /// Measured signals first, derived ones after them.
    pub channels: Vec<Channel>,
    /// How many of the channels are measured.
    pub measured: usize,
    /// What gets replaced, in the order of first mention.
    pub components: Vec<String>,
    written: WrittenFleet,
}

const FIXED_COLUMNS: [&str; 7] = ["device", "ts", "received_at", "seq", "idx", "extra", "date"];

impl Fleet {
    /// Checks the written fleet; errors name `fleet.…`.
    pub fn check(written: &WrittenFleet) -> Result<Self, ConfigError> {
        check_name("fleet.name", &written.name, 64, "1 to 64 characters of a-z 0-9 _ -")?;
        let mut fleet = Self {
            name: written.name.clone(),
            windows: windows(&written.windows)?,
            commissioning: parse_duration("fleet.commissioning", &written.commissioning)?,
            channels: Vec::new(),
            measured: written.signals.len(),
            components: Vec::new(),
            written: written.clone(),
        };
        if written.signals.is_empty() {
            return Err(ConfigError::new("fleet.signals", "none", "at least one signal, such as battery_v = { at = \"/battery/v\" }"));
        }
        for (name, signal) in &written.signals {
            fleet.add_signal(name, signal)?;
        }
        for (name, derived) in &written.derived {
            fleet.add_derived(name, derived)?;
        }
        if !fleet.channels.iter().any(|c| c.features) {
            return Err(ConfigError::new("fleet.signals", "features = false everywhere", "at least one signal with features"));
        }
        Ok(fleet)
    }

    /// The form that was checked.
    pub fn written(&self) -> &WrittenFleet {
        &self.written
    }

    /// The measured signals.
    pub fn signals(&self) -> &[Channel] {
        &self.channels[..self.measured]
    }

    /// The index of the channel named `name`.
    pub fn channel(&self, name: &str) -> Option<usize> {
        self.channels.iter().position(|c| c.name == name)
    }

    /// A 64-bit print of all that decides the features' values, as 16 hexadecimal digits. Model and state carry it.
    pub fn fingerprint(&self) -> String {
        let mut relevant = self.written.clone();
        relevant.name.clear();
        relevant.signals.values_mut().for_each(|s| s.unit.clear());
        relevant.derived.values_mut().for_each(|d| d.unit.clear());
        relevant.windows = self.windows.iter().map(|w| duration_name(*w)).collect();
        relevant.commissioning = duration_name(self.commissioning);
        let text = serde_json::to_vec(&relevant).unwrap_or_default();
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&text))
    }

    fn add_signal(&mut self, name: &str, w: &WrittenSignal) -> Result<(), ConfigError> {
        let key = format!("fleet.signals.{name}");
        self.check_channel_name(&key, name)?;
        let tokens = pointer(&format!("{key}.at"), &w.at)?;
        if let Some(other) = self.channels.iter().find(|c| claims_overlap(c, &tokens)) {
            let found = format!("{:?}", w.at);
            return Err(ConfigError::new(format!("{key}.at"), found, format!("a place of its own, not that of {}", other.name)));
        }
        let range = w.range.map(|[low, high]| Range { low, high });
        if let Some(r) = range.filter(|r| !(r.low < r.high && r.low.is_finite() && r.high.is_finite())) {
            return Err(ConfigError::new(format!("{key}.range"), format!("[{}, {}]", r.low, r.high), "[low, high] with low < high"));
        }
        let component = self.component(&key, w.component.as_deref())?;
        let source = Source::Measured { at: w.at.clone(), tokens, range };
        self.channels.push(Channel { name: name.into(), unit: w.unit.clone(), component, features: w.features, source });
        Ok(())
    }

    fn add_derived(&mut self, name: &str, w: &WrittenDerived) -> Result<(), ConfigError> {
        let key = format!("fleet.derived.{name}");
        self.check_channel_name(&key, name)?;
        let (formula, inputs) = self.formula(&key, w)?;
        let component = match &w.component {
            Some(c) => self.component(&key, Some(c))?,
            None => shared(inputs.iter().map(|i| self.channels[*i].component)),
        };
        let features = w.features.unwrap_or(true);
        self.channels.push(Channel { name: name.into(), unit: w.unit.clone(), component, features, source: Source::Derived(formula) });
        Ok(())
    }

    fn formula(&self, key: &str, w: &WrittenDerived) -> Result<(Formula, Vec<usize>), ConfigError> {
        type Make = fn(Vec<usize>) -> Formula;
        let pair = w.ratio.as_ref().map(|r| r.to_vec());
        let kinds: [(&str, &Option<Vec<String>>, usize, Make); 8] = [
            ("spread", &w.spread, 2, Formula::Spread),
            ("mean", &w.mean, 1, Formula::Mean),
            ("min", &w.min, 1, Formula::Min),
            ("max", &w.max, 1, Formula::Max),
            ("sum", &w.sum, 1, Formula::Sum),
            ("product", &w.product, 1, Formula::Product),
            ("ratio", &pair, 2, |i| Formula::Ratio(i[0], i[1])),
            ("deviation", &w.deviation, 2, Formula::Deviation),
        ];
        let given: Vec<_> = kinds.iter().filter_map(|(word, names, least, make)| names.as_ref().map(|n| (word, n, least, make))).collect();
        let [(word, names, least, make)] = given.as_slice() else {
            let found =
                if given.is_empty() { "no formula".to_string() } else { given.iter().map(|g| *g.0).collect::<Vec<_>>().join(" and ") };
            return Err(ConfigError::new(key, found, "exactly one of spread, mean, min, max, sum, product, ratio, deviation"));
        };
        if names.len() < **least {
            return Err(ConfigError::new(format!("{key}.{word}"), format!("{} names", names.len()), format!("{least} names at least")));
        }
        let find = |n: &String| {
            self.channel(n).ok_or_else(|| {
                ConfigError::new(format!("{key}.{word}"), format!("{n:?}"), format!("signals declared before it: {}", self.channel_names()))
            })
        };
        let inputs = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        Ok((make(inputs.clone()), inputs))
    }

    fn channel_names(&self) -> String {
        self.channels.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn check_channel_name(&self, key: &str, name: &str) -> Result<(), ConfigError> {
        check_name(key, name, 64, "a name of 1 to 64 characters of a-z 0-9 _")?;
        if FIXED_COLUMNS.contains(&name) || self.channel(name).is_some() {
            return Err(ConfigError::new(
                key,
                format!("{name:?}"),
                format!("a name that is not taken (the archive keeps {})", FIXED_COLUMNS.join(", ")),
            ));
        }
        Ok(())
    }

    fn component(&mut self, key: &str, name: Option<&str>) -> Result<Option<usize>, ConfigError> {
        let Some(name) = name else { return Ok(None) };
        check_name(&format!("{key}.component"), name, 64, "1 to 64 characters of a-z 0-9 _ -")?;
        let at = self.components.iter().position(|c| c == name);
        Ok(Some(at.unwrap_or_else(|| {
            self.components.push(name.into());
            self.components.len() - 1
        })))
    }
}

fn shared(mut components: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    let first = components.next()??;
    components.all(|c| c == Some(first)).then_some(first)
}

fn claims_overlap(channel: &Channel, tokens: &[String]) -> bool {
    let Source::Measured { tokens: other, .. } = &channel.source else { return false };
    other.starts_with(tokens) || tokens.starts_with(other)
}

fn check_name(key: &str, name: &str, most: usize, expected: &str) -> Result<(), ConfigError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if name.is_empty() || name.len() > most || !name.bytes().all(allowed) {
        return Err(ConfigError::new(key, format!("{name:?}"), expected));
    }
    Ok(())
}

fn windows(written: &[String]) -> Result<Vec<i64>, ConfigError> {
    let mut windows = Vec::new();
    for text in written {
        let ms = parse_duration("fleet.windows", text)?;
        if ms < 6 {
            return Err(ConfigError::new("fleet.windows", format!("{text:?}"), "at least \"6ms\": a window has six panes"));
        }
        if windows.contains(&ms) {
            return Err(ConfigError::new("fleet.windows", format!("{text:?} twice"), "each length once"));
        }
        windows.push(ms);
    }
    if windows.is_empty() {
        return Err(ConfigError::new("fleet.windows", "[]", "at least one length such as \"60s\""));
    }
    windows.sort_unstable();
    Ok(windows)
}

fn pointer(key: &str, text: &str) -> Result<Vec<String>, ConfigError> {
    let wrong = |expected: &str| ConfigError::new(key, format!("{text:?}"), expected);
    let rest = text.strip_prefix('/').ok_or_else(|| wrong("a JSON Pointer that begins with /, such as \"/battery/v\""))?;
    let tokens: Vec<String> = rest.split('/').map(|t| t.replace("~1", "/").replace("~0", "~")).collect();
    if tokens.iter().any(String::is_empty) {
        return Err(wrong("a JSON Pointer without empty parts"));
    }
    if matches!(tokens[0].as_str(), "ts" | "device") {
        return Err(wrong("another place: ts and device are the reading's own"));
    }
    Ok(tokens)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two motors' temperatures and a battery, one derived signal, windows of 6 s and 60 s.
    pub(crate) fn small() -> WrittenFleet {
        serde_json::from_str(
            r#"{"name": "small", "windows": ["6s", "60s"], "commissioning": "5s",
                "signals": {"battery_v": {"at": "/battery/v", "unit": "V", "range": [0, 60], "component": "battery"},
                            "motor_1_temp": {"at": "/motor/0/temp", "component": "motor_1"},
                            "motor_2_temp": {"at": "/motor/1/temp", "component": "motor_2"},
                            "lat": {"at": "/position/lat", "features": false}},
                "derived": {"temp_spread": {"spread": ["motor_1_temp", "motor_2_temp"], "unit": "C"}}}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_fleet_is_checked_into_channels_and_components() {
        let fleet = Fleet::check(&small()).unwrap();
        assert_eq!(fleet.components, ["battery", "motor_1", "motor_2"]);
        assert_eq!((fleet.measured, fleet.channels.len()), (4, 5));
        assert_eq!(fleet.channels[4].source, Source::Derived(Formula::Spread(vec![1, 2])));
        assert_eq!(fleet.channels[4].component, None);
        assert_eq!(fleet.windows, [6_000, 60_000]);
    }

    #[test]
    fn the_fingerprint_changes_with_what_changes_features_and_with_nothing_else() {
        let print = |change: &dyn Fn(&mut WrittenFleet)| {
            let mut w = small();
            change(&mut w);
            Fleet::check(&w).unwrap().fingerprint()
        };
        let same = print(&|_| ());
        assert_eq!(same, print(&|w| w.name = "other".into()));
        assert_eq!(same, print(&|w| w.signals[0].unit = "mV".into()));
        assert_eq!(same, print(&|w| w.windows = vec!["60s".into(), "6000ms".into()]));
        assert_ne!(same, print(&|w| w.signals[0].range = Some([0.0, 61.0])));
        assert_ne!(same, print(&|w| w.windows = vec!["6s".into()]));
        assert_ne!(same, print(&|w| w.commissioning = "6s".into()));
    }

    #[test]
    fn every_mistake_names_its_key() {
        let key = |change: &dyn Fn(&mut WrittenFleet)| {
            let mut w = small();
            change(&mut w);
            Fleet::check(&w).unwrap_err().key
        };
        assert_eq!(key(&|w| w.name = "A b".into()), "fleet.name");
        assert_eq!(key(&|w| w.windows = vec!["5ms".into()]), "fleet.windows");
        assert_eq!(key(&|w| w.commissioning = "x".into()), "fleet.commissioning");
        assert_eq!(key(&|w| w.signals[0].at = "battery".into()), "fleet.signals.battery_v.at");
        assert_eq!(key(&|w| w.signals[1].at = "/battery".into()), "fleet.signals.motor_1_temp.at");
        assert_eq!(key(&|w| w.signals[0].range = Some([2.0, 1.0])), "fleet.signals.battery_v.range");
        assert_eq!(key(&|w| w.derived[0].mean = Some(vec![])), "fleet.derived.temp_spread");
        assert_eq!(key(&|w| w.derived[0].spread = Some(vec!["nope".into(), "lat".into()])), "fleet.derived.temp_spread.spread");
        assert_eq!(key(&|w| w.signals.clear()), "fleet.signals");
    }
}
