//! The journal's own thread: writes groups, syncs them, keeps readers' files, deletes what all have released.

use std::io;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::JournalOptions;
use super::disk::{self, Disk, DiskFile};
use super::format::{self, HEADER};
use super::recover::Segment;
use super::state::{Group, State};
use crate::inbox::Incoming;
use crate::latency::Latency;

/// The file of what is remembered of deleted segments.
pub(crate) const RECENT: &str = "recent";
/// How long a release may be known in memory alone.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// Pauses between attempts to write while the disk says no.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

pub(crate) struct Shared<D: Disk> {
    pub(crate) disk: D,
    pub(crate) options: JournalOptions,
    id: [u8; 8],
    state: Mutex<State>,
    /// Held while a reader's file is written, so that an older one never replaces a newer one.
    pub(super) keeping: Mutex<()>,
    /// The thread waits here.
    pub(crate) work: Condvar,
    /// Readers wait here for messages or the end.
    pub(crate) arrived: Notify,
    /// The driver waits here for acknowledgements that are due, or for room.
    pub(crate) freed: Notify,
    pub(crate) fsync: Latency,
}

/// The segment that is written to.
struct Active<F> {
    first: u64,
    file: F,
    len: u64,
}

impl<D: Disk> Shared<D> {
    pub(crate) fn new(disk: D, options: JournalOptions, state: State, id: [u8; 8]) -> Self {
        Self {
            disk,
            options,
            id,
            state: Mutex::new(state),
            keeping: Mutex::default(),
            work: Condvar::new(),
            arrived: Notify::new(),
            freed: Notify::new(),
            fsync: Latency::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn append_one(&self, incoming: Incoming) -> u64 {
        let position = self.lock().push(&incoming);
        self.work.notify_one();
        position
    }

    /// Writes and syncs until the journal is dropped.
    pub(crate) fn run(&self) {
        let mut active = None;
        let mut kept_at = Instant::now();
        loop {
            let (group, stopping) = self.wait_for_work();
            if let Some(group) = group
                && !self.write_until_done(group, &mut active)
            {
                return; // The disk fails and the journal is dropped: what it did not take was not acknowledged either.
            }
            if stopping || kept_at.elapsed() >= KEEP_EVERY {
                kept_at = Instant::now();
                self.keep_all();
            }
            self.delete_released(active.as_ref().map(|a| a.first));
            if !self.lock().reserved {
                _ = self.keep_reserve(); // The disk is still full: the next turn tries again.
            }
            if stopping && self.lock().pending_bytes() == 0 {
                return self.part(active);
            }
        }
    }

    /// Waits for messages, and then for those that will share their sync.
    fn wait_for_work(&self) -> (Option<Group>, bool) {
        let mut state = self.lock();
        let mut until: Option<Instant> = None;
        loop {
            let now = Instant::now();
            let pending = state.pending_bytes();
            if pending > 0 && until.is_none() {
                until = Some(now + self.options.sync_every);
            }
            let due = pending >= self.options.sync_bytes || until.is_some_and(|at| now >= at);
            if due || state.stopping || state.closed && pending > 0 {
                return (state.take_group(), state.stopping);
            }
            let wait = until.map_or(KEEP_EVERY, |at| at - now);
            let (woken, slept) = self.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            // Nothing to write; a release may want to be kept.
            if slept.timed_out() && until.is_none() {
                return (None, state.stopping);
            }
        }
    }

    /// False if the journal was dropped while the disk failed.
    fn write_until_done(&self, group: Group, active: &mut Option<Active<D::File>>) -> bool {
        let mut pause = PAUSE.0;
        while let Err(error) = self.keep_reserve().and_then(|()| self.write(&group, active)) {
            // After a failed sync the kernel may have dropped what it had; the group is written again, to another segment.
            let given_up = active.take();
            if self.note_failure(&error) {
                return false;
            }
            if let Some(given_up) = given_up {
                self.cut_back(&given_up);
            }
            self.keep_all();
            self.delete_released(None);
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE.1);
        }
        let mut state = self.lock();
        if std::mem::take(&mut state.failing) {
            tracing::info!("journal: the disk takes messages again");
        }
        state.settle(group);
        drop(state);
        self.arrived.notify_waiters();
        self.freed.notify_one();
        self.attest(active);
        true
    }

    /// True if the journal is being dropped.
    fn note_failure(&self, error: &io::Error) -> bool {
        let mut state = self.lock();
        state.write_errors += 1;
        if !state.failing {
            tracing::error!(dir = %self.options.dir.display(), %error, "journal: the disk does not take messages; they stay unacknowledged");
        }
        state.failing = true;
        state.stopping
    }

    /// One attempt to have a group on disk.
    fn write(&self, group: &Group, active: &mut Option<Active<D::File>>) -> io::Result<()> {
        let full = active.as_ref().is_some_and(|a| a.len > HEADER as u64 && a.len + group.bytes.len() as u64 > self.options.segment_bytes);
        if full {
            *active = None;
        }
        let begun = match active {
            Some(_) => false,
            None => {
                *active = Some(self.begin_segment(group.first)?);
                true
            }
        };
        let Some(current) = active else { return Ok(()) };
        current.file.write_all_at(&group.bytes, current.len)?;
        let started = Instant::now();
        current.file.sync()?;
        if begun {
            self.disk.sync_dir(&self.options.dir)?;
        }
        self.fsync.observe(started.elapsed());
        current.len += group.bytes.len() as u64;
        self.extend(current, group.end);
        Ok(())
    }

    fn begin_segment(&self, first: u64) -> io::Result<Active<D::File>> {
        let file = self.disk.create(&self.path(first))?;
        file.write_all_at(&format::header(self.id, first), 0)?;
        Ok(Active { first, file, len: HEADER as u64 })
    }

    /// Lets readers see the segment as far as it is synced.
    fn extend(&self, active: &Active<D::File>, end: u64) {
        let mut state = self.lock();
        match state.segments.back_mut().filter(|s| s.first == active.first) {
            Some(segment) => (segment.end, segment.len) = (end, active.len),
            None => state.segments.push_back(Segment { first: active.first, end, len: active.len }),
        }
    }

    /// Writes that everything so far is on disk, for a recovery that must tell damage from a torn end. It need not be synced itself.
    fn attest(&self, active: &mut Option<Active<D::File>>) {
        let Some(current) = active else { return };
        let synced = self.lock().synced;
        let mut mark = Vec::with_capacity(32);
        format::put_mark(&mut mark, synced);
        // A disk that is full fails at the next group, aloud.
        if current.file.write_all_at(&mark, current.len).is_ok() {
            current.len += mark.len() as u64;
        }
    }

    /// Cuts off what may or may not be on disk of a failed group. If this fails too, the next segment says where this one ends.
    fn cut_back(&self, given_up: &Active<D::File>) {
        let known = self.lock().segments.back().filter(|s| s.first == given_up.first).map(|s| s.len);
        match known {
            Some(len) => _ = given_up.file.set_len(len),
            None => _ = self.disk.remove(&self.path(given_up.first)),
        }
    }

    /// Writes the files of readers that have released more than their files say.
    fn keep_all(&self) {
        let dirty: Vec<String> = self.lock().readers().iter().filter(|r| r.dirty).map(|r| r.name.clone()).collect();
        for name in dirty {
            if let Err(error) = self.keep_reader(&name) {
                tracing::warn!(reader = name, %error, "journal: what the reader has released cannot be kept yet");
            }
        }
    }

    /// Writes a reader's file; its release and note are durable then. A full disk gives its reserve for it.
    pub(crate) fn keep_reader(&self, name: &str) -> io::Result<()> {
        self.with_reserve(|| self.write_reader(name))
    }

    fn write_reader(&self, name: &str) -> io::Result<()> {
        let _one_at_a_time = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reader) = self.lock().readers().iter().find(|r| r.name == name).cloned() else { return Ok(()) };
        disk::replace(&self.disk, &self.options.dir.join("readers"), name, &[&reader.to_file()])?;
        if let Ok(now) = self.lock().reader(name) {
            now.durable = reader.mark;
            now.dirty = now.mark > reader.mark;
        }
        Ok(())
    }

    /// Deletes the segments that nobody needs, but the active one. What they held is remembered on disk before.
    fn delete_released(&self, active: Option<u64>) {
        let (below, gone, memory) = {
            let state = self.lock();
            let released = state.durably_released();
            let needless = |s: &&Segment| s.end <= released && active != Some(s.first);
            let gone: Vec<Segment> = state.segments.iter().take_while(needless).cloned().collect();
            let Some(below) = gone.last().map(|last| last.end) else { return };
            (below, gone, state.memory.to_file(below))
        };
        if let Err(error) = self.delete(&gone, &memory) {
            return tracing::warn!(%error, "journal: released segments cannot be deleted yet");
        }
        self.lock().segments.retain(|s| s.end > below);
        self.freed.notify_one();
    }

    fn delete(&self, gone: &[Segment], memory: &[u8]) -> io::Result<()> {
        self.with_reserve(|| disk::replace(&self.disk, &self.options.dir, RECENT, &[memory]))?;
        for segment in gone {
            match self.disk.remove(&self.path(segment.first)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => (),
            }
        }
        Ok(())
    }

    /// The end: a last sync, so that the last mark is on disk as well.
    fn part(&self, active: Option<Active<D::File>>) {
        if let Some(active) = active
            && let Err(error) = active.file.sync()
        {
            tracing::warn!(%error, "journal: the last mark was not synced");
        }
    }

    fn path(&self, first: u64) -> PathBuf {
        self.options.dir.join(Segment::name(first))
    }
}
