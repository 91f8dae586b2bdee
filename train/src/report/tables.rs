//! The report's tables.

use homeward_models::time::rfc3339;

use super::escape;
use crate::evaluate::FailureOutcome;
use crate::learn::Learnt;
use crate::metrics::{Metrics, PolicyMetrics};

/// A table of texts; `ours` is the row to stand out.
fn table(caption: &str, header: &[&str], rows: &[Vec<String>], ours: Option<usize>) -> String {
    let mut html = String::from("<div class=scroll><table>");
    if !caption.is_empty() {
        html.push_str(&format!("<caption>{}</caption>", escape(caption)));
    }
    html.push_str("<tr>");
    header.iter().for_each(|h| html.push_str(&format!("<th>{}</th>", escape(h))));
    html.push_str("</tr>");
    for (i, row) in rows.iter().enumerate() {
        html.push_str(if ours == Some(i) { "<tr class=ours>" } else { "<tr>" });
        row.iter().for_each(|cell| html.push_str(&format!("<td>{}</td>", escape(cell))));
        html.push_str("</tr>");
    }
    html.push_str("</table></div>");
    html
}

fn policy(name: String, p: &PolicyMetrics) -> Vec<String> {
    let called = format!("{} of {}", p.called, p.failures);
    // An alarm that is on from the first reading leaves no operating hours.
    let rate = if p.false_per_1000h.is_finite() { format!("{:.1}", p.false_per_1000h) } else { "–".into() };
    vec![name, money(p.cost_per_hour), called, p.late.to_string(), p.false_alarms.to_string(), rate]
}

fn money(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { "–".into() }
}

const POLICIES: [&str; 6] = ["policy", "cost / h", "called in time", "late", "false alarms", "per 1000 h"];

/// The money table.
fn money_rows(m: &Metrics) -> Vec<Vec<String>> {
    let at = if m.threshold > 1.0 { "no threshold".into() } else { format!("{:.3}", m.threshold) };
    vec![
        policy(format!("Homeward ({} at {at})", m.learner), &m.policy),
        policy("never".into(), &m.never),
        policy(m.age_h.map_or("best fixed age: none".into(), |h| format!("replaced at {h:.1} h")), &m.best_age),
        policy(format!("best single signal: {}", m.signal), &m.best_signal),
        policy("always on".into(), &m.always),
        policy("oracle: called at the last moment that helps".into(), &m.oracle),
    ]
}

pub(crate) fn money_table(m: &Metrics) -> String {
    let (low, high) = m.cost_per_hour_interval;
    let (few, many) = m.called_interval;
    let chosen = m.false_alarms_allowed.map_or(String::new(), |most| {
        format!(
            "<p class=note>novelty knows no failures: its threshold is the lowest that gives at most {most} false alarms in 1,000 hours over the folds, its risk a score and no probability.</p>"
        )
    });
    if m.policy.failures == 0 {
        return table("", &POLICIES, &money_rows(m), Some(0)) + &chosen + NO_FAILURE;
    }
    let intervals = format!(
        "<p class=note>Homeward's cost per hour has a 90 % interval of {} to {} over devices, the threshold chosen anew in each sample; it is below never's in {:.0} % of the samples. \
         The share called in time has an exact 95 % interval of {:.0} to {:.0} %.</p>",
        money(low),
        money(high),
        m.better_than_never * 100.0,
        few * 100.0,
        many * 100.0
    );
    table("", &POLICIES, &money_rows(m), Some(0)) + &chosen + &intervals
}

const NO_FAILURE: &str =
    "<p class=note>There was no failure: what calling saves cannot be told, and every call counts as a false alarm.</p>";

/// The hold-out and the champion.
pub(crate) fn hold_out(m: &Metrics) -> String {
    let mut html = String::new();
    if let Some(h) = &m.hold_out {
        let which = h.from_ms.map_or("other devices".into(), |from| format!("later than {}", rfc3339(from)));
        let caption = format!("The hold-out, {which}: no say in learner, calibration or threshold");
        let rows = [policy("Homeward".into(), &h.policy), policy("never".into(), &h.never), policy("oracle".into(), &h.oracle)];
        html.push_str(&table(&caption, &POLICIES, &rows, Some(0)));
    }
    if let Some(c) = m.champion.as_ref().filter(|c| c.champion.hours == 0.0) {
        html.push_str(&format!(
            "<p class=note>Champion {} has seen all of this archive: there is nothing to compare it on.</p>",
            escape(&c.version)
        ));
    }
    if let Some(c) = m.champion.as_ref().filter(|c| c.champion.hours > 0.0) {
        let caption = format!("Beside the champion, on data after {} that neither has seen", rfc3339(c.from_ms.min(4_000_000_000_000)));
        let rows = [policy("Homeward, this run".into(), &c.challenger), policy(format!("champion {}", c.version), &c.champion)];
        html.push_str(&table(&caption, &POLICIES, &rows, Some(0)));
        html.push_str(&format!(
            "<p class=note>This run costs less in {:.0} % of the bootstrap samples; the difference per hour has a 90 % interval of {} to {}.</p>",
            c.better * 100.0,
            money(c.difference.0),
            money(c.difference.1)
        ));
    }
    html
}

/// Named right by component.
pub(crate) fn components(m: &Metrics) -> String {
    if m.components.is_empty() {
        return String::new();
    }
    let row = |c: &crate::ComponentMetrics| {
        let share = if c.called > 0 { format!("{:.0} %", c.named as f64 / c.called as f64 * 100.0) } else { "–".into() };
        vec![c.component.clone(), c.failures.to_string(), c.called.to_string(), c.named.to_string(), share]
    };
    table(
        "",
        &["component", "failures", "called in time", "named right", "of those called"],
        &m.components.iter().map(row).collect::<Vec<_>>(),
        None,
    )
}

/// One failure's caption.
pub(crate) fn failure(f: &FailureOutcome, m: &Metrics) -> String {
    let what = f.component.as_deref().unwrap_or("device");
    let lead = duration(f.lead_ms);
    let fate = match (f.outcome, m.target) {
        ("called", "present") => format!("found {lead} after"),
        ("called", _) => format!("called {lead} before"),
        (other, _) => other.to_string(),
    };
    let named = f.named.as_deref().map_or(String::new(), |n| format!(", named {}", escape(n)));
    let part = if f.held_out { " · hold-out" } else { "" };
    let at = rfc3339(f.ts);
    format!(
        "<b>{}</b> {} · {}{part}<br><span class={}>{fate}</span>{named}",
        escape(&f.device),
        escape(what),
        at.get(..16).unwrap_or(&at).replace('T', " "),
        f.outcome
    )
}

fn duration(ms: i64) -> String {
    let s = ms as f64 / 1000.0;
    match s {
        s if s < 180.0 => format!("{s:.1} s"),
        s if s < 3.0 * 3600.0 => format!("{:.1} min", s / 60.0),
        s if s < 3.0 * 86_400.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// Row metrics.
pub(crate) fn rows(m: &Metrics) -> String {
    let known = |value: Option<f64>, digits: usize| value.map_or("–".into(), |v| format!("{v:.digits$}"));
    let row = vec![
        m.rows.to_string(),
        m.positives.to_string(),
        known(m.average_precision, 3),
        known(m.auc, 3),
        known(m.brier_skill, 3),
        known(m.calibration_slope, 2),
    ];
    table("", &["readings", "positive", "average precision", "AUC", "Brier skill", "calibration slope"], &[row], None)
}

/// Shares as bars.
pub(crate) fn importance(caption: &str, shares: &[(String, f64)], most: usize) -> String {
    let top = shares.first().map_or(1.0, |s| s.1);
    let mut html = format!("<div class=scroll><table><caption>{caption}</caption>");
    for (name, share) in shares.iter().take(most) {
        let width = share / top * 100.0;
        html.push_str(&format!(
            "<tr><td>{}</td><td class=wide><span class=bar style=\"width:{width:.1}%\"></span></td><td>{:.1} %</td></tr>",
            escape(name),
            share * 100.0
        ));
    }
    html.push_str("</table></div>");
    html
}

/// What was learnt from and what was left out.
pub(crate) fn data(m: &Metrics, learnt: &Learnt) -> String {
    let (l, u) = (&m.labels, &learnt.usage);
    let all = (u.readings.max(1)) as f64;
    let row = |what: &str, n: usize| vec![what.to_string(), n.to_string(), format!("{:.1} %", n as f64 / all * 100.0)];
    let rows = [
        row("readings in the archive", u.readings),
        row("refused: late, duplicate, or of a clock that stepped", l.refused),
        row("positive: a failure followed within the horizon", l.positive_by_failure),
        row("positive: an inspection confirmed within the horizon", l.positive_by_inspection),
        row("negative: known to have gone well for the horizon", l.negative),
        row("censored: repaired, retired or end of data within the horizon", l.censored),
        row("left out: after a failure and before its repair", l.left_out),
        row("purged: between what is learnt from and the hold-out", l.purged),
        row("held out", l.held_out),
        row("fitted on by the final model, the thinned ones weighing more", l.fitted),
    ];
    let span = format!(
        "{} devices, {} objects, {} to {}; {} failures, {} of them known by a confirmed inspection",
        u.devices,
        u.objects,
        rfc3339(u.span.0),
        rfc3339(u.span.1),
        u.failures,
        u.confirmed
    );
    let missing = if u.always_missing.is_empty() {
        String::new()
    } else {
        format!("<p class=note>Never had a value: {}.</p>", escape(&u.always_missing.join(", ")))
    };
    let tried = learnt.tried.iter().map(|(name, cost)| vec![name.clone(), money(*cost)]).collect::<Vec<_>>();
    table(&span, &["readings", "", "of all"], &rows, None)
        + &missing
        + &table("Tried, by cost per hour over the folds", &["recipe", "cost / h"], &tried, None)
}
