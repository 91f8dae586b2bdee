//! Naming what is about to fail: past failures vote by how alike they looked; where none is alike enough the features that speak loudest name it.
//!
//! A *signature* is how a device looked in the last horizon before a failure: the mean of some columns, each in standard deviations from healthy readings. It
//! is compared as a direction, after healthy readings' own correlations are taken out (*whitened*): all motors turning faster in the wind is no news, one turning faster
//! than the others is. *Siblings stand in*: with the columns of two siblings changed ([`Fleet::exchanged`](crate::Fleet::exchanged)) a signature of the one is one of the other, and
//! one of a third component is another of it, so that few failures name many components.

use serde::{Deserialize, Serialize};

use crate::ensemble::explain::{by_group, loudest};
use crate::features::{Feature, FeatureSpec};

/// Past failures less alike than this, as the cosine between two directions, have no vote.
const ALIKE: f64 = 0.25;

/// Those of one failure more alike than this, with siblings changed, are one.
const SAME: f64 = 0.9;

/// A value farther than so many standard deviations from healthy ones is as far as it gets: sums of squares stay finite.
const FARTHEST: f64 = 1e9;

/// Signatures as the model file has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenSignatures {
    /// Columns of the feature matrix that are compared, ascending.
    pub columns: Vec<u32>,
    /// Mean of each over healthy rows.
    pub mean: Vec<f64>,
    /// One over the standard deviation of each; 0 for a column that never varied and so says nothing.
    pub inverse: Vec<f64>,
    /// The lower triangle L of the correlations L·Lᵀ of healthy rows, row by row, its diagonal above 0.
    pub lower: Vec<f64>,
    /// Past failures.
    pub past: Vec<WrittenSignature>,
}

/// One past failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenSignature {
    /// What failed, by its event.
    pub component: String,
    /// How it looked: a value a column, in standard deviations from healthy rows, to any scale.
    pub direction: Vec<f64>,
}

/// Signatures, checked and laid out for voting.
#[derive(Debug, Clone, PartialEq)]
pub struct Signatures {
    written: WrittenSignatures,
    /// What may be named, in the order of first mention, siblings last.
    components: Vec<String>,
    /// Whitened directions of length 1 with the component that each stands for.
    directions: Vec<(usize, Vec<f64>)>,
}

/// Why signatures cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("signatures.{place}: found {found}, expected {expected}")]
pub struct BadSignatures {
    place: String,
    found: String,
    expected: String,
}

impl BadSignatures {
    fn new(place: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Self {
        Self { place: place.into(), found: found.to_string(), expected: expected.into() }
    }
}

impl Signatures {
    /// Checks that columns exist and numbers are finite and as many as they must be, so that voting cannot panic; derives what stands in for siblings.
    pub fn check(written: WrittenSignatures, spec: &FeatureSpec) -> Result<Self, BadSignatures> {
        let columns = written.columns.len();
        let ascend = written.columns.is_sorted_by(|a, b| a < b) && written.columns.last().is_some_and(|c| (*c as usize) < spec.len());
        if !ascend {
            return Err(BadSignatures::new(
                "columns",
                format!("{:?}", written.columns),
                format!("columns below {}, ascending", spec.len()),
            ));
        }
        finite("mean", &written.mean, columns)?;
        finite("inverse", &written.inverse, columns)?;
        finite("lower", &written.lower, columns * (columns + 1) / 2)?;
        if let Some(at) = written.inverse.iter().position(|x| *x < 0.0) {
            return Err(BadSignatures::new(format!("inverse[{at}]"), written.inverse[at], "0 or more"));
        }
        if let Some(at) = (0..columns).map(|row| row * (row + 3) / 2).find(|at| written.lower[*at] <= 0.0) {
            return Err(BadSignatures::new(format!("lower[{at}]"), written.lower[at], "a diagonal above 0"));
        }
        let columns: Vec<usize> = written.columns.iter().map(|c| *c as usize).collect();
        let mut signatures = Self { components: Vec::new(), directions: Vec::new(), written };
        signatures.directions = signatures.lay_out(spec, &exchanges(spec, &columns))?;
        Ok(signatures)
    }

    fn lay_out(&mut self, spec: &FeatureSpec, exchanges: &[Exchange]) -> Result<Vec<(usize, Vec<f64>)>, BadSignatures> {
        let mut directions: Vec<(usize, Vec<f64>)> = Vec::new();
        let components = &spec.fleet().components;
        for (at, past) in self.written.past.iter().enumerate() {
            let place = format!("past[{at}].direction");
            finite(&place, &past.direction, self.written.columns.len())?;
            let none = || BadSignatures::new(&*place, "no direction", "a value other than 0");
            let own = components.iter().position(|c| *c == past.component);
            let first = directions.len();
            let itself = self.written.whitened(past.direction.clone()).ok_or_else(none)?;
            directions.push((place_of(&mut self.components, &past.component), itself));
            for exchange in exchanges {
                let sibling = own.and_then(|own| exchange.other(own)).map(|sibling| components[sibling].as_str());
                let name = place_of(&mut self.components, sibling.unwrap_or(&past.component));
                let direction = exchange.columns.iter().map(|from| past.direction[*from]).collect();
                let direction = self.written.whitened(direction).ok_or_else(none)?;
                // One that looks the same with siblings changed is no further evidence; a speed controller that strains another motor is.
                let known = directions[first..].iter().any(|(other, known)| *other == name && cosine(known, &direction) >= SAME);
                if !known {
                    directions.push((name, direction));
                }
            }
        }
        Ok(directions)
    }

    /// The form that was checked.
    pub fn written(&self) -> &WrittenSignatures {
        &self.written
    }

    /// The component that past failures vote for at `row`, an entry a column of the feature matrix; `None` if none of them is alike enough. Each has the eighth power of
    /// its cosine as its vote, so that a few that are very much alike outvote many that are somewhat so.
    pub fn vote(&self, row: &[f64]) -> Option<&str> {
        let written = &self.written;
        let columns = written.columns.iter().zip(written.mean.iter().zip(&written.inverse));
        // What is missing looks as healthy as can be.
        let standard = |z: f64| if z.is_nan() { 0.0 } else { z.clamp(-FARTHEST, FARTHEST) };
        let direction =
            written.whitened(columns.map(|(column, (mean, inverse))| standard((row[*column as usize] - mean) * inverse)).collect())?;
        let mut votes = vec![0.0; self.components.len()];
        for (component, past) in &self.directions {
            let alike = cosine(past, &direction);
            if alike >= ALIKE {
                let fourth = (alike * alike) * (alike * alike);
                votes[*component] += fourth * fourth;
            }
        }
        loudest(&votes).map(|component| self.components[component].as_str())
    }
}

impl WrittenSignatures {
    /// L⁻¹ times a direction in standard deviations, to the length of 1; `None` if it has none.
    fn whitened(&self, mut direction: Vec<f64>) -> Option<Vec<f64>> {
        // To a size of 1 first: squares must not overflow.
        let largest = direction.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        direction.iter_mut().for_each(|x| *x /= largest);
        let mut lower = self.lower.as_slice();
        for row in 0..direction.len() {
            let (weights, rest) = lower.split_at(row + 1);
            let above: f64 = weights[..row].iter().zip(&direction).map(|(w, x)| w * x).sum();
            direction[row] = (direction[row] - above) / weights[row];
            lower = rest;
        }
        let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        direction.iter_mut().for_each(|x| *x /= length);
        (length > 0.0 && length.is_finite()).then_some(direction)
    }
}

/// The component to name for `row`: by the vote of `signatures`, else the one whose features speak loudest. `contributions` writes what each column added to the
/// risk; it is asked only if no signature is alike.
pub fn component<'a>(
    spec: &'a FeatureSpec,
    signatures: Option<&'a Signatures>,
    row: &[f64],
    contributions: impl FnOnce(&mut [f64]),
) -> Option<&'a str> {
    if let Some(voted) = signatures.and_then(|signatures| signatures.vote(row)) {
        return Some(voted);
    }
    let components = &spec.fleet().components;
    let mut added = vec![0.0; spec.len()];
    contributions(&mut added);
    let sums = by_group(&added, components.len(), |feature| spec.component(feature));
    loudest(&sums).map(|component| components[component].as_str())
}

/// Two sibling components, and what their changing places does to some columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Indices into the fleet's components.
    pub siblings: [usize; 2],
    /// Of each column, which of them comes into its place.
    pub columns: Vec<usize>,
}

impl Exchange {
    /// The sibling of `component` in this exchange.
    fn other(&self, component: usize) -> Option<usize> {
        sibling(self.siblings, component)
    }
}

/// The other of two siblings; `None` if `component` is neither.
fn sibling([a, b]: [usize; 2], component: usize) -> Option<usize> {
    if component == a { Some(b) } else { (component == b).then_some(a) }
}

/// All exchanges of siblings under which `columns` of the feature matrix change places among themselves.
pub fn exchanges(spec: &FeatureSpec, columns: &[usize]) -> Vec<Exchange> {
    let components = spec.fleet().components.len();
    let pairs = (0..components).flat_map(|a| (a + 1..components).map(move |b| [a, b]));
    let exchange = |siblings: [usize; 2]| {
        let [a, b] = siblings;
        let goes = spec.fleet().exchanged(a, b)?;
        let to = |column: &usize| {
            let comes = moved(spec.features()[*column], &goes, siblings);
            columns.iter().position(|c| spec.features()[*c] == comes)
        };
        Some(Exchange { siblings, columns: columns.iter().map(to).collect::<Option<_>>()? })
    };
    pairs.filter_map(exchange).collect()
}

/// What becomes of a feature when channels go to other places and two components to each other's.
fn moved(feature: Feature, goes: &[usize], siblings: [usize; 2]) -> Feature {
    let other = |component| sibling(siblings, component).unwrap_or(component);
    match feature {
        Feature::Last { channel } => Feature::Last { channel: goes[channel] },
        Feature::Delta { channel } => Feature::Delta { channel: goes[channel] },
        Feature::Ewm { channel } => Feature::Ewm { channel: goes[channel] },
        Feature::Window { channel, window, statistic } => Feature::Window { channel: goes[channel], window, statistic },
        Feature::Age { component } => Feature::Age { component: other(component) },
        Feature::Usage { component } => Feature::Usage { component: other(component) },
        same => same,
    }
}

/// The cosine between two directions of length 1.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The place of a name in `names`, where it is put if it is not there yet.
fn place_of(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|n| n == name).unwrap_or_else(|| {
        names.push(name.into());
        names.len() - 1
    })
}

fn finite(place: &str, values: &[f64], count: usize) -> Result<(), BadSignatures> {
    if values.len() != count {
        return Err(BadSignatures::new(place, format!("{} values", values.len()), format!("{count}")));
    }
    match values.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(BadSignatures::new(format!("{place}[{at}]"), values[at], "a finite number")),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
