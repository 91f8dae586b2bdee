//! A fleet: its signals, components and derived signals, as written and as checked.
//!
//! The written form is what `homeward.toml` and the model file hold; the checked form is what the code works with. All signals,
//! raw ones first and derived ones after them, are *channels*: columns of one vector of values.

mod family;
mod rules;
mod siblings;
mod written;

pub use family::{Families, Family};
pub use written::{WrittenAttribute, WrittenDerived, WrittenFleet, WrittenSignal};

use crate::ConfigError;
use crate::time::{duration_name, parse_duration};
use rules::{check_event, check_name, claims_overlap, pointer, shared, tokens, windows};

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
    /// A signal less what the fitted tree makes of its regime.
    Residual {
        /// The signal.
        signal: usize,
        /// What tells the regime.
        given: Vec<usize>,
    },
}

/// A number among the fields of `attributes` events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Unit, for people.
    pub unit: String,
    /// JSON Pointer to its place in the event.
    pub at: String,
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
    /// Families of features that are made.
    pub families: Families,
    /// Codes of events that are counted as features.
    pub events: Vec<String>,
    /// Numbers of `attributes` events that are features.
    pub attributes: Vec<Attribute>,
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
            families: Families::check(&written.features)?,
            events: Vec::new(),
            attributes: Vec::new(),
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
        for code in &written.events {
            check_event(code, &fleet.events)?;
            fleet.events.push(code.clone());
        }
        for (name, attribute) in &written.attributes {
            fleet.add_attribute(name, attribute)?;
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

    /// [`Fleet::print`] as 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", self.print())
    }

    /// A 64-bit print of all that decides the features' values, but for fitted residuals
    /// ([`FeatureSpec::print`](crate::features::FeatureSpec::print) has those as well). Model and state carry it.
    pub fn print(&self) -> u64 {
        let mut relevant = self.written.clone();
        relevant.name.clear();
        relevant.signals.values_mut().for_each(|s| s.unit.clear());
        relevant.derived.values_mut().for_each(|d| d.unit.clear());
        relevant.windows = self.windows.iter().map(|w| duration_name(*w)).collect();
        relevant.commissioning = duration_name(self.commissioning);
        relevant.features = self.families.off();
        relevant.attributes.values_mut().for_each(|a| a.unit.clear());
        let text = serde_json::to_vec(&relevant).unwrap_or_default();
        xxhash_rust::xxh3::xxh3_64(&text)
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
        let component = match (&w.component, &formula) {
            (Some(c), _) => self.component(&key, Some(c))?,
            (None, Formula::Residual { signal, .. }) => self.channels[*signal].component,
            (None, _) => shared(inputs.iter().map(|i| self.channels[*i].component)),
        };
        let features = w.features.unwrap_or(true);
        self.channels.push(Channel { name: name.into(), unit: w.unit.clone(), component, features, source: Source::Derived(formula) });
        Ok(())
    }

    fn add_attribute(&mut self, name: &str, w: &WrittenAttribute) -> Result<(), ConfigError> {
        let key = format!("fleet.attributes.{name}");
        check_name(&key, name, 64, "a name of 1 to 64 characters of a-z 0-9 _")?;
        tokens(&format!("{key}.at"), &w.at)?;
        self.attributes.push(Attribute { name: name.into(), unit: w.unit.clone(), at: w.at.clone() });
        Ok(())
    }

    fn formula(&self, key: &str, w: &WrittenDerived) -> Result<(Formula, Vec<usize>), ConfigError> {
        type Make = fn(Vec<usize>) -> Formula;
        let pair = w.ratio.as_ref().map(|r| r.to_vec());
        let regime = w.residual.as_ref().map(|r| [r].into_iter().chain(w.given.iter().flatten()).cloned().collect());
        if w.given.is_some() && regime.is_none() {
            return Err(ConfigError::new(format!("{key}.given"), "no residual", "residual = \"signal\" beside it"));
        }
        let kinds: [(&str, &Option<Vec<String>>, usize, Make); 9] = [
            ("spread", &w.spread, 2, Formula::Spread),
            ("mean", &w.mean, 1, Formula::Mean),
            ("min", &w.min, 1, Formula::Min),
            ("max", &w.max, 1, Formula::Max),
            ("sum", &w.sum, 1, Formula::Sum),
            ("product", &w.product, 1, Formula::Product),
            ("ratio", &pair, 2, |i| Formula::Ratio(i[0], i[1])),
            ("deviation", &w.deviation, 2, Formula::Deviation),
            ("residual", &regime, 2, |i| Formula::Residual { signal: i[0], given: i[1..].to_vec() }),
        ];
        let given: Vec<_> = kinds.iter().filter_map(|(word, names, least, make)| names.as_ref().map(|n| (word, n, least, make))).collect();
        let [(word, names, least, make)] = given.as_slice() else {
            let found =
                if given.is_empty() { "no formula".to_string() } else { given.iter().map(|g| *g.0).collect::<Vec<_>>().join(" and ") };
            return Err(ConfigError::new(key, found, "exactly one of spread, mean, min, max, sum, product, ratio, deviation, residual"));
        };
        if names.len() < **least {
            if **word == "residual" {
                return Err(ConfigError::new(format!("{key}.given"), "no signal", "the signals that tell the regime"));
            }
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
        let expected = "1 to 64 characters of a-z 0-9 _ -, and not device, event or attribute, which name columns of their own";
        check_name(&format!("{key}.component"), name, 64, expected)?;
        if matches!(name, "device" | "event" | "attribute") {
            return Err(ConfigError::new(format!("{key}.component"), format!("{name:?}"), expected));
        }
        let at = self.components.iter().position(|c| c == name);
        Ok(Some(at.unwrap_or_else(|| {
            self.components.push(name.into());
            self.components.len() - 1
        })))
    }
}

#[cfg(test)]
pub(crate) mod tests;
