//! What people and machines read: lines on stderr, results and tables on stdout.

use std::io::{IsTerminal, Write};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// A line on stderr.
pub(crate) fn say(line: &str) {
    _ = writeln!(std::io::stderr(), "{line}");
}

/// A result on stdout.
pub(crate) fn result(text: &str) {
    _ = writeln!(std::io::stdout(), "{text}");
}

/// A result on stdout: JSON if a machine reads, else the text.
pub(crate) fn outcome(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    result(&if json { serde_json::to_string(value)? } else { text() });
    Ok(())
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let said = cause.to_string();
        // Errors that already quote their source do not need it twice.
        if !line.contains(&said) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&said);
        }
    }
    line.replace('\n', " ")
}

/// A plain table.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// A progress bar over `len` on stderr; hidden where nobody looks.
pub(crate) fn bar(len: u64, what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(len);
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {percent}% {msg}") {
        bar.set_style(style);
    }
    bar.with_prefix(what.to_owned())
}

/// Money per hour.
pub(crate) fn money(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { "-".into() }
}
