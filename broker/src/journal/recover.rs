//! From files to a journal that can be trusted: what is whole, what is torn, what is damaged.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile, replace};
use super::format::{self, HEADER, Record, Stored};
use super::scan::{Found, Scanner};
use super::{JournalError, io_error};

/// A segment file: the positions `first..end` in its first `len` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) len: u64,
}

impl Segment {
    /// The name of the file.
    pub(crate) fn name(first: u64) -> String {
        format!("{first:020}.seg")
    }

    fn first_of(name: &str) -> Option<u64> {
        let digits = name.strip_suffix(".seg").filter(|d| d.len() == 20 && d.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse().ok()
    }
}

/// What recovery did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mended {
    /// Bytes of unfinished records cut off at the end.
    pub(crate) torn_bytes: u64,
    /// Bytes moved aside as damaged.
    pub(crate) damaged_bytes: u64,
}

/// What a scan of one segment found.
pub(crate) struct Scan {
    /// The position after its last record.
    end: u64,
    /// Where its whole records end.
    good: u64,
    /// The file's length.
    len: u64,
    /// Why they end before the file does.
    broken: Option<&'static str>,
}

/// Recovers the segments of a folder.
pub(crate) struct Recovery<'a, D> {
    pub(crate) disk: &'a D,
    pub(crate) dir: &'a Path,
    pub(crate) writer: [u8; 8],
    pub(crate) skip_damaged: bool,
    pub(crate) mended: Mended,
}

impl<D: Disk> Recovery<'_, D> {
    /// Checks all segments in order and hands each message to `seen`; returns the segments. `forgotten`: everything below this position was
    /// released for good, so damage there harms nobody.
    pub(crate) fn run(&mut self, forgotten: u64, seen: &mut impl FnMut(&Stored<'_>)) -> Result<Vec<Segment>, JournalError> {
        let mut firsts: Vec<u64> = self.names()?.iter().filter_map(|name| Segment::first_of(name)).collect();
        firsts.sort_unstable();
        let mut segments = Vec::new();
        for (at, first) in firsts.iter().enumerate() {
            let next = firsts.get(at + 1).copied();
            match self.segment(*first, next, seen) {
                Err(JournalError::Damaged { segment, found, .. }) if next.is_some_and(|next| next <= forgotten) => {
                    tracing::warn!(segment = %segment.display(), found, "journal: damaged, and needed by nobody: removed");
                    self.disk.remove(&segment).map_err(|e| io_error("remove", &segment, e))?;
                }
                segment => segments.extend(segment?),
            }
        }
        Ok(segments)
    }

    fn segment(&mut self, first: u64, next: Option<u64>, seen: &mut impl FnMut(&Stored<'_>)) -> Result<Option<Segment>, JournalError> {
        loop {
            // A message is handed on only from a scan that stands, so that none is seen twice.
            let scan = self.scan(first, next, &mut |_| ())?;
            if scan.broken == Some(format::FOREIGN) {
                return Err(JournalError::Foreign { path: self.path(first), found: format::FOREIGN.into() });
            }
            match self.damage(first, next, &scan)? {
                None => return self.accept(first, next, &scan, seen),
                Some(found) if !self.skip_damaged => {
                    let offset = scan.good;
                    return Err(JournalError::Damaged { segment: self.path(first), offset, found });
                }
                Some(found) => self.move_aside(first, next, &scan, &found)?,
            }
        }
    }

    /// What is wrong with a segment beyond a torn end; `None` if nothing is.
    fn damage(&self, first: u64, next: Option<u64>, scan: &Scan) -> Result<Option<String>, JournalError> {
        Ok(match (next, scan.broken) {
            // A segment that was given up after a failed write: what it lacks is in the next one.
            (Some(next), _) if next <= scan.end => None,
            (Some(next), None) => Some(format!("the segment ends before position {}, the next one begins at {next}", scan.end)),
            (Some(_), Some(reason)) => Some(reason.to_owned()),
            (None, None) => None,
            (None, Some(reason)) => self.was_durable(first, scan)?.then(|| reason.to_owned()),
        })
    }

    /// Whether something beyond the break says that what was there had been on disk: then it is damage, not a torn end.
    fn was_durable(&self, first: u64, scan: &Scan) -> Result<bool, JournalError> {
        let path = self.path(first);
        let failed = |e| io_error("read", &path, e);
        let file = self.disk.open(&path).map_err(failed)?;
        let mut scanner = Scanner::new(&file, scan.good, scan.len);
        scanner.next().map_err(failed)?;
        scanner.skip_byte();
        while scanner.offset() < scan.len {
            match scanner.next().map_err(failed)? {
                Found::Record(Record::Mark { synced }) if synced > scan.end => return Ok(true),
                Found::Record(_) => (),
                Found::End => break,
                Found::Broken(_) => scanner.skip_byte(),
            }
        }
        Ok(false)
    }

    /// Takes a segment as it is, its torn end cut off; none if nothing is left of it.
    fn accept(
        &mut self,
        first: u64,
        next: Option<u64>,
        scan: &Scan,
        seen: &mut impl FnMut(&Stored<'_>),
    ) -> Result<Option<Segment>, JournalError> {
        let path = self.path(first);
        if scan.good < HEADER as u64 {
            self.mended.torn_bytes += scan.len;
            self.disk.remove(&path).map_err(|e| io_error("remove", &path, e))?;
            return Ok(None);
        }
        self.scan(first, next, seen)?;
        let failed = |e| io_error("cut or sync", &path, e);
        let file = self.disk.open(&path).map_err(failed)?;
        if next.is_none() {
            self.mended.torn_bytes += scan.len - scan.good;
            if scan.good < scan.len {
                tracing::warn!(segment = %path.display(), offset = scan.good, bytes = scan.len - scan.good, "journal: an unfinished end is cut off");
                file.set_len(scan.good).map_err(failed)?;
            }
            // What a killed process had written may be in the page cache alone.
            file.sync().map_err(failed)?;
        }
        Ok(Some(Segment { first, end: scan.end.min(next.unwrap_or(u64::MAX)), len: scan.good }))
    }

    fn scan(&self, first: u64, next: Option<u64>, seen: &mut impl FnMut(&Stored<'_>)) -> Result<Scan, JournalError> {
        let path = self.path(first);
        let failed = |e| io_error("read", &path, e);
        let file = self.disk.open(&path).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let mut head = vec![0; usize::try_from(len).map_or(HEADER, |len| len.min(HEADER))];
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        if let Err(reason) = format::check_header(&head, self.writer, first) {
            return Ok(Scan { end: first, good: 0, len, broken: Some(reason) });
        }
        scan_records(&file, first, next, len, seen).map_err(failed)
    }

    /// Moves the damage at the end of a scan aside, and writes the segment anew with a gap in its place.
    fn move_aside(&mut self, first: u64, next: Option<u64>, scan: &Scan, found: &str) -> Result<(), JournalError> {
        let path = self.path(first);
        let failed = |e| io_error("mend", &path, e);
        let file = self.disk.open(&path).map_err(failed)?;
        let (resume, to) = resume(&file, scan, next).map_err(failed)?;
        let damage = read_range(&file, scan.good, resume).map_err(failed)?;
        let aside = self.dir.join("damaged");
        self.disk.create_dir_all(&aside).map_err(failed)?;
        replace(self.disk, &aside, &format!("{first:020}-{}", scan.good), &[&damage]).map_err(failed)?;
        let good = read_range(&file, HEADER as u64, scan.good.max(HEADER as u64)).map_err(failed)?;
        let rest = read_range(&file, resume, scan.len).map_err(failed)?;
        let mut gap = Vec::new();
        format::put_gap(&mut gap, to);
        replace(self.disk, self.dir, &Segment::name(first), &[&format::header(self.writer, first), &good, &gap, &rest]).map_err(failed)?;
        self.mended.damaged_bytes += damage.len() as u64;
        tracing::error!(
            segment = %path.display(), offset = scan.good, bytes = damage.len(), from = scan.end, to, found,
            "journal: damage moved aside; the messages at these positions are lost here"
        );
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, JournalError> {
        self.disk.list(self.dir).map_err(|e| io_error("list", self.dir, e))
    }

    fn path(&self, first: u64) -> PathBuf {
        self.dir.join(Segment::name(first))
    }
}

/// Scans records after the header. Positions must follow each other; what lies at or after `next` is in the next segment as well.
pub(crate) fn scan_records<F: DiskFile>(
    file: &F,
    first: u64,
    next: Option<u64>,
    len: u64,
    seen: &mut impl FnMut(&Stored<'_>),
) -> io::Result<Scan> {
    let mut scanner = Scanner::new(file, HEADER as u64, len);
    let mut end = first;
    let limit = next.unwrap_or(u64::MAX);
    loop {
        let good = scanner.offset();
        let broken = match scanner.next()? {
            Found::Record(Record::Message(m)) if m.position == end && end < limit => {
                seen(&m);
                end += 1;
                continue;
            }
            Found::Record(Record::Message(m)) if m.position == end => None,
            Found::Record(Record::Message(_)) => Some("a message out of its order"),
            Found::Record(Record::Mark { synced }) if synced <= end => continue,
            Found::Record(Record::Mark { .. }) => Some("a mark beyond the messages before it"),
            Found::Record(Record::Gap { to }) if to >= end => {
                end = to;
                continue;
            }
            Found::Record(Record::Gap { .. }) => Some("a gap that goes back"),
            Found::End => None,
            Found::Broken(reason) => Some(reason),
        };
        return Ok(Scan { end, good, len, broken });
    }
}

/// Where whole records begin again after a break, and the position they begin with.
fn resume<F: DiskFile>(file: &F, scan: &Scan, next: Option<u64>) -> io::Result<(u64, u64)> {
    let mut scanner = Scanner::new(file, scan.good.max(HEADER as u64), scan.len);
    if scan.broken.is_some() && scan.good >= HEADER as u64 {
        scanner.next()?;
        if scanner.offset() == scan.good {
            scanner.skip_byte();
        }
    }
    loop {
        let at = scanner.offset();
        match scanner.next()? {
            Found::Record(Record::Message(m)) if m.position >= scan.end => return Ok((at, m.position)),
            Found::Record(Record::Mark { synced }) if synced > scan.end => return Ok((at, synced)),
            Found::Record(Record::Gap { to }) if to > scan.end => return Ok((at, to)),
            Found::Record(_) => (),
            Found::End => return Ok((scan.len, next.unwrap_or(scan.end))),
            Found::Broken(_) if at + 1 >= scan.len => return Ok((scan.len, next.unwrap_or(scan.end))),
            Found::Broken(_) => scanner.skip_byte(),
        }
    }
}

fn read_range<F: DiskFile>(file: &F, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}
