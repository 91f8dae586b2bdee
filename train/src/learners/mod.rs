//! The learners: linfa estimators over one binned matrix, all ending in one flat form.
//!
//! Rows are fitted on and scored by their codes; what comes out is exported as the `Ensemble` that scores values live, bit for bit the same.
//! Everything runs on rayon's current pool and gives the same bits on any number of threads.

mod boost;
mod chance;
mod data;
mod flat;
mod forest;
mod grow;
mod histogram;
mod loss;
mod novelty;
mod packed;
mod params;
mod partition;
mod scan;
#[cfg(test)]
mod tests;
mod tree;

use linfa::dataset::DatasetBase;
use linfa::traits::Fit;

pub use boost::Boost;
pub(crate) use data::outcomes;
pub use data::{Outcome, Sample, Targets};
pub use flat::Trees;
pub use forest::Forest;
pub use novelty::{Healthy, Moments, NoveltySettings};
pub use params::{Checked, Hyper, Unchecked};
pub use tree::Tree;

/// Why a learner could not be fitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// A setting makes no sense.
    #[error("{name}: found {found}, expected {expected}")]
    Setting {
        /// Which one.
        name: &'static str,
        /// What it was.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// The rows do not teach anything.
    #[error("found {found}, needed {needed}")]
    TooLittle {
        /// What there is.
        found: String,
        /// What it takes.
        needed: String,
    },
    /// linfa refused.
    #[error("{0}")]
    Linfa(String),
}

impl From<linfa::Error> for LearnError {
    fn from(error: linfa::Error) -> Self {
        Self::Linfa(error.to_string())
    }
}

/// Whether `sample` holds both outcomes.
fn enough(sample: &Sample<'_>, targets: &Targets) -> Result<(), LearnError> {
    let sums = (0..targets.horizons()).map(|k| targets.weights_of(sample.rows, k));
    let (failed, known) = sums.fold((0.0f64, 0.0f64), |most, sum| (most.0 + sum.0, most.1 + sum.1));
    if failed > 0.0 && known > failed && sample.rows.len() < (1 << 30) {
        return Ok(());
    }
    Err(LearnError::TooLittle {
        found: format!("weight {failed} of positive and {} of negative readings among {}", known - failed, sample.rows.len()),
        needed: "both, and fewer than 2^30 readings: more failures, or a shorter horizon".into(),
    })
}

/// A learner and its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum Learner {
    /// linfa's decision tree.
    Tree(Tree),
    /// Random forest.
    Forest(Forest),
    /// Gradient boosting.
    Boost(Boost),
}

/// A fitted learner. All of them end as trees; `novelty`, which learns from values alone, ends as a linear form and is fitted by itself.
pub type Fitted = Trees;

impl Learner {
    /// Its name in settings and model files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tree(_) => "tree",
            Self::Forest(_) => "forest",
            Self::Boost(_) => "boost",
        }
    }

    /// Checks the settings and fits on the rows of `sample`. `targets` are those of all rows of the matrix.
    pub fn fit(&self, sample: Sample<'_>, targets: &Targets) -> Result<Fitted, LearnError> {
        let dataset = DatasetBase::new(sample, targets);
        match self {
            Self::Tree(settings) => Unchecked::new(settings.clone()).fit(&dataset),
            Self::Forest(settings) => Unchecked::new(settings.clone()).fit(&dataset),
            Self::Boost(settings) => Unchecked::new(settings.clone()).fit(&dataset),
        }
    }
}
