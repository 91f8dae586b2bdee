//! Wear: how long ago each component was maintained and how long it has worked since; when which event came; the attributes.

use serde_json::Value;

use super::panes::{PANES, pane, slot};
use super::spec::FeatureSpec;
use crate::Event;
use crate::time::parse_rfc3339;

/// The word of an `attributes` event that says since when a component, or the whole device, has been in service.
const COMMISSIONED: &str = "commissioned";

/// What is known of a component's service life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// `ts` of its newest maintenance, or since when it is in service.
    pub(super) since: Option<i64>,
    /// Milliseconds of operation since then.
    pub(super) used: Option<i64>,
}

/// Events of one code within one window: pane numbers and how many events fell into each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ring(pub(super) [(i64, u32); PANES as usize]);

impl Ring {
    pub(super) const EMPTY: Self = Self([(i64::MIN, 0); PANES as usize]);

    fn add(&mut self, pane: i64) {
        let (tag, count) = &mut self.0[slot(pane)];
        if pane > *tag {
            (*tag, *count) = (pane, 0);
        }
        if pane == *tag {
            *count = count.saturating_add(1);
        }
    }

    fn count(&self, newest: i64) -> f64 {
        let inside = self.0.iter().filter(|(tag, _)| *tag <= newest && *tag > newest - PANES);
        inside.map(|(_, count)| f64::from(*count)).sum()
    }
}

/// A device's parts, events and attributes.
#[derive(Debug, Clone)]
pub(super) struct Wear {
    pub(super) parts: Vec<Part>,
    /// `ts` of the newest event of each declared code.
    pub(super) newest: Vec<Option<i64>>,
    /// Of each declared code, each window.
    pub(super) rings: Vec<Ring>,
    pub(super) attributes: Vec<f64>,
}

impl Wear {
    pub(super) fn new(spec: &FeatureSpec) -> Self {
        let fleet = spec.fleet();
        Self {
            parts: vec![Part::default(); fleet.components.len()],
            newest: vec![None; fleet.events.len()],
            rings: vec![Ring::EMPTY; fleet.events.len() * fleet.windows.len()],
            attributes: vec![f64::NAN; fleet.attributes.len()],
        }
    }

    /// Takes a reading that came `gap` ms after the one before it: a gap up to the shortest window counts as operation.
    pub(super) fn absorb(&mut self, spec: &FeatureSpec, gap: Option<i64>) {
        let operating = gap.filter(|gap| spec.fleet().windows.first().is_some_and(|w| gap <= w));
        let Some(operating) = operating else { return };
        self.parts.iter_mut().filter_map(|part| part.used.as_mut()).for_each(|used| *used += operating);
    }

    /// Time begins anew at `ts`: what is said to come later cannot be placed.
    pub(super) fn restart(&mut self, ts: i64) {
        self.rings.fill(Ring::EMPTY);
        self.newest.iter_mut().for_each(|newest| *newest = newest.filter(|at| *at <= ts));
        self.parts.iter_mut().for_each(|part| part.since = part.since.filter(|at| *at <= ts));
    }

    /// Counts an event of a declared code.
    pub(super) fn count(&mut self, spec: &FeatureSpec, event: &Event) {
        let fleet = spec.fleet();
        let Some(code) = fleet.events.iter().position(|code| code == event.kind.code()) else { return };
        self.newest[code] = self.newest[code].max(Some(event.ts));
        let rings = &mut self.rings[code * fleet.windows.len()..];
        rings.iter_mut().zip(&fleet.windows).for_each(|(ring, length)| ring.add(pane(event.ts, *length)));
    }

    /// Takes the maintenance of `component`, or of all; whether it is news, not a repeat or older than one known.
    pub(super) fn maintained(&mut self, component: Option<usize>, ts: i64) -> bool {
        let mut news = self.parts.is_empty();
        for (_, part) in self.parts.iter_mut().enumerate().filter(|(c, _)| component.is_none_or(|named| named == *c)) {
            if part.since.is_none_or(|since| ts > since) {
                *part = Part { since: Some(ts), used: Some(0) };
                news = true;
            }
        }
        news
    }

    /// Takes an `attributes` event: declared numbers, and `commissioned`, since when the component (or all) is in service. Operation
    /// since then is known if no reading has been accepted after it.
    pub(super) fn attributes(&mut self, spec: &FeatureSpec, event: &Event, component: Option<Option<usize>>, newest: Option<i64>) {
        let fields: Value = event.extra.as_deref().and_then(|extra| serde_json::from_str(extra).ok()).unwrap_or_default();
        for (value, attribute) in self.attributes.iter_mut().zip(&spec.fleet().attributes) {
            if let Some(found) = fields.pointer(&attribute.at) {
                *value = number(found);
            }
        }
        let since = fields.get(COMMISSIONED).and_then(|at| at.as_i64().or_else(|| parse_rfc3339(at.as_str()?)));
        let (Some(since), Some(component)) = (since.filter(|at| believable(*at)), component) else { return };
        let used = newest.is_none_or(|newest| newest <= since).then_some(0);
        for (_, part) in self.parts.iter_mut().enumerate().filter(|(c, _)| component.is_none_or(|named| named == *c)) {
            if part.since.is_none_or(|known| since > known) {
                *part = Part { since: Some(since), used };
            }
        }
    }

    /// Seconds at `ts` since the part's maintenance; NaN if unknown. An event of a clock ahead counts as now.
    pub(super) fn age(&self, component: usize, ts: i64) -> f64 {
        seconds_since(self.parts[component].since, ts)
    }

    /// Seconds of operation since the part's maintenance; NaN if unknown.
    pub(super) fn usage(&self, component: usize) -> f64 {
        self.parts[component].used.map_or(f64::NAN, |ms| ms as f64 / 1_000.0)
    }

    /// Events of a code in the window whose newest reading is at `ts`.
    pub(super) fn events(&self, spec: &FeatureSpec, code: usize, window: usize, ts: i64) -> f64 {
        let windows = &spec.fleet().windows;
        self.rings[code * windows.len() + window].count(pane(ts, windows[window]))
    }

    /// Seconds at `ts` since the newest event of a code; NaN if there was none.
    pub(super) fn since(&self, code: usize, ts: i64) -> f64 {
        seconds_since(self.newest[code], ts)
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.parts.capacity() * size_of::<Part>()
            + self.newest.capacity() * size_of::<Option<i64>>()
            + self.rings.capacity() * size_of::<Ring>()
            + self.attributes.capacity() * 8
    }
}

/// Which component an event is about: `Some(None)` for all, `None` for one that no signal watches.
pub(super) fn component(spec: &FeatureSpec, event: &Event) -> Option<Option<usize>> {
    match &event.component {
        None => Some(None),
        Some(name) => spec.fleet().components.iter().position(|c| c == name).map(Some),
    }
}

fn seconds_since(then: Option<i64>, ts: i64) -> f64 {
    then.map_or(f64::NAN, |then| ts.saturating_sub(then).max(0) as f64 / 1_000.0)
}

/// Whether a time can be computed with.
pub(super) fn believable(ts: i64) -> bool {
    ts.abs_diff(0) < 1 << 53
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Bool(b) => f64::from(u8::from(*b)),
        other => super::panes::finite(other.as_f64().unwrap_or(f64::NAN)),
    }
}
