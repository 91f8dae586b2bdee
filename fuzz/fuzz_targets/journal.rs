//! Any bytes as the records of a journal's segment, as read on opening and as searched by `--skip-damaged`. What is counted must be what
//! a second reader counts that knows nothing but the format's table: no buffer, no pieces. So must it be when the end is torn off.
//!
//! Random bytes never match a sum, so a sum of zeros is put right first: with seeds of such records, changes reach beyond the sums.
#![no_main]

use homeward_broker::fuzzing::read_segment;
use libfuzzer_sys::fuzz_target;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes before a record's body.
const PREFIX: usize = 12;
/// Bytes of a message's body before its topic.
const FIXED: usize = 28;
/// Bytes of a mark's or a gap's body.
const NUMBER: usize = 9;

fuzz_target!(|bytes: &[u8]| {
    let segment = sealed(bytes);
    check(&segment);
    if let Some(torn) = bytes.last() {
        check(&segment[..segment.len().saturating_sub(usize::from(*torn))]);
    }
});

fn check(segment: &[u8]) {
    let seen = read_segment(segment);
    assert_eq!(seen, in_order(segment) + anywhere(segment));
    // No record is shorter than a mark, and only messages are counted twice.
    assert!(seen <= segment.len() / (PREFIX + NUMBER) + segment.len() / (PREFIX + FIXED));
}

/// `bytes` with the right sum wherever the lengths lead to a record whose sum is zero.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    let mut at = 0;
    while let Some(len) = len(&all[at..]) {
        let body = at + PREFIX;
        if all[at + 4..body] == [0; 8] {
            let sum = sum(&all[body..body + len]);
            all[at + 4..body].copy_from_slice(&sum.to_le_bytes());
        }
        at = body + len;
    }
    all
}

/// The length of the body of the record that begins here, if it ends here too.
fn len(bytes: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    (bytes.len() >= PREFIX + len).then_some(len)
}

fn sum(body: &[u8]) -> u64 {
    xxh3_64_with_seed(body, body.len() as u64)
}

/// A record by its number: a message's position, what a mark or a gap says.
enum Record {
    Message(u64),
    Mark(u64),
    Gap(u64),
}

/// The whole record at the start of `bytes`, and its length.
fn record(bytes: &[u8]) -> Option<(Record, usize)> {
    let len = len(bytes)?;
    let body = &bytes[PREFIX..PREFIX + len];
    let number = |at: usize| body[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let record = match body.first()? {
        1 if len >= FIXED && FIXED + usize::from(u16::from_le_bytes([body[2], body[3]])) <= len => Record::Message(number(4)?),
        2 if len == NUMBER => Record::Mark(number(1)?),
        3 if len == NUMBER => Record::Gap(number(1)?),
        _ => return None,
    };
    (bytes[4..PREFIX] == sum(body).to_le_bytes()).then_some((record, PREFIX + len))
}

/// How many messages follow each other from position 0 at the start.
fn in_order(mut bytes: &[u8]) -> usize {
    let (mut end, mut messages) = (0, 0);
    while let Some((record, taken)) = record(bytes) {
        match record {
            Record::Message(position) if position == end && end < u64::MAX => {
                messages += 1;
                end += 1;
            }
            Record::Mark(synced) if synced <= end => (),
            Record::Gap(to) if to >= end => end = to,
            _ => break,
        }
        bytes = &bytes[taken..];
    }
    messages
}

/// How many whole records there are, each looked for where the one before ended, or a byte further.
fn anywhere(mut bytes: &[u8]) -> usize {
    let mut records = 0;
    while !bytes.is_empty() {
        let taken = record(bytes).map(|(_, taken)| taken);
        records += usize::from(taken.is_some());
        bytes = &bytes[taken.unwrap_or(1)..];
    }
    records
}
