//! The binary's edge. That this package has an integration test also makes `cargo test` build the binary that the workspace's own tests run.
#![allow(clippy::unwrap_used)]

use std::process::Command;

fn homeward(args: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_homeward")).args(args).output().unwrap();
    (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn help_and_version_go_to_stdout_and_exit_0() {
    let (code, stdout, stderr) = homeward(&["--version"]);
    assert_eq!((code, stdout.trim(), stderr.as_str()), (Some(0), concat!("homeward ", env!("CARGO_PKG_VERSION")), ""));
    let (code, stdout, _) = homeward(&["--help"]);
    assert!(code == Some(0) && ["demo", "ingest", "train", "predict", "models"].iter().all(|c| stdout.contains(c)), "{stdout}");
}

#[test]
fn nothing_to_do_is_a_bad_argument() {
    assert_eq!(homeward(&[]).0, Some(2));
}
