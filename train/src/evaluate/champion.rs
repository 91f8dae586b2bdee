//! Beside the champion in service: both policies on data later than either has seen.

use homeward_models::artifact::Model;
use homeward_models::cost::{Answer, Tally};

use super::price::{Pricer, sum};
use super::threshold::paired;
use crate::plan::{Part, Stretch};

/// The champion in service as this archive sees it.
pub(crate) struct Incumbent {
    /// Its version.
    pub(crate) version: String,
    /// It has learnt from readings up to here, plus a gap of its horizon and longest window; milliseconds since 1970 UTC.
    pub(crate) seen: i64,
    /// Its model.
    pub(crate) model: Model,
    /// Its deciding risk of every row later than that; NaN of the others.
    pub(crate) risks: Vec<f64>,
}

/// The champion in service and the challenger, priced under the same costs on the same stretches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Against {
    /// The champion's version.
    pub(crate) version: String,
    /// Readings from here on, milliseconds since 1970 UTC, have been seen by neither.
    pub(crate) from: i64,
    /// What the champion costs, at its own threshold and under its own rules.
    pub(crate) champion: Tally,
    /// What the challenger costs.
    pub(crate) challenger: Tally,
    /// Share of the bootstrap samples of devices in which the challenger costs less.
    pub(crate) share: f64,
    /// 5 % and 95 % quantile of challenger − champion, money per operating hour.
    pub(crate) difference: (f64, f64),
}

/// Prices both on what of the hold-out is later than the champion has seen. `risks` are the challenger's.
pub(crate) fn against(pricer: &Pricer<'_>, incumbent: &Incumbent, risks: &[f64], threshold: f64, seed: u64) -> Against {
    let unseen: Vec<Stretch> = pricer.stretches.iter().filter_map(|s| later(pricer, s, incumbent.seen)).collect();
    let mut champion = vec![Tally::default(); pricer.matrix.devices.len()];
    let mut challenger = champion.clone();
    let ours = pricer.under(risks, pricer.settings.rules, Answer::Inspect, &unseen);
    let theirs = pricer.under(&incumbent.risks, incumbent.model.rules, Answer::Inspect, &unseen);
    for stretch in &unseen {
        challenger[stretch.device].add(&ours.price(stretch, threshold));
        champion[stretch.device].add(&theirs.price(stretch, incumbent.model.threshold));
    }
    let (share, difference) = paired(&challenger, &champion, seed);
    Against {
        version: incumbent.version.clone(),
        from: incumbent.seen,
        champion: sum(champion.iter()),
        challenger: sum(challenger.iter()),
        share,
        difference,
    }
}

/// What of a held-out stretch neither has seen.
fn later(pricer: &Pricer<'_>, stretch: &Stretch, seen: i64) -> Option<Stretch> {
    let rows = stretch.rows.start + pricer.matrix.times[stretch.rows.clone()].partition_point(|t| *t <= seen)..stretch.rows.end;
    (stretch.part == Part::HoldOut && !rows.is_empty()).then(|| Stretch { rows, ..stretch.clone() })
}
