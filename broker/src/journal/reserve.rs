//! Room kept aside. To release a message takes writes: the cut's note before its objects are put, the reader's file, what is remembered of the
//! segments that go. On a full disk these would fail, nothing would be released, and nothing ever freed: then the reserve is given up for
//! them, and no message is taken until it is back.

use std::io;
use std::sync::PoisonError;

use super::disk::{Disk, DiskFile};
use super::sync::Shared;

/// The file's name.
pub(crate) const NAME: &str = "reserve";
/// How much is written at once.
const PIECE: usize = 1 << 20;

impl<D: Disk> Shared<D> {
    /// Does what frees more than it takes, on a full disk in the room of the reserve.
    pub(crate) fn with_reserve(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match write() {
            Err(error) if is_full(&error) && self.give_up() => write(),
            done => done,
        }
    }

    /// Makes the reserve if it is not there. Until it is, the journal takes nothing.
    pub(crate) fn keep_reserve(&self) -> io::Result<()> {
        let _one_at_a_time = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lock().reserved {
            return Ok(());
        }
        if let Err(error) = self.make() {
            // A part of it would take the room of what must be written.
            _ = self.disk.remove(&self.options.dir.join(NAME));
            return Err(error);
        }
        self.lock().reserved = true;
        self.freed.notify_one();
        Ok(())
    }

    fn make(&self) -> io::Result<()> {
        let path = self.options.dir.join(NAME);
        let wanted = self.options.reserve_bytes as u64;
        if self.disk.open(&path).and_then(|file| file.len()).is_ok_and(|len| len == wanted) {
            return Ok(());
        }
        let file = self.disk.create(&path)?;
        let piece = noise(self.options.reserve_bytes.min(PIECE));
        let mut at = 0;
        while at < wanted {
            let now = (wanted - at).min(piece.len() as u64);
            file.write_all_at(&piece[..now as usize], at)?;
            at += now;
        }
        file.sync()?;
        self.disk.sync_dir(&self.options.dir)
    }

    /// True if there was one to give up.
    fn give_up(&self) -> bool {
        if !std::mem::take(&mut self.lock().reserved) {
            return false;
        }
        tracing::warn!(dir = %self.options.dir.display(), "journal: the disk is full; its reserve goes to what frees room");
        self.disk.remove(&self.options.dir.join(NAME)).is_ok()
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Bytes that a file system which compresses cannot make smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}
