//! Families of features: the words by which `[fleet] features` switches them.

use indexmap::IndexMap;

use crate::ConfigError;

/// A kind of feature. All are made unless `[fleet] features` switches one off: `features = { age = false, usage = false }`.
/// `docs/features.md` has each one's formula and edge cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// A channel's newest value.
    Last,
    /// The newest value less the channel's normal one, learnt in commissioning.
    Delta,
    /// Exponentially weighted mean by time.
    Ewm,
    /// Mean over a window.
    Mean,
    /// Standard deviation over a window.
    Std,
    /// Smallest value of a window.
    Min,
    /// Largest value of a window.
    Max,
    /// Slope against time over a window.
    Slope,
    /// Seconds since the reading before.
    Gap,
    /// Share of the signals that this reading lacks.
    Missing,
    /// Seconds since a component's maintenance.
    Age,
    /// Seconds of operation since a component's maintenance.
    Usage,
    /// Events of a code within a window.
    Count,
    /// Seconds since the newest event of a code.
    Since,
    /// A declared number of the device's `attributes`.
    Attribute,
}

impl Family {
    /// All, in the order of their columns.
    pub const ALL: [Self; 15] = [
        Self::Last,
        Self::Delta,
        Self::Ewm,
        Self::Mean,
        Self::Std,
        Self::Min,
        Self::Max,
        Self::Slope,
        Self::Gap,
        Self::Missing,
        Self::Age,
        Self::Usage,
        Self::Count,
        Self::Since,
        Self::Attribute,
    ];

    /// Its word in the configuration and in the names of columns.
    pub fn word(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Delta => "delta",
            Self::Ewm => "ewm",
            Self::Mean => "mean",
            Self::Std => "std",
            Self::Min => "min",
            Self::Max => "max",
            Self::Slope => "slope",
            Self::Gap => "gap",
            Self::Missing => "missing",
            Self::Age => "age",
            Self::Usage => "usage",
            Self::Count => "count",
            Self::Since => "since",
            Self::Attribute => "attribute",
        }
    }

    /// Whether it speaks of a channel: on without any such, a fleet has hardly a feature.
    fn of_channels(self) -> bool {
        self <= Self::Slope
    }
}

/// Which families are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Families([bool; Family::ALL.len()]);

impl Families {
    /// Checks `[fleet] features`.
    pub(super) fn check(written: &IndexMap<String, bool>) -> Result<Self, ConfigError> {
        let mut on = [true; Family::ALL.len()];
        for (word, switch) in written {
            let family = Family::ALL.iter().position(|f| f.word() == word).ok_or_else(|| {
                let words = Family::ALL.map(Family::word).join(", ");
                ConfigError::new(format!("fleet.features.{word}"), "no family of features", format!("one of {words}"))
            })?;
            on[family] = *switch;
        }
        let families = Self(on);
        if !Family::ALL.iter().any(|f| f.of_channels() && families.has(*f)) {
            return Err(ConfigError::new("fleet.features", "last to slope all false", "at least one family of the signals"));
        }
        Ok(families)
    }

    /// Whether `family` is made.
    pub fn has(&self, family: Family) -> bool {
        self.0[family as usize]
    }

    /// The shortest written form with the same meaning.
    pub(super) fn off(&self) -> IndexMap<String, bool> {
        Family::ALL.iter().filter(|f| !self.has(**f)).map(|f| (f.word().to_string(), false)).collect()
    }
}
