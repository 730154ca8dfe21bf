//! Series: lines with bands, points with intervals and ellipses, bars.

use std::f64::consts::TAU;

use super::drawing::{Anchor, Drawing, Stroke, Words, joined, width};
use super::figure::{Axis, Mark, Panel, Point, Series, Spread};
use super::frame::{ELLIPSE_RADIUS, Frame, Rectangle, TICK};
use super::paint::{Paint, dashes, marker};
use super::scale::{FittedAxis, number};

/// Lines with more points than this have no markers.
const MOST_MARKERS: usize = 40;
/// Points of a series with more than this do not say what they are when they are pointed at.
const MOST_NAMED: usize = 200;
/// Share of a category's room that its bars or points take.
const GROUP: f64 = 0.76;

pub(super) fn draw_series(drawing: &mut Drawing, panel: &Panel, series: &[Series], frame: &Frame) {
    for one in series {
        for point in &one.points {
            if let Some(spread) = point.spread {
                draw_ellipse(drawing, one.style, point, spread, frame);
            }
        }
        if one.mark == Mark::Line {
            draw_line(drawing, one, frame);
        }
    }
    let mut taken = Taken { inside: frame.inside, boxes: Vec::new() };
    let mut labels = Vec::new();
    for one in series {
        for point in &one.points {
            let shift = shift(panel, series, one, frame);
            let Some((x, y)) = place(point, shift, panel, frame) else { continue };
            let is_named = one.points.len() <= MOST_NAMED;
            if is_named {
                drawing.open_named(&description(panel, one, point));
            }
            match one.mark {
                Mark::Bars => draw_bar(drawing, panel, series, one, (x, y), frame),
                Mark::Points => draw_intervals(drawing, one.style, point, (x, y), frame),
                Mark::Line => {}
            }
            if one.mark == Mark::Bars {
                draw_intervals(drawing, usize::MAX, point, (x, y), frame);
            } else if one.mark == Mark::Points || one.points.len() <= MOST_MARKERS {
                drawing.mark(&marker(one.style, x, y), Paint::Series(one.style));
                taken.boxes.push(Rectangle { left: x - 4.0, top: y - 4.0, right: x + 4.0, bottom: y + 4.0 });
            }
            if is_named {
                drawing.close();
            }
            taken.boxes.extend(interval_boxes(point, (x, y), frame).into_iter().flatten());
            if !point.label.is_empty() {
                labels.push((x, y, point.label.as_str()));
            }
        }
    }
    for (x, y, label) in labels {
        if let Some((x, y)) = taken.free_place(x, y, label) {
            drawing.words(x, y, label, Words::new(Anchor::Start, Paint::Quiet, TICK));
        }
    }
}

/// Where a point stands, moved by `shift` along the axis of categories.
fn place(point: &Point, shift: f64, panel: &Panel, frame: &Frame) -> Option<(f64, f64)> {
    let (x, y) = (frame.x.at(point.x)?, frame.y.at(point.y?)?);
    Some(match (panel.x.names(), panel.y.names()) {
        (Some(_), _) => (x + shift, y),
        (None, Some(_)) => (x, y + shift),
        (None, None) => (x, y),
    })
}

/// How far bars and points of a series stand from the middle of their category, so that series stand side by side.
fn shift(panel: &Panel, series: &[Series], one: &Series, frame: &Frame) -> f64 {
    if one.mark == Mark::Line || (panel.x.names().is_none() && panel.y.names().is_none()) {
        return 0.0;
    }
    let group: Vec<&Series> = series.iter().filter(|other| other.mark == one.mark).collect();
    let index = group.iter().position(|other| std::ptr::eq(*other, one)).unwrap_or(0);
    let step = step(panel, group.len(), frame);
    (index as f64 - (group.len() as f64 - 1.0) / 2.0) * step
}

fn step(panel: &Panel, n_series: usize, frame: &Frame) -> f64 {
    let band = if panel.x.names().is_some() { frame.x.band() } else { frame.y.band() };
    (GROUP * band / n_series.max(1) as f64).min(46.0)
}

fn draw_line(drawing: &mut Drawing, series: &Series, frame: &Frame) {
    // Stretches without missing values.
    let there = |point: &Point| frame.x.at(point.x).zip(point.y.and_then(|y| frame.y.at(y)));
    for stretch in series.points.split(|point| there(point).is_none()) {
        for band in stretch.split(|point| point.y_interval.is_none()).filter(|band| band.len() > 1) {
            let edge =
                |point: &Point, end: usize| Some((frame.x.at(point.x)?, frame.y.within(point.y_interval?[end])?));
            let lower = band.iter().filter_map(|point| edge(point, 0));
            let upper = band.iter().rev().filter_map(|point| edge(point, 1));
            let path = joined(lower.chain(upper));
            drawing.fill(&format!("{path}z"), Paint::Series(series.style), 0.16);
        }
        let path = joined(stretch.iter().filter_map(there));
        let stroke = Stroke { paint: Paint::Series(series.style), width: 2.0, dashes: dashes(series.style) };
        if stretch.len() > 1 {
            drawing.stroke(&path, stroke);
        }
    }
}

fn draw_bar(drawing: &mut Drawing, panel: &Panel, series: &[Series], one: &Series, at: (f64, f64), frame: &Frame) {
    let n_bars = series.iter().filter(|other| other.mark == Mark::Bars).count();
    let (x, y) = at;
    let categories = panel.x.names().is_some() || panel.y.names().is_some();
    // Without categories the bars are those of a histogram: as wide as the closest two are apart.
    let thickness = if categories { step(panel, n_bars, frame) - 1.5 } else { closest(one, frame) - 1.0 };
    let half = (thickness / 2.0).max(0.5);
    let path = if panel.y.names().is_some() {
        let zero = frame.x.within(0.0).unwrap_or(frame.inside.left);
        format!("M{zero:.1} {:.1}H{x:.1}v{:.1}H{zero:.1}z", y - half, 2.0 * half)
    } else {
        let zero = frame.y.within(0.0).unwrap_or(frame.inside.bottom);
        format!("M{:.1} {zero:.1}V{y:.1}h{:.1}V{zero:.1}z", x - half, 2.0 * half)
    };
    drawing.fill(&path, Paint::Series(one.style), 1.0);
}

/// Smallest distance of two points of a series along the horizontal axis.
fn closest(series: &Series, frame: &Frame) -> f64 {
    let mut places: Vec<f64> = series.points.iter().filter_map(|point| frame.x.at(point.x)).collect();
    places.sort_by(f64::total_cmp);
    let room = frame.inside.right - frame.inside.left;
    places.windows(2).map(|pair| pair[1] - pair[0]).filter(|distance| *distance > 0.0).fold(room / 12.0, f64::min)
}

/// The intervals of a point as bars with caps. A style beyond all is ink.
fn draw_intervals(drawing: &mut Drawing, style: usize, point: &Point, at: (f64, f64), frame: &Frame) {
    let (x, y) = at;
    let [along, across] = interval_boxes(point, at, frame);
    let along = along.map(|Rectangle { left, top, bottom, .. }| {
        format!("M{x:.1} {bottom:.1}V{top:.1}M{left:.1} {bottom:.1}h6M{left:.1} {top:.1}h6")
    });
    let across = across.map(|Rectangle { left, top, right, .. }| {
        format!("M{left:.1} {y:.1}H{right:.1}M{left:.1} {top:.1}v6M{right:.1} {top:.1}v6")
    });
    let path: String = along.into_iter().chain(across).collect();
    if !path.is_empty() {
        let paint = if style == usize::MAX { Paint::Ink } else { Paint::Series(style) };
        drawing.stroke(&path, Stroke { paint, width: 1.4, dashes: "" });
    }
}

/// The room that a point's intervals of `y` and of `x` take.
fn interval_boxes(point: &Point, (x, y): (f64, f64), frame: &Frame) -> [Option<Rectangle>; 2] {
    let ends = |interval: Option<[f64; 2]>, axis: &FittedAxis| {
        let [low, high] = interval?;
        Some((axis.within(low)?, axis.within(high)?))
    };
    [
        ends(point.y_interval, &frame.y).map(|(bottom, top)| Rectangle { left: x - 3.0, top, right: x + 3.0, bottom }),
        ends(point.x_interval, &frame.x).map(|(left, right)| Rectangle { left, top: y - 3.0, right, bottom: y + 3.0 }),
    ]
}

fn draw_ellipse(drawing: &mut Drawing, style: usize, point: &Point, spread: Spread, frame: &Frame) {
    let Some(y) = point.y else { return };
    // The square root of the covariance matrix, by Cholesky, turns a circle into the ellipse.
    let a = spread.x.max(0.0).sqrt();
    let b = if a > 0.0 { spread.covariance / a } else { 0.0 };
    let c = (spread.y - b * b).max(0.0).sqrt();
    let outline = (0..48).filter_map(|corner| {
        let (sin, cos) = (TAU * f64::from(corner) / 48.0).sin_cos();
        let x = point.x + ELLIPSE_RADIUS * a * cos;
        let y = y + ELLIPSE_RADIUS * (b * cos + c * sin);
        Some((frame.x.within(x)?, frame.y.within(y)?))
    });
    drawing.fill(&format!("{}z", joined(outline)), Paint::Series(style), 0.14);
}

/// What is shown when a point is pointed at.
fn description(panel: &Panel, series: &Series, point: &Point) -> String {
    let x = written(&panel.x, point.x, point.x_interval);
    let y = point.y.map_or_else(String::new, |y| written(&panel.y, y, point.y_interval));
    let label = if point.label.is_empty() { String::new() } else { format!(" ({})", point.label) };
    format!("{}{label}: {x}; {y}", series.name)
}

fn written(axis: &Axis, value: f64, interval: Option<[f64; 2]>) -> String {
    if let Some(names) = axis.names() {
        return names.get(value.round().max(0.0) as usize).cloned().unwrap_or_default();
    }
    // Three digits.
    let step = 10_f64.powf(value.abs().max(1e-9).log10().floor() - 2.0);
    let value = number(value, step, axis.format);
    let interval = interval.map(|ends| ends.map(|end| number(end, step, axis.format)));
    let interval = interval.map(|[low, high]| format!(" [{low}, {high}]")).unwrap_or_default();
    format!("{} {value}{interval}", axis.label)
}

/// Where words and marks stand already.
struct Taken {
    inside: Rectangle,
    boxes: Vec<Rectangle>,
}

impl Taken {
    /// A free place beside a point: right, left, above or below it. None if all are taken.
    fn free_place(&mut self, x: f64, y: f64, label: &str) -> Option<(f64, f64)> {
        let wide = width(label, TICK);
        let starts = [
            (x + 8.0, y + 4.0),
            (x - 8.0 - wide, y + 4.0),
            (x - wide / 2.0, y - 9.0),
            (x - wide / 2.0, y + 17.0),
            (x + 7.0, y - 7.0),
            (x + 7.0, y + 15.0),
            (x - 7.0 - wide, y - 7.0),
            (x - 7.0 - wide, y + 15.0),
        ];
        let found = starts.into_iter().find_map(|(left, base)| {
            let words = Rectangle { left, top: base - 10.0, right: left + wide, bottom: base + 3.0 };
            let inside = words.left >= self.inside.left
                && words.right <= self.inside.right + 8.0
                && words.top >= self.inside.top - 12.0
                && words.bottom <= self.inside.bottom;
            (inside && !self.boxes.iter().any(|other| overlap(words, *other))).then_some((left, base, words))
        });
        found.map(|(left, base, words)| {
            self.boxes.push(words);
            (left, base)
        })
    }
}

fn overlap(a: Rectangle, b: Rectangle) -> bool {
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
}
