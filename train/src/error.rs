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
    /// linfa refused to fit.
    #[error("the tree cannot be fitted: {0}")]
    Fit(String),
    /// A model or a version cannot be named so.
    #[error(transparent)]
    Key(Box<KeyError>),
    /// The model cannot be written as JSON.
    #[error("the model cannot be written: {0}")]
    Write(#[from] serde_json::Error),
}

impl TrainError {
    pub(crate) fn key(error: KeyError) -> Self {
        Self::Key(Box::new(error))
    }
}
