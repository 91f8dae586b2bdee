//! The `homeward` binary: arguments and logging; the rest is in the library beside it.

use std::process::ExitCode;

use clap::Parser;
use homeward::args::{Args, one_line};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return one_line(&error),
    };
    let filter = EnvFilter::try_from_env("HOMEWARD_LOG").unwrap_or_else(|_| {
        EnvFilter::new("warn,rumqttd=off,homeward=info,homeward_broker=info,homeward_ingest=info,homeward_predict=info,homeward_train=info")
    });
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match std::env::var("HOMEWARD_LOG_FORMAT").as_deref() {
        Ok("json") => logs.json().flatten_event(true).init(),
        _ => logs.with_target(false).init(),
    }
    homeward::run(args)
}
