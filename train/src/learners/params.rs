//! linfa's convention of checked hyperparameters, for settings that are plain structs: only [`Checked`] ones fit.

use linfa::ParamGuard;

use super::LearnError;

/// Settings of a learner that can say whether they make sense.
pub trait Hyper {
    /// An error names the setting, what it was and what would be right.
    fn check(&self) -> Result<(), LearnError>;
}

/// Settings as given. linfa checks them before it fits.
#[derive(Debug, Clone, PartialEq)]
pub struct Unchecked<S>(Checked<S>);

/// Settings that were checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked<S>(S);

impl<S> Unchecked<S> {
    /// Takes settings to be checked.
    pub fn new(settings: S) -> Self {
        Self(Checked(settings))
    }
}

impl<S> Checked<S> {
    /// The settings.
    pub fn get(&self) -> &S {
        &self.0
    }
}

impl<S: Hyper> ParamGuard for Unchecked<S> {
    type Checked = Checked<S>;
    type Error = LearnError;

    fn check_ref(&self) -> Result<&Checked<S>, LearnError> {
        self.0.0.check()?;
        Ok(&self.0)
    }

    fn check(self) -> Result<Checked<S>, LearnError> {
        self.0.0.check()?;
        Ok(self.0)
    }
}

/// Refuses a number outside of `low..=high`, or NaN.
pub(crate) fn within(name: &'static str, value: f64, low: f64, high: f64) -> Result<(), LearnError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(LearnError::Setting { name, found: value.to_string(), expected: format!("a number from {low} to {high}") })
}
