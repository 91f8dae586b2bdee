//! Which features a fleet has: their order, their names, their components.

use super::derive::derive;
use super::residual::{BadResiduals, Residuals};
use crate::Fleet;
use crate::fleet::{Channel, Family, Range, Source};
use crate::time::duration_name;

/// A statistic of one channel over one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// Arithmetic mean.
    Mean,
    /// Population standard deviation; one value gives 0.
    Std,
    /// Smallest value.
    Min,
    /// Largest value.
    Max,
    /// Least-squares slope against time, in units per second; fewer than two distinct times give missing.
    Slope,
}

impl Statistic {
    /// All, in the order of their columns.
    pub(super) const ALL: [Self; 5] = [Self::Mean, Self::Std, Self::Min, Self::Max, Self::Slope];

    /// Its family of features.
    pub fn family(self) -> Family {
        match self {
            Self::Mean => Family::Mean,
            Self::Std => Family::Std,
            Self::Min => Family::Min,
            Self::Max => Family::Max,
            Self::Slope => Family::Slope,
        }
    }
}

/// One column of the feature matrix. Channels, windows, components, events and attributes are indices into the [`Fleet`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// The last value, missing once it is older than the longest window.
    Last {
        /// Of this channel.
        channel: usize,
    },
    /// `last` less the mean over the commissioning stretch; missing until that stretch has passed.
    Delta {
        /// Of this channel.
        channel: usize,
    },
    /// Exponentially weighted mean, its half-life the longest window; missing as `last` is.
    Ewm {
        /// Of this channel.
        channel: usize,
    },
    /// A statistic over a window.
    Window {
        /// Of this channel.
        channel: usize,
        /// Over this window.
        window: usize,
        /// This statistic.
        statistic: Statistic,
    },
    /// Seconds since the accepted reading before; missing at the first one and at a clock step.
    Gap,
    /// Share of the measured signals with features that this reading lacks, or has out of their range.
    Missing,
    /// Seconds since the component's own maintenance; missing until one is known.
    Age {
        /// Of this component.
        component: usize,
    },
    /// Seconds of operation since the component's own maintenance; missing until one is known.
    Usage {
        /// Of this component.
        component: usize,
    },
    /// Events of a code in a window.
    Count {
        /// Of this code.
        event: usize,
        /// In this window.
        window: usize,
    },
    /// Seconds since the newest event of a code; missing if there was none.
    Since {
        /// Of this code.
        event: usize,
    },
    /// A number of the device's attributes; missing until told.
    Attribute {
        /// This attribute.
        attribute: usize,
    },
}

/// The features of a fleet, in the order of the matrix' columns.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSpec {
    fleet: Fleet,
    residuals: Option<Residuals>,
    print: u64,
    features: Vec<Feature>,
    channels: Vec<usize>,
    groups: Vec<usize>,
    ranges: Vec<Range>,
    /// Of each measured signal, whether features are made of it.
    featured: Vec<bool>,
}

impl FeatureSpec {
    /// All features of `fleet`: by family `last`, `delta`, `ewm` of each channel, then by window and statistic of each channel, then those of
    /// the device, its components, events and attributes. Residual channels are missing: see [`FeatureSpec::with_residuals`].
    pub fn new(fleet: &Fleet) -> Self {
        let channels: Vec<usize> = (0..fleet.channels.len()).filter(|c| fleet.channels[*c].features).collect();
        let believable = |c: &Channel| match &c.source {
            Source::Measured { range: Some(range), .. } => *range,
            _ => Range { low: f64::MIN, high: f64::MAX },
        };
        Self {
            features: columns(fleet, &channels),
            groups: channels.iter().map(|c| fleet.channels[*c].component.unwrap_or(fleet.components.len())).collect(),
            ranges: fleet.signals().iter().map(believable).collect(),
            featured: fleet.signals().iter().map(|c| c.features).collect(),
            print: fleet.print(),
            residuals: None,
            fleet: fleet.clone(),
            channels,
        }
    }

    /// The features of `fleet` with its residual channels fitted.
    pub fn with_residuals(fleet: &Fleet, residuals: Residuals) -> Result<Self, BadResiduals> {
        let residuals = Residuals::check(fleet, residuals.written().clone())?;
        let plain = Self::new(fleet);
        if residuals.written().0.is_empty() {
            return Ok(plain);
        }
        Ok(Self { print: residuals.print(plain.print), residuals: Some(residuals), ..plain })
    }

    /// The fleet.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The fitted residuals, if any.
    pub fn residuals(&self) -> Option<&Residuals> {
        self.residuals.as_ref()
    }

    /// A 64-bit print of all that decides the features' values, fitted residuals included. States carry it.
    pub fn print(&self) -> u64 {
        self.print
    }

    /// [`FeatureSpec::print`] as 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", self.print)
    }

    /// The columns.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Whether there is no column; never so for a checked fleet.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// The channels that features are made of, indices into the fleet's.
    pub(super) fn channels(&self) -> &[usize] {
        &self.channels
    }

    /// The component that feature channel `c` watches, or their number if it watches none.
    #[inline]
    pub(super) fn group(&self, c: usize) -> usize {
        self.groups[c]
    }

    /// Turns a reading, one value a measured signal as it came, into one value a channel of the fleet: values out of range are NaN
    /// (missing), derived ones are computed. The share of the signals with features that are missing.
    pub fn values(&self, measured: &[f64], values: &mut [f64]) -> f64 {
        let (mut missing, mut all) = (0u32, 0u32);
        for (((value, raw), range), featured) in values.iter_mut().zip(measured).zip(&self.ranges).zip(&self.featured) {
            *value = range.or_missing(*raw);
            missing += u32::from(*featured && value.is_nan());
            all += u32::from(*featured);
        }
        derive(&self.fleet, self.residuals.as_ref(), values);
        f64::from(missing) / f64::from(all)
    }

    /// A column's name: `motor_2_temp.slope.60s`, `battery_v.last`, `motor_1.age`, `event.hard_landing.count.60s`, `device.gap`.
    pub fn name(&self, column: usize) -> String {
        let fleet = &self.fleet;
        let feature = self.features[column];
        let word = feature.family().word();
        match feature {
            Feature::Last { channel } | Feature::Delta { channel } | Feature::Ewm { channel } => {
                format!("{}.{word}", fleet.channels[channel].name)
            }
            Feature::Window { channel, window, .. } => {
                format!("{}.{word}.{}", fleet.channels[channel].name, duration_name(fleet.windows[window]))
            }
            Feature::Gap | Feature::Missing => format!("device.{word}"),
            Feature::Age { component } | Feature::Usage { component } => format!("{}.{word}", fleet.components[component]),
            Feature::Count { event, window } => format!("event.{}.{word}.{}", fleet.events[event], duration_name(fleet.windows[window])),
            Feature::Since { event } => format!("event.{}.{word}", fleet.events[event]),
            Feature::Attribute { attribute } => format!("{word}.{}", fleet.attributes[attribute].name),
        }
    }

    /// A column's unit, for people: the channel's, or that per second, `s`, or `1` for counts and shares.
    pub fn unit(&self, column: usize) -> String {
        match self.features[column] {
            Feature::Window { channel, statistic: Statistic::Slope, .. } => format!("{}/s", self.fleet.channels[channel].unit),
            Feature::Last { channel } | Feature::Delta { channel } | Feature::Ewm { channel } | Feature::Window { channel, .. } => {
                self.fleet.channels[channel].unit.clone()
            }
            Feature::Gap | Feature::Age { .. } | Feature::Usage { .. } | Feature::Since { .. } => "s".into(),
            Feature::Missing | Feature::Count { .. } => "1".into(),
            Feature::Attribute { attribute } => self.fleet.attributes[attribute].unit.clone(),
        }
    }

    /// The component that a column watches, an index into the fleet's.
    pub fn component(&self, column: usize) -> Option<usize> {
        match self.features[column] {
            Feature::Last { channel } | Feature::Delta { channel } | Feature::Ewm { channel } | Feature::Window { channel, .. } => {
                self.fleet.channels[channel].component
            }
            Feature::Age { component } | Feature::Usage { component } => Some(component),
            _ => None,
        }
    }
}

impl Feature {
    /// The family it belongs to.
    pub fn family(self) -> Family {
        match self {
            Self::Last { .. } => Family::Last,
            Self::Delta { .. } => Family::Delta,
            Self::Ewm { .. } => Family::Ewm,
            Self::Window { statistic, .. } => statistic.family(),
            Self::Gap => Family::Gap,
            Self::Missing => Family::Missing,
            Self::Age { .. } => Family::Age,
            Self::Usage { .. } => Family::Usage,
            Self::Count { .. } => Family::Count,
            Self::Since { .. } => Family::Since,
            Self::Attribute { .. } => Family::Attribute,
        }
    }
}

/// The columns: the order in which [`DeviceState::features`](super::DeviceState::features) writes them.
fn columns(fleet: &Fleet, channels: &[usize]) -> Vec<Feature> {
    let channels = || channels.iter().copied();
    let (windows, events) = (0..fleet.windows.len(), 0..fleet.events.len());
    let mut all: Vec<Feature> = Vec::new();
    all.extend(channels().map(|channel| Feature::Last { channel }));
    all.extend(channels().map(|channel| Feature::Delta { channel }));
    all.extend(channels().map(|channel| Feature::Ewm { channel }));
    for window in windows.clone() {
        for statistic in Statistic::ALL {
            all.extend(channels().map(|channel| Feature::Window { channel, window, statistic }));
        }
    }
    all.extend([Feature::Gap, Feature::Missing]);
    all.extend((0..fleet.components.len()).map(|component| Feature::Age { component }));
    all.extend((0..fleet.components.len()).map(|component| Feature::Usage { component }));
    all.extend(events.clone().flat_map(|event| windows.clone().map(move |window| Feature::Count { event, window })));
    all.extend(events.map(|event| Feature::Since { event }));
    all.extend((0..fleet.attributes.len()).map(|attribute| Feature::Attribute { attribute }));
    all.retain(|feature| fleet.families.has(feature.family()));
    all
}
