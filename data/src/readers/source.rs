//! A file as a stream of text: gzip or plain by its first bytes, UTF-8 byte order mark skipped, position counted.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

/// The text of a file.
pub(super) type Text = Box<dyn BufRead + Send>;

/// A file opened for reading: its text, its length in bytes, and how many of them have been read.
pub(super) struct Source {
    pub(super) text: Text,
    pub(super) file_len: u64,
    pub(super) bytes_read: Arc<AtomicU64>,
}

/// Opens `path`.
pub(super) fn open(path: &Path) -> io::Result<Source> {
    let file = File::open(path)?;
    let file_len = file.metadata()?.len();
    let bytes_read = Arc::new(AtomicU64::new(0));
    let mut raw = BufReader::with_capacity(1 << 16, Counted { file, bytes_read: Arc::clone(&bytes_read) });
    let text = if raw.fill_buf()?.starts_with(&[0x1f, 0x8b]) { text_of(MultiGzDecoder::new(raw)) } else { text_of(raw) }?;
    Ok(Source { text, file_len, bytes_read })
}

fn text_of(inner: impl Read + Send + 'static) -> io::Result<Text> {
    let mut text = BufReader::with_capacity(1 << 16, inner);
    if text.fill_buf()?.starts_with("\u{feff}".as_bytes()) {
        text.consume(3);
    }
    Ok(Box::new(text))
}

struct Counted {
    file: File,
    bytes_read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.bytes_read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Lines of a text with their numbers, one buffer for all.
pub(super) struct Lines {
    text: Text,
    pub(super) number: u64,
    pub(super) line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(text: Text) -> Self {
        Lines { text, number: 0, line: Vec::new() }
    }

    /// Reads the next line that is not blank, without its end, into `line`; false at the end of the file.
    pub(super) fn advance(&mut self) -> Result<bool, super::error::Fault> {
        loop {
            self.line.clear();
            self.number += 1;
            let n = self.text.read_until(b'\n', &mut self.line);
            match n {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(source) => return Err(super::error::Fault::Broken { line: self.number, source }),
            }
            self.line.truncate(self.line.trim_ascii_end().len());
            if !self.line.is_empty() {
                return Ok(true);
            }
        }
    }
}
