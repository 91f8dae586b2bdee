//! Reads a segment record by record, in large pieces and with flat memory.

use std::io;

use super::disk::DiskFile;
use super::format::{self, Record, Step};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// A place in a segment from which records are read one after the other.
pub(crate) struct Scanner<'f, F> {
    file: &'f F,
    /// Where the file ends, or where reading is to end.
    end: u64,
    /// Where `buf[pos..]` lies in the file.
    offset: u64,
    buf: Vec<u8>,
    pos: usize,
}

/// What was found at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Record(Record<'a>),
    /// The end, with nothing left over.
    End,
    /// No whole record lies here.
    Broken(&'static str),
}

impl<'f, F: DiskFile> Scanner<'f, F> {
    /// Reads `file` from `offset` to `end`.
    pub(crate) fn new(file: &'f F, offset: u64, end: u64) -> Self {
        Self { file, end, offset, buf: Vec::new(), pos: 0 }
    }

    /// Where the next record lies.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record. After something broken it is found again and again.
    pub(crate) fn next(&mut self) -> io::Result<Found<'_>> {
        self.ensure()?;
        let bytes = &self.buf[self.pos..];
        if bytes.is_empty() {
            return Ok(Found::End);
        }
        Ok(match format::step(bytes) {
            Step::Whole(record, taken) => {
                self.pos += taken;
                self.offset += taken as u64;
                Found::Record(record)
            }
            Step::Short(_) => Found::Broken("an unfinished record"),
            Step::Bad(reason) => Found::Broken(reason),
        })
    }

    /// Goes on a byte further: how a whole record is found again after damage.
    pub(crate) fn skip_byte(&mut self) {
        if self.pos < self.buf.len() {
            self.pos += 1;
            self.offset += 1;
        }
    }

    /// Has the whole next record in the buffer, if the file has it. A length that lies makes nobody allocate.
    fn ensure(&mut self) -> io::Result<()> {
        loop {
            let bytes = &self.buf[self.pos..];
            let need = match format::step_len(bytes) {
                Some(need) if need > bytes.len() => need,
                _ => return Ok(()),
            };
            let there = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
            if bytes.len() >= there || (need > there && bytes.len() >= format::PREFIX) {
                return Ok(());
            }
            self.read_on(need, there)?;
        }
    }

    fn read_on(&mut self, need: usize, there: usize) -> io::Result<()> {
        self.buf.drain(..self.pos);
        self.pos = 0;
        let have = self.buf.len();
        let want = need.max(PIECE).min(there);
        self.buf.resize(want.max(have), 0);
        self.file.read_exact_at(&mut self.buf[have..], self.offset + have as u64)
    }
}
