//! Siblings: components that a fleet has several of, such as the motors of a quadcopter. What one of them did, another may do.
//!
//! Two components are siblings if the fleet stays the same when they change places: each measured signal of the one has its counterpart at the other,
//! by name, unit, range and use, and every derived signal becomes a derived signal.

use super::{Channel, Fleet, Formula, Source};

impl Fleet {
    /// Where each channel goes when the components `a` and `b` change places; `None` if they are no siblings. Going twice leads back.
    pub fn exchanged(&self, a: usize, b: usize) -> Option<Vec<usize>> {
        if a == b || !self.channels.iter().any(|c| c.component == Some(a)) {
            return None;
        }
        let other = |component: Option<usize>| match component {
            Some(c) if c == a => Some(b),
            Some(c) if c == b => Some(a),
            same => same,
        };
        let mut goes: Vec<usize> = Vec::with_capacity(self.channels.len());
        for (at, channel) in self.channels.iter().enumerate() {
            let alike =
                |to: &Channel| to.component == other(channel.component) && to.unit == channel.unit && to.features == channel.features;
            let to = match &channel.source {
                Source::Measured { .. } if other(channel.component) == channel.component => at,
                Source::Measured { range, .. } => self.channels.iter().position(|to| {
                    alike(to)
                        && matches!(&to.source, Source::Measured { range: theirs, .. } if theirs == range)
                        && self.part(to) == self.part(channel)
                })?,
                Source::Derived(formula) => {
                    // Inputs come before what is derived of them, so it is known where they go.
                    let becomes = moved(formula, &goes);
                    let is = |to: &usize| {
                        alike(&self.channels[*to]) && matches!(&self.channels[*to].source, Source::Derived(f) if moved(f, &[]) == becomes)
                    };
                    // Itself before another that is computed alike.
                    std::iter::once(at).chain(0..self.channels.len()).find(is)?
                }
            };
            goes.push(to);
        }
        goes.iter().enumerate().all(|(from, to)| goes[*to] == from).then_some(goes)
    }

    /// A channel's name without what tells its component from siblings: the component's own name, or digits where it does not have that.
    fn part(&self, channel: &Channel) -> String {
        let component = channel.component.map_or("", |c| &self.components[c]);
        match channel.name.split_once(component) {
            Some((before, after)) if !component.is_empty() => format!("{before}*{after}"),
            _ => channel.name.replace(|c: char| c.is_ascii_digit(), "*"),
        }
    }
}

/// The formula with each input gone to its place (an input without one stays), inputs in an order of their own where their order means nothing.
fn moved(formula: &Formula, goes: &[usize]) -> Formula {
    let to = |input: &usize| goes.get(*input).copied().unwrap_or(*input);
    let any_order = |inputs: &[usize]| {
        let mut inputs: Vec<usize> = inputs.iter().map(to).collect();
        inputs.sort_unstable();
        inputs
    };
    match formula {
        Formula::Spread(i) => Formula::Spread(any_order(i)),
        Formula::Mean(i) => Formula::Mean(any_order(i)),
        Formula::Min(i) => Formula::Min(any_order(i)),
        Formula::Max(i) => Formula::Max(any_order(i)),
        Formula::Sum(i) => Formula::Sum(any_order(i)),
        Formula::Product(i) => Formula::Product(any_order(i)),
        Formula::Ratio(first, second) => Formula::Ratio(to(first), to(second)),
        Formula::Deviation(i) => Formula::Deviation(i.iter().take(1).map(to).chain(any_order(i.get(1..).unwrap_or_default())).collect()),
        Formula::Residual { signal, given } => Formula::Residual { signal: to(signal), given: any_order(given) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WrittenFleet;

    fn fleet(text: &str) -> Fleet {
        let written: WrittenFleet = serde_json::from_str(text).unwrap();
        Fleet::check(&written).unwrap()
    }

    /// Where channels go, by name, those that stay left out.
    fn goes(fleet: &Fleet, a: &str, b: &str) -> Option<Vec<(String, String)>> {
        let place = |name: &str| fleet.components.iter().position(|c| c == name).unwrap();
        let goes = fleet.exchanged(place(a), place(b))?;
        let name = |c: usize| fleet.channels[c].name.clone();
        Some(goes.into_iter().enumerate().filter(|(from, to)| from < to).map(|(from, to)| (name(from), name(to))).collect())
    }

    const MOTORS: &str = r#"{"name": "f", "signals": {
        "battery_v": {"at": "/b", "component": "battery"},
        "m1_temp": {"at": "/t1", "unit": "C", "component": "m1"}, "m1_rpm": {"at": "/r1", "component": "m1"},
        "rpm_of_2": {"at": "/r2", "component": "m2"}, "m2_temp": {"at": "/t2", "unit": "C", "component": "m2"},
        "m3_rpm": {"at": "/r3", "component": "m3"}, "m3_temp": {"at": "/t3", "unit": "C", "component": "m3"}},
      "derived": {
        "gap": {"spread": ["m1_temp", "m2_temp", "m3_temp"]},
        "heat_1": {"deviation": ["m1_temp", "m2_temp", "m3_temp"], "component": "m1"},
        "heat_2": {"deviation": ["m2_temp", "m1_temp", "m3_temp"], "component": "m2"},
        "heat_3": {"deviation": ["m3_temp", "m1_temp", "m2_temp"], "component": "m3"}MORE}}"#;

    #[test]
    fn siblings_change_places_with_all_that_is_derived_of_them() {
        let fleet = fleet(&MOTORS.replace("rpm_of_2", "m2_rpm").replace("MORE", ""));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let expected = vec![pair("m1_temp", "m3_temp"), pair("m1_rpm", "m3_rpm"), pair("heat_1", "heat_3")];
        assert_eq!(goes(&fleet, "m1", "m3"), Some(expected));
        assert_eq!(goes(&fleet, "m1", "battery"), None, "other signals");
        assert_eq!(fleet.exchanged(1, 1), None, "none is its own sibling");
    }

    #[test]
    fn what_does_not_correspond_one_to_one_is_no_sibling() {
        let with = |from: &str, to: &str, more: &str| {
            let fleet = fleet(&MOTORS.replace("rpm_of_2", "m2_rpm").replace(from, to).replace("MORE", more));
            (goes(&fleet, "m1", "m2").is_some(), goes(&fleet, "m1", "m3").is_some())
        };
        assert_eq!(with("", "", ""), (true, true));
        assert_eq!(with("m2_rpm", "speed", ""), (false, true), "another name");
        assert_eq!(with(r#"/t2", "unit": "C""#, r#"/t2", "unit": "K""#, ""), (false, true), "another unit");
        assert_eq!(with(r#"/r2""#, r#"/r2", "range": [0, 9]"#, ""), (false, true), "another range");
        assert_eq!(with("", "", r#", "lean": {"ratio": ["m1_temp", "m2_temp"]}"#), (false, false), "a derived signal becomes none");
        assert_eq!(with("", "", r#", "pull": {"sum": ["m1_rpm", "m2_rpm"]}"#), (true, false), "3 has no part in it");
    }
}
