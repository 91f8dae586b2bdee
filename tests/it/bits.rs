//! The same bits everywhere: a build against another C library (musl, static) computes what this one does.

use std::process::Command;

use crate::harness::{self, workspace};

const TARGET: &str = "x86_64-unknown-linux-musl";
const MESSAGES: usize = 20_000;

#[test]
fn a_musl_build_scores_the_same_bits() {
    let test = "a_musl_build_scores_the_same_bits";
    if harness::target(test, TARGET).is_none() {
        return;
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--release", "--quiet", "--package", "homeward-bits", "--target", TARGET, "--", &MESSAGES.to_string()]);
    let run = cargo.current_dir(workspace("")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let here = homeward_bits::bits(MESSAGES);
    assert!(here.readings > 10_000, "{here}");
    assert_eq!(String::from_utf8(run.stdout).unwrap().trim(), here.to_string());
}
