//! Which features a fleet has: their order, their names, their components.

use crate::Fleet;
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

/// The statistics in the order of their columns.
pub(super) const STATISTICS: [Statistic; 5] = [Statistic::Mean, Statistic::Std, Statistic::Min, Statistic::Max, Statistic::Slope];

/// One column of the feature matrix. Channels and windows are indices into the [`Fleet`]'s.
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
    /// A statistic over a window.
    Window {
        /// Of this channel.
        channel: usize,
        /// Over this window.
        window: usize,
        /// This statistic.
        statistic: Statistic,
    },
}

/// The features of a fleet, in the order of the matrix' columns.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSpec {
    fleet: Fleet,
    features: Vec<Feature>,
    channels: Vec<usize>,
}

impl FeatureSpec {
    /// All features of `fleet`: by channel, `last`, `delta`, then each window's statistics.
    pub fn new(fleet: &Fleet) -> Self {
        let channels: Vec<usize> = (0..fleet.channels.len()).filter(|c| fleet.channels[*c].features).collect();
        let windowed = |channel| {
            let pairs = (0..fleet.windows.len()).flat_map(|window| STATISTICS.map(|statistic| (window, statistic)));
            pairs.map(move |(window, statistic)| Feature::Window { channel, window, statistic })
        };
        let of_channel = |channel: &usize| {
            let channel = *channel;
            [Feature::Last { channel }, Feature::Delta { channel }].into_iter().chain(windowed(channel)).collect::<Vec<_>>()
        };
        let features = channels.iter().flat_map(of_channel).collect();
        Self { fleet: fleet.clone(), features, channels }
    }

    /// The fleet.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
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

    /// A column's name: `motor_2_temp.slope.60s`, `battery_v.last`.
    pub fn name(&self, column: usize) -> String {
        let channel = |c: usize| self.fleet.channels[c].name.as_str();
        match self.features[column] {
            Feature::Last { channel: c } => format!("{}.last", channel(c)),
            Feature::Delta { channel: c } => format!("{}.delta", channel(c)),
            Feature::Window { channel: c, window, statistic } => {
                let word = match statistic {
                    Statistic::Mean => "mean",
                    Statistic::Std => "std",
                    Statistic::Min => "min",
                    Statistic::Max => "max",
                    Statistic::Slope => "slope",
                };
                format!("{}.{word}.{}", channel(c), duration_name(self.fleet.windows[window]))
            }
        }
    }

    /// The component that a column watches, an index into the fleet's.
    pub fn component(&self, column: usize) -> Option<usize> {
        let (Feature::Last { channel } | Feature::Delta { channel } | Feature::Window { channel, .. }) = self.features[column];
        self.fleet.channels[channel].component
    }
}
