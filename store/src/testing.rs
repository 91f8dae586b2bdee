//! For tests, of this crate and of the workspace: a real S3 endpoint, and a store that fails on command.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};

mod proxy;

pub use proxy::{FaultProxy, StoreFault};

/// The bucket that [`S3Server`] makes.
pub const BUCKET: &str = "homeward-test";

/// A SeaweedFS on this machine with an empty bucket, gone when dropped.
#[derive(Debug)]
pub struct S3Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl S3Server {
    /// Starts `weed` (the program on the PATH) on free ports; takes some seconds.
    ///
    /// # Errors
    /// What is in the way, to be printed with a loud `SKIPPED`: no such program, or it does not come up in 60 s.
    pub fn start() -> std::result::Result<Self, String> {
        let mut reason = String::new();
        for _ in 0..3 {
            // A port found free may be taken a moment later; then the next try finds others.
            match Self::start_once() {
                Ok(server) => return Ok(server),
                Err(e) => reason = e,
            }
        }
        Err(reason)
    }

    fn start_once() -> std::result::Result<Self, String> {
        let text = |e: std::io::Error| e.to_string();
        let dir = tempfile::tempdir().map_err(text)?;
        let ports = free_ports(8).map_err(text)?;
        let names = ["s3", "master", "volume", "filer", "s3", "master", "volume", "filer"];
        let mut command = Command::new("weed");
        command.arg("server").arg("-s3").arg(["-dir=".into(), dir.path().display().to_string()].concat());
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=0", "-master.volumeSizeLimitMB=64"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        for (at, (name, port)) in names.iter().zip(&ports).enumerate() {
            let kind = if at < 4 { "port" } else { "port.grpc" };
            command.arg(format!("-{name}.{kind}={port}"));
        }
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| format!("weed (SeaweedFS) cannot be started: {e}"))?;
        let mut server = Self { child, port: ports[0], _dir: dir };
        server.make_bucket().map(|()| server)
    }

    /// The URL of the bucket below `prefix`.
    #[must_use]
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The options to open [`S3Server::url`] with; as environment variables they do as well.
    #[must_use]
    pub fn options(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let pairs = [
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "any"),
            ("AWS_SECRET_ACCESS_KEY", "any"),
        ];
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec()
    }

    /// Asks for the bucket until the server is up.
    fn make_bucket(&mut self) -> std::result::Result<(), String> {
        let started = Instant::now();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut answer = String::from("no answer");
        while started.elapsed() < Duration::from_secs(60) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("weed ended with {status} before it was up"));
            }
            match put_bucket(address) {
                Ok(line) if line.contains(" 200") => return Ok(()),
                Ok(line) => answer = line,
                Err(e) => answer = e.to_string(),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("weed is not up after 60 s: {answer}"))
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let all = std::iter::repeat_with(listen).take(count).collect::<std::io::Result<Vec<_>>>()?;
    all.iter().map(|l| l.local_addr().map(|a| a.port())).collect()
}

/// `PUT /bucket`, unsigned; returns the status line.
fn put_bucket(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "PUT /{BUCKET} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// What a [`FaultyStore`] does to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It goes through.
    None,
    /// It fails and nothing happens.
    Before,
    /// It takes effect, and then fails as if the answer had been lost.
    After,
    /// A put fails as if the object existed, and nothing happens (S3's 409).
    Exists,
}

/// A store that fails as scheduled: each put or get takes the next fault; past the end all goes through.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    puts: Mutex<VecDeque<Fault>>,
    gets: Mutex<VecDeque<Fault>>,
}

impl FaultyStore {
    /// `inner` with the faults of its next puts and its next gets and heads.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, puts: &[Fault], gets: &[Fault]) -> Self {
        Self { inner, puts: Mutex::new(puts.to_vec().into()), gets: Mutex::new(gets.to_vec().into()) }
    }
}

fn next(faults: &Mutex<VecDeque<Fault>>) -> Fault {
    faults.lock().ok().and_then(|mut f| f.pop_front()).unwrap_or(Fault::None)
}

fn lost() -> Error {
    Error::Generic { store: "faulty", source: "the connection timed out".into() }
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        match next(&self.puts) {
            Fault::None => self.inner.put_opts(location, payload, opts).await,
            Fault::Before => Err(lost()),
            Fault::After => self.inner.put_opts(location, payload, opts).await.and_then(|_| Err(lost())),
            Fault::Exists => Err(Error::AlreadyExists { path: location.to_string(), source: "409".into() }),
        }
    }

    async fn put_multipart_opts(&self, path: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match next(&self.gets) {
            Fault::None => self.inner.get_opts(location, options).await,
            _ => Err(lost()),
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
