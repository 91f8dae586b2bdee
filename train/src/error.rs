//! Why a run ended without a model.

use homeward_store::{ArchiveError, KeyError, StoreError};

/// A training run that could not end with a model. The champion is untouched.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// There is too little to learn from: what was found and what is needed.
    #[error("too little data: found {found}, needed {needed}")]
    TooLittle {
        /// What there is.
        found: String,
        /// What it takes.
        needed: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An archive object cannot be read by polars.
    #[error("object {key}: {source}")]
    Object {
        /// Which object.
        key: String,
        /// What polars said.
        source: polars::error::PolarsError,
    },
    /// An events object cannot be read.
    #[error("object {key}: {source}")]
    Events {
        /// Which object.
        key: String,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// A learner refused to fit.
    #[error("the model cannot be fitted: {0}")]
    Fit(String),
    /// Another run holds the lock.
    #[error("another training of {name} is under way since {since}; its lock runs out at {until}")]
    Busy {
        /// The model.
        name: String,
        /// When it began, RFC 3339.
        since: String,
        /// When the lock runs out unless it is renewed, RFC 3339.
        until: String,
    },
    /// A file of this machine cannot be written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The report's charts cannot be drawn.
    #[error("the report cannot be drawn: {0}")]
    Report(String),
    /// A model or a version cannot be named so.
    #[error(transparent)]
    Key(Box<KeyError>),
    /// The model cannot be written as JSON.
    #[error("the model cannot be written: {0}")]
    Write(#[from] serde_json::Error),
}

impl TrainError {
    pub(crate) fn fit(error: crate::learners::LearnError) -> Self {
        match error {
            crate::learners::LearnError::TooLittle { found, needed } => Self::TooLittle { found, needed },
            other => Self::Fit(other.to_string()),
        }
    }

    pub(crate) fn key(error: KeyError) -> Self {
        Self::Key(Box::new(error))
    }
}
