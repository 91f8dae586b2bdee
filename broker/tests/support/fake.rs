//! A broker whose every packet the test chooses.

use bytes::{Buf, BytesMut};
use rumqttc::v5::mqttbytes::v5::{
    Connect, Disconnect, DisconnectReasonCode, Packet, PingResp, Publish, SubAck, Subscribe, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::soon;

/// CONNACK: accepted, no properties.
pub fn connack(session_present: bool) -> [u8; 5] {
    [0x20, 3, session_present.into(), 0, 0]
}

pub struct Fake {
    listener: TcpListener,
}

impl Fake {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// By name, as certificates want it.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.listener.local_addr().unwrap().port())
    }

    /// Waits for the next connection; nothing is said on it yet.
    pub async fn socket(&self) -> TcpStream {
        soon(self.listener.accept()).await.unwrap().0
    }

    /// Waits for the next connection, and accepts its CONNECT.
    pub async fn accept(&self, session_present: bool) -> Peer {
        let mut peer = Peer::new(self.socket().await);
        peer.accept(&connack(session_present)).await;
        peer
    }

    /// The same, with the SUBSCRIBE that has to follow.
    pub async fn accept_and_grant(&self, session_present: bool) -> Peer {
        let mut peer = self.accept(session_present).await;
        peer.grant().await;
        peer
    }
}

/// A client, seen from the broker. Dropping it cuts the connection.
pub struct Peer<S = TcpStream> {
    stream: S,
    heard: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, heard: BytesMut::new() }
    }

    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The next packet; none at the end of the connection.
    pub async fn next(&mut self) -> Option<Packet> {
        loop {
            // The shortest DISCONNECT, which rumqttc writes and does not read.
            if self.heard.starts_with(&[0xe0, 0]) {
                self.heard.advance(2);
                return Some(Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection)));
            }
            match Packet::read(&mut self.heard, None) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(e) => panic!("the client sent what is no packet: {e}"),
            }
            // A connection that is reset has ended as well.
            if soon(self.stream.read_buf(&mut self.heard)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next packet, which must be a PINGREQ. It is not answered.
    pub async fn hear_ping(&mut self) {
        let heard = self.next().await;
        assert!(matches!(heard, Some(Packet::PingReq(_))), "unexpected: {heard:?}");
    }

    /// The packet id of the next packet but pings, which must be a PUBACK.
    pub async fn hear_puback(&mut self) -> u16 {
        match self.next_but_pings().await {
            Some(Packet::PubAck(ack)) => ack.pkid,
            other => panic!("unexpected: {other:?}"),
        }
    }

    /// Waits for the orderly end of the connection.
    pub async fn hear_disconnect(mut self) {
        let last = self.next_but_pings().await;
        assert!(matches!(last, Some(Packet::Disconnect(_))), "unexpected: {last:?}");
    }

    async fn next_but_pings(&mut self) -> Option<Packet> {
        loop {
            match self.next().await {
                Some(Packet::PingReq(_)) => self.say(Packet::PingResp(PingResp)).await,
                other => return other,
            }
        }
    }

    pub async fn say(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.say_bytes(&bytes).await;
    }

    async fn say_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Answers the CONNECT with these bytes, and returns it.
    pub async fn accept(&mut self, answer: &[u8]) -> Connect {
        let connect = match self.next().await {
            Some(Packet::Connect(connect, ..)) => connect,
            other => panic!("unexpected: {other:?}"),
        };
        self.say_bytes(answer).await;
        connect
    }

    /// The next packet, which must be a SUBSCRIBE. It is not answered.
    pub async fn hear_subscribe(&mut self) -> Subscribe {
        match self.next().await {
            Some(Packet::Subscribe(subscribe)) => subscribe,
            other => panic!("unexpected: {other:?}"),
        }
    }

    /// Grants the subscription that must come next.
    pub async fn grant(&mut self) {
        let asked = self.hear_subscribe().await;
        let return_codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce); asked.filters.len()];
        self.say(Packet::SubAck(SubAck { pkid: asked.pkid, return_codes, properties: None })).await;
    }

    pub async fn deliver(&mut self, pkid: u16, text: &str) {
        let publish = Publish { pkid, ..Publish::new("t/a", QoS::AtLeastOnce, text.to_owned(), None) };
        self.say(Packet::Publish(publish)).await;
    }
}
