//! Where a run keeps what grows with the archive: in memory while there is room, else in files without a name.
//!
//! What is computed does not depend on where it is kept. The files are gone when the process is, however it ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::TrainError;

/// How much may be held in memory, and where the rest goes.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    held: AtomicUsize,
    scratch: PathBuf,
}

/// A part of the room, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: Room,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.0.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Room {
    /// Room for `limit` bytes; what does not fit goes to files in `scratch` (`None`: the system's folder for temporary files).
    pub(crate) fn new(limit: usize, scratch: Option<&Path>) -> Self {
        let scratch = scratch.map_or_else(std::env::temp_dir, Path::to_path_buf);
        Self(Arc::new(Inner { limit, held: AtomicUsize::new(0), scratch }))
    }

    /// Room for all there is, for tests.
    #[cfg(test)]
    pub(crate) fn endless() -> Self {
        Self::new(usize::MAX, None)
    }

    /// Bytes that may be held altogether.
    pub(crate) fn limit(&self) -> usize {
        self.0.limit
    }

    /// Takes `bytes` of it, if there are so many left.
    pub(crate) fn take(&self, bytes: usize) -> Option<Held> {
        let taken = |held: usize| held.checked_add(bytes).filter(|all| *all <= self.0.limit);
        let fits = self.0.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok();
        fits.then(|| Held { room: self.clone(), bytes })
    }

    /// A file for what does not fit.
    pub(crate) fn spill(&self) -> Result<Spill, TrainError> {
        let scratch = self.0.scratch.clone();
        match tempfile::tempfile_in(&scratch) {
            Ok(file) => Ok(Spill { file, scratch }),
            Err(source) => Err(failed(&scratch, source)),
        }
    }
}

fn failed(scratch: &Path, source: std::io::Error) -> TrainError {
    TrainError::File { path: format!("a temporary file in {} (train.scratch)", scratch.display()), source }
}

/// A file that several threads read and write at places of their own.
#[derive(Debug)]
pub(crate) struct Spill {
    file: File,
    scratch: PathBuf,
}

impl Spill {
    /// Fills `bytes` with what stands from `offset` on.
    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), TrainError> {
        self.done(read_exact_at(&self.file, bytes, offset))
    }

    /// Writes `bytes` from `offset` on.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), TrainError> {
        self.done(write_all_at(&self.file, bytes, offset))
    }

    /// Makes it `bytes` long; what was not written reads as zeros.
    pub(crate) fn set_len(&self, bytes: u64) -> Result<(), TrainError> {
        self.done(self.file.set_len(bytes))
    }

    fn done(&self, result: std::io::Result<()>) -> Result<(), TrainError> {
        result.map_err(|source| failed(&self.scratch, source))
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        offset += read as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

/// A value a row, written stretch by stretch and read back whole: zero where nothing was written.
#[derive(Debug)]
pub(crate) struct Column {
    rows: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<f64>, #[allow(dead_code, reason = "held for its end")] Held),
    File(Spill),
}

impl Column {
    /// `rows` zeros.
    pub(crate) fn zeros(room: &Room, rows: usize) -> Result<Self, TrainError> {
        let place = match room.take(8 * rows) {
            Some(held) => Place::Memory(vec![0.0; rows], held),
            None => {
                let spill = room.spill()?;
                spill.set_len(8 * rows as u64)?;
                Place::File(spill)
            }
        };
        Ok(Self { rows, place })
    }

    /// Puts `values` from row `first` on.
    pub(crate) fn write(&mut self, first: usize, values: &[f64]) -> Result<(), TrainError> {
        match &mut self.place {
            Place::Memory(all, _) => all[first..first + values.len()].copy_from_slice(values),
            Place::File(spill) => {
                let mut bytes = vec![0; 8 * values.len()];
                bytes.chunks_exact_mut(8).zip(values).for_each(|(to, value)| to.copy_from_slice(&value.to_le_bytes()));
                spill.write_at(&bytes, 8 * first as u64)?;
            }
        }
        Ok(())
    }

    /// All of it.
    pub(crate) fn whole(self) -> Result<Vec<f64>, TrainError> {
        let spill = match self.place {
            Place::Memory(all, _) => return Ok(all),
            Place::File(spill) => spill,
        };
        let mut all = Vec::with_capacity(self.rows);
        let mut bytes = vec![0; 8 << 16];
        while all.len() < self.rows {
            let part = &mut bytes[..8 * (self.rows - all.len()).min(1 << 16)];
            spill.read_at(part, 8 * all.len() as u64)?;
            all.extend(numbers(part));
        }
        Ok(all)
    }
}

/// The numbers that `bytes` hold, eight a number.
pub(crate) fn numbers(bytes: &[u8]) -> impl Iterator<Item = f64> + '_ {
    let number = |eight: &[u8]| f64::from_le_bytes(eight.try_into().unwrap_or_default());
    bytes.chunks_exact(8).map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_makes_room() {
        let room = Room::new(100, None);
        let first = room.take(60).unwrap();
        assert!(room.take(41).is_none() && room.take(usize::MAX).is_none());
        drop(first);
        assert!(room.take(100).is_some());
    }

    #[test]
    fn a_column_is_the_same_in_memory_and_in_a_file() {
        for limit in [1 << 20, 0] {
            let room = Room::new(limit, None);
            let mut column = Column::zeros(&room, 70_000).unwrap();
            column.write(3, &[1.5, f64::NAN, -0.0]).unwrap();
            column.write(69_999, &[7.0]).unwrap();
            let all = column.whole().unwrap();
            let bits = |i: usize| all[i].to_bits();
            assert_eq!(all.len(), 70_000);
            assert_eq!([bits(2), bits(3), bits(5), bits(69_999)], [0.0, 1.5, -0.0, 7.0f64].map(f64::to_bits));
            assert!(all[4].is_nan());
        }
    }

    #[test]
    fn a_folder_that_is_none_is_named() {
        let room = Room::new(0, Some(Path::new("/nowhere/at/all")));
        let said = room.spill().unwrap_err().to_string();
        assert!(said.starts_with("a temporary file in /nowhere/at/all (train.scratch): "), "{said}");
    }
}
