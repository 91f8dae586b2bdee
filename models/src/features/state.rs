//! A device's state: what its readings so far say, in constant memory and constant time per reading.

use super::accept::{Acceptance, Verdict};
use super::derive::{derive, finite};
use super::spec::{Feature, FeatureSpec, Statistic};
use super::windows::Window;
use crate::fleet::Source;
use crate::{Event, EventKind};

/// Mean of a channel over the stretch after the device was first heard or last maintained: its normal value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Commissioning {
    /// `ts` of the stretch's first reading.
    start: Option<i64>,
    n: f64,
    /// Mean of x less its origin; the origin is the first value.
    mean: f64,
    origin: f64,
    /// Whether a reading after the stretch has been accepted.
    over: bool,
}

impl Commissioning {
    fn add(&mut self, ts: i64, length_ms: i64, x: f64) {
        let start = *self.start.get_or_insert(ts);
        self.over = ts - start >= length_ms;
        if self.over || x.is_nan() {
            return;
        }
        if self.n == 0.0 {
            self.origin = x;
        }
        self.n += 1.0;
        self.mean += (x - self.origin - self.mean) / self.n;
    }

    fn less_normal(&self, last: f64) -> f64 {
        if self.over && self.n > 0.0 { last - self.origin - self.mean } else { f64::NAN }
    }
}

/// The windows and memories of one device under one [`FeatureSpec`].
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceState {
    acceptance: Acceptance,
    accepted: u64,
    /// Time of the first reading since the windows (re)started; windows count seconds from it.
    t0: i64,
    /// Value that each feature channel's windows are shifted by; NaN until there is one.
    origins: Vec<f64>,
    last: Vec<f64>,
    commissioning: Vec<Commissioning>,
    windows: Vec<Window>,
    values: Vec<f64>,
    scratch: Vec<f64>,
}

impl DeviceState {
    /// The state of a device that has not been heard.
    pub fn new(spec: &FeatureSpec) -> Self {
        let channels = spec.channels().len();
        Self {
            acceptance: Acceptance::default(),
            accepted: 0,
            t0: 0,
            origins: vec![f64::NAN; channels],
            last: vec![f64::NAN; channels],
            commissioning: vec![Commissioning::default(); channels],
            windows: spec.fleet().windows.iter().map(|w| Window::new(*w, channels)).collect(),
            values: vec![f64::NAN; spec.fleet().channels.len()],
            scratch: Vec::new(),
        }
    }

    /// Readings accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// `ts` of the newest accepted reading.
    pub fn newest(&self) -> Option<i64> {
        self.acceptance.newest()
    }

    /// Takes a reading: `measured` holds one value a measured signal as it came, NaN for missing.
    /// Unless it is refused, the features are then those at this reading.
    pub fn reading(&mut self, spec: &FeatureSpec, ts: i64, measured: &[f64]) -> Verdict {
        let verdict = self.acceptance.judge(ts);
        match verdict {
            Verdict::Refused(_) => return verdict,
            Verdict::ClockStep => self.restart(),
            Verdict::Accepted => (),
        }
        self.accepted += 1;
        self.fill_values(spec, measured);
        self.turn(ts);
        self.absorb(spec, ts);
        verdict
    }

    /// Takes an event: maintenance starts the commissioning of the component's signals (of all, if none is named) anew.
    pub fn event(&mut self, spec: &FeatureSpec, event: &Event) {
        if event.kind != EventKind::Maintenance {
            return;
        }
        let fleet = spec.fleet();
        for (state, channel) in self.commissioning.iter_mut().zip(spec.channels()) {
            let watches = fleet.channels[*channel].component.map(|c| fleet.components[c].as_str());
            if event.component.is_none() || watches.is_none() || watches == event.component.as_deref() {
                *state = Commissioning::default();
            }
        }
    }

    /// Writes the features at the newest accepted reading; `row` has [`FeatureSpec::len`] places, NaN is missing.
    pub fn features(&self, spec: &FeatureSpec, row: &mut [f64]) {
        debug_assert_eq!(row.len(), spec.len());
        let per_channel = 2 + 5 * self.windows.len();
        for (c, out) in row.chunks_exact_mut(per_channel).enumerate() {
            let origin = self.origins[c];
            let mut known = false;
            for (window, out) in self.windows.iter().zip(out[2..].chunks_exact_mut(5)) {
                let m = window.over(c);
                known = m.n > 0.0;
                if known {
                    out.copy_from_slice(&[origin + m.mean_x, m.std(), origin + m.min, origin + m.max, m.slope()].map(finite));
                } else {
                    out.fill(f64::NAN);
                }
            }
            // The longest window comes last: a value older than it is forgotten.
            out[0] = if known { self.last[c] } else { f64::NAN };
            out[1] = self.commissioning[c].less_normal(out[0]);
        }
        debug_assert!(spec.features().chunks_exact(per_channel).all(layout_is_as_written));
    }

    /// A clock step: nothing before it can be placed in time.
    fn restart(&mut self) {
        self.windows.iter_mut().for_each(Window::clear);
        self.commissioning.fill(Commissioning::default());
    }

    fn fill_values(&mut self, spec: &FeatureSpec, measured: &[f64]) {
        let fleet = spec.fleet();
        for ((value, channel), raw) in self.values.iter_mut().zip(fleet.signals()).zip(measured) {
            *value = match &channel.source {
                Source::Measured { range: Some(range), .. } => range.or_missing(*raw),
                _ if raw.is_finite() => *raw,
                _ => f64::NAN,
            };
        }
        derive(fleet, &mut self.values, &mut self.scratch);
    }

    fn turn(&mut self, ts: i64) {
        let mut all_out = true;
        for window in &mut self.windows {
            all_out = window.turn(ts);
        }
        // Windows ascend, so the last word is the longest window's.
        if all_out {
            self.t0 = ts;
            self.origins.fill(f64::NAN);
        }
    }

    fn absorb(&mut self, spec: &FeatureSpec, ts: i64) {
        let t = (ts - self.t0) as f64 / 1000.0;
        let commissioning_ms = spec.fleet().commissioning;
        for (c, channel) in spec.channels().iter().enumerate() {
            let x = self.values[*channel];
            self.commissioning[c].add(ts, commissioning_ms, x);
            if x.is_nan() {
                continue;
            }
            self.last[c] = x;
            if self.origins[c].is_nan() {
                self.origins[c] = x;
            }
            let shifted = x - self.origins[c];
            self.windows.iter_mut().for_each(|w| w.add(c, t, shifted));
        }
    }
}

/// `features` writes columns in the very order that [`FeatureSpec`] names them.
fn layout_is_as_written(columns: &[Feature]) -> bool {
    let is = |i: usize, s: Statistic| matches!(columns[i], Feature::Window { statistic, .. } if statistic == s);
    matches!(columns[0], Feature::Last { .. })
        && matches!(columns[1], Feature::Delta { .. })
        && (2..columns.len()).step_by(5).all(|i| {
            is(i, Statistic::Mean)
                && is(i + 1, Statistic::Std)
                && is(i + 2, Statistic::Min)
                && is(i + 3, Statistic::Max)
                && is(i + 4, Statistic::Slope)
        })
}
