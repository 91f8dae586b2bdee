//! A TCP proxy between a service and its broker whose connections can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A proxy on a port of its own; its threads end with the process.
pub(crate) struct Proxy {
    port: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// A proxy to `upstream`, as `localhost:1883`.
    pub(crate) fn to(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (streams, upstream) = (Arc::<Mutex<Vec<TcpStream>>>::default(), upstream.to_owned());
        let kept = streams.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A broker that is down is one that refuses: the client is dropped.
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                let pair = [(&client, &server), (&server, &client)].map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap()));
                kept.lock().unwrap().extend([client, server]);
                pair.into_iter().for_each(|(from, to)| _ = std::thread::spawn(move || copy(from, to)));
            }
        });
        Self { port, streams }
    }

    /// Where to connect instead.
    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Cuts every connection at once, in the middle of whatever it carries.
    pub(crate) fn cut(&self) {
        self.streams.lock().unwrap().drain(..).for_each(|stream| _ = stream.shutdown(Shutdown::Both));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    _ = to.shutdown(Shutdown::Write);
    _ = from.shutdown(Shutdown::Read);
}
