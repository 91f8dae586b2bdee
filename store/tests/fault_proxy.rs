//! The proxy before a store that fails on command: what the server got and what the client sees, for each fault.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use homeward_store::testing::{FaultProxy, StoreFault};

/// Long enough for anything that is to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to believe that nothing comes.
const SILENCE: Duration = Duration::from_millis(200);

/// A request as the server got it: its request line and its body, and whether that is all that was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    line: String,
    body: String,
    whole: bool,
}

/// A small HTTP server: keeps what it is sent; the path of a request says how it answers.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Seen>>>::default());
        let kept = seen.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = kept.clone();
                std::thread::spawn(move || serve(&client, &kept));
            }
        });
        Self { address, seen }
    }

    /// What came, once there are `count` requests.
    fn seen(&self, count: usize) -> Vec<Seen> {
        let started = Instant::now();
        while self.seen.lock().unwrap().len() < count && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.seen.lock().unwrap().clone()
    }

    /// The bodies that came, whole or not.
    fn bodies(&self, count: usize) -> Vec<String> {
        self.seen(count).into_iter().map(|s| s.body).collect()
    }
}

fn serve(client: &TcpStream, kept: &Mutex<Vec<Seen>>) {
    let mut requests = BufReader::new(client.try_clone().unwrap());
    while let Some(head) = head(&mut requests) {
        let (mut body, len) = (Vec::new(), length(&head));
        // A reset is an end as well.
        _ = match len {
            Some(len) => (&mut requests).take(len).read_to_end(&mut body),
            None => requests.read_until(b'0', &mut body).and_then(|_| requests.read_exact(&mut [0; 4]).map(|()| 4)),
        };
        let (line, whole) = (head[0].clone(), len.is_none_or(|len| body.len() as u64 == len));
        kept.lock().unwrap().push(Seen { line: line.clone(), body: String::from_utf8(body).unwrap(), whole });
        if !whole {
            return;
        }
        _ = (&mut &*client).write_all(answer(&line).as_bytes());
    }
}

/// What the server says, by the path.
fn answer(line: &str) -> &'static str {
    match line.split(' ').nth(1).unwrap_or_default() {
        "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n3\r\nay!\r\n0\r\n\r\n",
        "/empty" => "HTTP/1.1 204 No Content\r\n\r\n",
        "/same" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        _ if line.starts_with("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    }
}

/// The lines of a head; `None` at the end of the connection.
fn head(from: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    for line in from.lines() {
        match line.ok()? {
            line if line.is_empty() => return Some(lines),
            line => lines.push(line),
        }
    }
    None
}

fn length(head: &[String]) -> Option<u64> {
    head.iter().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok())
}

/// A connection of a client that keeps it.
struct Client(BufReader<TcpStream>);

impl Client {
    fn to(proxy: &FaultProxy) -> Self {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &str) {
        // It may be cut by now; then reading says so.
        _ = self.0.get_mut().write_all(bytes.as_bytes());
    }

    /// The status of an answer, once `method` of `path` with `body` is sent; `None` if the connection ends without one.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Option<u16> {
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: s\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let head = head(&mut self.0)?;
        let status = head[0].split(' ').nth(1)?.parse().ok()?;
        if method != "HEAD" && status != 304 {
            let mut body = vec![0; length(&head).unwrap_or(0) as usize];
            self.0.read_exact(&mut body).ok()?;
        }
        Some(status)
    }

    fn put(&mut self, body: &str) -> Option<u16> {
        self.ask("PUT", "/f", body)
    }

    /// Whether it is still open with nothing to read.
    fn hangs(&mut self) -> bool {
        self.0.get_ref().set_read_timeout(Some(SILENCE)).unwrap();
        let got = self.0.read(&mut [0]);
        self.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(got, Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Whether it ends without another byte.
    fn ends(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(n) => n == 0,
            Err(e) => matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        }
    }
}

fn field() -> (Server, FaultProxy) {
    let server = Server::start();
    let proxy = FaultProxy::start(server.address).unwrap();
    (server, proxy)
}

#[test]
fn without_a_fault_every_kind_of_answer_passes_and_the_connection_goes_on() {
    let (server, proxy) = field();
    let mut client = Client::to(&proxy);
    assert_eq!(client.put("one"), Some(200));
    assert_eq!(client.ask("HEAD", "/f", ""), Some(200));
    assert_eq!(client.ask("DELETE", "/empty", ""), Some(204));
    assert_eq!(client.ask("GET", "/same", ""), Some(304));
    assert_eq!(client.ask("GET", "/chunked", ""), Some(200));
    let mut chunks = [0; 24];
    client.0.read_exact(&mut chunks).unwrap();
    assert_eq!(&chunks, b"2;x=y\r\nok\r\n3\r\nay!\r\n0\r\n\r\n");
    client.send("PUT /f HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(head(&mut client.0).unwrap()[0], "HTTP/1.1 200 OK");
    assert_eq!(server.bodies(6), ["one", "", "", "", "", "3\r\nabc\r\n0"]);
}

#[test]
fn without_a_fault_large_bodies_pass_whole() {
    let (server, proxy) = field();
    let mut client = Client::to(&proxy);
    let large = "0123456789abcdef".repeat(1 << 19);
    assert_eq!(client.put(&large), Some(200));
    assert_eq!(client.put("after"), Some(200));
    assert!(server.bodies(2) == [large.as_str(), "after"]);
}

#[test]
fn a_client_that_dies_within_its_body_sends_no_whole_request() {
    let (server, proxy) = field();
    let mut client = Client::to(&proxy);
    client.send("PUT /f HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf");
    drop(client);
    std::thread::sleep(SILENCE);
    assert_eq!(Client::to(&proxy).put("next"), Some(200));
    assert!(server.seen(1).iter().all(|s| !s.whole || s.body == "next"));
}

#[test]
fn refused_connections_are_closed_at_once_and_open_ones_with_their_next_request() {
    let (server, proxy) = field();
    let mut idle = Client::to(&proxy);
    assert_eq!(idle.put("before"), Some(200));
    proxy.set(StoreFault::Refuse);
    assert_eq!(idle.put("refused"), None);
    assert!(Client::to(&proxy).ends());
    assert_eq!(Client::to(&proxy).put("refused"), None);
    proxy.set(StoreFault::None);
    assert_eq!(Client::to(&proxy).put("after"), Some(200));
    assert_eq!(server.bodies(2), ["before", "after"]);
}

#[test]
fn a_hanging_request_never_reaches_the_server_and_ends_when_the_fault_is_cleared() {
    let (server, proxy) = field();
    let mut client = Client::to(&proxy);
    assert_eq!(client.put("before"), Some(200));
    proxy.set(StoreFault::Hang);
    client.send("PUT /f HTTP/1.1\r\nContent-Length: 4\r\n\r\nhung");
    assert!(client.hangs());
    proxy.set(StoreFault::None);
    assert!(client.ends());
    assert_eq!(Client::to(&proxy).put("after"), Some(200));
    assert_eq!(server.bodies(2), ["before", "after"]);
}

#[test]
fn a_request_that_hangs_after_storing_has_reached_the_server() {
    let (server, proxy) = field();
    let mut client = Client::to(&proxy);
    proxy.set(StoreFault::HangAfterStoring);
    client.send("PUT /f HTTP/1.1\r\nContent-Length: 6\r\n\r\nstored");
    assert_eq!(server.bodies(1), ["stored"]);
    assert!(client.hangs());
    proxy.set(StoreFault::None);
    assert!(client.ends());
    assert_eq!(Client::to(&proxy).put("after"), Some(200));
}

#[test]
fn from_one_hanging_fault_to_the_next_nothing_is_answered() {
    let (server, proxy) = field();
    let mut client = Client::to(&proxy);
    proxy.set(StoreFault::Hang);
    client.send("PUT /f HTTP/1.1\r\nContent-Length: 4\r\n\r\nhung");
    assert!(client.hangs());
    proxy.set(StoreFault::HangAfterStoring);
    proxy.set(StoreFault::None);
    assert!(client.ends());
    assert_eq!(server.seen(0), []);
}

#[test]
fn every_second_put_is_answered_500_on_one_connection_and_others_pass() {
    let (server, proxy) = field();
    let mut client = Client::to(&proxy);
    proxy.set(StoreFault::Half500);
    let large = "x".repeat(1 << 20);
    let mut answers = vec![client.put(&large), client.ask("GET", "/f", ""), client.put("2"), client.put("3"), client.put("4")];
    answers.sort_unstable();
    assert_eq!(answers, [200, 200, 200, 500, 500].map(Some));
    proxy.set(StoreFault::None);
    assert_eq!([client.put("5"), client.put("6")], [Some(200); 2]);
    assert_eq!(server.seen(5).len(), 5);
}

#[test]
fn a_500_says_internal_error() {
    let (_server, proxy) = field();
    proxy.set(StoreFault::Half500);
    let mut client = Client::to(&proxy);
    let refused = (0..2).find_map(|_| {
        client.send("PUT /f HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
        let head = head(&mut client.0)?;
        let mut body = vec![0; length(&head)? as usize];
        client.0.read_exact(&mut body).unwrap();
        head[0].contains(" 500 ").then(|| String::from_utf8(body).unwrap())
    });
    assert!(refused.unwrap().contains("<Code>InternalError</Code>"));
}

#[test]
fn a_request_cut_midway_arrives_by_half() {
    let (server, proxy) = field();
    let mut client = Client::to(&proxy);
    assert_eq!(client.put("before"), Some(200));
    proxy.set(StoreFault::CutMidway);
    assert_eq!(client.put("halfhalf"), None);
    let seen = server.seen(2);
    assert_eq!((seen[1].body.as_str(), seen[1].whole), ("half", false));
    proxy.set(StoreFault::None);
    assert_eq!(Client::to(&proxy).put("after"), Some(200));
    assert_eq!(server.bodies(3).len(), 3);
}

#[test]
fn a_fault_strikes_no_other_connection_than_those_that_ask() {
    let (server, proxy) = field();
    let (mut idle, mut struck) = (Client::to(&proxy), Client::to(&proxy));
    assert_eq!([idle.put("a"), struck.put("b")], [Some(200); 2]);
    proxy.set(StoreFault::CutMidway);
    assert_eq!(struck.put("cut!"), None);
    proxy.set(StoreFault::None);
    assert_eq!(idle.put("c"), Some(200));
    assert_eq!(server.seen(4).len(), 4);
}
