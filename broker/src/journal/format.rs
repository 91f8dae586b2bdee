//! The bytes of a segment: a header, then records, little endian.
//!
//! ```text
//! header   magic 8 | writer 8 | first position u64 | xxh3 of these u64
//! record   length of the body u32 | xxh3 of the body, seeded by its length u64 | body
//! message  1 | flags u8 | length of the topic u16 | position u64 | received_at i64 | latest_ts i64 | topic | payload
//! mark     2 | synced u64      everything below this position was on disk when the mark was written
//! gap      3 | to u64          positions below this one were lost to damage, and moved aside on request
//! ```

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: &[u8; 8] = b"HWJRNL01";
/// Bytes of a segment's header.
pub(crate) const HEADER: usize = 32;
/// Bytes before a record's body.
pub(crate) const PREFIX: usize = 12;
/// Bytes of a message's body before its topic.
const FIXED: usize = 28;
/// The longest body: the largest MQTT packet and our own fields.
const MAX_BODY: usize = (256 << 20) + (1 << 16) + FIXED;

const MESSAGE: u8 = 1;
const MARK: u8 = 2;
const GAP: u8 = 3;

/// The broker says it may have sent this before.
pub(crate) const DUPLICATE: u8 = 1;
/// The broker had kept this.
pub(crate) const RETAINED: u8 = 2;
/// The same content came before.
pub(crate) const REPEAT: u8 = 4;

/// A message as it lies in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    pub(crate) position: u64,
    pub(crate) flags: u8,
    pub(crate) received_at_ms: i64,
    pub(crate) latest_ts_ms: i64,
    pub(crate) topic: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Message(Stored<'a>),
    Mark { synced: u64 },
    Gap { to: u64 },
}

/// What lies at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// A whole record of so many bytes.
    Whole(Record<'a>, usize),
    /// The record goes on beyond these bytes: it needs so many in all.
    Short(usize),
    /// No record begins here.
    Bad(&'static str),
}

/// The header of a segment.
pub(crate) fn header(writer: [u8; 8], first: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&writer);
    bytes[16..24].copy_from_slice(&first.to_le_bytes());
    let sum = xxh3_64(&bytes[..24]);
    bytes[24..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Adds a message to the end of `to`.
pub(crate) fn put_message(to: &mut Vec<u8>, message: &Stored<'_>) {
    let topic_len = u16::try_from(message.topic.len()).unwrap_or(u16::MAX);
    let topic = &message.topic[..usize::from(topic_len)];
    put(to, FIXED + topic.len() + message.payload.len(), |to| {
        to.extend_from_slice(&[MESSAGE, message.flags]);
        to.extend_from_slice(&topic_len.to_le_bytes());
        to.extend_from_slice(&message.position.to_le_bytes());
        to.extend_from_slice(&message.received_at_ms.to_le_bytes());
        to.extend_from_slice(&message.latest_ts_ms.to_le_bytes());
        to.extend_from_slice(topic);
        to.extend_from_slice(message.payload);
    });
}

/// Adds a mark to the end of `to`.
pub(crate) fn put_mark(to: &mut Vec<u8>, synced: u64) {
    put_number(to, MARK, synced);
}

/// Adds a gap to the end of `to`.
pub(crate) fn put_gap(to: &mut Vec<u8>, up_to: u64) {
    put_number(to, GAP, up_to);
}

fn put_number(to: &mut Vec<u8>, kind: u8, number: u64) {
    put(to, 9, |to| {
        to.push(kind);
        to.extend_from_slice(&number.to_le_bytes());
    });
}

fn put(to: &mut Vec<u8>, len: usize, body: impl FnOnce(&mut Vec<u8>)) {
    let start = to.len();
    to.reserve(PREFIX + len);
    // A body is at most MAX_BODY, far below 4 GiB.
    to.extend_from_slice(&(len as u32).to_le_bytes());
    to.extend_from_slice(&[0; 8]);
    body(to);
    let sum = sum(&to[start + PREFIX..]);
    to[start + 4..start + PREFIX].copy_from_slice(&sum.to_le_bytes());
}

fn sum(body: &[u8]) -> u64 {
    xxh3_64_with_seed(body, body.len() as u64)
}

/// How many bytes the record at the start of `bytes` has, as far as can be told; `None` if it cannot be one.
pub(crate) fn step_len(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < PREFIX {
        return Some(PREFIX);
    }
    let len = u32_at(bytes, 0) as usize;
    (9..=MAX_BODY).contains(&len).then_some(PREFIX + len)
}

/// The record at the start of `bytes`.
pub(crate) fn step(bytes: &[u8]) -> Step<'_> {
    let Some((prefix, rest)) = bytes.split_at_checked(PREFIX) else { return Step::Short(PREFIX) };
    let len = u32_at(prefix, 0) as usize;
    if !(9..=MAX_BODY).contains(&len) {
        return Step::Bad("a length that no record has");
    }
    let Some(kind) = rest.first() else { return Step::Short(PREFIX + len) };
    if !matches!((*kind, len), (MESSAGE, FIXED..) | (MARK | GAP, 9)) {
        return Step::Bad("a kind that no record has");
    }
    let Some(body) = rest.get(..len) else { return Step::Short(PREFIX + len) };
    if sum(body) != u64_at(prefix, 4) {
        return Step::Bad("bytes that do not match their sum");
    }
    match record(body) {
        Some(record) => Step::Whole(record, PREFIX + len),
        None => Step::Bad("a topic longer than its record"),
    }
}

fn record(body: &[u8]) -> Option<Record<'_>> {
    Some(match body[0] {
        MARK => Record::Mark { synced: u64_at(body, 1) },
        GAP => Record::Gap { to: u64_at(body, 1) },
        _ => {
            let topic_len = usize::from(u16::from_le_bytes([body[2], body[3]]));
            let (topic, payload) = body[FIXED..].split_at_checked(topic_len)?;
            Record::Message(Stored {
                position: u64_at(body, 4),
                flags: body[1],
                received_at_ms: u64_at(body, 12).cast_signed(),
                latest_ts_ms: u64_at(body, 20).cast_signed(),
                topic,
                payload,
            })
        }
    })
}

/// A header that is whole, but of another journal: nothing is damaged, the folder holds what it should not.
pub(crate) const FOREIGN: &str = "a segment of another journal";

/// Whether these bytes are the header of a segment of `writer` that begins at `first`; what is wrong otherwise.
pub(crate) fn check_header(bytes: &[u8], writer: [u8; 8], first: u64) -> Result<(), &'static str> {
    let Some(found) = bytes.get(..HEADER) else { return Err("less than a header") };
    let is_whole = found[..8] == *MAGIC && xxh3_64(&found[..24]) == u64_at(found, 24);
    match is_whole {
        true if found == header(writer, first) => Ok(()),
        true if found[8..16] != writer => Err(FOREIGN),
        _ => Err("a damaged header"),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}
