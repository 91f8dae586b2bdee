//! What the tests of this crate share.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, unreachable_pub, dead_code)]

pub mod fake;

use std::future::Future;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use homeward_broker::{Inbox, Message, Options, Settings};

/// Waits for what has to happen; a test that hangs fails instead.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("nothing happened for 20 s")
}

/// Waits until a condition holds.
pub async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub fn settings(url: &str, client_id: &str) -> Settings {
    Settings::check(options(url, client_id)).unwrap()
}

pub fn options(url: &str, client_id: &str) -> Options {
    Options { stop_within: Duration::from_secs(5), patience: Duration::ZERO, ..Options::new(url, client_id) }
}

pub fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect()
}

/// Reads on from `from` until `count` messages are there.
pub async fn read(inbox: &impl Inbox, from: u64, count: usize) -> Vec<Message> {
    let mut got = Vec::new();
    while got.len() < count {
        let next = from + got.len() as u64;
        soon(inbox.read("r", next, count - got.len(), &mut got)).await.unwrap();
    }
    got
}

/// Makes an authority, a broker's and a client's certificate in `folder`.
pub fn certificates(folder: &Path) {
    let openssl = |line: &str| {
        let run = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().unwrap();
        assert!(run.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&run.stderr));
    };
    std::fs::write(folder.join("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"));
    for name in ["broker", "client"] {
        openssl(&format!("req {key} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        let sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san";
        openssl(&format!("x509 -req -in {name}.csr {sign} -out {name}.pem"));
    }
}

/// Whether certificates can be made; if not, says so.
pub fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|out| out.status.success());
    assert!(found || std::env::var_os("HOMEWARD_TEST_ALL").is_none(), "HOMEWARD_TEST_ALL is set, and openssl was not found");
    if !found {
        eprintln!("SKIPPED: this test needs certificates, and openssl was not found");
    }
    found
}

/// The password of every user that [`guarded`] makes.
pub const PASSWORD: &str = "right";

/// Lines for a Mosquitto that knows these users only, and lets them do what `rules` say.
pub fn guarded(folder: &Path, users: &[&str], rules: &str) -> Vec<String> {
    let (passwords, acl) = (folder.join("users"), folder.join("rules"));
    std::fs::write(&passwords, "").unwrap();
    for user in users {
        let made = Command::new("mosquitto_passwd").arg("-b").arg(&passwords).args([user, PASSWORD]).status();
        assert!(made.unwrap().success());
    }
    std::fs::write(&acl, rules).unwrap();
    let lines = [("password_file", passwords), ("acl_file", acl)].map(|(key, path)| format!("{key} {}", path.display()));
    std::iter::once("allow_anonymous false".to_owned()).chain(lines).collect()
}
