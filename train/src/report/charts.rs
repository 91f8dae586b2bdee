//! The report's charts, as SVG.

use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::evaluate::{Evaluation, FailureOutcome, log_odds};
use crate::metrics::Metrics;

/// A chart that cannot be drawn.
pub(crate) type Failed = Box<dyn Error + Send + Sync>;

const INK: RGBColor = RGBColor(28, 36, 48);
const SOFT: RGBColor = RGBColor(102, 112, 133);
const LINE: RGBColor = RGBColor(228, 231, 236);
const BLUE: RGBColor = RGBColor(31, 111, 235);
const RED: RGBColor = RGBColor(180, 35, 24);
const GREEN: RGBColor = RGBColor(10, 125, 79);
const FONT: &str = "system-ui, DejaVu Sans, sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws into an SVG of a size.
fn svg(width: u32, height: u32, draw: impl FnOnce(&Area<'_>) -> Result<(), Failed>) -> Result<String, Failed> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(text)
}

fn failed(error: impl std::fmt::Display) -> Failed {
    error.to_string().into()
}

/// A number as an axis says it.
fn tick(value: &f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    format!("{rounded}")
}

struct Axes<'a> {
    x: (f64, f64, &'a str),
    y: (f64, f64, &'a str),
    x_tick: &'a dyn Fn(&f64) -> String,
    y_tick: &'a dyn Fn(&f64) -> String,
}

fn chart<'a, 'b>(area: &'a Area<'b>, axes: &Axes<'_>) -> Result<Chart<'a, 'b>, Failed> {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(42)
        .y_label_area_size(58)
        .build_cartesian_2d(axes.x.0..axes.x.1, axes.y.0..axes.y.1)
        .map_err(failed)?;
    let font = (FONT, 12).into_font().color(&SOFT);
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(LINE)
        .axis_style(SOFT)
        .label_style(font.clone())
        .axis_desc_style((FONT, 13).into_font().color(&INK))
        .x_desc(axes.x.2)
        .y_desc(axes.y.2)
        .x_label_formatter(axes.x_tick)
        .y_label_formatter(axes.y_tick)
        .draw()
        .map_err(failed)?;
    Ok(chart)
}

fn line(chart: &mut Chart<'_, '_>, points: impl IntoIterator<Item = (f64, f64)>, style: ShapeStyle) -> Result<(), Failed> {
    chart.draw_series(LineSeries::new(points, style)).map_err(failed)?;
    Ok(())
}

fn dashed(chart: &mut Chart<'_, '_>, from: (f64, f64), to: (f64, f64), color: RGBColor) -> Result<(), Failed> {
    // A line of one segment has no dashes: it is cut into steps.
    let step = |i: i32| (from.0 + (to.0 - from.0) * f64::from(i) / 60.0, from.1 + (to.1 - from.1) * f64::from(i) / 60.0);
    chart.draw_series(DashedLineSeries::new((0..=60).map(step), 5, 4, color.stroke_width(1))).map_err(failed)?;
    Ok(())
}

fn thick(color: RGBColor) -> ShapeStyle {
    color.stroke_width(2)
}

/// Log-odds as the probability that they stand for.
fn odds_tick(x: &f64) -> String {
    let p = 1.0 / (1.0 + (-x).exp());
    match p {
        p if p < 0.001 => format!("{:.2} %", p * 100.0),
        p if p < 0.1 => format!("{:.1} %", p * 100.0),
        p if p > 0.99 => format!("{:.1} %", p * 100.0),
        p => format!("{:.0} %", p * 100.0),
    }
}

/// Cost per hour by threshold.
pub(crate) fn cost(e: &Evaluation) -> Result<String, Failed> {
    let points: Vec<(f64, f64)> = e.cost_curve.iter().filter(|(t, _)| *t <= 1.0).map(|(t, c)| (log_odds(*t), *c)).collect();
    let never = e.baselines.never.per_hour();
    let (low, high) = bounds(points.iter().map(|p| p.0), (-3.0, 3.0));
    // An alarm that is nearly always on costs so much that nothing else could be seen.
    let top = (never.max(e.policy.per_hour()) * 2.5).max(1e-9);
    svg(820, 300, |area| {
        let x = (low, high, "threshold (risk)");
        let mut chart = chart(area, &Axes { x, y: (0.0, top, "money per hour"), x_tick: &odds_tick, y_tick: &tick })?;
        line(&mut chart, points.iter().map(|(x, y)| (*x, y.min(top))), thick(BLUE))?;
        dashed(&mut chart, (low, never.min(top)), (high, never.min(top)), SOFT)?;
        if e.threshold <= 1.0 {
            let at = log_odds(e.threshold);
            dashed(&mut chart, (at, 0.0), (at, top), RED)?;
        }
        Ok(())
    })
}

fn bounds(values: impl Iterator<Item = f64> + Clone, default: (f64, f64)) -> (f64, f64) {
    let (low, high) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
    if low < high { (low, high) } else { default }
}

/// Precision against recall.
pub(crate) fn precision_recall(e: &Evaluation) -> Result<String, Failed> {
    svg(820, 320, |area| {
        let axes = Axes { x: (0.0, 1.0, "recall"), y: (0.0, 1.02, "precision"), x_tick: &tick, y_tick: &tick };
        let mut chart = chart(area, &axes)?;
        line(&mut chart, e.precision_recall.iter().copied(), thick(BLUE))
    })
}

/// Share that failed against the mean risk, on log-odds.
pub(crate) fn reliability(e: &Evaluation) -> Result<String, Failed> {
    let points: Vec<(f64, f64, usize)> = e.reliability.iter().map(|(risk, share, n)| (log_odds(*risk), log_odds(*share), *n)).collect();
    let (low, high) = bounds(points.iter().map(|p| p.0), (-6.0, 6.0));
    let (low, high) = (low.clamp(-9.0, -1.0), high.clamp(1.0, 9.0));
    svg(820, 340, |area| {
        let axes = Axes { x: (low, high, "risk given"), y: (low, high, "share that failed"), x_tick: &odds_tick, y_tick: &odds_tick };
        let mut chart = chart(area, &axes)?;
        dashed(&mut chart, (low, low), (high, high), SOFT)?;
        let at = points.iter().map(|(x, y, _)| (x.clamp(low, high), y.clamp(low, high)));
        line(&mut chart, at.clone(), BLUE.mix(0.4).stroke_width(1))?;
        chart.draw_series(at.map(|p| Circle::new(p, 4, BLUE.filled()))).map_err(failed)?;
        Ok(())
    })
}

/// How many failures were called how long before (target `present`: found how long after).
pub(crate) fn leads(e: &Evaluation, m: &Metrics) -> Result<String, Failed> {
    let leads: Vec<f64> = e.failures.iter().filter(|f| f.outcome == "called").map(|f| f.lead_ms as f64 / 1000.0).collect();
    let (unit, divisor) = unit(leads.iter().copied().fold(0.0, f64::max));
    let most = leads.iter().copied().fold(0.0, f64::max) / divisor * 1.02 + 1e-9;
    let bins = 24.0f64;
    let mut counts = vec![0.0; bins as usize];
    leads.iter().for_each(|l| counts[((l / divisor / most * bins) as usize).min(bins as usize - 1)] += 1.0);
    let top = counts.iter().copied().fold(0.0, f64::max) * 1.1;
    let word = if m.target == "present" { "after the fault" } else { "before the failure" };
    svg(820, 240, |area| {
        let label = format!("called {word}, {unit}");
        let mut chart = chart(area, &Axes { x: (0.0, most, &label), y: (0.0, top, "failures"), x_tick: &tick, y_tick: &tick })?;
        let bar = |(i, count): (usize, &f64)| {
            let (from, to) = (i as f64 * most / bins, (i as f64 + 0.92) * most / bins);
            Rectangle::new([(from, 0.0), (to, *count)], BLUE.filled())
        };
        chart.draw_series(counts.iter().enumerate().filter(|(_, c)| **c > 0.0).map(bar)).map_err(failed)?;
        Ok(())
    })
}

/// A unit for seconds, and how many seconds it has.
fn unit(most: f64) -> (&'static str, f64) {
    match most {
        s if s < 180.0 => ("s", 1.0),
        s if s < 3.0 * 3600.0 => ("min", 60.0),
        s if s < 3.0 * 86_400.0 => ("h", 3600.0),
        _ => ("days", 86_400.0),
    }
}

/// Risk before one failure, with its alarms.
pub(crate) fn timeline(f: &FailureOutcome) -> Result<String, Failed> {
    let before = |ms: i64| -(ms as f64) / 1000.0;
    let times = f.timeline.risks.iter().map(|(ms, _)| before(*ms));
    let (low, high) = bounds(times.clone(), (-1.0, 1.0));
    let (unit, divisor) = unit(low.abs().max(high.abs()));
    let (low, high) = (low / divisor, high.max(0.0) / divisor);
    svg(300, 130, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(4)
            .margin_right(18)
            .x_label_area_size(22)
            .y_label_area_size(28)
            .build_cartesian_2d(low..high, 0.0..1.02)
            .map_err(failed)?;
        let label = |x: &f64| format!("{}{}", tick(x), if x.abs() < 1e-9 { unit } else { "" });
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(SOFT)
            .label_style((FONT, 10).into_font().color(&SOFT))
            .x_labels(4)
            .y_labels(3)
            .x_label_formatter(&label)
            .y_label_formatter(&tick)
            .draw()
            .map_err(failed)?;
        if f.timeline.threshold <= 1.0 {
            dashed(&mut chart, (low, f.timeline.threshold), (high, f.timeline.threshold), RED)?;
        }
        line(&mut chart, f.timeline.risks.iter().map(|(ms, risk)| (before(*ms) / divisor, *risk)), thick(BLUE))?;
        let mark = |(ms, found): &(i64, bool)| {
            let color = if *found { GREEN } else { RED };
            Circle::new((before(*ms) / divisor, f.timeline.threshold.min(1.0)), 4, color.filled())
        };
        chart.draw_series(f.timeline.alarms.iter().map(mark)).map_err(failed)?;
        Ok(())
    })
}
