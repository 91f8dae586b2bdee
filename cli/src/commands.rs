//! One function a command.

pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod compact;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod files;
pub(crate) mod import;
pub(crate) mod ingest;
pub(crate) mod interchange;
pub(crate) mod models;
pub(crate) mod predict;
pub(crate) mod publish;
pub(crate) mod simulate;
pub(crate) mod train;
