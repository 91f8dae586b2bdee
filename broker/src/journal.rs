//! The journal: an append-only log on local disk in which messages wait, acknowledged to the broker, until every reader has released them.
//!
//! ```text
//! {dir}/id.json                  the journal's own name, for ever
//! {dir}/{first position}.seg     messages; see `format`
//! {dir}/recent                   contents of messages whose segments are gone, to know their redeliveries
//! {dir}/readers/{name}           what a reader has released, and its note
//! {dir}/reserve                  room kept aside, so that on a full disk readers can still release
//! {dir}/subscription             what the broker has granted to the session
//! {dir}/damaged/…                what was moved aside on request
//! ```
//!
//! A thread of its own writes what has come since its last write as one group and syncs it: what arrives meanwhile is the next group.
//! Acknowledgements become due, and readers see a message, when the sync that covers it has returned.

mod disk;
#[cfg(test)]
mod forgetful;
mod format;
mod options;
mod prints;
mod readers;
mod recover;
mod reserve;
mod scan;
mod state;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};

use crate::inbox::{Inbox, InboxError, Incoming, Message, ReadError};
use crate::latency::LatencyView;
use crate::shelf::Shelf;

use disk::{Disk, DiskFile, Local};
use format::{HEADER, Record, Step, Stored};
use readers::Reader;
use recover::{Recovery, Segment};
use state::State;
use sync::Shared;

pub use options::{JournalError, JournalOptions};

/// The file of what the session was granted.
const SUBSCRIPTION: &str = "subscription";
/// Bytes read for a reader at once.
const PIECE: usize = 512 << 10;

/// The counters of a journal at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JournalStats {
    /// Messages appended since it was opened.
    pub appended: u64,
    /// Of these, messages that are safe on disk.
    pub synced: u64,
    /// Messages whose content came before.
    pub repeats: u64,
    /// Size of the segments on disk, bytes.
    pub bytes: u64,
    /// How many segments there are.
    pub segments: u64,
    /// Messages that some reader has not released.
    pub held: u64,
    /// When the oldest of these arrived, milliseconds since 1970 UTC; accurate to the group it was written with.
    pub oldest_unreleased_ms: Option<i64>,
    /// Nothing more is taken for now: the size limit is reached, or the disk is full or failing.
    pub full: bool,
    /// Writes or syncs that failed and were made again.
    pub write_errors: u64,
    /// Bytes of unfinished records cut off when it was opened.
    pub torn_bytes: u64,
    /// Bytes moved aside as damaged when it was opened.
    pub damaged_bytes: u64,
    /// How long a sync took.
    pub fsync: LatencyView,
}

/// A journal on the local disk. Opening it twice is refused. Dropping it syncs what it holds.
pub struct Journal {
    core: Core<Local>,
    _lock: fs::File,
}

/// A journal on any disk.
pub(crate) struct Core<D: Disk> {
    shared: Arc<Shared<D>>,
    /// Where each reader goes on reading.
    cursors: Mutex<HashMap<String, Cursor<D::File>>>,
    id: [u8; 8],
    thread: Option<JoinHandle<()>>,
}

/// A place in a segment.
struct Cursor<F> {
    position: u64,
    segment: u64,
    offset: u64,
    file: Arc<F>,
}

impl<F> Clone for Cursor<F> {
    fn clone(&self) -> Self {
        Self { file: self.file.clone(), ..*self }
    }
}

pub(crate) fn io_error(doing: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { doing, path: path.to_owned(), source }
}

impl Journal {
    /// Opens the journal in the options' folder, or makes one there. Blocks while it checks what an earlier run left.
    ///
    /// # Errors
    /// [`JournalError`]: another process has it, the disk fails, or it is damaged and the options do not say to go on.
    pub fn open(options: JournalOptions) -> Result<Self, JournalError> {
        options.check().map_err(JournalError::Options)?;
        fs::create_dir_all(&options.dir).map_err(|e| io_error("make", &options.dir, e))?;
        let path = options.dir.join("lock");
        let lock = fs::File::create(&path).map_err(|e| io_error("make", &path, e))?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(fs::TryLockError::WouldBlock) => return Err(JournalError::Locked { dir: options.dir }),
            Err(fs::TryLockError::Error(e)) => return Err(io_error("lock", &path, e)),
        }
        Ok(Self { core: Core::open(Local, options)?, _lock: lock })
    }

    /// The journal's own name, minted when it was made.
    pub fn id(&self) -> [u8; 8] {
        self.core.id
    }

    /// The counters.
    pub fn stats(&self) -> JournalStats {
        self.core.stats()
    }
}

impl<D: Disk> Core<D> {
    pub(crate) fn open(disk: D, options: JournalOptions) -> Result<Self, JournalError> {
        let dir = options.dir.clone();
        disk.create_dir_all(&dir.join("readers")).map_err(|e| io_error("make", &dir, e))?;
        let id = identity(&disk, &dir, options.new_id)?;
        let mut readers = load_readers(&disk, &dir.join("readers"))?;
        let (mut memory, known_to) = load_memory(&disk, &dir)?;
        let forgotten = readers.iter().map(|r| r.durable).min().unwrap_or(0);
        let mut recovery = Recovery { disk: &disk, dir: &dir, writer: id, skip_damaged: options.skip_damaged, mended: Default::default() };
        let mut ages = state::Ages::default();
        let segments = recovery.run(forgotten, &mut |m| {
            memory.note(crate::Recent::print(m.topic, m.payload), m.position);
            ages.note(m.position, m.received_at_ms);
        })?;
        let mended = recovery.mended;
        let last = segments.last().map_or(0, |s| s.end);
        let end = readers.iter().map(|r| r.mark).chain([last, known_to]).max().unwrap_or(0);
        let oldest = segments.first().map_or(end, |s| s.first);
        readers.iter_mut().for_each(|r| r.mark = r.mark.max(oldest));
        let state = State::new(&options, segments, readers, memory, ages, end, mended);
        let shared = Arc::new(Shared::new(disk, options, state, id));
        if let Err(error) = shared.keep_reserve() {
            tracing::warn!(dir = %dir.display(), %error, "journal: no room for the reserve; nothing is taken until there is");
        }
        let writing = shared.clone();
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writing.run())
            .map_err(|e| io_error("start the thread of", &dir, e))?;
        Ok(Self { shared, cursors: Mutex::default(), id, thread: Some(thread) })
    }

    pub(crate) fn stats(&self) -> JournalStats {
        let mut stats = self.shared.lock().stats();
        stats.fsync = self.shared.fsync.view();
        stats
    }

    fn cursors(&self) -> MutexGuard<'_, HashMap<String, Cursor<D::File>>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a message at or after `from` can be read; its position, segment and how far it may be read.
    async fn readable(&self, from: u64) -> Result<(u64, Segment), ReadError> {
        loop {
            let mut arrival = pin!(self.shared.arrived.notified());
            {
                let state = self.shared.lock();
                if let Some(found) = state.find(from) {
                    return Ok(found);
                }
                if state.is_ended() {
                    return Err(ReadError::Closed);
                }
                // Before the lock is given back, so that no arrival falls in between.
                arrival.as_mut().enable();
            }
            arrival.await;
        }
    }

    async fn read(&self, reader: &str, from: u64, max: usize, into: &mut Vec<Message>) -> Result<(), ReadError> {
        let before = into.len();
        let mut from = from;
        loop {
            let (position, segment) = self.readable(from).await?;
            let known = self.cursors().get(reader).filter(|c| c.position == position && c.segment == segment.first).cloned();
            let shared = self.shared.clone();
            let (max, end) = (max.max(1), segment.end);
            let piece = tokio::task::spawn_blocking(move || read_piece(&shared, known, &segment, position, max));
            let (messages, cursor) = piece.await.map_err(|e| unreadable("the journal", &e))??;
            // Past a gap there may be no message left in this segment.
            from = if messages.is_empty() { end } else { cursor.position };
            into.extend(messages);
            self.cursors().insert(reader.to_owned(), cursor);
            if into.len() > before {
                return Ok(());
            }
        }
    }

    async fn keep_note(&self, reader: &str, note: Bytes) -> Result<(), InboxError> {
        self.shared.lock().reader(reader)?.note = Some(note);
        let (shared, name) = (self.shared.clone(), reader.to_owned());
        let kept = tokio::task::spawn_blocking(move || shared.keep_reader(&name)).await;
        let not_kept = |reason: String| InboxError::NotKept { reader: reader.to_owned(), reason };
        kept.map_err(|e| not_kept(e.to_string()))?.map_err(|e| not_kept(e.to_string()))
    }

    fn attach(&self, reader: &str) -> Result<u64, InboxError> {
        if !Reader::good_name(reader) {
            return Err(InboxError::Nameless { reader: reader.to_owned() });
        }
        Ok(self.shared.lock().attach(reader))
    }

    fn release(&self, reader: &str, up_to: u64) -> Result<(), InboxError> {
        let mut state = self.shared.lock();
        if state.release(reader, up_to)? {
            drop(state);
            self.shared.work.notify_one();
            self.shared.freed.notify_one();
        }
        Ok(())
    }

    pub(crate) fn append_batch(&self, batch: &mut Vec<(Incoming, u16)>) {
        if batch.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        let was_idle = state.append(batch);
        let is_big = state.pending_bytes() >= self.shared.options.sync_bytes;
        drop(state);
        if was_idle || is_big {
            self.shared.work.notify_one();
        }
    }

    fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
        self.shared.arrived.notify_waiters();
    }
}

impl<D: Disk> Drop for Core<D> {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            _ = thread.join(); // A thread that panicked has nothing left to say.
        }
    }
}

/// The journal's name: that of its file, or `new` in a new journal.
fn identity<D: Disk>(disk: &D, dir: &Path, new: [u8; 8]) -> Result<[u8; 8], JournalError> {
    const NAME: &str = "id.json";
    let path = dir.join(NAME);
    match disk::read_all(disk, &path) {
        Ok(text) => options::parse_identity(&text).map_err(|found| JournalError::Foreign { path, found }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // Segments without a name would be read as another journal's.
            let orphan = disk.list(dir).map_err(|e| io_error("list", dir, e))?.into_iter().find(|name| name.ends_with(".seg"));
            if let Some(name) = orphan {
                return Err(JournalError::Foreign { path, found: format!("nothing, though {name} is there") });
            }
            disk::replace(disk, dir, NAME, &[options::identity_text(new).as_bytes()]).map_err(|e| io_error("write", &path, e))?;
            Ok(new)
        }
        Err(e) => Err(io_error("read", &path, e)),
    }
}

fn load_readers<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<Reader>, JournalError> {
    let names = disk.list(dir).map_err(|e| io_error("list", dir, e))?;
    let load = |name: String| {
        let path = dir.join(&name);
        let bytes = disk::read_all(disk, &path).map_err(|e| io_error("read", &path, e))?;
        let damaged = || JournalError::Foreign { path: path.clone(), found: "bytes that do not match their sum".into() };
        Reader::from_file(&name, &bytes).ok_or_else(damaged)
    };
    names.into_iter().filter(|name| Reader::good_name(name)).map(load).collect()
}

/// What is remembered of deleted segments; a damaged file costs redeliveries their recognition, nothing else.
fn load_memory<D: Disk>(disk: &D, dir: &Path) -> Result<(prints::Memory, u64), JournalError> {
    let path = dir.join(sync::RECENT);
    match disk::read_all(disk, &path) {
        Ok(bytes) => Ok(prints::Memory::from_file(&bytes).unwrap_or_else(|| {
            tracing::warn!(file = %path.display(), "journal: damaged, ignored: redeliveries of what was released are not recognised");
            Default::default()
        })),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Default::default()),
        Err(e) => Err(io_error("read", &path, e)),
    }
}

fn unreadable(place: impl Into<String>, found: &impl ToString) -> ReadError {
    ReadError::Unreadable { place: place.into(), found: found.to_string() }
}

type Piece<F> = (Vec<Message>, Cursor<F>);

/// Reads messages from `position` on, at most `max` and at most a piece's bytes, and where the next ones lie or will lie.
fn read_piece<D: Disk>(
    shared: &Shared<D>,
    known: Option<Cursor<D::File>>,
    segment: &Segment,
    position: u64,
    max: usize,
) -> Result<Piece<D::File>, ReadError> {
    let path = shared.options.dir.join(Segment::name(segment.first));
    let failed = |e: io::Error| unreadable(path.display().to_string(), &e);
    let mut cursor = match known {
        Some(cursor) => cursor,
        None => {
            let file = Arc::new(shared.disk.open(&path).map_err(failed)?);
            Cursor { position: segment.first, segment: segment.first, offset: HEADER as u64, file }
        }
    };
    let mut messages = Vec::new();
    let mut need = PIECE;
    while messages.is_empty() && cursor.offset < segment.len && cursor.position < segment.end {
        let piece = load(&*cursor.file, cursor.offset, segment.len, need).map_err(failed)?;
        let before = cursor.offset;
        let short = take(&piece, &mut cursor, position, segment.end, max, &mut messages)
            .map_err(|found| unreadable(format!("{}, offset {}", path.display(), before), &found))?;
        need = short.unwrap_or(PIECE).max(PIECE);
        if cursor.offset == before && short.is_none_or(|n| n <= piece.len()) {
            return Err(unreadable(format!("{}, offset {before}", path.display()), &"an unfinished record"));
        }
    }
    Ok((messages, cursor))
}

fn load<F: DiskFile>(file: &F, offset: u64, end: u64, want: usize) -> io::Result<Bytes> {
    let there = usize::try_from(end - offset).unwrap_or(usize::MAX);
    let mut piece = BytesMut::zeroed(want.min(there));
    file.read_exact_at(&mut piece, offset)?;
    Ok(piece.freeze())
}

/// Takes the records of a piece; the length of one that goes on beyond it.
fn take<F>(
    piece: &Bytes,
    cursor: &mut Cursor<F>,
    from: u64,
    end: u64,
    max: usize,
    into: &mut Vec<Message>,
) -> Result<Option<usize>, &'static str> {
    let mut at = 0;
    while at < piece.len() && into.len() < max && cursor.position < end {
        match format::step(&piece[at..]) {
            Step::Whole(record, taken) => {
                match record {
                    Record::Message(m) => {
                        if m.position >= from {
                            into.push(message(&m, piece));
                        }
                        cursor.position = m.position + 1;
                    }
                    Record::Gap { to } => cursor.position = to,
                    Record::Mark { .. } => (),
                }
                at += taken;
                cursor.offset += taken as u64;
            }
            Step::Short(need) => return Ok(Some(need)),
            Step::Bad(found) => return Err(found),
        }
    }
    Ok(None)
}

fn message(m: &Stored<'_>, piece: &Bytes) -> Message {
    Message {
        position: m.position,
        topic: piece.slice_ref(m.topic),
        payload: piece.slice_ref(m.payload),
        received_at_ms: m.received_at_ms,
        latest_ts_ms: m.latest_ts_ms,
        duplicate: m.flags & format::DUPLICATE != 0,
        retained: m.flags & format::RETAINED != 0,
        repeat: m.flags & format::REPEAT != 0,
    }
}

impl Inbox for Journal {
    fn append(&self, incoming: Incoming) -> u64 {
        self.core.shared.append_one(incoming)
    }
    fn attach(&self, reader: &str) -> Result<u64, InboxError> {
        self.core.attach(reader)
    }
    fn read(&self, reader: &str, from: u64, max: usize, into: &mut Vec<Message>) -> impl Future<Output = Result<(), ReadError>> + Send {
        self.core.read(reader, from, max, into)
    }
    fn release(&self, reader: &str, up_to: u64) -> Result<(), InboxError> {
        self.core.release(reader, up_to)
    }
    fn note(&self, reader: &str) -> Option<Bytes> {
        self.core.shared.lock().reader(reader).ok()?.note.clone()
    }
    fn keep_note(&self, reader: &str, note: Bytes) -> impl Future<Output = Result<(), InboxError>> + Send {
        self.core.keep_note(reader, note)
    }
    fn released(&self) -> u64 {
        self.core.shared.lock().released()
    }
    fn len(&self) -> usize {
        usize::try_from(self.core.shared.lock().held()).unwrap_or(usize::MAX)
    }
    fn close(&self) {
        self.core.close();
    }
}

impl Shelf for Journal {
    fn append_batch(&self, batch: &mut Vec<(Incoming, u16)>) {
        self.core.append_batch(batch);
    }
    fn begin_epoch(&self) {
        self.core.shared.lock().begin_epoch();
    }
    fn take_acks(&self, into: &mut Vec<u16>) -> u64 {
        self.core.shared.lock().take_acks(into)
    }
    fn is_full(&self, _max_bytes: usize) -> bool {
        self.core.shared.lock().is_full()
    }
    fn is_settled(&self) -> bool {
        self.core.shared.lock().is_settled()
    }
    fn has_history(&self) -> bool {
        self.core.shared.lock().has_history
    }
    fn subscription(&self) -> Option<String> {
        let bytes = disk::read_all(&Local, &self.core.shared.options.dir.join(SUBSCRIPTION)).ok()?;
        String::from_utf8(bytes).ok()
    }
    fn keep_subscription(&self, granted: &str) {
        if let Err(error) = disk::replace(&Local, &self.core.shared.options.dir, SUBSCRIPTION, &[granted.as_bytes()]) {
            tracing::debug!(%error, "journal: what the session was granted cannot be kept");
        }
    }
    async fn freed(&self) {
        self.core.shared.freed.notified().await;
    }
}

/// For fuzzing: what the reader of segments makes of arbitrary bytes.
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing {
    use std::io;

    use super::disk::DiskFile;
    use super::format::HEADER;
    use super::recover::scan_records;
    use super::scan::{Found, Scanner};

    /// Bytes as a file.
    struct Memory(Vec<u8>);

    impl DiskFile for Memory {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
            let n = rest.len().min(buf.len());
            buf[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        }
        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Scans `bytes` as a segment's records, then looks for whole records at every byte as `--skip-damaged` does; how many there were in all.
    pub fn read_segment(bytes: &[u8]) -> usize {
        let file = Memory([vec![0; HEADER], bytes.to_vec()].concat());
        let len = file.0.len() as u64;
        let mut seen = 0;
        _ = scan_records(&file, 0, None, len, &mut |_| seen += 1);
        let mut scanner = Scanner::new(&file, HEADER as u64, len);
        loop {
            let found = scanner.next().map(|found| (matches!(found, Found::Record(_)), found == Found::End));
            match found {
                Ok((true, _)) => seen += 1,
                Ok((false, false)) if scanner.offset() < len => scanner.skip_byte(),
                _ => return seen,
            }
        }
    }
}
