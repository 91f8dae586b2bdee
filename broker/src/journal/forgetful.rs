//! A disk in memory that keeps a log of all that was done to it, and can show what a power loss at any moment would have left: what was
//! synced, and any part of what was not.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile};

/// Something that was done. Files are numbered in the order of their creation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op<F> {
    Create(PathBuf, usize),
    Write(usize, u64, Vec<u8>),
    SetLen(usize, u64),
    Sync(usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
    /// Something that the test knows to be true from here on.
    Fact(F),
}

/// What survives of what was not synced.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Survives {
    Nothing,
    Everything,
    /// Each change or not, a write perhaps in part, as a seed says.
    Some(u64),
}

/// The disk. Clones share it.
#[derive(Debug)]
pub(crate) struct Forgetful<F>(Arc<Mutex<Inner<F>>>);

impl<F> Clone for Forgetful<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Inner<F> {
    names: BTreeMap<PathBuf, usize>,
    files: Vec<Vec<u8>>,
    log: Vec<Op<F>>,
    /// Says that it syncs, and does not.
    lies: bool,
    /// Writes and syncs fail like this.
    fails: Option<io::ErrorKind>,
    /// Bytes that the files may have together.
    capacity: usize,
}

impl<F: Clone + Send + 'static> Forgetful<F> {
    pub(crate) fn new() -> Self {
        let inner = Inner { names: BTreeMap::new(), files: Vec::new(), log: Vec::new(), lies: false, fails: None, capacity: usize::MAX };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// A disk that only says it syncs.
    pub(crate) fn lying() -> Self {
        let disk = Self::new();
        disk.lock().lies = true;
        disk
    }

    /// Makes every write and sync fail from now on, or none.
    pub(crate) fn fail(&self, how: Option<io::ErrorKind>) {
        self.lock().fails = how;
    }

    /// Makes it a disk of that many bytes.
    pub(crate) fn shrink(&self, capacity: usize) {
        self.lock().capacity = capacity;
    }

    pub(crate) fn fact(&self, fact: F) {
        self.lock().log.push(Op::Fact(fact));
    }

    pub(crate) fn log(&self) -> Vec<Op<F>> {
        self.lock().log.clone()
    }

    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        let inner = self.lock();
        inner.files[inner.names[path]].clone()
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    /// Changes bytes behind the journal's back.
    pub(crate) fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.lock();
        let file = inner.names[path];
        change(&mut inner.files[file]);
    }

    /// A disk as a power loss after these operations would leave it.
    pub(crate) fn after_power_loss(log: &[Op<F>], survives: Survives) -> Self {
        let mut dice = Dice(survives);
        let (mut names, mut files) = (BTreeMap::new(), Vec::<Vec<u8>>::new());
        for (at, op) in log.iter().enumerate() {
            let keeps = is_synced(op, &log[at..]) || dice.keeps();
            match op {
                Op::Create(path, file) => {
                    files.resize((*file + 1).max(files.len()), Vec::new());
                    // The file is there as soon as it is written to; its name may not be.
                    if keeps {
                        names.insert(path.clone(), *file);
                    }
                }
                Op::Write(file, offset, bytes) if keeps => write(&mut files[*file], *offset, bytes),
                Op::Write(file, offset, bytes) => write(&mut files[*file], *offset, &bytes[..dice.part(bytes.len())]),
                Op::SetLen(file, len) if keeps => files[*file].resize(*len as usize, 0),
                Op::Rename(from, to) if keeps => {
                    if let Some(file) = names.remove(from) {
                        names.insert(to.clone(), file);
                    }
                }
                Op::Remove(path) if keeps => _ = names.remove(path),
                _ => (),
            }
        }
        let disk = Self::new();
        *disk.lock() = Inner { names, files, log: Vec::new(), lies: false, fails: None, capacity: usize::MAX };
        disk
    }

    fn lock(&self) -> MutexGuard<'_, Inner<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a later sync makes an operation durable.
fn is_synced<F>(op: &Op<F>, later: &[Op<F>]) -> bool {
    let folder_of = |path: &Path| path.parent().map(Path::to_owned);
    later.iter().any(|l| match (op, l) {
        (Op::Write(file, ..) | Op::SetLen(file, _), Op::Sync(synced)) => file == synced,
        (Op::Create(path, _) | Op::Remove(path) | Op::Rename(_, path), Op::SyncDir(dir)) => folder_of(path).as_ref() == Some(dir),
        _ => false,
    })
}

fn write(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (from, to) = (offset as usize, offset as usize + bytes.len());
    if bytes.is_empty() {
        return;
    }
    // Where an earlier write did not survive, a disk shows zeros.
    file.resize(file.len().max(to), 0);
    file[from..to].copy_from_slice(bytes);
}

struct Dice(Survives);

impl Dice {
    fn draw(&mut self) -> u64 {
        let Survives::Some(state) = &mut self.0 else { return 0 };
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    fn keeps(&mut self) -> bool {
        match self.0 {
            Survives::Nothing => false,
            Survives::Everything => true,
            Survives::Some(_) => self.draw().is_multiple_of(2),
        }
    }

    /// How much of a write survives that does not survive as a whole.
    fn part(&mut self, len: usize) -> usize {
        match self.0 {
            Survives::Some(_) => (self.draw() as usize) % (len + 1),
            _ => 0,
        }
    }
}

/// An open file of the disk.
pub(crate) struct ForgetfulFile<F>(Forgetful<F>, usize);

impl<F: Clone + Send + 'static> Disk for Forgetful<F> {
    type File = ForgetfulFile<F>;

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock();
        let here = inner.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }
    fn create(&self, path: &Path) -> io::Result<Self::File> {
        let mut inner = self.lock();
        inner.files.push(Vec::new());
        let file = inner.files.len() - 1;
        inner.names.insert(path.to_owned(), file);
        inner.log.push(Op::Create(path.to_owned(), file));
        Ok(ForgetfulFile(self.clone(), file))
    }
    fn open(&self, path: &Path) -> io::Result<Self::File> {
        let file = self.lock().names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(ForgetfulFile(self.clone(), file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let file = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), file);
        inner.log.push(Op::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        inner.log.push(Op::Remove(path.to_owned()));
        Ok(())
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        if !inner.lies {
            inner.log.push(Op::SyncDir(dir.to_owned()));
        }
        Ok(())
    }
}

impl<F: Clone + Send + 'static> DiskFile for ForgetfulFile<F> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().files[self.1].len() as u64)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.0.lock();
        let rest = inner.files[self.1].get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.0.lock();
        let grows = (offset as usize + buf.len()).saturating_sub(inner.files[self.1].len());
        let used: usize = inner.names.values().map(|file| inner.files[*file].len()).sum();
        let full = (used + grows > inner.capacity).then_some(io::ErrorKind::StorageFull);
        // A full disk takes a part before it says so.
        let (taken, outcome) = inner.fails.or(full).map_or((buf.len(), Ok(())), |kind| (buf.len() / 2, Err(kind.into())));
        write(&mut inner.files[self.1], offset, &buf[..taken]);
        inner.log.push(Op::Write(self.1, offset, buf[..taken].to_vec()));
        outcome
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.files[self.1].resize(len as usize, 0);
        inner.log.push(Op::SetLen(self.1, len));
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        if let Some(kind) = inner.fails {
            return Err(kind.into());
        }
        if !inner.lies {
            inner.log.push(Op::Sync(self.1));
        }
        Ok(())
    }
}
