//! Where the binary is, and that it is not older than its sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The `homeward` binary of the profile under test. Cargo builds a binary only for the tests of its own package, so a missing or stale one is
/// built here, once.
pub(crate) fn homeward() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        // {target}/{profile}/deps/it-…
        let profile = test.ancestors().nth(2).expect("tests lie in {target}/{profile}/deps");
        let binary = profile.join(format!("homeward{}", std::env::consts::EXE_SUFFIX));
        let root = super::workspace("");
        let built = std::fs::metadata(&binary).and_then(|m| m.modified()).ok();
        if built.is_none_or(|built| newest(&root) > built) {
            build(&root, profile);
        }
        assert!(binary.is_file(), "{} is not there after its build", binary.display());
        binary
    })
}

fn build(root: &Path, profile: &Path) {
    let name = match profile.file_name().and_then(|n| n.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} has no name", profile.display()),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = profile.parent().unwrap();
    let args = ["build", "--package", "homeward", "--bin", "homeward", "--profile", name, "--target-dir"];
    let built = Command::new(cargo).args(args).arg(target).current_dir(root).status().unwrap();
    assert!(built.success(), "cargo build --bin homeward: {built}");
}

/// When a source of the binary was last written.
fn newest(folder: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            // Tests are no part of the binary, and build output holds no sources.
            if !name.starts_with('.') && !matches!(&*name, "target" | "tests" | "notebooks") {
                newest = newest.max(self::newest(&path));
            }
        } else if name.ends_with(".rs") || name.ends_with(".toml") || name == "Cargo.lock" {
            newest = newest.max(entry.metadata().and_then(|m| m.modified()).unwrap_or(newest));
        }
    }
    newest
}
