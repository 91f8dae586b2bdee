//! Every feature against a plain reference in f64 that keeps the whole past and makes two passes over it.
#![allow(clippy::unwrap_used)]

mod random;

use homeward_models::features::{DeviceState, Feature, FeatureSpec, Statistic, Verdict};
use homeward_models::{Event, EventKind};
use proptest::prelude::*;
use random::{Sent, fitted, fleets, past, sent};

/// All that a device was, since its last clock step.
#[derive(Default)]
struct Past {
    /// `ts` and a value a channel of the fleet, NaN for missing; with the share of measured signals with features that were missing.
    readings: Vec<(i64, Vec<f64>, f64)>,
    /// With the number of readings before it.
    events: Vec<(usize, Event)>,
}

/// Which pane of a window a time falls into.
fn pane(ts: i64, window: i64) -> i64 {
    (ts * 6).div_euclid(window)
}

impl Past {
    fn now(&self) -> i64 {
        self.readings.last().unwrap().0
    }

    /// The values of a channel in the window, each with its seconds before now.
    fn inside(&self, channel: usize, window: i64) -> Vec<(f64, f64)> {
        let newest = pane(self.now(), window);
        let inside = self.readings.iter().filter(|(ts, values, _)| pane(*ts, window) > newest - 6 && !values[channel].is_nan());
        inside.map(|(ts, values, _)| ((ts - self.now()) as f64 / 1_000.0, values[channel])).collect()
    }

    fn statistic(&self, channel: usize, window: i64, statistic: Statistic) -> f64 {
        let inside = self.inside(channel, window);
        let Some((_, x0)) = inside.first().copied() else { return f64::NAN };
        let n = inside.len() as f64;
        let (mean_t, mean_x) = (inside.iter().map(|p| p.0).sum::<f64>() / n, inside.iter().map(|p| p.1 - x0).sum::<f64>() / n);
        let sum = |f: &dyn Fn(f64, f64) -> f64| inside.iter().map(|(t, x)| f(t - mean_t, x - x0 - mean_x)).sum::<f64>();
        match statistic {
            Statistic::Mean => x0 + mean_x,
            Statistic::Std => (sum(&|_, x| x * x) / n).sqrt(),
            Statistic::Min => inside.iter().map(|p| p.1).fold(f64::INFINITY, f64::min),
            Statistic::Max => inside.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max),
            Statistic::Slope if inside.len() < 2 => f64::NAN,
            Statistic::Slope => sum(&|t, x| t * x) / sum(&|t, _| t * t),
        }
    }

    fn last(&self, channel: usize, longest: i64) -> f64 {
        self.inside(channel, longest).last().map_or(f64::NAN, |p| p.1)
    }

    /// The weights of all values since the mean last began anew, in the closed form.
    fn ewm(&self, channel: usize, longest: i64) -> f64 {
        if self.inside(channel, longest).is_empty() {
            return f64::NAN;
        }
        let known: Vec<(i64, f64)> =
            self.readings.iter().filter(|(_, v, _)| !v[channel].is_nan()).map(|(ts, v, _)| (*ts, v[channel])).collect();
        let anew = |w: &[(i64, f64)]| pane(w[0].0, longest) <= pane(w[1].0, longest) - 6;
        let begin = known.windows(2).rposition(anew).map_or(0, |at| at + 1);
        let since = &known[begin..];
        let (now, x0) = (since.last().unwrap().0, since[0].1);
        let decay = |ms: i64| (-(ms as f64) / longest as f64).exp2();
        // 1 − decay, without losing the digits of a short time.
        let gain = |ms: i64| -(-std::f64::consts::LN_2 * ms as f64 / longest as f64).exp_m1();
        let rest: f64 = since.windows(2).map(|w| gain(w[1].0 - w[0].0) * decay(now - w[1].0) * (w[1].1 - x0)).sum();
        x0 + rest
    }

    /// Maintenance that counts for `component`: each newer than those before it.
    fn maintained(&self, component: usize, names: &[String]) -> Option<(usize, i64)> {
        let about = |event: &Event| event.component.as_ref().is_none_or(|c| *c == names[component]);
        let mut newest: Option<(usize, i64)> = None;
        for (n, event) in self.events.iter().filter(|(_, e)| about(e)) {
            let since = match event.kind {
                EventKind::Maintenance => Some(event.ts),
                EventKind::Attributes => commissioned(event),
                _ => None,
            };
            if since.is_some_and(|since| newest.is_none_or(|(_, before)| since > before)) {
                newest = since.map(|since| (*n, since));
            }
        }
        newest
    }

    /// First reading of the stretch that a channel's normal value is learnt on.
    fn stretch(&self, component: Option<usize>, names: &[String]) -> usize {
        let mut begin = 0;
        let mut newest = vec![i64::MIN; names.len()];
        for (n, event) in &self.events {
            let named: Vec<usize> = (0..names.len()).filter(|c| event.component.as_ref().is_none_or(|name| *name == names[*c])).collect();
            let since = match event.kind {
                EventKind::Maintenance => Some(event.ts),
                EventKind::Attributes => commissioned(event),
                _ => None,
            };
            let news: Vec<usize> = named.into_iter().filter(|c| since.is_some_and(|since| since > newest[*c])).collect();
            news.iter().for_each(|c| newest[*c] = since.unwrap());
            let begins = event.kind == EventKind::Maintenance && !news.is_empty();
            // All of the components named begin, and so do the channels that watch none.
            let about = component.is_none_or(|c| event.component.as_ref().is_none_or(|name| *name == names[c]));
            if begins && about {
                begin = *n;
            }
        }
        begin
    }

    fn delta(&self, channel: usize, component: Option<usize>, spec: &FeatureSpec) -> f64 {
        let fleet = spec.fleet();
        let stretch = &self.readings[self.stretch(component, &fleet.components).min(self.readings.len())..];
        let Some(start) = stretch.first().map(|r| r.0) else { return f64::NAN };
        let inside: Vec<f64> =
            stretch.iter().take_while(|r| r.0 - start < fleet.commissioning).map(|r| r.1[channel]).filter(|x| !x.is_nan()).collect();
        if self.now() - start < fleet.commissioning || inside.is_empty() {
            return f64::NAN;
        }
        let mean = inside.iter().map(|x| x - inside[0]).sum::<f64>() / inside.len() as f64;
        self.last(channel, *fleet.windows.last().unwrap()) - inside[0] - mean
    }

    fn usage(&self, component: usize, spec: &FeatureSpec) -> f64 {
        let fleet = spec.fleet();
        let Some((n, since)) = self.maintained(component, &fleet.components) else { return f64::NAN };
        let by_attributes = self.events.iter().any(|(at, e)| *at == n && e.kind == EventKind::Attributes && commissioned(e) == Some(since));
        let maintained = self.events.iter().any(|(at, e)| *at == n && e.kind == EventKind::Maintenance && e.ts == since);
        if by_attributes && !maintained && n > 0 && self.readings[n - 1].0 > since {
            return f64::NAN;
        }
        let gaps = self.readings.windows(2).skip(n.saturating_sub(1)).map(|w| w[1].0 - w[0].0);
        gaps.filter(|gap| *gap <= fleet.windows[0]).sum::<i64>() as f64 / 1_000.0
    }

    fn since(&self, ts: Option<i64>) -> f64 {
        ts.map_or(f64::NAN, |ts| (self.now() - ts).max(0) as f64 / 1_000.0)
    }

    fn feature(&self, spec: &FeatureSpec, feature: Feature) -> f64 {
        let fleet = spec.fleet();
        let longest = *fleet.windows.last().unwrap();
        let of = |event: usize| self.events.iter().filter(move |(_, e)| e.kind.code() == fleet.events[event]).map(|(_, e)| e.ts);
        match feature {
            Feature::Last { channel } => self.last(channel, longest),
            Feature::Delta { channel } => self.delta(channel, fleet.channels[channel].component, spec),
            Feature::Ewm { channel } => self.ewm(channel, longest),
            Feature::Window { channel, window, statistic } => self.statistic(channel, fleet.windows[window], statistic),
            Feature::Gap => match self.readings.as_slice() {
                [.., before, now] => (now.0 - before.0) as f64 / 1_000.0,
                _ => f64::NAN,
            },
            Feature::Missing => self.readings.last().unwrap().2,
            Feature::Age { component } => self.since(self.maintained(component, &fleet.components).map(|m| m.1)),
            Feature::Usage { component } => self.usage(component, spec),
            Feature::Count { event, window } => {
                let newest = pane(self.now(), fleet.windows[window]);
                let panes = of(event).map(|ts| pane(ts, fleet.windows[window]));
                panes.filter(|p| *p <= newest && *p > newest - 6).count() as f64
            }
            Feature::Since { event } => self.since(of(event).max()),
            Feature::Attribute { .. } => {
                let told = self.events.iter().rev().find_map(|(_, e)| e.extra.as_deref().filter(|x| x.contains("cells")));
                told.map_or(f64::NAN, |extra| if extra.contains("4") { 4.0 } else { f64::NAN })
            }
        }
    }
}

fn commissioned(event: &Event) -> Option<i64> {
    event.extra.as_deref().is_some_and(|x| x.contains("commissioned")).then_some(1_763_990_000_000)
}

/// What a difference is measured by, beside the value itself: where values of both signs cancel to nearly nothing, their spread.
fn scale(feature: Feature, spec: &FeatureSpec, spread: f64) -> f64 {
    match feature {
        Feature::Window { statistic: Statistic::Mean | Statistic::Std, .. } | Feature::Delta { .. } | Feature::Ewm { .. } => spread,
        Feature::Window { statistic: Statistic::Slope, window, .. } => spread / (spec.fleet().windows[window] as f64 / 1_000.0),
        _ => 0.0,
    }
}

/// 1e-9; ten times that for the slope of a few values within milliseconds in a pane of hours, whose start their times are counted from.
fn tolerance(feature: Feature, spec: &FeatureSpec) -> f64 {
    match feature {
        Feature::Window { statistic: Statistic::Slope, window, .. } if spec.fleet().windows[window] > 3_600_000 => 1e-8,
        _ => 1e-9,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_feature_is_that_of_two_passes(
        fleet in fleets(),
        past in past(120),
        (centre, spread) in prop::sample::select(vec![(0.0, 1.0), (1e6, 1e-3), (-50.0, 20.0)]),
    ) {
        let spec = fitted(&fleet);
        let mut state = DeviceState::new(&spec);
        let mut all = Past::default();
        let mut row = vec![0.0; spec.len()];
        for message in sent(&past) {
            match message {
                Sent::Event(event) => {
                    state.event(&spec, &event);
                    all.events.push((all.readings.len(), event));
                }
                Sent::Reading(ts, values) => {
                    let values: Vec<f64> = values.iter().map(|x| centre + spread * x).collect();
                    match state.reading(&spec, ts, &values) {
                        Verdict::Refused(_) => continue,
                        // What outlives a clock step is told in a test of its own.
                        Verdict::ClockStep => return Ok(()),
                        Verdict::Accepted => (),
                    }
                    let mut channels = vec![0.0; fleet.channels.len()];
                    let missing = spec.values(&values, &mut channels);
                    all.readings.push((ts, channels, missing));
                    state.features(&spec, &mut row);
                    for (column, found) in row.iter().enumerate() {
                        let feature = spec.features()[column];
                        let expected = all.feature(&spec, feature);
                        let close = (found - expected).abs() <= tolerance(feature, &spec) * expected.abs().max(scale(feature, &spec, spread));
                        prop_assert!(close || (found.is_nan() && expected.is_nan()),
                            "{} at reading {}: found {found:e}, expected {expected:e}", spec.name(column), all.readings.len());
                    }
                }
            }
        }
    }
}
