//! Data sets as records: which reader, which mapping, one progress bar over all files.

use std::path::PathBuf;

use anyhow::Context;
use homeward_data::readers::{Format, JsonMapping, Options, ReadError, Reader, open};
use homeward_data::{Kind, Record};
use homeward_models::ConfigError;
use homeward_models::topic::Topics;
use indicatif::ProgressBar;

use crate::args::{FilesArgs, FormatName};
use crate::config::Config;
use crate::report;

/// The records of all files, one after the other. Bad lines are said and counted, and reading goes on.
pub(crate) struct Records {
    format: Format,
    options: Options,
    files: std::vec::IntoIter<PathBuf>,
    reader: Option<Reader>,
    done: u64,
    bar: ProgressBar,
    /// Lines that could not be read.
    pub(crate) bad: u64,
}

impl Records {
    pub(crate) fn open(config: &Config, args: &FilesArgs) -> anyhow::Result<Self> {
        let mut total = 0;
        for file in &args.files {
            total += std::fs::metadata(file).with_context(|| format!("{}", file.display()))?.len();
        }
        let files = args.files.clone().into_iter();
        let options = Options { events: !args.no_events };
        Ok(Self { format: format(config, args.format)?, options, files, reader: None, done: 0, bar: report::bar(total, "reading"), bad: 0 })
    }

    /// The next record, or `None` at the end of the last file.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Record>> {
        loop {
            if let Some(reader) = &mut self.reader {
                match reader.next() {
                    Some(Ok(record)) => {
                        self.bar.set_position(self.done + reader.bytes_read());
                        return Ok(Some(record));
                    }
                    Some(Err(error @ ReadError::Line { .. })) => {
                        self.bad += 1;
                        report::say(&format!("skipped: {error}"));
                        continue;
                    }
                    Some(Err(error)) => return Err(error.into()),
                    None => self.done += reader.file_len(),
                }
            }
            let Some(file) = self.files.next() else {
                self.bar.finish_and_clear();
                return Ok(None);
            };
            self.reader = Some(open(&file, &self.format, &self.options)?);
        }
    }
}

fn format(config: &Config, name: FormatName) -> Result<Format, ConfigError> {
    Ok(match (name, &config.source) {
        (FormatName::Cmapss, _) => Format::Cmapss,
        (FormatName::Alfa, _) => Format::Alfa,
        (FormatName::Backblaze, _) => Format::Backblaze,
        (FormatName::Csv, Some(source)) => Format::Csv(source.csv()?),
        (FormatName::Csv, None) => {
            return Err(ConfigError::new("source", "nothing", "[source] with device and ts: which columns they are"));
        }
        (FormatName::Jsonl, Some(source)) => Format::Jsonl(source.jsonl()?),
        (FormatName::Jsonl, None) => Format::Jsonl(JsonMapping::Topic),
    })
}

/// The topic a record is published to.
pub(crate) fn topic(topics: &Topics, record: &Record) -> String {
    match record.kind {
        Kind::Telemetry => topics.telemetry.of(&record.device),
        Kind::Event => topics.events.of(&record.device),
    }
}
