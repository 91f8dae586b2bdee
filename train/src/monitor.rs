//! What a monitor reads of the last run: a file in Prometheus' text format, replaced whole, as node_exporter's textfile collector wants it.

use std::path::Path;

use crate::{Outcome, TrainError};

/// Writes what became of a run of model `name` that ended at `now_ms` after `seconds`.
pub fn write_last_run(path: &Path, name: &str, now_ms: i64, seconds: f64, run: Result<&Outcome, &TrainError>) -> Result<(), TrainError> {
    let text = text(name, now_ms, seconds, run);
    // Beside it first: a reader never sees half a file.
    let beside = path.with_extension("tmp");
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|source| TrainError::File { path: path.display().to_string(), source })
}

fn text(name: &str, now_ms: i64, seconds: f64, run: Result<&Outcome, &TrainError>) -> String {
    let mut lines = String::new();
    let mut gauge = |metric: &str, help: &str, value: f64| {
        // A model's name needs no escaping: a-z, 0-9, _ and -.
        lines.push_str(&format!("# HELP homeward_train_{metric} {help}\n# TYPE homeward_train_{metric} gauge\nhomeward_train_{metric}{{model=\"{name}\"}} {value}\n"));
    };
    gauge("last_run_timestamp_seconds", "When the last training ended.", now_ms as f64 / 1000.0);
    gauge("last_run_success", "1 if it ended with a verdict, 0 if it failed.", f64::from(u8::from(run.is_ok())));
    gauge("last_run_duration_seconds", "How long it took.", seconds);
    if let Ok(outcome) = run {
        let m = &outcome.metrics;
        gauge("last_run_promoted", "1 if it moved the champion.", f64::from(u8::from(outcome.promoted)));
        gauge("failures", "Failures it learnt from.", m.labels.failures as f64);
        gauge("cost_per_hour", "What its policy costs an operating hour, on data not seen.", m.policy.cost_per_hour);
        gauge("never_cost_per_hour", "What never calling costs.", m.never.cost_per_hour);
        if let Some(average_precision) = m.average_precision {
            gauge("average_precision", "Average precision over rows not seen.", average_precision);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_says_so_and_replaces_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("homeward.prom");
        std::fs::write(&path, "old").unwrap();
        let error = TrainError::Fit("x".into());
        write_last_run(&path, "drone", 1_800_000_000_000, 2.5, Err(&error)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("homeward_train_last_run_success{model=\"drone\"} 0\n"), "{text}");
        assert!(text.contains("homeward_train_last_run_timestamp_seconds{model=\"drone\"} 1800000000\n"), "{text}");
        assert!(text.contains("homeward_train_last_run_duration_seconds{model=\"drone\"} 2.5\n"), "{text}");
        assert!(!text.contains("old"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
