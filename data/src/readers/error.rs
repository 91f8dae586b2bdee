//! Why a data set could not be read, by what the reader of the message can do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A file that could not be opened or a line that could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be opened: correct the path or the rights.
    #[error("{path}: cannot be opened: {source}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file ends or breaks within (a damaged gzip, a disk fault): fetch it again. Nothing follows.
    #[error("{path}:{line}: cannot be read further: {source}", path = path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The last line begun, from 1.
        line: u64,
        /// What the system or the decompressor says.
        source: io::Error,
    },
    /// The file as a whole is not of this format, or lacks a column that the mapping names: choose another format or
    /// correct the mapping. Nothing follows.
    #[error("{path}: {found}; expected {want}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What would be right.
        want: String,
    },
    /// One line is bad: correct it or leave it out. The reader goes on with the next line.
    #[error("{path}:{line}: {found}; expected {want}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line in the uncompressed text, from 1.
        line: u64,
        /// What is there.
        found: String,
        /// What would be right.
        want: String,
    },
}

/// An error of one format before its file is named.
#[derive(Debug)]
pub(super) enum Fault {
    Broken { line: u64, source: io::Error },
    Format { found: String, want: String },
    Line { line: u64, found: String, want: String },
}

impl Fault {
    pub(super) fn format(found: impl Into<String>, want: impl Into<String>) -> Self {
        Fault::Format { found: found.into(), want: want.into() }
    }

    pub(super) fn line(line: u64, found: impl Into<String>, want: impl Into<String>) -> Self {
        Fault::Line { line, found: found.into(), want: want.into() }
    }

    /// Whether lines after it can still be read.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Fault::Line { .. })
    }

    pub(super) fn at(self, path: PathBuf) -> ReadError {
        match self {
            Fault::Broken { line, source } => ReadError::Broken { path, line, source },
            Fault::Format { found, want } => ReadError::Format { path, found, want },
            Fault::Line { line, found, want } => ReadError::Line { path, line, found, want },
        }
    }
}

/// A piece of input as it is shown in a message: short, without control characters.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut short: String = text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}
