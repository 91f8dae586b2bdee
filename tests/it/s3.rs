//! Import, training and the registry against a real S3 endpoint.

use serde_json::Value;

use crate::harness::{Site, beside_others, s3, workspace};

#[test]
fn import_train_promote_and_roll_back_against_s3() {
    let Some(server) = s3("s3") else { return };
    let _turn = beside_others();
    let sample = std::fs::read_to_string(workspace("homeward.toml")).unwrap();
    let mut site = Site::new(&sample).with("HOMEWARD_STORE_URL", &server.url("fleet"));
    for (name, value) in server.options() {
        site = site.with(&name, &value);
    }
    site.ok(&["simulate", "--out", "a.jsonl", "--drones", "8", "--hours", "2", "--mean-life", "0.4", "--sudden-share", "0"]);
    let imported = site.json(&["import", "a.jsonl", "--format", "jsonl"]);
    assert!(imported["readings"].as_u64().unwrap() > 10_000 && imported["objects"].as_u64().unwrap() >= 2, "{imported}");
    assert_eq!(site.json(&["import", "a.jsonl", "--format", "jsonl"])["objects"], imported["objects"], "a second import");

    let first = train(&site);
    assert_eq!(champions(&site), [(first.clone(), true)]);
    let site = site.with("HOMEWARD_TRAIN_DEPTH", "3");
    let second = train(&site);
    assert_eq!(champions(&site), [(first.clone(), false), (second.clone(), true)]);
    assert_eq!(site.json(&["models", "rollback"])["version"], first.as_str());
    assert_eq!(champions(&site), [(first.clone(), true), (second.clone(), false)]);
    let champion = site.json(&["models", "promote", &second]);
    assert_eq!((&champion["version"], &champion["previous"]), (&second.as_str().into(), &first.as_str().into()));
    assert_eq!(site.json(&["models", "show"])["version"], second.as_str());
    assert!(!site.path("store").exists() && !site.path("homeward-data").exists(), "wrote to the disk beside the bucket");
}

/// Trains and promotes; the new version.
fn train(site: &Site) -> String {
    // Versions are named to the second and sorted by it.
    std::thread::sleep(std::time::Duration::from_millis(1_000));
    let trained = site.json(&["train", "--promote", "always"]);
    assert_eq!(trained["promoted"], true, "{trained}");
    trained["version"].as_str().unwrap().to_owned()
}

/// All versions, and which one is the champion.
fn champions(site: &Site) -> Vec<(String, bool)> {
    let list = site.json(&["models", "list"]);
    let row = |v: &Value| (v["version"].as_str().unwrap().to_owned(), v["champion"] == true);
    list.as_array().unwrap().iter().map(row).collect()
}
