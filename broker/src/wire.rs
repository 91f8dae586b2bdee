//! One connection: bytes in and out of a socket, MQTT 5 packets by rumqttc's codec.
//!
//! Reading and writing progress together in [`Wire::turn`], which may be dropped at any await
//! without losing a byte, so a driver can `select!` it against everything else it waits for.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use rumqttc::tokio_rustls::TlsConnector;
use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::v5::{Disconnect, DisconnectReasonCode, Packet, PingReq, Publish};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use crate::settings::Settings;

/// Room made for one read. Messages are slices of it, so it is also what one held message can pin.
const READ_ROOM: usize = 64 * 1024;
/// Below this much room a new buffer is begun.
const LEAST_ROOM: usize = 4 * 1024;
/// How long a broker may take to close its side after our DISCONNECT.
const FAREWELL: Duration = Duration::from_secs(3);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker said {0}")]
    Told(String),
    #[error("another client connected under our client id: each needs one of its own, or they push each other out for ever")]
    TakenOver,
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
    #[error("the broker sent what MQTT 5 does not allow here: {0}")]
    Protocol(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An open connection.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    input: BytesMut,
    output: BytesMut,
    flushed: bool,
    max_packet: u32,
    keep_alive: Duration,
    sent: Instant,
    heard: Instant,
    pinged: Option<Instant>,
}

impl Wire {
    /// Opens the socket and, where settings say so, TLS on it.
    pub(crate) async fn open(settings: &Settings) -> io::Result<Self> {
        let socket = TcpStream::connect((settings.host.as_str(), settings.port)).await?;
        socket.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &settings.tls {
            None => Box::new(socket),
            Some(config) => {
                let name = ServerName::try_from(settings.host.clone()).map_err(io::Error::other)?;
                Box::new(TlsConnector::from(config.clone()).connect(name, socket).await?)
            }
        };
        let now = Instant::now();
        Ok(Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            flushed: true,
            max_packet: settings.options.max_packet_bytes,
            keep_alive: settings.options.keep_alive,
            sent: now,
            heard: now,
            pinged: None,
        })
    }

    /// The broker's keep-alive replaces ours; 0 would switch it off and is ignored.
    pub(crate) fn set_keep_alive(&mut self, seconds: u16) {
        if seconds > 0 {
            self.keep_alive = Duration::from_secs(u64::from(seconds));
        }
    }

    /// Puts a packet into the output; [`Wire::turn`] sends it.
    pub(crate) fn send(&mut self, packet: &Packet) -> Result<(), Lost> {
        self.sent = Instant::now();
        packet.write(&mut self.output, None).map(drop).map_err(protocol)
    }

    /// Puts a publish into the output.
    pub(crate) fn send_publish(&mut self, publish: &Publish) -> Result<(), Lost> {
        publish.write(&mut self.output).map(drop).map_err(protocol)
    }

    /// Puts a successful PUBACK for each packet id into the output: four bytes each, no properties.
    pub(crate) fn send_acks(&mut self, ids: &[u16]) {
        self.output.reserve(4 * ids.len());
        for id in ids {
            let [high, low] = id.to_be_bytes();
            self.output.extend_from_slice(&[0x40, 2, high, low]);
        }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.output.len()
    }

    /// The first byte that was read and not yet taken as a packet.
    pub(crate) fn first_byte(&self) -> Option<u8> {
        self.input.first().copied()
    }

    /// The next whole packet that has been read, if there is one.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Packet>, Lost> {
        match Packet::read(&mut self.input, Some(self.max_packet)) {
            Ok(packet) => Ok(Some(packet)),
            Err(PacketError::InsufficientBytes(more)) => {
                // A large packet gets its room at once instead of by doubling.
                if more > LEAST_ROOM {
                    self.input.reserve(more);
                }
                Ok(None)
            }
            Err(e) => Err(protocol(e)),
        }
    }

    /// Sends and (where `read`) receives until something arrived or all output has left.
    pub(crate) async fn turn(&mut self, read: bool) -> Result<(), Lost> {
        let sending = !self.flushed || !self.output.is_empty();
        poll_fn(|cx| {
            let sent = self.poll_send(cx)?;
            if read && let Poll::Ready(arrived) = self.poll_receive(cx) {
                return Poll::Ready(arrived);
            }
            if sending && sent { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// To be called about once a second: pings a silent broker, and gives up one that stays so.
    /// While we do not read (`reading` false), its silence is our own doing.
    pub(crate) fn beat(&mut self, reading: bool) -> Result<(), Lost> {
        let now = Instant::now();
        if self.pinged.is_some_and(|at| self.heard >= at) || !reading {
            self.pinged = None;
        }
        let patience = (self.keep_alive / 2).max(Duration::from_secs(5));
        match self.pinged {
            Some(at) if now - at > patience => Err(Lost::Silent(now - self.heard)),
            Some(_) => Ok(()),
            None => self.ping_if_due(now),
        }
    }

    /// Says goodbye in order, so that the broker keeps the session and publishes no will. Waits for
    /// the broker to close: a socket closed with unread bytes resets the connection, and the
    /// acknowledgements just sent might never be read.
    pub(crate) async fn part(mut self) -> Result<(), Lost> {
        self.send(&Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection)))?;
        let farewell = async {
            while self.unsent() > 0 || !self.flushed {
                self.turn(true).await?;
                self.input.clear();
            }
            loop {
                self.turn(true).await?;
                self.input.clear();
            }
        };
        match tokio::time::timeout(FAREWELL, farewell).await {
            Ok(Err(Lost::Closed)) | Err(_) => Ok(()),
            Ok(Err(Lost::Io(e))) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Ok(other) => other,
        }
    }

    fn ping_if_due(&mut self, now: Instant) -> Result<(), Lost> {
        let due = self.keep_alive * 3 / 4;
        if now - self.sent < due && now - self.heard < due {
            return Ok(());
        }
        self.pinged = Some(now);
        self.send(&Packet::PingReq(PingReq))
    }

    /// Writes what it can; true when everything has left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        while !self.output.is_empty() {
            self.flushed = false;
            match pin!(&mut self.stream).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Err(Lost::Closed),
                Poll::Ready(Ok(written)) => self.output.advance(written),
                Poll::Ready(Err(e)) => return Err(e.into()),
                Poll::Pending => return Ok(false),
            }
        }
        if !self.flushed {
            match pin!(&mut self.stream).poll_flush(cx) {
                Poll::Ready(done) => done?,
                Poll::Pending => return Ok(false),
            }
            self.flushed = true;
            self.sent = Instant::now();
        }
        Ok(true)
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if self.input.capacity() - self.input.len() < LEAST_ROOM {
            self.input.reserve(READ_ROOM);
        }
        match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Lost::Closed)),
            Poll::Ready(Ok(_)) => {
                self.heard = Instant::now();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn protocol(e: PacketError) -> Lost {
    Lost::Protocol(e.to_string())
}
