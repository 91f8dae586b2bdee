//! `report.html`: what a run measured, for people. One file, no network; readable on a phone and in print.
//!
//! Money first: it decides. Then what the money hangs on: thresholds, ranking, truth of the risks, every failure, and the data.

mod charts;
mod tables;

use crate::TrainError;
use crate::learn::Learnt;
use crate::metrics::Metrics;

/// What stands around the figures.
pub(crate) struct Frame<'a> {
    /// The model.
    pub(crate) name: &'a str,
    /// Its version, if it is stored.
    pub(crate) version: &'a str,
    /// Whether it was promoted and why, in one sentence.
    pub(crate) why: &'a str,
    pub(crate) promoted: bool,
}

const STYLE: &str = include_str!("style.css");

/// The page.
pub(crate) fn html(frame: &Frame<'_>, learnt: &Learnt, metrics: &Metrics) -> Result<String, TrainError> {
    let mut page = Page::default();
    head(&mut page, frame, metrics);
    page.section(
        "What it costs",
        "Every policy is priced by the same function, life by life, on devices and times that no model had seen.",
    );
    page.raw(&tables::money_table(metrics));
    page.raw(&tables::hold_out(metrics));
    page.section(
        "Cost by threshold",
        "Money per operating hour if every risk at or above the threshold calls; dashed: the threshold in service and never calling.",
    );
    page.chart(charts::cost(&learnt.evaluation))?;
    let failures = if learnt.evaluation.failures.is_empty() { "There was none." } else { "When it was called and what was named." };
    page.section("Every failure", failures);
    page.raw(&tables::components(metrics));
    if learnt.evaluation.failures.iter().any(|f| f.outcome == "called") {
        page.chart(charts::leads(&learnt.evaluation, metrics))?;
    }
    page.raw("<div class=grid>");
    for failure in learnt.evaluation.failures.iter().take(SHOWN) {
        page.raw(&format!("<figure><figcaption>{}</figcaption>", tables::failure(failure, metrics)));
        page.chart(charts::timeline(failure))?;
        page.raw("</figure>");
    }
    page.raw("</div>");
    let hidden = learnt.evaluation.failures.len().saturating_sub(SHOWN);
    if hidden > 0 {
        page.raw(&format!("<p class=note>{hidden} more failures are in metrics.json.</p>"));
    }
    page.section("How well it ranks", "Precision and recall over all readings with a known label.");
    page.raw(&tables::rows(metrics));
    if metrics.average_precision.is_some() {
        page.chart(charts::precision_recall(&learnt.evaluation))?;
    }
    if metrics.brier.is_some() {
        page.section(
            "How true its risks are",
            "Share that failed against the risk given, on log-odds; on the diagonal a risk of 10 % fails one time in ten.",
        );
        page.chart(charts::reliability(&learnt.evaluation))?;
    }
    let of = if metrics.positives > 0 { "readings before a failure" } else { "the readings farthest from healthy ones" };
    page.section("What it looks at", &format!("Share of the contributions to the risk of {of}."));
    page.raw(&tables::importance("By feature", &learnt.importance.features, 20));
    page.raw(&tables::importance("By component", &learnt.importance.components, 20));
    page.section("What it learnt from", "And what was left out, and why.");
    page.raw(&tables::data(metrics, learnt));
    Ok(page.finish(frame))
}

/// Timelines shown at most.
const SHOWN: usize = 120;

fn head(page: &mut Page, frame: &Frame<'_>, m: &Metrics) {
    let verdict = if frame.promoted { "promoted" } else { "not promoted" };
    page.raw(&format!("<h1>{} <small>{}</small></h1>", escape(frame.name), escape(frame.version)));
    page.raw(&format!("<p class=\"verdict {}\"><b>{verdict}</b>: {}</p>", if frame.promoted { "good" } else { "bad" }, escape(frame.why)));
    let saved = m.saved.map_or("–".into(), |s| format!("{:.0} %", s * 100.0));
    let mut tiles = vec![
        ("cost per hour", format!("{:.2}", m.policy.cost_per_hour)),
        ("never calling", format!("{:.2}", m.never.cost_per_hour)),
        ("of the avoidable saved", saved),
        ("called in time", format!("{} of {}", m.policy.called, m.policy.failures)),
        ("false alarms / 1000 h", format!("{:.1}", m.policy.false_per_1000h)),
    ];
    if let Some(share) = m.found_within_5s {
        tiles.push(("found within 5 s", format!("{:.0} %", share * 100.0)));
        tiles.push(("median detection delay", m.detection_delay_s.map_or("–".into(), |s| format!("{s:.1} s"))));
    }
    page.raw("<div class=tiles>");
    tiles.iter().for_each(|(name, value)| page.raw(&format!("<div><b>{}</b><span>{name}</span></div>", escape(value))));
    page.raw("</div>");
}

/// A page as it grows.
#[derive(Default)]
struct Page(String);

impl Page {
    fn raw(&mut self, html: &str) {
        self.0.push_str(html);
        self.0.push('\n');
    }

    fn section(&mut self, title: &str, note: &str) {
        self.raw(&format!("<h2>{title}</h2><p class=note>{note}</p>"));
    }

    fn chart(&mut self, svg: Result<String, charts::Failed>) -> Result<(), TrainError> {
        let svg = svg.map_err(|e| TrainError::Report(e.to_string()))?;
        // Shrunk to a phone's width its words could not be read.
        self.raw(&format!("<div class=\"scroll\">{svg}</div>"));
        Ok(())
    }

    fn finish(self, frame: &Frame<'_>) -> String {
        let title = format!("{} {}", escape(frame.name), escape(frame.version));
        format!(
            "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width, initial-scale=1\">\
             <title>Homeward: {title}</title><style>{STYLE}</style></head><body><main>\n{}</main></body></html>\n",
            self.0
        )
    }
}

/// Text as HTML shows it.
pub(crate) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
        out
    })
}
