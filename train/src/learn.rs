//! From a history to a model: out-of-fold risks, calibration, threshold and verdict, then the recipe refitted on all.
//!
//! Pure but for the progress: the same history gives the same bytes.

use homeward_models::artifact::{Lineage, Model, SelfTest};
use homeward_models::ensemble::Ensemble;
use homeward_models::features::FeatureSpec;
use homeward_models::{Fleet, label::Target};

use crate::calibrate::{Risks, calibrate};
use crate::evaluate::{Choice, Evaluation, Incumbent, Pricer, evaluate};
use crate::history::History;
use crate::matrix::Matrix;
use crate::plan::{Part, Plan};
use crate::recipe::{self, Fit, Recipe};
use crate::usage::DataUse;
use crate::{Settings, TrainError, sample};

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
    /// The model of each part, as an ensemble.
    models: Vec<(Part, Ensemble)>,
}

/// Who is told what is done, and how long it may take.
pub(crate) struct Watch<'a> {
    pub(crate) progress: &'a dyn Fn(&str),
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
    mut history: History,
    fleet: &Fleet,
    settings: &Settings,
    champion: Option<Champion>,
    watch: &Watch<'_>,
) -> Result<Learnt, TrainError> {
    let spec = FeatureSpec::new(fleet);
    let matrix = Matrix::build(&history, &spec, settings);
    matrix.check(settings)?;
    let incumbent = champion.map(|c| incumbent(&history, &matrix, c));
    // From here on the bins are enough.
    history.signals = Vec::new();
    let plan = Plan::new(&matrix, settings, incumbent.as_ref().map(|i| i.seen));
    let (rows, features, failures, folds) = (matrix.rows(), spec.len(), matrix.failures(), plan.folds);
    (watch.progress)(&format!("{rows} rows × {features} features, {failures} failures, {folds} folds"));
    let (best, tried) = choose(&matrix, &plan, settings, watch)?;
    (watch.progress)("pricing the policy and what it stands beside");
    let naming = |part: Part, row: usize| name(&matrix, &best.models, part, row);
    let evaluation = evaluate(&matrix, &plan, &best.risks, settings, &naming, incumbent.as_ref());
    (watch.progress)(&format!("refitting {} on all devices", best.recipe.describe()));
    let everything = sample::rows(&matrix, &plan.learnt_from(&matrix, None), settings, settings.seed);
    let fit = best.recipe.fit(&matrix, &everything, settings)?;
    let importance = importance(&matrix, &fit.ensemble, settings);
    let usage = DataUse::new(&matrix, &plan, settings, &history, everything.rows.len());
    let model = model(&matrix, fit.ensemble, &best, &evaluation, settings, &history);
    Ok(Learnt { model, evaluation, usage, tried, importance })
}

/// The champion's risks of all rows that it has not seen.
fn incumbent(history: &History, matrix: &Matrix, champion: Champion) -> Incumbent {
    let model = champion.model;
    let gap = model.horizons.last().copied().unwrap_or_default() + model.spec.fleet().windows.last().copied().unwrap_or_default();
    let seen = champion.until.saturating_add(gap);
    let risks = crate::score::deciding(history, &model, matrix.rows(), seen);
    Incumbent { version: champion.version, seen, model, risks }
}

/// Tries the recipes and keeps the one of least cost.
fn choose(matrix: &Matrix, plan: &Plan, settings: &Settings, watch: &Watch<'_>) -> Result<(Judged, Vec<(String, f64)>), TrainError> {
    let pricer = Pricer::new(matrix, settings, plan);
    let mut best: Option<Judged> = None;
    let mut tried = Vec::new();
    for recipe in recipe::candidates(matrix, plan, settings) {
        let late = watch.started.elapsed() > settings.budget;
        if late && best.is_some() {
            (watch.progress)(&format!("{} not tried: the time budget is spent", recipe.describe()));
            continue;
        }
        let judged = judge(matrix, plan, recipe, settings, &pricer, watch)?;
        tried.push((judged.recipe.describe(), judged.cost));
        if best.as_ref().is_none_or(|b| judged.cost < b.cost) {
            best = Some(judged);
        }
    }
    best.map(|best| (best, tried)).ok_or_else(|| TrainError::Fit("no recipe to try".into()))
}

/// Risks of every judged row by a model that has learnt neither from its fold nor from the hold-out, calibrated and priced.
fn judge(
    matrix: &Matrix,
    plan: &Plan,
    mut recipe: Recipe,
    settings: &Settings,
    pricer: &Pricer<'_>,
    watch: &Watch<'_>,
) -> Result<Judged, TrainError> {
    let mut raw = vec![vec![0.0; matrix.rows()]; settings.horizons.len()];
    let mut models = Vec::new();
    let mut fits: Vec<Fit> = Vec::new();
    for part in plan.parts() {
        let word = if let Part::Fold(fold) = part { format!("fold {} of {}", fold + 1, plan.folds) } else { "hold-out".into() };
        (watch.progress)(&format!("{}: {word}", recipe.describe()));
        let sample = sample::rows(matrix, &plan.learnt_from(matrix, Some(part)), settings, settings.seed);
        enough(&sample, &word)?;
        let fit = recipe.fit(matrix, &sample, settings)?;
        fit.score(matrix, plan.judged(matrix, part), &mut raw);
        models.push((part, fit.ensemble.clone()));
        fits.push(fit);
    }
    recipe.settle(&fits);
    let risks = calibrate(matrix, plan, &raw, settings);
    let cost = Choice::new(pricer, plan, &risks.deciding).cost(pricer, &risks.deciding);
    Ok(Judged { recipe, risks, cost, models })
}

fn enough(sample: &sample::Fitted, place: &str) -> Result<(), TrainError> {
    if sample.positives > 0 && sample.positives < sample.rows.len() {
        return Ok(());
    }
    let found = format!("{} positive of {} readings with a known label to learn from for {place}", sample.positives, sample.rows.len());
    let needed = "both positive and negative readings in every fold: more failures, or a shorter horizon".into();
    Err(TrainError::TooLittle { found, needed })
}

/// The component whose features speak loudest for a failure, by the model that judged the row.
fn name(matrix: &Matrix, models: &[(Part, Ensemble)], part: Part, row: usize) -> Option<String> {
    let ensemble = &models.iter().find(|(p, _)| *p == part)?.1;
    let mut values = vec![0.0; matrix.features];
    matrix.values(row, &mut values);
    let components = &matrix.spec().fleet().components;
    let mut sums = vec![0.0; components.len()];
    for (feature, contribution) in ensemble.path_contributions(&values, ensemble.horizons - 1) {
        if let Some(c) = matrix.spec().component(feature as usize) {
            sums[c] += contribution;
        }
    }
    let loudest = sums.iter().enumerate().filter(|(_, s)| **s > 0.0).max_by(|a, b| a.1.total_cmp(b.1))?;
    Some(components[loudest.0].clone())
}

/// Rows that importance is measured on at most.
const EXPLAINED: usize = 400;

/// Share of the contributions' size by feature and component, over positive rows spread evenly.
fn importance(matrix: &Matrix, ensemble: &Ensemble, settings: &Settings) -> Importance {
    use homeward_models::label::Label;
    let positive: Vec<usize> = (0..matrix.rows()).filter(|r| matrix.labels[*r].at(settings.horizon()) == Label::Positive).collect();
    let step = positive.len().div_ceil(EXPLAINED).max(1);
    let spec = matrix.spec();
    let (mut features, mut components) = (vec![0.0; spec.len()], vec![0.0; spec.fleet().components.len() + 1]);
    let mut values = vec![0.0; spec.len()];
    for row in positive.into_iter().step_by(step) {
        matrix.values(row, &mut values);
        for (feature, contribution) in ensemble.path_contributions(&values, ensemble.horizons - 1) {
            features[feature as usize] += contribution.abs();
            let none = spec.fleet().components.len();
            components[spec.component(feature as usize).unwrap_or(none)] += contribution.abs();
        }
    }
    let total = features.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let ranked = |sums: Vec<f64>, name: &dyn Fn(usize) -> String| {
        let mut ranked: Vec<(String, f64)> =
            sums.iter().enumerate().filter(|(_, s)| **s > 0.0).map(|(i, s)| (name(i), s / total)).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        ranked
    };
    let component = |i: usize| spec.fleet().components.get(i).cloned().unwrap_or_else(|| "none named".into());
    Importance { features: ranked(features, &|f| spec.name(f)), components: ranked(components, &component) }
}

fn model(matrix: &Matrix, ensemble: Ensemble, best: &Judged, evaluation: &Evaluation, settings: &Settings, history: &History) -> Model {
    let self_test = self_test(matrix, &ensemble, settings.horizons.len());
    Model {
        target: settings.target,
        horizons: settings.horizons.clone(),
        learner: best.recipe.name().into(),
        threshold: evaluation.threshold,
        decide: settings.decide.clone(),
        rules: settings.rules,
        money: settings.money.clone(),
        costs: settings.costs,
        typical: matrix.typical.clone(),
        self_test,
        lineage: Lineage {
            objects: history.objects.clone(),
            settings: settings.print(),
            seed: settings.seed,
            code: env!("CARGO_PKG_VERSION").into(),
        },
        ensemble,
        spec: matrix.spec().clone(),
    }
}

/// Rows whose risks a reader must reproduce bit for bit: sixteen, spread evenly over the sample.
fn self_test(matrix: &Matrix, ensemble: &Ensemble, horizons: usize) -> Vec<SelfTest> {
    let step = (matrix.sample.len() / 16).max(1);
    let rows = matrix.sample.iter().step_by(step).take(16);
    rows.map(|row| {
        let mut risks = vec![0.0; horizons];
        ensemble.score(row, &mut risks);
        SelfTest { row: row.clone(), risks }
    })
    .collect()
}

/// What positives come of.
pub(crate) fn positives_word(target: Target) -> &'static str {
    match target {
        Target::Failure => "failures (events failure, or inspection with finding confirmed)",
        Target::Present => "faults (event fault)",
    }
}
