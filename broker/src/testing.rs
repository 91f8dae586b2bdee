//! Real Mosquitto brokers for tests: started on a free port in a folder of their own, killed on drop.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long Mosquitto may take to come up or go down.
const WITHIN: Duration = Duration::from_secs(10);
/// Where Debian puts it, which is not on every user's PATH.
const USUAL_PLACES: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"];

/// A running Mosquitto with persistence.
pub struct Mosquitto {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    scheme: &'static str,
    child: Option<Child>,
}

/// Finds Mosquitto on PATH and in the usual places.
pub fn find_mosquitto() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(USUAL_PLACES.iter().map(PathBuf::from));
    places.map(|place| place.join("mosquitto")).find(|program| program.is_file())
}

impl Mosquitto {
    /// Starts a broker that anyone may use and that limits neither queue nor window.
    ///
    /// # Errors
    /// None where Mosquitto is not installed; its absence is written to stderr in capitals.
    pub fn start() -> Option<io::Result<Self>> {
        Self::start_with("mqtt", |_| vec!["allow_anonymous true".into()])
    }

    /// Starts a broker with further lines of configuration, made from its folder, in which they may
    /// write files. `scheme` is that of [`Mosquitto::url`].
    ///
    /// # Errors
    /// None where Mosquitto is not installed; an error where it does not come up.
    pub fn start_with(scheme: &'static str, lines: impl FnOnce(&Path) -> Vec<String>) -> Option<io::Result<Self>> {
        let Some(program) = find_mosquitto() else {
            announce_absence();
            return None;
        };
        Some(Self::launch(program, scheme, lines))
    }

    /// The broker's address.
    pub fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.port)
    }

    /// The folder that holds its configuration and its messages.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends it in order (SIGTERM), so that it writes its messages to disk.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> io::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let id = child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        let until = Instant::now() + WITHIN;
        while child.try_wait()?.is_none() {
            if Instant::now() > until {
                return Err(io::Error::other("mosquitto does not end"));
            }
            sleep(Duration::from_millis(5));
        }
        self.child = None;
        Ok(())
    }

    /// Ends it at once (SIGKILL): what it had not written is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops it, and starts it again on the same port with the same folder.
    ///
    /// # Errors
    /// When it does not end or does not come up.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop()?;
        self.run()
    }

    /// Forgets every session and message (only while it is stopped).
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget(&self) -> io::Result<()> {
        match std::fs::remove_file(self.folder().join("mosquitto.db")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Starts it after [`Mosquitto::stop`] or [`Mosquitto::kill`].
    ///
    /// # Errors
    /// When it does not come up.
    pub fn run(&mut self) -> io::Result<()> {
        let log = std::fs::File::create(self.folder().join("log"))?;
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.folder().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        self.wait_until_up()
    }

    fn launch(program: PathBuf, scheme: &'static str, lines: impl FnOnce(&Path) -> Vec<String>) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let place = folder.path().display();
        let mut text = format!(
            "listener {port} 127.0.0.1\npersistence true\npersistence_location {place}/\nautosave_interval 0\n\
             max_queued_messages 0\nmax_queued_bytes 0\nmax_inflight_messages 0\n"
        );
        // Started by root, it would otherwise become another user, who cannot write the folder.
        if std::env::var("USER").is_ok_and(|user| user == "root") || running_as_root() {
            text.push_str("user root\n");
        }
        for line in lines(folder.path()) {
            text.push_str(&line);
            text.push('\n');
        }
        std::fs::write(folder.path().join("mosquitto.conf"), text)?;
        let mut broker = Self { program, folder, port, scheme, child: None };
        broker.run()?;
        Ok(broker)
    }

    fn wait_until_up(&mut self) -> io::Result<()> {
        let until = Instant::now() + WITHIN;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.as_mut().map_or(Ok(None), Child::try_wait)?;
            if ended.is_some() || Instant::now() > until {
                let log = std::fs::read_to_string(self.folder().join("log")).unwrap_or_default();
                return Err(io::Error::other(format!("mosquitto does not come up: {log}")));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.kill(); // Nobody is left to be told.
    }
}

#[allow(clippy::print_stderr)] // A skipped test must be seen.
fn announce_absence() {
    assert!(std::env::var_os("HOMEWARD_TEST_ALL").is_none(), "HOMEWARD_TEST_ALL is set, and mosquitto was not found");
    eprintln!("SKIPPED: this test needs a real broker, and mosquitto was not found");
}

fn running_as_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|out| out.stdout.starts_with(b"0\n"))
}
