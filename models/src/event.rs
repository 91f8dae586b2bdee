//! Events: what happened to a device, beside its readings.

/// The outcome of an inspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The fault was there; counts as a failure at the inspection's time.
    Confirmed,
    /// Nothing was wrong.
    NoFaultFound,
    /// Not looked at yet.
    Deferred,
}

impl Finding {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::NoFaultFound => "no_fault_found",
            Self::Deferred => "deferred",
        }
    }

    /// The finding of a word, or `None`.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Confirmed, Self::NoFaultFound, Self::Deferred].into_iter().find(|f| f.word() == word)
    }
}

/// What kind of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The device broke.
    Failure,
    /// A fault is present, the device still works.
    Fault,
    /// Somebody looked.
    Inspection(Finding),
    /// A component, or with none named all of them, was replaced or repaired.
    Maintenance,
    /// Static facts: model, firmware, home position.
    Attributes,
    /// Taken out of service.
    Retired,
    /// Any other code.
    Other(String),
}

impl EventKind {
    /// The code on the wire.
    pub fn code(&self) -> &str {
        match self {
            Self::Failure => "failure",
            Self::Fault => "fault",
            Self::Inspection(_) => "inspection",
            Self::Maintenance => "maintenance",
            Self::Attributes => "attributes",
            Self::Retired => "retired",
            Self::Other(code) => code,
        }
    }

    /// The kind of a code and, for an inspection, its finding; `None` for an inspection without a known finding.
    pub fn parse(code: &str, finding: Option<&str>) -> Option<Self> {
        Some(match code {
            "failure" => Self::Failure,
            "fault" => Self::Fault,
            "inspection" => Self::Inspection(Finding::parse(finding?)?),
            "maintenance" => Self::Maintenance,
            "attributes" => Self::Attributes,
            "retired" => Self::Retired,
            other => Self::Other(other.into()),
        })
    }
}

/// One event of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The device's or the operator's clock, milliseconds since 1970 UTC.
    pub ts: i64,
    /// What happened.
    pub kind: EventKind,
    /// To which component; `None` is the whole device.
    pub component: Option<String>,
    /// The alert that an inspection answers.
    pub alert_id: Option<String>,
    /// The other fields, as a JSON object.
    pub extra: Option<String>,
}
