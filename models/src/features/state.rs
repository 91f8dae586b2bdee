//! A device's state: what its readings and events so far say, in constant memory and constant time per reading.

use super::accept::{Acceptance, Counts, Verdict};
use super::chain;
use super::commission::Commissioning;
use super::panes::finite;
use super::spec::{FeatureSpec, Statistic};
use super::wear::{Wear, component};
use super::windows::{Room, Windows};
use crate::fleet::Family;
use crate::{Event, EventKind};

/// Channels up to which a reading allocates nothing.
const FEW: usize = 64;

/// The windows and memories of one device under one [`FeatureSpec`].
#[derive(Debug, Clone)]
pub struct DeviceState {
    pub(super) acceptance: Acceptance,
    /// Running hash of what has been absorbed.
    pub(super) chain: u64,
    /// Milliseconds between the two newest accepted readings.
    pub(super) gap: Option<i64>,
    /// Share of signals that the newest reading lacks.
    pub(super) missing: f64,
    pub(super) windows: Windows,
    pub(super) commissioning: Commissioning,
    pub(super) wear: Wear,
}

impl DeviceState {
    /// The state of a device that has not been heard.
    pub fn new(spec: &FeatureSpec) -> Self {
        Self {
            acceptance: Acceptance::default(),
            chain: 0,
            gap: None,
            missing: f64::NAN,
            windows: Windows::new(spec.fleet().windows.len(), spec.channels().len()),
            commissioning: Commissioning::new(spec),
            wear: Wear::new(spec),
        }
    }

    /// Readings accepted so far.
    pub fn accepted(&self) -> u64 {
        self.acceptance.counts().accepted
    }

    /// How many readings met which end so far.
    pub fn counts(&self) -> Counts {
        self.acceptance.counts()
    }

    /// `ts` of the newest accepted reading.
    pub fn newest(&self) -> Option<i64> {
        self.acceptance.newest()
    }

    /// A 64-bit running hash of all that this state has absorbed: xxh3 of each accepted reading (`ts` and values as they came) and each
    /// event, the one before as its seed; 0 before the first. Two states of one specification with one chain have one past.
    pub fn chain(&self) -> u64 {
        self.chain
    }

    /// Bytes that this state takes in memory, itself included, what the allocator adds not.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.windows.heap() + self.commissioning.heap() + self.wear.heap()
    }

    /// Takes a reading: `measured` holds one value a measured signal as it came, NaN for missing; `ts` is in milliseconds since 1970 UTC, as
    /// the wire accepts it. Unless it is refused, the features are then those at this reading.
    pub fn reading(&mut self, spec: &FeatureSpec, ts: i64, measured: &[f64]) -> Verdict {
        let before = self.acceptance.newest();
        let verdict = self.acceptance.judge(ts);
        match verdict {
            Verdict::Refused(_) => return verdict,
            Verdict::ClockStep => self.restart(spec, ts),
            Verdict::Accepted => self.gap = before.map(|before| ts - before),
        }
        self.windows.touch();
        self.chain = chain::reading(self.chain, ts, measured);
        let all = spec.fleet().channels.len();
        if all <= FEW {
            let (mut values, mut featured) = ([f64::NAN; FEW], [f64::NAN; FEW]);
            self.absorb(spec, ts, measured, &mut values[..all], &mut featured[..spec.channels().len()]);
        } else {
            let (mut values, mut featured) = (vec![f64::NAN; all], vec![f64::NAN; spec.channels().len()]);
            self.absorb(spec, ts, measured, &mut values, &mut featured);
        }
        verdict
    }

    fn absorb(&mut self, spec: &FeatureSpec, ts: i64, measured: &[f64], values: &mut [f64], featured: &mut [f64]) {
        self.missing = spec.values(measured, values);
        for (value, channel) in featured.iter_mut().zip(spec.channels()) {
            *value = values[*channel];
        }
        let lengths = &spec.fleet().windows;
        self.windows.turn(lengths, ts);
        self.windows.absorb(lengths, ts, featured);
        self.commissioning.absorb(spec, ts, featured);
        self.wear.absorb(spec, self.gap);
    }

    /// A clock step to `ts`: nothing before it can be placed in time.
    fn restart(&mut self, spec: &FeatureSpec, ts: i64) {
        self.gap = None;
        self.windows.restart();
        self.commissioning.restart(spec);
        self.wear.restart(ts);
    }

    /// Takes an event. Maintenance starts the commissioning of the component's signals (of all, if none is named), its age and its usage anew;
    /// `attributes` are kept; declared codes are counted. A repeated or older maintenance changes nothing.
    pub fn event(&mut self, spec: &FeatureSpec, event: &Event) {
        self.chain = chain::event(self.chain, event);
        self.wear.count(spec, event);
        match event.kind {
            EventKind::Maintenance => match component(spec, event) {
                Some(which) if self.wear.maintained(which, event.ts) => self.commissioning.begin(spec, which),
                _ => (),
            },
            EventKind::Attributes => self.wear.attributes(spec, event, component(spec, event), self.acceptance.newest()),
            _ => (),
        }
    }

    /// Writes the features at the newest accepted reading; `row` has [`FeatureSpec::len`] places, NaN is missing. All are missing before the
    /// first reading.
    pub fn features(&self, spec: &FeatureSpec, row: &mut [f64]) {
        let Some(ts) = self.newest() else { return row.fill(f64::NAN) };
        let mut columns = Columns { spec, rest: row };
        self.newest_values(&mut columns);
        let mut room = Room::new();
        for (window, length) in spec.fleet().windows.iter().enumerate() {
            let out = Statistic::ALL.map(|statistic| columns.channels(statistic.family()));
            self.windows.statistics(window, *length, out, &mut room);
        }
        columns.one(Family::Gap, self.gap.map_or(f64::NAN, |ms| ms as f64 / 1_000.0));
        columns.one(Family::Missing, self.missing);
        self.wear_values(&mut columns, ts);
        debug_assert!(columns.rest.is_empty());
    }

    fn newest_values(&self, columns: &mut Columns<'_, '_>) {
        let spec = columns.spec;
        let (last, delta, ewm) = (columns.channels(Family::Last), columns.channels(Family::Delta), columns.channels(Family::Ewm));
        let memory = self.windows.memory(&spec.fleet().windows);
        let or_missing = |c: usize, value: f64| if self.windows.newest[c] >= memory { finite(value) } else { f64::NAN };
        let values = self.windows.last.iter().enumerate();
        write(last, values.clone().map(|(c, x)| or_missing(c, *x)));
        write(delta, values.map(|(c, x)| or_missing(c, self.commissioning.less_normal(spec, c, *x))));
        write(ewm, self.windows.ewm.iter().enumerate().map(|(c, x)| or_missing(c, *x)));
    }

    fn wear_values(&self, columns: &mut Columns<'_, '_>, ts: i64) {
        let fleet = columns.spec.fleet();
        let (components, windows) = (0..fleet.components.len(), fleet.windows.len());
        components.clone().for_each(|c| columns.one(Family::Age, self.wear.age(c, ts)));
        components.for_each(|c| columns.one(Family::Usage, self.wear.usage(c)));
        for code in 0..fleet.events.len() {
            (0..windows).for_each(|w| columns.one(Family::Count, self.wear.events(columns.spec, code, w, ts)));
        }
        (0..fleet.events.len()).for_each(|code| columns.one(Family::Since, self.wear.since(code, ts)));
        self.wear.attributes.iter().for_each(|x| columns.one(Family::Attribute, *x));
    }
}

/// The places of a row that are not written yet, in the order of the columns.
struct Columns<'s, 'r> {
    spec: &'s FeatureSpec,
    rest: &'r mut [f64],
}

impl<'r> Columns<'_, 'r> {
    /// One place a channel, if the family is made.
    fn channels(&mut self, family: Family) -> Option<&'r mut [f64]> {
        let n = if self.spec.fleet().families.has(family) { self.spec.channels().len() } else { return None };
        let (block, rest) = std::mem::take(&mut self.rest).split_at_mut(n);
        self.rest = rest;
        Some(block)
    }

    /// Writes one place, if the family is made.
    fn one(&mut self, family: Family, value: f64) {
        if self.spec.fleet().families.has(family)
            && let Some((place, rest)) = std::mem::take(&mut self.rest).split_first_mut()
        {
            *place = value;
            self.rest = rest;
        }
    }
}

fn write(out: Option<&mut [f64]>, values: impl Iterator<Item = f64>) {
    if let Some(out) = out {
        out.iter_mut().zip(values).for_each(|(place, value)| *place = value);
    }
}
