//! An HTTP proxy before a store that fails on command, between one request and the next.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a [`FaultProxy`] does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// They go through.
    None,
    /// Connections are closed at once.
    Refuse,
    /// They are taken and neither passed on nor answered.
    Hang,
    /// They are passed on and take effect, and the answer never comes.
    HangAfterStoring,
    /// Every second put is answered 500 and not passed on.
    Half500,
    /// Half of a request's body is passed on, then the connection is cut.
    CutMidway,
}

/// A proxy on a port of its own; its threads end with their connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    fault: Mutex<StoreFault>,
    puts: AtomicUsize,
}

impl FaultProxy {
    /// A proxy to the HTTP server at `upstream`.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { upstream, fault: Mutex::new(StoreFault::None), puts: AtomicUsize::new(0) });
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = shared.clone();
                // A connection that breaks is a fault like any other.
                std::thread::spawn(move || _ = state.serve(&client));
            }
        });
        Ok(Self { address, state })
    }

    /// Where to connect instead.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From the next request on.
    pub fn set(&self, fault: StoreFault) {
        *self.state.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

/// A request, or the answer to one: its head and its body as they came.
struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl State {
    fn fault(&self) -> StoreFault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        let mut requests = BufReader::new(client.try_clone()?);
        let mut upstream: Option<BufReader<TcpStream>> = None;
        while self.fault() != StoreFault::Refuse
            && let Some(request) = read_message(&mut requests, true)?
        {
            let fault = self.fault();
            match fault {
                StoreFault::Refuse => break,
                StoreFault::CutMidway => {
                    let mut cut = TcpStream::connect(self.upstream)?;
                    cut.write_all(&request.head)?;
                    cut.write_all(&request.body[..request.body.len() / 2])?;
                    cut.shutdown(Shutdown::Both)?;
                    break;
                }
                StoreFault::Half500 if request.is("PUT") && self.puts.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => {
                    let body = "<Error><Code>InternalError</Code></Error>";
                    write!(&mut &*client, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
                }
                StoreFault::Hang => {
                    self.wait_while(fault);
                    break;
                }
                StoreFault::None | StoreFault::Half500 | StoreFault::HangAfterStoring => {
                    let answer = self.pass_on(&mut upstream, &request)?;
                    if fault == StoreFault::HangAfterStoring {
                        self.wait_while(fault);
                        break;
                    }
                    (&mut &*client).write_all(&[answer.head, answer.body].concat())?;
                }
            }
        }
        client.shutdown(Shutdown::Both)
    }

    fn pass_on(&self, upstream: &mut Option<BufReader<TcpStream>>, request: &Message) -> io::Result<Message> {
        if upstream.is_none() {
            *upstream = Some(BufReader::new(TcpStream::connect(self.upstream)?));
        }
        let stream = upstream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        stream.get_mut().write_all(&[&request.head[..], &request.body[..]].concat())?;
        read_message(stream, !request.is("HEAD"))?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn wait_while(&self, fault: StoreFault) {
        while self.fault() == fault {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Message {
    fn is(&self, method: &str) -> bool {
        self.head.starts_with(method.as_bytes())
    }
}

/// The next message of a connection; `None` at its end. An answer to HEAD has no body, whatever it says.
fn read_message(from: &mut impl BufRead, may_have_body: bool) -> io::Result<Option<Message>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if from.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let bodiless = [" 204", " 304"].iter().any(|status| text.lines().next().is_some_and(|line| line.contains(status)));
    let mut body = Vec::new();
    if may_have_body && !bodiless {
        if header("transfer-encoding").is_some_and(|t| t.contains("chunked")) {
            read_chunks(from, &mut body)?;
        } else if let Some(len) = header("content-length").and_then(|len| len.parse().ok()) {
            from.take(len).read_to_end(&mut body)?;
        }
    }
    Ok(Some(Message { head, body }))
}

/// A chunked body as it comes, to the empty line after its last chunk.
fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let start = body.len();
        from.read_until(b'\n', body)?;
        let line = String::from_utf8_lossy(&body[start..]);
        let size = line.trim().split(';').next().and_then(|size| u64::from_str_radix(size, 16).ok());
        let size = size.ok_or(io::ErrorKind::InvalidData)?;
        from.by_ref().take(size + 2).read_to_end(body)?;
        if size == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that keeps the bodies of puts and answers in chunks.
    fn server() -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stored = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let kept = stored.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = kept.clone();
                std::thread::spawn(move || {
                    let mut requests = BufReader::new(client.try_clone().unwrap());
                    while let Ok(Some(request)) = read_message(&mut requests, true) {
                        kept.lock().unwrap().push(request.body);
                        (&mut &client).write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").unwrap();
                    }
                });
            }
        });
        (address, stored)
    }

    /// The status line of a put over `stream`, or why there is none.
    fn put(stream: &TcpStream, body: &str) -> io::Result<String> {
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        write!(&mut &*stream, "PUT /a HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let answer = read_message(&mut BufReader::new(stream.try_clone()?), true)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(String::from_utf8_lossy(&answer.head).lines().next().unwrap_or_default().to_owned())
    }

    #[test]
    fn each_fault_strikes_the_next_request_and_ends_when_it_is_cleared() {
        let (address, stored) = server();
        let proxy = FaultProxy::start(address).unwrap();
        let bodies = || stored.lock().unwrap().iter().map(|b| String::from_utf8_lossy(b).into_owned()).collect::<Vec<_>>();
        let connect = || TcpStream::connect(proxy.address()).unwrap();
        let kept = connect();
        assert!(put(&kept, "first").unwrap().contains("200"));
        proxy.set(StoreFault::Half500);
        let answers = [put(&kept, "1"), put(&kept, "2"), put(&kept, "3")].map(Result::unwrap);
        assert_eq!(answers.map(|a| a.contains("500")), [true, false, true]);
        assert_eq!(bodies(), ["first", "2"]);
        proxy.set(StoreFault::HangAfterStoring);
        assert!(put(&kept, "stored").is_err());
        assert_eq!(bodies().last().unwrap(), "stored");
        proxy.set(StoreFault::Hang);
        assert!(put(&connect(), "hung").is_err());
        proxy.set(StoreFault::Refuse);
        assert!(put(&connect(), "refused").is_err());
        proxy.set(StoreFault::CutMidway);
        assert!(put(&connect(), "cut in two").is_err());
        proxy.set(StoreFault::None);
        assert!(put(&connect(), "last").unwrap().contains("200"));
        let whole = bodies();
        assert!(!whole.iter().any(|b| ["hung", "refused", "cut in two"].contains(&b.as_str())), "{whole:?}");
        assert_eq!(whole.last().unwrap(), "last");
    }
}
