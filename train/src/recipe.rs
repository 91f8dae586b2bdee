//! Recipes: a learner with its settings, and the ones that are tried.

use std::ops::Range;

use homeward_models::ensemble::Ensemble;

use crate::matrix::Matrix;
use crate::plan::Plan;
use crate::sample::Fitted;
use crate::tree::{self, Tree};
use crate::{Settings, TrainError};

/// A learner and its settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Recipe {
    /// linfa's decision tree.
    Tree,
}

/// A fitted recipe.
pub(crate) struct Fit {
    tree: Tree,
    pub(crate) ensemble: Ensemble,
}

/// What is tried, in this order.
pub(crate) fn candidates(_matrix: &Matrix, _plan: &Plan, _settings: &Settings) -> Vec<Recipe> {
    vec![Recipe::Tree]
}

impl Recipe {
    /// The learner's name in the model file.
    pub(crate) fn name(&self) -> &'static str {
        "tree"
    }

    /// The learner and what is special about it.
    pub(crate) fn describe(&self) -> String {
        self.name().into()
    }

    /// Fits on weighed rows.
    pub(crate) fn fit(&self, matrix: &Matrix, sample: &Fitted, settings: &Settings) -> Result<Fit, TrainError> {
        let tree = tree::fit(matrix, sample, settings)?;
        Ok(Fit { ensemble: tree.to_ensemble(matrix), tree })
    }

    /// Takes over for the final fit what the folds' fits have found.
    pub(crate) fn settle(&mut self, _fits: &[Fit]) {}
}

impl Fit {
    /// Writes risks by horizon and row.
    pub(crate) fn score(&self, matrix: &Matrix, rows: Vec<Range<usize>>, risks: &mut [Vec<f64>]) {
        let mut of_row = vec![0.0; risks.len()];
        for row in rows.into_iter().flatten() {
            self.tree.risks(matrix, row, &mut of_row);
            for (risks, risk) in risks.iter_mut().zip(&of_row) {
                risks[row] = *risk;
            }
        }
    }
}
