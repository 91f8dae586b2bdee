//! Arguments as typed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Keeps device fleets flying: archives MQTT telemetry, learns what comes before a failure, calls devices home.
#[derive(Debug, Parser)]
#[command(name = "homeward", version, about)]
pub struct Args {
    /// Configuration file [default: homeward.toml in this folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Results as JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// One command each.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole loop on this machine with nothing installed
    Demo(DemoArgs),
    /// A simulated drone fleet, published to the broker or written as JSON lines
    Simulate(SimulateArgs),
    /// Publish a data set as if it were live
    Publish(PublishArgs),
    /// Put a data set into the archive, without a broker
    Import(FilesArgs),
    /// Archive telemetry and events: broker to object store
    Ingest(IngestArgs),
    /// Merge the archive's small objects, drop duplicates, cool and delete what is old
    Compact,
    /// Score telemetry live and call devices home
    Predict(PredictArgs),
    /// Learn a classifier from the archive
    Train(TrainArgs),
    /// What has been archived, in other forms
    #[command(subcommand)]
    Export(ExportCommand),
    /// Score the archive again and compare with what was archived live; exit 1 if a bit differs
    Audit(AuditArgs),
    /// Say what in configuration, broker or store would fail
    Check(CheckArgs),
    /// The models in the registry
    #[command(subcommand)]
    Models(ModelsCommand),
}

impl Command {
    /// Whether the command needs a configuration file; the demo and the simulator bring the sample fleet.
    pub fn needs_file(&self) -> bool {
        !matches!(self, Self::Demo(_) | Self::Simulate(_))
    }
}

/// `homeward demo`
#[derive(Debug, ClapArgs)]
pub struct DemoArgs {
    /// End by itself; exit 0 only if drones were called in time
    #[arg(long)]
    pub once: bool,
    /// Keep everything it makes in this folder
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Seed of the simulated fleets
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `homeward simulate`
#[derive(Debug, ClapArgs)]
pub struct SimulateArgs {
    /// Write JSON lines to this file, `-` for stdout, instead of publishing
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the truth (what was wrong, since when) to this file as JSON lines
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// Number of drones
    #[arg(long, default_value_t = 20)]
    pub drones: usize,
    /// Simulated hours
    #[arg(long, default_value_t = 8.0)]
    pub hours: f64,
    /// Readings a second and drone
    #[arg(long, default_value_t = 1.0)]
    pub rate: f64,
    /// Same seed, same bytes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// First moment of the simulation, RFC 3339 [default: 2026-01-01; when publishing at real speed, now]
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// Mean flying hours between a repair and the next fault
    #[arg(long, default_value_t = 1.5)]
    pub mean_life: f64,
    /// How long drones rest between flights, in units of 5 to 15 minutes
    #[arg(long, default_value_t = 1.0)]
    pub rest: f64,
    /// Share of failures that nothing announces
    #[arg(long, default_value_t = 0.1)]
    pub sudden_share: f64,
    /// Drones ignore calls
    #[arg(long)]
    pub ignore_calls: bool,
    /// No missing, late, duplicate or frozen readings, no noise, no clock jumps
    #[arg(long)]
    pub tidy: bool,
    /// Speed when publishing: real, max, or a multiple such as 60
    #[arg(long, default_value = "real", value_parser = parse_speed)]
    pub speed: Speed,
}

/// How fast simulated time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// This many simulated seconds a second.
    Times(f64),
    /// As fast as the broker confirms.
    Max,
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    match text {
        "real" => Ok(Speed::Times(1.0)),
        "max" => Ok(Speed::Max),
        other => match other.trim_end_matches('x').parse::<f64>() {
            Ok(times) if times > 0.0 && times.is_finite() => Ok(Speed::Times(times)),
            _ => Err("expected real, max, or a multiple such as 60".into()),
        },
    }
}

/// Formats of data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    /// NASA C-MAPSS turbofans
    Cmapss,
    /// ALFA flights
    Alfa,
    /// Backblaze drive statistics
    Backblaze,
    /// Comma-separated values, mapped by the source section
    Csv,
    /// JSON lines, as simulate writes them or mapped by the source section
    Jsonl,
}

/// Files of a data set.
#[derive(Debug, ClapArgs)]
pub struct FilesArgs {
    /// Files, gzip or plain
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What they are
    #[arg(long)]
    pub format: FormatName,
    /// Telemetry only
    #[arg(long)]
    pub no_events: bool,
}

/// `homeward publish`
#[derive(Debug, ClapArgs)]
pub struct PublishArgs {
    /// The files
    #[command(flatten)]
    pub files: FilesArgs,
    /// Messages a second at most
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
}

/// `homeward ingest`
#[derive(Debug, Default, ClapArgs)]
pub struct IngestArgs {
    /// Move damaged parts of the journal aside and go on; what they held is lost
    #[arg(long)]
    pub skip_damaged: bool,
}

/// `homeward predict`
#[derive(Debug, Default, Clone, Copy, ClapArgs)]
pub struct PredictArgs {
    /// Publish nothing; log what would be said
    #[arg(long)]
    pub dry_run: bool,
    /// Move damaged parts of the journal aside and go on; what they held is not scored, and an alert it raised may be raised again under another id
    #[arg(long, conflicts_with = "dry_run")]
    pub skip_damaged: bool,
}

/// `homeward train`
#[derive(Debug, ClapArgs)]
pub struct TrainArgs {
    /// Train again and again, this long from start to start, e.g. 24h
    #[arg(long, value_name = "DURATION")]
    pub every: Option<String>,
    /// When the champion moves: better, always or never; over the configuration
    #[arg(long, value_name = "WHEN")]
    pub promote: Option<String>,
}

/// `homeward export`
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Features and labels of all readings as one Parquet file, for other tools
    Features(ExportFeaturesArgs),
}

/// `homeward export features`
#[derive(Debug, ClapArgs)]
pub struct ExportFeaturesArgs {
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "features.parquet")]
    pub out: PathBuf,
    /// Features and risks of this model: a version, or champion
    #[arg(long, value_name = "VERSION")]
    pub model: Option<String>,
}

/// `homeward audit`
#[derive(Debug, ClapArgs)]
pub struct AuditArgs {
    /// This device only
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Exit 1 also for rows that cannot be compared: other input, models that are gone
    #[arg(long)]
    pub strict: bool,
}

/// `homeward check`
#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    /// The configuration only; connect to nothing
    #[arg(long)]
    pub offline: bool,
}

/// `homeward models`
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// All versions, newest last
    List,
    /// Metrics of a version [default: the champion]
    Show {
        /// The version
        version: Option<String>,
    },
    /// Make a version the champion
    Promote {
        /// The version
        version: String,
    },
    /// Bring the champion before this one back
    Rollback,
    /// What two versions cost on data that neither has seen
    Compare {
        /// The one
        first: String,
        /// The other [default: the champion]
        second: Option<String>,
    },
    /// Store a model that another library learnt on this fleet's features as a version, without promoting it
    ///
    /// The model must be one of trees for one horizon, learnt on columns that are this fleet's features, as `homeward export features` names them. Where the file
    /// holds the columns' names (XGBoost, LightGBM), each must be a feature of this fleet; order and number are free. Without names (ONNX, columns called
    /// f0 or Column_0) the columns must be all features in their order. How alerts are raised and what they cost is taken from the configuration's `decide` and
    /// `costs`; only the threshold must be said. The version is stored and not promoted, and its metrics say that it was imported and never evaluated
    /// here: `homeward models promote` puts it into service, `homeward predict --dry-run` shows what it would say.
    Import(ImportModelArgs),
    /// Write a version's trees for other tools
    Export(ExportModelArgs),
}

/// Formats of other libraries' models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModelFormat {
    /// XGBoost's JSON, as Booster.save_model("model.json") writes it: gbtree, binary:logistic
    Xgboost,
    /// LightGBM's text, as Booster.save_model("model.txt") writes it: binary
    Lightgbm,
    /// ONNX with one TreeEnsembleClassifier of two classes, the second of them failure
    Onnx,
}

/// `homeward models import`
#[derive(Debug, ClapArgs)]
pub struct ImportModelArgs {
    /// The model's file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which library wrote it
    #[arg(long)]
    pub format: ModelFormat,
    /// Risk from which on it raises, above 0 and at most 1
    #[arg(long, value_name = "RISK")]
    pub threshold: f64,
    /// How far ahead it was trained to see a failure, such as 10m [default: the only one of `train.horizons`]
    #[arg(long, value_name = "DURATION")]
    pub horizon: Option<String>,
}

/// Formats that models are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// ONNX with one TreeEnsembleClassifier: rows of features in, the uncalibrated risk in the second column of `probabilities`
    Onnx,
}

/// `homeward models export`
#[derive(Debug, ClapArgs)]
pub struct ExportModelArgs {
    /// The version [default: the champion]
    pub version: Option<String>,
    /// What to write
    #[arg(long, default_value = "onnx")]
    pub format: ExportFormat,
    /// Where to write it
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Says what clap found in one line on stderr (help and version as they are on stdout), with exit 2.
pub fn one_line(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|l| !l.starts_with("Usage") && !l.starts_with("For more"));
    let said = lines.filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ");
    crate::report::say(&format!("{said} (homeward --help says more)"));
    ExitCode::from(2)
}
