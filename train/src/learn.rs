//! From a history to a model: out-of-fold risks, calibration, threshold and verdict, then the recipe refitted on all.
//!
//! Pure but for the progress: the same history gives the same bytes. `novelty`, which learns from values and knows no failures, has its own way.

mod novelty;
mod signatures;
#[cfg(test)]
pub(crate) mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use homeward_models::artifact::{Lineage, Model, SelfTest};
use homeward_models::calibration::Calibration;
use homeward_models::drift::{Reference, is_counted};
use homeward_models::ensemble::{Ensemble, Explainer};
use homeward_models::features::{FeatureSpec, regimes};
use homeward_models::form::{Form, Reasons};
use homeward_models::{Fleet, label::Target};

use crate::binned::Binned;
use crate::calibrate::{Risks, calibrate};
use crate::evaluate::{Choice, Evaluation, Incumbent, Pricer, evaluate};
use crate::history::History;
use crate::matrix::{Matrix, replay};
use crate::plan::{Part, Plan};
use crate::recipe::{self, Material, Recipe};
use crate::room::Column;
use crate::usage::DataUse;
use crate::{LearnerChoice, Settings, TrainError, coded, residual, sample};

/// What a run has learnt.
pub(crate) struct Learnt {
    pub(crate) model: Model,
    pub(crate) evaluation: Evaluation,
    pub(crate) usage: DataUse,
    /// What was tried, and its cost per hour over the folds.
    pub(crate) tried: Vec<(String, f64)>,
    /// What the risks of judged rows hang on, most first: by feature and by component.
    pub(crate) importance: Importance,
}

/// Mean size of the contribution over judged rows near failures, as a share of all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Importance {
    pub(crate) features: Vec<(String, f64)>,
    pub(crate) components: Vec<(String, f64)>,
}

/// A recipe with its judged risks.
struct Judged {
    recipe: Recipe,
    risks: Risks,
    cost: f64,
    /// The model of each part, as an ensemble, with the features that it scores.
    models: Vec<PartModel>,
}

/// The model that judges a part.
struct PartModel {
    part: Part,
    ensemble: Ensemble,
    /// Another matrix than the shared one, if its residuals were fitted for this part.
    matrix: Option<Arc<Matrix>>,
}

/// A recipe while its folds are fitted.
struct Trial {
    recipe: Recipe,
    q: Vec<Column>,
    models: Vec<PartModel>,
    rounds: Vec<usize>,
    spent: Duration,
}

/// Who is told what is done, and how long it may take.
pub(crate) struct Watch<'a> {
    pub(crate) progress: &'a dyn Fn(&str),
    /// Hears how many of how many fits are done.
    pub(crate) fitted: &'a dyn Fn(usize, usize),
    pub(crate) started: std::time::Instant,
}

/// The champion in service, to be beaten on data that neither has seen.
pub(crate) struct Champion {
    pub(crate) version: String,
    pub(crate) model: Model,
    /// The last reading it has learnt from, milliseconds since 1970 UTC.
    pub(crate) until: i64,
}

/// Learns from `history`.
pub(crate) fn learn(
    history: &History,
    fleet: &Fleet,
    settings: &Settings,
    champion: Option<Champion>,
    watch: &Watch<'_>,
) -> Result<Learnt, TrainError> {
    let base = Matrix::build(history, &FeatureSpec::new(fleet), settings)?;
    let settings = &novelty::settle(&base, settings, champion.as_ref(), watch);
    base.check(settings)?;
    let incumbent = champion.map(|c| incumbent(history, &base, c)).transpose()?;
    let plan = Plan::new(&base, settings, incumbent.as_ref().map(|i| i.seen));
    let (rows, features, failures, folds) = (base.rows(), base.features, base.failures(), plan.folds);
    (watch.progress)(&format!("{rows} rows × {features} features, {failures} failures, {folds} folds"));
    let work = Work { history, fleet, settings, base: &base, plan: &plan, watch };
    if settings.learner == LearnerChoice::Novelty {
        return novelty::learn(&work, incumbent.as_ref());
    }
    let (best, tried) = work.choose()?;
    (watch.progress)("pricing the policy and what it stands beside");
    let past = signatures::shared(&work)?;
    let naming = |asked: &[(Part, usize)]| signatures::names(&work, past.as_ref(), asked, &|part| judge(&base, &best.models, part));
    let evaluation = evaluate(&base, &plan, &best.risks, settings, &naming, incumbent.as_ref())?;
    (watch.progress)(&format!("refitting {} on all devices", best.recipe.describe()));
    let everything = sample::rows(&base, &plan.learnt_from(&base, None), settings, settings.seed);
    let explained = explained(&base, settings);
    let own = work.matrix(None, || coded::joined(&[everything.rows.as_slice(), &explained].concat(), &[]))?;
    let matrix = own.as_ref().unwrap_or(&base);
    let fit = best.recipe.fit(&Material::new(matrix, &everything, settings)?)?;
    let importance = importance(matrix, &fit.ensemble, &explained)?;
    let usage = DataUse::new(&base, &plan, settings, history, everything.rows.len());
    let scored = Scored { form: Form::Ensemble(fit.ensemble), learner: best.recipe.name(), calibration: best.risks.calibrations.clone() };
    let mut model = model(matrix, scored, &evaluation, settings, history)?;
    model.signatures = signatures::of(&work, past.as_ref(), matrix.spec(), None)?;
    Ok(Learnt { model, evaluation, usage, tried, importance })
}

/// The champion's risks of all rows that it has not seen.
fn incumbent(history: &History, matrix: &Matrix, champion: Champion) -> Result<Incumbent, TrainError> {
    let model = champion.model;
    let gap = model.horizons.last().copied().unwrap_or_default() + model.spec.fleet().windows.last().copied().unwrap_or_default();
    let seen = champion.until.saturating_add(gap);
    let risks = crate::score::deciding(history, &model, matrix.rows(), seen)?;
    Ok(Incumbent { version: champion.version, seen, model, risks })
}

/// All that judging recipes needs.
struct Work<'a> {
    history: &'a History,
    fleet: &'a Fleet,
    settings: &'a Settings,
    base: &'a Matrix,
    plan: &'a Plan,
    watch: &'a Watch<'a>,
}

impl Work<'_> {
    /// The matrix with the residuals that a model judged on `part` may use, of which `kept` rows are coded; `None` if the fleet has none: then it is the
    /// shared one.
    fn matrix(&self, part: Option<Part>, kept: impl FnOnce() -> Vec<Range<usize>>) -> Result<Option<Matrix>, TrainError> {
        if regimes(self.fleet).next().is_none() {
            return Ok(None);
        }
        let spec = residual::spec(self.history, self.fleet, self.base, self.plan, part, self.settings)?;
        self.base.sibling(self.history, &spec, kept()).map(Some)
    }

    /// Tries the recipes and keeps the one of least cost over the folds.
    fn choose(&self) -> Result<(Judged, Vec<(String, f64)>), TrainError> {
        let trial = |recipe| {
            let q = self.settings.horizons.iter().map(|_| Column::zeros(&self.history.room, self.base.rows())).collect::<Result<_, _>>()?;
            Ok(Trial { recipe, q, models: Vec::new(), rounds: Vec::new(), spent: Duration::ZERO })
        };
        let mut trials: Vec<Trial> = recipe::candidates(self.settings).into_iter().map(trial).collect::<Result<_, TrainError>>()?;
        let (parts, mut made) = (self.plan.parts().count(), 0);
        for (done, part) in self.plan.parts().enumerate() {
            let word = if let Part::Fold(fold) = part { format!("fold {} of {}", fold + 1, self.plan.folds) } else { "hold-out".into() };
            let sample = sample::rows(self.base, &self.plan.learnt_from(self.base, Some(part)), self.settings, self.settings.seed);
            enough(&sample, &word)?;
            let judged = self.plan.judged(self.base, part);
            let own = self.matrix(Some(part), || coded::joined(&sample.rows, &judged))?.map(|own| Arc::new(own.without_sample()));
            let matrix = own.as_deref().unwrap_or(self.base);
            let material = Material::new(matrix, &sample, self.settings)?;
            let mut fits = Vec::with_capacity(trials.len());
            let candidates = trials.len();
            for trial in &mut trials {
                (self.watch.progress)(&format!("{word}: {}", trial.recipe.describe()));
                fits.push(trial.fit(&material)?);
                made += 1;
                let left = (parts - done - 1) * candidates + candidates - fits.len();
                // One more is that of the model in service.
                (self.watch.fitted)(made, made + left + 1);
            }
            drop(material);
            // All of them at one reading of the codes.
            for rows in judged {
                matrix.coded.each(rows, |first, binned| {
                    trials.iter_mut().zip(&fits).try_for_each(|(trial, fit)| trial.judge(fit, first, &binned))
                })?;
            }
            for (trial, fit) in trials.iter_mut().zip(fits) {
                trial.models.push(PartModel { part, ensemble: fit.ensemble, matrix: own.clone() });
            }
            self.spare(&mut trials, done + 1);
        }
        self.cheapest(trials)
    }

    /// Gives up the last trials if all of them would take longer than there is time.
    fn spare(&self, trials: &mut Vec<Trial>, done: usize) {
        let parts = self.plan.parts().count();
        let left = |trials: &[Trial]| trials.iter().map(|t| t.spent).sum::<Duration>() * (parts - done) as u32 / done as u32;
        while trials.len() > 1 && self.watch.started.elapsed() + left(trials) > self.settings.budget {
            let given_up = trials.pop().map(|t| t.recipe.describe()).unwrap_or_default();
            (self.watch.progress)(&format!("{given_up} is given up: train.budget would not suffice"));
        }
    }

    fn cheapest(&self, trials: Vec<Trial>) -> Result<(Judged, Vec<(String, f64)>), TrainError> {
        let pricer = Pricer::new(self.base, self.settings, self.plan);
        let (mut best, mut tried): (Option<Judged>, _) = (None, Vec::new());
        for mut trial in trials {
            trial.recipe.settle(&trial.rounds);
            let risks = calibrate(self.base, self.plan, trial.q, self.settings)?;
            let cost = Choice::new(&pricer, self.plan, &risks.deciding).cost(&pricer, &risks.deciding);
            tried.push((trial.recipe.describe(), cost));
            if best.as_ref().is_none_or(|b| cost < b.cost) {
                best = Some(Judged { recipe: trial.recipe, risks, cost, models: trial.models });
            }
        }
        best.map(|best| (best, tried)).ok_or_else(|| TrainError::Fit("no recipe to try".into()))
    }
}

impl Trial {
    /// Fits on what a part may be judged by.
    fn fit(&mut self, material: &Material) -> Result<recipe::Fit, TrainError> {
        let started = Instant::now();
        let fit = self.recipe.fit(material)?;
        self.rounds.push(fit.rounds());
        self.spent += started.elapsed();
        Ok(fit)
    }

    /// Judges the rows of `binned`, which are those from `first` on.
    fn judge(&mut self, fit: &recipe::Fit, first: usize, binned: &Binned) -> Result<(), TrainError> {
        let started = Instant::now();
        let scores = fit.score(binned, self.q.len());
        self.q.iter_mut().zip(&scores).try_for_each(|(q, scores)| q.write(first, scores))?;
        self.spent += started.elapsed();
        Ok(())
    }
}

fn enough(sample: &sample::FitRows, place: &str) -> Result<(), TrainError> {
    if sample.positives > 0 && sample.positives < sample.rows.len() {
        return Ok(());
    }
    let found = format!("{} positive of {} readings with a known label to learn from for {place}", sample.positives, sample.rows.len());
    let needed = "both positive and negative readings in every fold: more failures, or a shorter horizon".into();
    Err(TrainError::TooLittle { found, needed })
}

/// The features and the reasons of the model that judged a part.
fn judge<'a>(base: &'a Matrix, models: &'a [PartModel], part: Part) -> Option<(&'a FeatureSpec, Reasons)> {
    let PartModel { ensemble, matrix, .. } = models.iter().find(|m| m.part == part)?;
    let reasons = Reasons::Trees { explainer: Explainer::new(ensemble), last: ensemble.horizons - 1 };
    Some((matrix.as_deref().unwrap_or(base).spec(), reasons))
}

/// Rows that importance is measured on at most.
const EXPLAINED: usize = 400;

/// The rows that importance is measured on: positive ones, spread evenly.
fn explained(matrix: &Matrix, settings: &Settings) -> Vec<u32> {
    use homeward_models::label::Label;
    let positive = || (0..matrix.rows()).filter(|r| matrix.label(*r).at(settings.horizon()) == Label::Positive);
    let step = positive().count().div_ceil(EXPLAINED).max(1);
    positive().step_by(step).map(|row| row as u32).collect()
}

/// Share of the contributions' size by feature and component, over `rows`.
fn importance(matrix: &Matrix, ensemble: &Ensemble, rows: &[u32]) -> Result<Importance, TrainError> {
    let spec = matrix.spec();
    let (mut sums, mut values, mut added) = (Added::new(spec), vec![0.0; spec.len()], vec![0.0; spec.len()]);
    let explainer = Explainer::new(ensemble);
    for row in rows {
        matrix.values(*row as usize, &mut values)?;
        explainer.contributions(&values, ensemble.horizons - 1, &mut added);
        sums.add(spec, &added);
    }
    Ok(sums.share(spec))
}

/// Sizes of contributions, summed by feature and component; the last component is none.
struct Added {
    features: Vec<f64>,
    components: Vec<f64>,
}

impl Added {
    fn new(spec: &FeatureSpec) -> Self {
        Self { features: vec![0.0; spec.len()], components: vec![0.0; spec.fleet().components.len() + 1] }
    }

    /// What the features added in one row.
    fn add(&mut self, spec: &FeatureSpec, added: &[f64]) {
        for (feature, contribution) in added.iter().enumerate() {
            self.features[feature] += contribution.abs();
            self.components[spec.component(feature).unwrap_or(spec.fleet().components.len())] += contribution.abs();
        }
    }

    fn share(self, spec: &FeatureSpec) -> Importance {
        let total = self.features.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let ranked = |sums: Vec<f64>, name: &dyn Fn(usize) -> String| {
            let mut ranked: Vec<(String, f64)> =
                sums.iter().enumerate().filter(|(_, s)| **s > 0.0).map(|(i, s)| (name(i), s / total)).collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            ranked
        };
        let component = |i: usize| spec.fleet().components.get(i).cloned().unwrap_or_else(|| "none named".into());
        Importance { features: ranked(self.features, &|f| spec.name(f)), components: ranked(self.components, &component) }
    }
}

/// What scores, as the model file names it.
struct Scored {
    form: Form,
    learner: &'static str,
    calibration: Vec<Calibration>,
}

fn model(matrix: &Matrix, scored: Scored, evaluation: &Evaluation, settings: &Settings, history: &History) -> Result<Model, TrainError> {
    let mut model = Model {
        target: settings.target,
        // One that knows fewer knows the last, which decides.
        horizons: settings.horizons[settings.horizons.len() - scored.form.horizons()..].to_vec(),
        learner: scored.learner.into(),
        calibration: scored.calibration,
        threshold: evaluation.threshold,
        decide: settings.decide.clone(),
        rules: settings.rules,
        money: settings.money.clone(),
        costs: settings.costs,
        typical: matrix.typical.clone(),
        drift: None,
        signatures: None,
        self_test: Vec::new(),
        lineage: Lineage {
            objects: history.objects.clone(),
            settings: settings.print(),
            seed: settings.seed,
            code: env!("CARGO_PKG_VERSION").into(),
        },
        metrics: serde_json::Value::Null,
        form: scored.form,
        spec: matrix.spec().clone(),
    };
    model.self_test = self_test(matrix, &model);
    model.drift = Some(drift(matrix, history, &model)?);
    Ok(model)
}

/// Rows whose risks a reader must reproduce bit for bit: sixteen, spread evenly over the sample.
fn self_test(matrix: &Matrix, model: &Model) -> Vec<SelfTest> {
    let step = (matrix.sample.len() / 16).max(1);
    let rows = matrix.sample.iter().step_by(step).take(16);
    let test = |row: &Vec<f64>| {
        let mut risks = vec![0.0; model.horizons.len()];
        model.score(row, &mut risks);
        SelfTest { row: row.clone(), risks }
    };
    rows.map(test).collect()
}

/// How features and risks are distributed in training, day by day.
fn drift(matrix: &Matrix, history: &History, model: &Model) -> Result<Reference, TrainError> {
    let deciding = |row: &[f64]| {
        let mut risks = vec![0.0; model.horizons.len()];
        model.score(row, &mut risks);
        risks.last().copied().unwrap_or_default()
    };
    let risks: Vec<f64> = matrix.sample.iter().map(|row| deciding(row)).collect();
    let mut learner = homeward_models::drift::Learner::new(matrix.features, &matrix.sample, &risks);
    let mut row = vec![0.0; matrix.features];
    for device in &history.devices {
        replay(history, &history.columns(), device, &model.spec, |ts, state| {
            if is_counted(state.accepted()) {
                state.features(&model.spec, &mut row);
                learner.add(ts, &row, deciding(&row));
            }
        })?;
    }
    Ok(learner.finish())
}

/// What positives come of.
pub(crate) fn positives_word(target: Target) -> &'static str {
    match target {
        Target::Failure => "failures (events failure, or inspection with finding confirmed)",
        Target::Present => "faults (event fault)",
    }
}
