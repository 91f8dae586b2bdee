//! `[fleet]` as written in `homeward.toml` and in the model file.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

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
    /// Families of features switched off or on, by word, e.g. `{ age = false, usage = false }`; all are on by default.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub features: IndexMap<String, bool>,
    /// Codes of events that are counted as features; none by default. Labels are made of `failure`, `fault` and `inspection`: they cannot be features.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Numbers among the fields of `attributes` events that are features as they are, by name; none by default.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub attributes: IndexMap<String, WrittenAttribute>,
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

/// An attribute as written: `cells = { at = "/battery/cells", unit = "1" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenAttribute {
    /// JSON Pointer (RFC 6901) to its place in an `attributes` event.
    pub at: String,
    /// Unit, for people.
    #[serde(default)]
    pub unit: String,
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
    /// This signal less what its regime, `given`, explains: small trees that training fits on healthy readings and the model file
    /// holds. Missing until they are fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residual: Option<String>,
    /// The signals that tell the regime of a `residual`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<Vec<String>>,
    /// Unit, for people.
    pub unit: String,
    /// What it watches; default the component that all its inputs share, for a `residual` that of its signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Whether features are made of it, default true; `false` for a step on the way to another.
    pub features: Option<bool>,
}
