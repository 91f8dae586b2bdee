//! What a confirmed inspection tells the labels of a history: a failure to come, or one at its `ts` while there are too few of those.

use homeward_models::EventKind;
use homeward_models::cost::Costs;
use homeward_models::label::{Found, Labelling, Target};

use crate::Settings;
use crate::history::History;
use crate::plan::FEW;

/// How the readings of `history` are labelled.
pub(crate) fn labelling(history: &History, settings: &Settings) -> Labelling {
    if settings.naive_labels {
        return Labelling { target: settings.target, found: Found::Nothing };
    }
    labelling_for(history, settings.target, &settings.costs, settings.horizon())
}

/// As [`labelling`], for a model that was made for `target`, `costs` and a deciding `horizon` in milliseconds.
pub(crate) fn labelling_for(history: &History, target: Target, costs: &Costs, horizon: i64) -> Labelling {
    let failed = |e: &&homeward_models::Event| e.kind == EventKind::Failure;
    let failures = history.devices.iter().flat_map(|d| &d.events).filter(failed).take(FEW).count();
    // A handful of failures teaches less than inspections do, though those came too early to say when it would have failed. A fault that is
    // present is no matter of time.
    let found =
        if failures < FEW || target == Target::Present { Found::Failure } else { Found::Within { lead: costs.min_lead, within: horizon } };
    Labelling { target, found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn inspections_count_as_failures_while_those_are_few() {
        let of = |failures: usize, target: &str| {
            let names: Vec<String> = (0..failures).map(|d| d.to_string()).collect();
            let mut drawn: Vec<testing::Drawn<'_>> = names.iter().map(|name| (name.as_str(), "....", "   F")).collect();
            drawn.push(("found", "....", "   C"));
            let settings = testing::settings(|t| t.target = target.into());
            labelling(&testing::history(&drawn), &settings).found
        };
        assert_eq!(of(9, "failure"), Found::Failure);
        assert_eq!(of(10, "failure"), Found::Within { lead: testing::M, within: 3 * testing::M });
        assert_eq!(of(10, "present"), Found::Failure);
    }
}
