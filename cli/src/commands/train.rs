//! `homeward train`: archive to model, once or again and again.

use std::time::{Duration, Instant};

use homeward_models::ConfigError;
use homeward_models::time::parse_duration;
use homeward_train::{Metrics, Outcome, Settings, Step, WrittenTrain, train, write_last_run};
use serde::Serialize;

use crate::args::TrainArgs;
use crate::config::Config;
use crate::edges::{self, Stop, now_ms};
use crate::report;

#[derive(Serialize)]
struct Trained<'a> {
    version: Option<String>,
    promoted: bool,
    why: &'a str,
    seconds: f64,
    metrics: &'a Metrics,
}

pub(crate) async fn run(config: &Config, args: &TrainArgs, json: bool) -> anyhow::Result<()> {
    let settings = settings(config, args)?;
    let every = args.every.as_deref().map(|text| parse_duration("--every", text)).transpose()?;
    let Some(every) = every else { return once(config, &settings, json).await };
    let (_keep, stop) = Stop::on_signal();
    if every == 0 {
        return Err(ConfigError::new("--every", "0", "more than 0s").into());
    }
    let mut due = tokio::time::interval(Duration::from_millis(every.unsigned_abs()));
    // A run that took longer than the interval is not made up for.
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.given() {
        tokio::select! {
            () = stop.wait() => break,
            _ = due.tick() => (),
        }
        if let Err(error) = once(config, &settings, json).await {
            report::say(&format!(
                "error: {}; the champion is untouched, the next run is due in {}",
                report::chain(&error),
                args.every.as_deref().unwrap_or_default()
            ));
        }
    }
    Ok(())
}

fn settings(config: &Config, args: &TrainArgs) -> anyhow::Result<Settings> {
    let w = &config.written;
    let train = WrittenTrain { promote: args.promote.clone().unwrap_or_else(|| w.train.promote.clone()), ..w.train.clone() };
    Ok(Settings::check(&train, &w.decide, &w.costs)?)
}

async fn once(config: &Config, settings: &Settings, json: bool) -> anyhow::Result<()> {
    let store = edges::store(config)?;
    let started = Instant::now();
    // On a terminal one line that moves, elsewhere a line a step.
    let bar = report::bar(1, "train");
    let told = |step: Step<'_>| match step {
        Step::Said(what) if bar.is_hidden() => report::say(&format!("train: {what}")),
        // What is said stays; the line below it moves.
        Step::Said(what) => bar.println(format!("train: {what}")),
        Step::Fitted { done, of } => {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        }
    };
    let run = train(&store, &config.fleet, settings, now_ms(), &told).await;
    bar.finish_and_clear();
    if let Some(file) = &settings.metrics_file {
        write_last_run(file, &config.fleet.name, now_ms(), started.elapsed().as_secs_f64(), run.as_ref())?;
    }
    let outcome = run?;
    let version = outcome.version.as_ref().map(ToString::to_string);
    let done =
        Trained { version, promoted: outcome.promoted, why: &outcome.why, seconds: outcome.metrics.seconds, metrics: &outcome.metrics };
    report::outcome(json, &done, || text(&outcome))
}

/// The outcome for people: the money table first.
pub(crate) fn text(outcome: &Outcome) -> String {
    let m = &outcome.metrics;
    let row = |name: String, p: &homeward_train::PolicyMetrics| {
        vec![
            name,
            report::money(p.cost_per_hour),
            format!("{} of {}", p.called, p.failures),
            p.late.to_string(),
            p.false_alarms.to_string(),
        ]
    };
    let rows = [
        row(
            format!("{} at {}", m.learner, if m.threshold > 1.0 { "no threshold".into() } else { format!("{:.3}", m.threshold) }),
            &m.policy,
        ),
        row("never".into(), &m.never),
        row(m.age_h.map_or("best age: none".into(), |h| format!("replaced at {h:.1} h")), &m.best_age),
        row(format!("best signal: {}", m.signal), &m.best_signal),
        row("always".into(), &m.always),
        row("oracle".into(), &m.oracle),
    ];
    let money = report::table(&["policy, on devices not seen", "cost/h", "called", "late", "false"], rows);
    let known = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.2}"));
    let finely = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.3}"));
    let rates = format!(
        "saves {} of the avoidable cost; 90 % interval {} to {} per hour; {:.1} false alarms per 1,000 h\n\
         {} devices, {} readings, {} features; {} rows, {} positive: average precision {}, AUC {}, Brier skill {}, calibration slope {}; {:.1} s",
        known(m.saved),
        report::money(m.cost_per_hour_interval.0),
        report::money(m.cost_per_hour_interval.1),
        m.policy.false_per_1000h,
        m.devices,
        m.readings,
        m.features,
        m.rows,
        m.positives,
        finely(m.average_precision),
        finely(m.auc),
        known(m.brier_skill),
        known(m.calibration_slope),
        m.seconds
    );
    let verdict = match (&outcome.version, outcome.promoted) {
        (Some(version), true) => format!("champion: {version}: {}", outcome.why),
        (Some(version), false) => format!("stored {version}: {}", outcome.why),
        (None, _) => format!("nothing stored: {}", outcome.why),
    };
    format!("{money}\n{rates}{}\n{verdict}", also(m))
}

/// The hold-out, and how faults that are present were found.
fn also(m: &Metrics) -> String {
    let mut lines = String::new();
    if let Some(h) = &m.hold_out {
        let (ours, never) = (report::money(h.policy.cost_per_hour), report::money(h.never.cost_per_hour));
        lines += &format!("\nhold-out: {ours} per hour against {never} for never, {} of {} called", h.policy.called, h.policy.failures);
    }
    if let (Some(share), delay) = (m.found_within_5s, m.detection_delay_s) {
        let delay = delay.map_or("none".into(), |s| format!("{s:.1} s"));
        lines += &format!("\nfaults found within 5 s: {:.0} %, median delay {delay}", share * 100.0);
    }
    lines
}
