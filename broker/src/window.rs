//! What both inboxes are made of: the messages that some reader still needs, and who needs them.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::inbox::{InboxError, Incoming, Message, ReadError};
use crate::recent::Recent;

/// What a held message costs beside its bytes.
const OVERHEAD: usize = size_of::<Entry>();

/// The window. One lock, taken once for a batch.
pub(crate) struct Window {
    state: Mutex<State>,
    /// Readers wait here for messages or the end.
    arrived: Notify,
    /// The driver waits here for releases.
    freed: Notify,
}

struct State {
    base: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    readers: Vec<Reader>,
    recent: Recent,
    max_ahead_ms: i64,
    closed: bool,
    /// Counts connections. A packet id means something on the connection it came by only.
    epoch: u32,
    acks: Vec<u16>,
    stale: u64,
}

struct Reader {
    name: String,
    /// What it has released, exclusive.
    mark: u64,
    note: Option<Bytes>,
}

struct Entry {
    incoming: Incoming,
    repeat: bool,
    epoch: u32,
    /// 0, which MQTT never uses: nothing to acknowledge.
    packet_id: u16,
}

impl Window {
    /// Positions begin at `first`; a device's time may be `max_ahead_ms` after its arrival.
    pub(crate) fn new(first: u64, max_ahead_ms: i64) -> Self {
        let state = State {
            base: first,
            entries: VecDeque::new(),
            bytes: 0,
            readers: Vec::new(),
            recent: Recent::default(),
            max_ahead_ms,
            closed: false,
            epoch: 0,
            acks: Vec::new(),
            stale: 0,
        };
        Self { state: Mutex::new(state), arrived: Notify::new(), freed: Notify::new() }
    }

    pub(crate) fn append(&self, incoming: Incoming) -> u64 {
        let position = {
            let mut state = self.lock();
            state.push(incoming, 0);
            state.end() - 1
        };
        self.arrived.notify_waiters();
        position
    }

    /// Appends a batch with the packet ids of the current connection; empties `batch`.
    pub(crate) fn append_batch(&self, batch: &mut Vec<(Incoming, u16)>) {
        if batch.is_empty() {
            return;
        }
        {
            let mut state = self.lock();
            for (incoming, packet_id) in batch.drain(..) {
                state.push(incoming, packet_id);
            }
        }
        self.arrived.notify_waiters();
    }

    pub(crate) fn attach(&self, reader: &str) -> Result<u64, InboxError> {
        if reader.is_empty() {
            return Err(InboxError::Nameless { reader: reader.to_owned() });
        }
        let mut state = self.lock();
        if let Some(known) = state.readers.iter().find(|r| r.name == reader) {
            return Ok(known.mark);
        }
        let mark = state.base;
        state.readers.push(Reader { name: reader.to_owned(), mark, note: None });
        Ok(mark)
    }

    pub(crate) fn note(&self, reader: &str) -> Option<Bytes> {
        self.lock().readers.iter().find(|r| r.name == reader)?.note.clone()
    }

    pub(crate) fn keep_note(&self, reader: &str, note: Bytes) -> Result<(), InboxError> {
        self.lock().reader(reader)?.note = Some(note);
        Ok(())
    }

    pub(crate) async fn read(&self, from: u64, max: usize, into: &mut Vec<Message>) -> Result<(), ReadError> {
        loop {
            let mut arrival = pin!(self.arrived.notified());
            {
                let state = self.lock();
                if state.copy(from, max.max(1), into) {
                    return Ok(());
                }
                if state.closed {
                    return Err(ReadError::Closed);
                }
                // Before the lock is given back, so that no arrival falls in between.
                arrival.as_mut().enable();
            }
            arrival.await;
        }
    }

    pub(crate) fn release(&self, reader: &str, up_to: u64) -> Result<(), InboxError> {
        let freed = self.lock().release(reader, up_to)?;
        if freed {
            self.freed.notify_one();
        }
        Ok(())
    }

    pub(crate) fn released(&self) -> u64 {
        self.lock().base
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Bytes held, with what each message costs beside its own.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_waiters();
    }

    /// Waits until something was released since the last call.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Begins a connection: what came by an earlier one can no longer be acknowledged.
    pub(crate) fn begin_epoch(&self) {
        let mut state = self.lock();
        state.epoch = state.epoch.wrapping_add(1);
        let lapsed = state.acks.len() as u64;
        state.stale += lapsed;
        state.acks.clear();
    }

    /// Moves the acknowledgements that became due to the end of `into`, in order of arrival;
    /// returns how many were dropped as stale since the last call.
    pub(crate) fn take_acks(&self, into: &mut Vec<u16>) -> u64 {
        let mut state = self.lock();
        into.append(&mut state.acks);
        std::mem::take(&mut state.stale)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    fn push(&mut self, incoming: Incoming, packet_id: u16) {
        self.bytes += incoming.topic.len() + incoming.payload.len() + OVERHEAD;
        let repeat = self.recent.note(&incoming.topic, &incoming.payload);
        self.entries.push_back(Entry { incoming, repeat, epoch: self.epoch, packet_id });
    }

    /// False when there is nothing at or after `from`.
    fn copy(&self, from: u64, max: usize, into: &mut Vec<Message>) -> bool {
        let from = from.max(self.base);
        if from >= self.end() {
            return false;
        }
        let skip = (from - self.base) as usize;
        let take = max.min(self.entries.len() - skip);
        let copies = self.entries.range(skip..skip + take).zip(from..);
        into.extend(copies.map(|(entry, position)| message(entry, position, self.max_ahead_ms)));
        true
    }

    fn reader(&mut self, name: &str) -> Result<&mut Reader, InboxError> {
        let found = self.readers.iter_mut().find(|r| r.name == name);
        found.ok_or_else(|| InboxError::Unattached { reader: name.to_owned() })
    }

    /// True when something was freed.
    fn release(&mut self, reader: &str, up_to: u64) -> Result<bool, InboxError> {
        let end = self.end();
        let known = self.reader(reader)?;
        if up_to > end {
            return Err(InboxError::BeyondEnd { reader: reader.to_owned(), up_to, end });
        }
        known.mark = up_to.max(known.mark);
        let all = self.readers.iter().map(|r| r.mark).min().unwrap_or(self.base);
        let freed = all > self.base;
        self.forget(all);
        Ok(freed)
    }

    fn forget(&mut self, up_to: u64) {
        let count = up_to.saturating_sub(self.base) as usize;
        for entry in self.entries.drain(..count) {
            self.bytes -= entry.incoming.topic.len() + entry.incoming.payload.len() + OVERHEAD;
            match entry.packet_id {
                0 => {}
                id if entry.epoch == self.epoch => self.acks.push(id),
                _ => self.stale += 1,
            }
        }
        self.base = self.base.max(up_to);
    }
}

fn message(Entry { incoming, repeat, .. }: &Entry, position: u64, max_ahead_ms: i64) -> Message {
    Message {
        position,
        topic: incoming.topic.clone(),
        payload: incoming.payload.clone(),
        received_at_ms: incoming.received_at_ms,
        latest_ts_ms: incoming.received_at_ms.saturating_add(max_ahead_ms),
        duplicate: incoming.duplicate,
        retained: incoming.retained,
        repeat: *repeat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(ids: &[u16]) -> Vec<(Incoming, u16)> {
        ids.iter().map(|id| (Incoming::new("t", "p", 0), *id)).collect()
    }

    fn acks(window: &Window) -> (Vec<u16>, u64) {
        let mut ids = Vec::new();
        let stale = window.take_acks(&mut ids);
        (ids, stale)
    }

    #[test]
    fn acknowledgements_come_in_order_of_arrival_and_once() {
        let window = Window::new(0, 0);
        window.attach("a").unwrap();
        window.append_batch(&mut batch(&[7, 3, 9]));
        window.release("a", 2).unwrap();
        assert_eq!(acks(&window), (vec![7, 3], 0));
        window.release("a", 3).unwrap();
        assert_eq!(acks(&window), (vec![9], 0));
        assert_eq!(acks(&window), (vec![], 0));
    }

    #[test]
    fn what_came_by_an_earlier_connection_is_never_acknowledged() {
        let window = Window::new(0, 0);
        window.attach("a").unwrap();
        window.append_batch(&mut batch(&[1, 2]));
        window.release("a", 1).unwrap();
        window.begin_epoch();
        window.append_batch(&mut batch(&[1, 2]));
        window.release("a", 3).unwrap();
        assert_eq!(acks(&window), (vec![1], 2), "one lapsed in the queue, one in the window");
    }

    #[tokio::test]
    async fn verdicts_are_taken_at_arrival_and_by_content() {
        let window = Window::new(0, 1_000);
        for (payload, duplicate) in [("a", false), ("b", true), ("a", false)] {
            window.append(Incoming { duplicate, ..Incoming::new("t", payload, 50) });
        }
        let mut read = Vec::new();
        window.read(0, 9, &mut read).await.unwrap();
        let verdicts: Vec<_> = read.iter().map(|m| (m.repeat, m.latest_ts_ms)).collect();
        assert_eq!(verdicts, [(false, 1_050), (false, 1_050), (true, 1_050)]);
    }

    #[test]
    fn quality_of_service_0_has_nothing_to_acknowledge_and_bytes_return_to_nothing() {
        let window = Window::new(5, 0);
        window.attach("a").unwrap();
        window.append_batch(&mut batch(&[0, 4]));
        assert!(window.bytes() >= 4);
        window.release("a", 7).unwrap();
        assert_eq!(acks(&window), (vec![4], 0));
        assert_eq!((window.bytes(), window.released()), (0, 7));
    }
}
