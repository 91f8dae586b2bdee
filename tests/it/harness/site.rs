//! A folder with a configuration and a store, and the binary run in it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{binary, wait_until};

/// Nothing that is run here takes longer.
const LONGEST: Duration = Duration::from_secs(240);

/// A folder of its own with `homeward.toml`, gone when dropped.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    env: Vec<(String, String)>,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command that runs; killed when dropped.
pub(crate) struct Service {
    child: Child,
    stdout: Pipe,
    stderr: Pipe,
}

/// What a command writes, read as it comes so that it never waits for us.
struct Pipe {
    text: Arc<Mutex<Vec<u8>>>,
    reading: Option<JoinHandle<()>>,
}

impl Site {
    /// A folder with this configuration, and a local store in it unless the configuration or the environment says otherwise.
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("homeward.toml"), config).unwrap();
        let store = format!("file://{}", folder.path().join("store").display());
        Self { folder, env: Vec::new() }.with("HOMEWARD_STORE_URL", &store)
    }

    /// The same with a variable of the environment, over an earlier one of that name.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(n, _)| n != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same without a variable.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.retain(|(n, _)| n != name);
        self
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        let mut service = self.start(args);
        let status = service.wait(LONGEST);
        service.done(status)
    }

    /// Runs a command that must succeed; its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, Some(0), "homeward {}: {done:?}", args.join(" "));
        done.stdout
    }

    /// Runs a command that must succeed with `--json`; its result.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let out = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("homeward {}: {e}: {out}", args.join(" ")))
    }

    /// Starts a command.
    pub(crate) fn start(&self, args: &[&str]) -> Service {
        let mut command = Command::new(binary::homeward());
        let foreign = |name: &str| ["HOMEWARD_", "AWS_", "GOOGLE_", "AZURE_"].iter().any(|p| name.starts_with(p));
        std::env::vars().filter(|(name, _)| foreign(name)).for_each(|(name, _)| _ = command.env_remove(name));
        command.args(args).envs(self.env.iter().cloned()).env("NO_COLOR", "1").current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (Pipe::of(child.stdout.take().unwrap()), Pipe::of(child.stderr.take().unwrap()));
        Service { child, stdout, stderr }
    }
}

impl Pipe {
    fn of(mut from: impl Read + Send + 'static) -> Self {
        let text: Arc<Mutex<Vec<u8>>> = Arc::default();
        let into = text.clone();
        let reading = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { text, reading: Some(reading) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    fn all(&mut self) -> String {
        self.reading.take().map(JoinHandle::join).transpose().unwrap();
        self.so_far()
    }
}

impl Service {
    /// Waits until stderr holds `text`.
    pub(crate) fn says(&mut self, text: &str) {
        let (child, stderr) = (&mut self.child, &self.stderr);
        wait_until(&format!("stderr with {text:?}"), || {
            let said = stderr.so_far();
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() || said.contains(text), "ended with {ended:?} before it said {text:?}: {said}");
            said.contains(text)
        });
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has said on stderr by now.
    pub(crate) fn said(&self) -> String {
        self.stderr.so_far()
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(mut self) -> Done {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
        let status = self.wait(LONGEST);
        self.done(status)
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Done {
        let status = self.wait(LONGEST);
        self.done(status)
    }

    /// SIGKILL: no chance to finish anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn wait(&mut self, longest: Duration) -> ExitStatus {
        let until = Instant::now() + longest;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "still runs after {} s: {}", longest.as_secs(), self.stderr.so_far());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn done(&mut self, status: ExitStatus) -> Done {
        Done { code: status.code(), stdout: self.stdout.all(), stderr: self.stderr.all() }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended by itself.
        let _ = self.child.wait();
    }
}

/// Every file below `folder`: path in it and bytes, sorted.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(folder).unwrap().display().to_string(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}
