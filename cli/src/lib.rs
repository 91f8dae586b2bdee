//! The `homeward` binary's parts: configuration, arguments, edges, and one function a command.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod args;
mod commands;
pub mod config;
mod edges;
mod live;
mod report;
mod serve;

use std::process::ExitCode;

use args::{Args, Command, ExportCommand, ModelsCommand};
use config::Config;

/// Ran and found the answer no: `demo --once` whose drones were not called in time, `check` that found a fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// Runs one command. Exit: 0 done, 1 failed, 2 bad arguments or configuration.
pub fn run(args: Args) -> ExitCode {
    let config = match Config::load(args.config.as_deref(), args.command.needs_file(), std::env::vars()) {
        Ok(config) => config,
        Err(error) => {
            tracing::debug!(?error, "bad configuration");
            report::say(&format!("error: {error}"));
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            report::say(&format!("error: no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(dispatch(args, config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("error: {}", report::chain(&error)));
            if error.is::<config::BadConfig>() || error.is::<homeward_models::ConfigError>() || error.is::<homeward_ingest::WouldStall>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

async fn dispatch(args: Args, config: Config) -> anyhow::Result<()> {
    let json = args.json;
    match args.command {
        Command::Demo(args) => commands::demo::run(&config, &args).await,
        Command::Simulate(args) => commands::simulate::run(&config, &args).await,
        Command::Publish(args) => commands::publish::run(&config, &args, json).await,
        Command::Import(args) => commands::import::run(&config, &args, json).await,
        Command::Ingest(args) => commands::ingest::run(&config, &args, json).await,
        Command::Compact => commands::compact::run(&config, json).await,
        Command::Predict(args) => commands::predict::run(&config, args, json).await,
        Command::Train(args) => commands::train::run(&config, &args, json).await,
        Command::Audit(args) => commands::audit::run(&config, &args, json).await,
        Command::Check(args) => commands::check::run(&config, args.offline, json).await,
        Command::Export(ExportCommand::Features(args)) => commands::export::features(&config, &args, json).await,
        Command::Models(ModelsCommand::List) => commands::models::list(&config, json).await,
        Command::Models(ModelsCommand::Show { version }) => commands::models::show(&config, version.as_deref(), json).await,
        Command::Models(ModelsCommand::Promote { version }) => commands::models::promote(&config, &version, json).await,
        Command::Models(ModelsCommand::Rollback) => commands::models::rollback(&config, json).await,
        Command::Models(ModelsCommand::Import(args)) => commands::interchange::import(&config, &args, json).await,
        Command::Models(ModelsCommand::Export(args)) => commands::interchange::export(&config, &args, json).await,
        Command::Models(ModelsCommand::Compare { first, second }) => {
            commands::models::compare(&config, &first, second.as_deref(), json).await
        }
    }
}
