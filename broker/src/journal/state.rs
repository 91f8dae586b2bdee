//! What the journal knows, under one lock that is taken once a batch.

use std::collections::VecDeque;

use super::format::{self, Stored};
use super::prints::Memory;
use super::readers::Reader;
use super::recover::{Mended, Segment};
use super::{JournalOptions, JournalStats};
use crate::inbox::{InboxError, Incoming};
use crate::recent::Recent;

/// Bytes that may wait for their sync before no more is taken.
const MAX_PENDING: usize = 8 << 20;
/// A buffer that grew beyond this is not kept.
const KEEP_BUFFER: usize = 4 << 20;
/// Positions between two notes of an arrival.
const AGE_STEP: u64 = 512;

/// When messages arrived, for a sparse choice of positions.
#[derive(Debug, Default)]
pub(crate) struct Ages(VecDeque<(u64, i64)>);

impl Ages {
    pub(crate) fn note(&mut self, position: u64, received_at_ms: i64) {
        if self.0.back().is_none_or(|(last, _)| position >= last + AGE_STEP) {
            self.0.push_back((position, received_at_ms));
        }
    }

    /// Notes an arrival in any case: the first of a group.
    fn note_first(&mut self, position: u64, received_at_ms: i64) {
        self.0.push_back((position, received_at_ms));
    }

    fn forget_below(&mut self, position: u64) {
        while self.0.get(1).is_some_and(|(second, _)| *second <= position) {
            self.0.pop_front();
        }
    }

    fn oldest(&self) -> Option<i64> {
        self.0.front().map(|(_, at)| *at)
    }
}

/// What waits for its sync.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) bytes: Vec<u8>,
    /// The position of its first message.
    pub(crate) first: u64,
    /// The position after its last.
    pub(crate) end: u64,
}

/// A message that is not acknowledged yet.
#[derive(Debug, Clone, Copy)]
struct Unacked {
    position: u64,
    epoch: u32,
    packet_id: u16,
}

pub(crate) struct State {
    pub(crate) segments: VecDeque<Segment>,
    readers: Vec<Reader>,
    pub(crate) memory: Memory,
    ages: Ages,
    pending: Group,
    spare: Vec<u8>,
    /// The position of the next message.
    end: u64,
    /// Everything below is on disk.
    pub(crate) synced: u64,
    unacked: VecDeque<Unacked>,
    acks: Vec<u16>,
    stale: u64,
    epoch: u32,
    max_ahead_ms: i64,
    max_bytes: u64,
    /// A write is failing, and is tried again.
    pub(crate) failing: bool,
    /// The reserve is on the disk.
    pub(crate) reserved: bool,
    pub(crate) closed: bool,
    pub(crate) stopping: bool,
    pub(crate) has_history: bool,
    first_of_run: u64,
    repeats: u64,
    pub(crate) write_errors: u64,
    mended: Mended,
}

impl State {
    pub(crate) fn new(
        options: &JournalOptions,
        segments: Vec<Segment>,
        readers: Vec<Reader>,
        memory: Memory,
        ages: Ages,
        end: u64,
        mended: Mended,
    ) -> Self {
        let mut state = Self {
            segments: segments.into(),
            readers,
            memory,
            ages,
            pending: Group::default(),
            spare: Vec::new(),
            end,
            synced: end,
            unacked: VecDeque::new(),
            acks: Vec::new(),
            stale: 0,
            epoch: 0,
            max_ahead_ms: options.max_ahead_ms,
            max_bytes: options.max_bytes,
            failing: false,
            reserved: false,
            closed: false,
            stopping: false,
            has_history: end > 0,
            first_of_run: end,
            repeats: 0,
            write_errors: 0,
            mended,
        };
        state.ages.forget_below(state.released());
        state
    }

    /// Appends a batch; true if nothing was waiting before.
    pub(crate) fn append(&mut self, batch: &mut Vec<(Incoming, u16)>) -> bool {
        let was_idle = self.pending.bytes.is_empty();
        for (incoming, packet_id) in batch.drain(..) {
            let position = self.push(&incoming);
            if packet_id != 0 {
                self.unacked.push_back(Unacked { position, epoch: self.epoch, packet_id });
            }
        }
        was_idle
    }

    /// Appends a message; its position.
    pub(crate) fn push(&mut self, incoming: &Incoming) -> u64 {
        let position = self.end;
        if self.pending.bytes.is_empty() {
            self.pending.first = position;
            self.ages.note_first(position, incoming.received_at_ms);
        }
        let repeat = self.memory.note(Recent::print(&incoming.topic, &incoming.payload), position);
        self.repeats += u64::from(repeat);
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(incoming.duplicate, format::DUPLICATE) | flag(incoming.retained, format::RETAINED) | flag(repeat, format::REPEAT);
        let message = Stored {
            position,
            flags,
            received_at_ms: incoming.received_at_ms,
            latest_ts_ms: incoming.received_at_ms.saturating_add(self.max_ahead_ms),
            topic: &incoming.topic,
            payload: &incoming.payload,
        };
        format::put_message(&mut self.pending.bytes, &message);
        self.end += 1;
        self.pending.end = self.end;
        position
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.bytes.len()
    }

    /// Takes what waits for its sync; none if nothing does.
    pub(crate) fn take_group(&mut self) -> Option<Group> {
        if self.pending.bytes.is_empty() {
            return None;
        }
        let next = Group { bytes: std::mem::take(&mut self.spare), first: self.end, end: self.end };
        Some(std::mem::replace(&mut self.pending, next))
    }

    /// A group is on disk: its messages can be read, and their acknowledgements are due.
    pub(crate) fn settle(&mut self, mut group: Group) {
        self.synced = group.end;
        while let Some(first) = self.unacked.front().filter(|u| u.position < group.end).copied() {
            self.unacked.pop_front();
            if first.epoch == self.epoch {
                self.acks.push(first.packet_id);
            } else {
                self.stale += 1;
            }
        }
        if group.bytes.capacity() <= KEEP_BUFFER {
            group.bytes.clear();
            self.spare = group.bytes;
        }
    }

    pub(crate) fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.stale += self.acks.len() as u64;
        self.acks.clear();
    }

    pub(crate) fn take_acks(&mut self, into: &mut Vec<u16>) -> u64 {
        into.append(&mut self.acks);
        std::mem::take(&mut self.stale)
    }

    /// Where a message at or after `from` can be read: its position, and its segment as far as it is on disk.
    pub(crate) fn find(&self, from: u64) -> Option<(u64, Segment)> {
        // What all have released may be deleted at any moment.
        let from = from.max(self.released());
        let at = self.segments.partition_point(|s| s.end <= from);
        let segment = self.segments.range(at..).find(|s| s.first < s.end)?;
        let from = from.max(segment.first);
        (from < self.synced).then(|| (from, segment.clone()))
    }

    /// Nothing is left to be read, and nothing will come.
    pub(crate) fn is_ended(&self) -> bool {
        self.closed && self.synced == self.end
    }

    #[cfg(test)]
    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.end
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.synced == self.end && self.acks.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.failing || !self.reserved || self.pending.bytes.len() >= MAX_PENDING || self.unreleased_bytes() >= self.max_bytes
    }

    /// Bytes that some reader still needs; a segment that is released in part counts in part.
    fn unreleased_bytes(&self) -> u64 {
        let released = self.released();
        let needed = |s: &Segment| {
            let (all, left) = ((s.end - s.first).max(1), s.end.saturating_sub(released.max(s.first)));
            (s.len as f64 * (left as f64 / all as f64)) as u64
        };
        self.segments.iter().rev().take_while(|s| s.end > released).map(needed).sum()
    }

    pub(crate) fn attach(&mut self, name: &str) -> u64 {
        if let Some(known) = self.readers.iter().find(|r| r.name == name) {
            return known.mark;
        }
        let mark = self.released();
        self.readers.push(Reader { name: name.to_owned(), mark, note: None, durable: mark, dirty: true });
        mark
    }

    pub(crate) fn reader(&mut self, name: &str) -> Result<&mut Reader, InboxError> {
        let found = self.readers.iter_mut().find(|r| r.name == name);
        found.ok_or_else(|| InboxError::Unattached { reader: name.to_owned() })
    }

    pub(crate) fn readers(&self) -> &[Reader] {
        &self.readers
    }

    /// True when something was released by all.
    pub(crate) fn release(&mut self, name: &str, up_to: u64) -> Result<bool, InboxError> {
        let (end, before) = (self.end, self.released());
        let known = self.reader(name)?;
        if up_to > end {
            return Err(InboxError::BeyondEnd { reader: name.to_owned(), up_to, end });
        }
        known.dirty |= up_to > known.mark;
        known.mark = up_to.max(known.mark);
        let released = self.released();
        self.ages.forget_below(released);
        Ok(released > before)
    }

    /// The first position that some reader still needs; without readers, the oldest held.
    pub(crate) fn released(&self) -> u64 {
        let oldest = || self.segments.front().map_or(self.synced, |s| s.first);
        self.readers.iter().map(|r| r.mark).min().unwrap_or_else(oldest)
    }

    /// Everything below is released, and would be after a crash.
    pub(crate) fn durably_released(&self) -> u64 {
        self.readers.iter().map(|r| r.durable).min().unwrap_or(0)
    }

    /// The position of the next message.
    #[cfg(test)]
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn held(&self) -> u64 {
        self.end - self.released().min(self.end)
    }

    pub(crate) fn stats(&self) -> JournalStats {
        let held = self.held();
        JournalStats {
            appended: self.end - self.first_of_run,
            synced: self.synced - self.first_of_run,
            repeats: self.repeats,
            bytes: self.segments.iter().map(|s| s.len).sum(),
            segments: self.segments.len() as u64,
            held,
            oldest_unreleased_ms: if held > 0 { self.ages.oldest() } else { None },
            full: self.is_full(),
            write_errors: self.write_errors,
            torn_bytes: self.mended.torn_bytes,
            damaged_bytes: self.mended.damaged_bytes,
            fsync: Default::default(),
        }
    }
}
