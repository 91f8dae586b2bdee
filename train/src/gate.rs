//! Whether a challenger becomes the champion, and why, in one sentence.

use crate::evaluate::{Against, CONFIDENCE, Evaluation, exact_interval};
use crate::plan::FEW;
use crate::settings::Promote;

/// Whether to promote, and why.
pub(crate) fn judge(promote: Promote, e: &Evaluation) -> (bool, String) {
    let saved = format!("{:.2} per operating hour against {:.2} for never", e.policy.per_hour(), e.baselines.never.per_hour());
    let percent = e.verdict.share * 100.0;
    match promote {
        Promote::Always => (true, format!("promoted as told: {saved}")),
        Promote::Never => (false, format!("not promoted as told: {saved}")),
        Promote::Better if e.verdict.few => (false, few(e, &saved)),
        Promote::Better if !e.verdict.better => (
            false,
            format!("nothing worth promoting: costs less than never in {percent:.0} % of the bootstrap samples, needed 90 %: {saved}"),
        ),
        Promote::Better => match &e.against {
            None => (true, format!("costs less than never in {percent:.0} % of the bootstrap samples: {saved}")),
            Some(against) => beside(against),
        },
    }
}

fn few(e: &Evaluation, saved: &str) -> String {
    let (called, failures) = (e.policy.called, e.policy.failures);
    if failures == 0 {
        return no_failure(e);
    }
    let (low, high) = exact_interval(called, failures);
    format!(
        "fewer than ten failures prove nothing: {called} of {failures} called in time (95 % interval {:.0} to {:.0} %), {saved}; promote with promote = \"always\"",
        low * 100.0,
        high * 100.0
    )
}

/// Without a failure cost can only rise by calling.
fn no_failure(e: &Evaluation) -> String {
    let (alarms, hours) = (e.policy.false_alarms, e.policy.hours);
    let short = e.false_alarms_allowed.filter(|most| *most > 0.0).map(|most| 1000.0 / most).filter(|needed| hours < *needed);
    let short = short.map_or(String::new(), |needed| format!(", fewer than the {needed:.0} hours in which one is allowed"));
    format!(
        "no failure that could prove anything: {alarms} false alarms in {hours:.1} operating hours{short}; promote with promote = \"always\""
    )
}

fn beside(a: &Against) -> (bool, String) {
    let (failures, version) = (a.champion.failures, &a.version);
    if (failures as usize) < FEW {
        let found = format!("{failures} failures later than champion {version} has seen");
        return (false, format!("cannot be told from the champion: found {found}, needed {FEW}; promote with promote = \"always\""));
    }
    let (ours, theirs, percent) = (a.challenger.per_hour(), a.champion.per_hour(), a.share * 100.0);
    let figures =
        format!("{ours:.2} per operating hour against {theirs:.2} of champion {version} over {failures} failures that neither has seen");
    if a.share >= CONFIDENCE {
        (true, format!("costs less than the champion in {percent:.0} % of the bootstrap samples: {figures}"))
    } else {
        (false, format!("no better than the champion: costs less in {percent:.0} % of the bootstrap samples, needed 90 %: {figures}"))
    }
}
