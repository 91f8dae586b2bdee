//! `homeward train` from the outside: runs that overlap, runs that fail, what is stored, what other tools get.

use serde_json::Value;

use crate::harness::{Service, Site, beside_others, workspace};

/// A fleet's past of a few hours, learnt from by the quickest learner.
fn site(drones: &str, hours: &str) -> Site {
    let site = Site::new(&std::fs::read_to_string(workspace("homeward.toml")).unwrap())
        .with("HOMEWARD_TRAIN_LEARNER", "tree")
        .with("HOMEWARD_TRAIN_MAX_FIT_ROWS", "10000");
    site.ok(&["simulate", "--out", "past.jsonl", "--drones", drones, "--hours", hours, "--ignore-calls"]);
    site.ok(&["import", "past.jsonl", "--format", "jsonl"]);
    site
}

fn versions(site: &Site) -> (usize, Vec<String>) {
    let listed = site.json(&["models", "list"]);
    let all = listed.as_array().unwrap();
    let champions = all.iter().filter(|v| v["champion"] == true).map(|v| v["version"].as_str().unwrap().to_owned()).collect();
    (all.len(), champions)
}

#[test]
fn two_trainers_at_once_leave_one_champion_and_no_broken_file() {
    let _turn = beside_others();
    let site = site("16", "4");
    let args = ["train", "--promote", "always"];
    let both = [site.start(&args), site.start(&args)].map(Service::end);
    let done = both.iter().filter(|run| run.code == Some(0)).count();
    assert!(done >= 1, "{both:?}");
    // The second is refused in one line, or came when the first had ended.
    for run in both.iter().filter(|run| run.code != Some(0)) {
        assert!(run.code == Some(1) && run.stderr.contains("error: another training of drone is under way since"), "{run:?}");
    }
    let (all, champions) = versions(&site);
    assert_eq!((all, champions.len()), (done, 1));
    // A promotion reads and checks the model file whole.
    site.ok(&["models", "promote", &champions[0]]);
}

#[test]
fn a_run_that_fails_says_what_is_needed_in_one_line_and_leaves_the_champion() {
    let _turn = beside_others();
    let site = site("16", "4");
    site.ok(&["train", "--promote", "always"]);
    let before = versions(&site);
    let champion = std::fs::read(site.path("store/models/drone/champion.json")).unwrap();
    let failing = [("HOMEWARD_TRAIN_HORIZONS", r#"["1ms"]"#, "both positive and negative readings")];
    for (key, value, needed) in failing {
        let site = &site;
        let done = run_with(site, key, value);
        assert_eq!(done.0, Some(1), "{done:?}");
        let last = done.1.lines().last().unwrap();
        assert!(last.starts_with("error: too little data: found ") && last.contains(needed), "{last}");
    }
    assert_eq!(versions(&site), before);
    assert_eq!(std::fs::read(site.path("store/models/drone/champion.json")).unwrap(), champion);
}

/// Exit code and stderr of a training with one more variable.
fn run_with(site: &Site, key: &str, value: &str) -> (Option<i32>, String) {
    let config = std::fs::read_to_string(site.path("homeward.toml")).unwrap();
    let changed = match key {
        "HOMEWARD_TRAIN_HORIZONS" => {
            config.replace(r#"horizons = ["10m"]"#, &format!("horizons = {value}")).replace(r#"min_lead = "30s""#, r#"min_lead = "0s""#)
        }
        _ => config,
    };
    std::fs::write(site.path("other.toml"), changed).unwrap();
    let done = site.run(&["--config", "other.toml", "train"]);
    (done.code, done.stderr)
}

#[test]
fn one_device_or_no_failure_is_too_little() {
    let _turn = beside_others();
    for (drones, hours, found) in [
        ("1", "2", "found 1 device, needed at least two devices"),
        ("6", "0.1", "with 0 of 3 devices, needed such events of at least two devices"),
    ] {
        let site = site(drones, hours);
        let done = site.run(&["train"]);
        let last = done.stderr.lines().last().unwrap_or_default();
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(last.contains(found), "{last}");
        assert!(!site.path("store/models/drone/champion.json").exists());
    }
}

#[test]
fn a_version_has_a_report_that_needs_no_network_and_a_monitor_has_its_file() {
    let _turn = beside_others();
    let site = site("16", "4").with("HOMEWARD_TRAIN_METRICS_FILE", "last.prom");
    let trained = site.json(&["train", "--promote", "always"]);
    let version = trained["version"].as_str().unwrap();
    let report = std::fs::read_to_string(site.path(&format!("store/models/drone/{version}/report.html"))).unwrap();
    let places: Vec<usize> =
        ["What it costs", "<svg", "Every failure", "What it learnt from"].iter().map(|s| report.find(s).expect(s)).collect();
    assert!(places.is_sorted(), "money first: {places:?}");
    for loads in ["<script", "<link", "<img", "src=", "@import", "url("] {
        assert!(!report.contains(loads), "the report loads something: {loads}");
    }
    let cost = trained["metrics"]["policy"]["cost_per_hour"].as_f64().unwrap();
    assert!(report.contains(&format!("<td>{cost:.2}</td>")), "the report's money is that of metrics.json");
    let monitor = std::fs::read_to_string(site.path("last.prom")).unwrap();
    assert!(monitor.contains("homeward_train_last_run_success{model=\"drone\"} 1\n"), "{monitor}");
}

#[test]
fn features_and_labels_come_out_as_parquet() {
    let _turn = beside_others();
    let site = site("16", "4");
    let trained = site.json(&["train", "--promote", "always"]);
    let exported = site.json(&["export", "features", "--model", "champion", "--out", "features.parquet"]);
    let (rows, readings) = (exported["rows"].as_u64().unwrap(), trained["metrics"]["readings"].as_u64().unwrap());
    let refused = trained["metrics"]["labels"]["refused"].as_u64().unwrap();
    assert_eq!(rows, readings - refused, "{trained}");
    assert_eq!(&std::fs::read(site.path("features.parquet")).unwrap()[..4], b"PAR1");
}

#[test]
fn the_same_archive_gives_the_same_model_and_champions_seen_data_prove_nothing() {
    let _turn = beside_others();
    // A failure so dear that calling pays on a small fleet.
    let site = site("16", "4").with("HOMEWARD_COSTS_FAILURE", "50000");
    let digest = |v: &Value| v["version"].as_str().unwrap().split('-').nth(1).unwrap().to_owned();
    let first = site.json(&["train", "--promote", "always"]);
    let second = site.json(&["train", "--promote", "never"]);
    assert_eq!(digest(&first), digest(&second), "the same archive, settings and seed gave other bytes");
    let third = site.json(&["train"]);
    assert_eq!((&third["promoted"], &third["version"]), (&false.into(), &Value::Null));
    assert!(third["why"].as_str().unwrap().contains("later than champion"), "{}", third["why"]);
}

#[test]
fn calls_name_what_fails_even_where_no_signal_watches_it() {
    let _turn = beside_others();
    let site = site("30", "8");
    let trained = site.json(&["train", "--promote", "always"]);
    let sum = |key: &str| trained["metrics"]["components"].as_array().unwrap().iter().map(|c| c[key].as_u64().unwrap()).sum::<u64>();
    // By the loudest contribution 0.4 were named right.
    let (called, named) = (sum("called"), sum("named"));
    assert!(called >= 25 && named as f64 >= 0.8 * called as f64, "{named} of {called}: {}", trained["metrics"]["components"]);
    let esc = trained["metrics"]["components"].as_array().unwrap().iter().find(|c| c["component"] == "esc").unwrap();
    assert!(esc["named"].as_u64().unwrap() > 0, "{esc}");
    let version = trained["version"].as_str().unwrap();
    let model: Value =
        serde_json::from_slice(&std::fs::read(site.path(&format!("store/models/drone/{version}/model.json"))).unwrap()).unwrap();
    assert!(model["signatures"]["past"].as_array().unwrap().len() as u64 >= called, "the model in service knows all failures");
}
