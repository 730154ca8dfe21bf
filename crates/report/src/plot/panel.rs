//! One panel: its frame and axes, and what stands between them.

use std::fmt::Write;

use super::drawing::{Anchor, Drawing, Stroke, TEXT, Words, joined, shortened, width};
use super::figure::{Axis, Content, Guide, Mark, Panel, Point, Scale};
use super::frame::{ELLIPSE_RADIUS, Frame, Place, Rectangle, TICK};
use super::heat::{HEAT_KEY_HEIGHT, draw_heat, draw_key};
use super::marks::draw_series;
use super::paint::Paint;
use super::scale::FittedAxis;

/// Widest name of a category beside a vertical axis.
const WIDEST_NAME: f64 = 190.0;

/// Values of a panel along one axis: points, the ends of their intervals and ellipses, and 0 where bars begin.
fn values(panel: &Panel, horizontal: bool) -> Vec<f64> {
    let bars_along = |mark: Mark| mark == Mark::Bars && (panel.y.names().is_some() == horizontal);
    let mut values = Vec::new();
    for series in panel.series() {
        if bars_along(series.mark) {
            values.push(0.0);
        }
        for Point { x, y, x_interval, y_interval, spread, .. } in &series.points {
            // A point that is not drawn takes no room.
            let Some(y) = y else { continue };
            let (value, interval) = if horizontal { (x, x_interval) } else { (y, y_interval) };
            values.push(*value);
            values.extend(interval.iter().flatten().copied());
            if let Some(spread) = spread {
                let variance = if horizontal { spread.x } else { spread.y };
                let radius = ELLIPSE_RADIUS * variance.max(0.0).sqrt();
                values.extend([value - radius, value + radius]);
            }
        }
    }
    values
}

/// Widest text at the ticks of the vertical axis.
pub(super) fn left_words(panel: &Panel, height: f64) -> f64 {
    let axis = FittedAxis::new(&panel.y, values(panel, false).into_iter(), most_ticks(height, 36.0));
    let widest = axis.ticks.iter().map(|tick| width(&tick.1, TICK)).fold(0.0, f64::max);
    widest.min(WIDEST_NAME)
}

fn most_ticks(room: f64, each: f64) -> usize {
    ((room / each) as usize).clamp(2, 9)
}

pub(super) fn draw_panel(drawing: &mut Drawing, panel: &Panel, place: Place<'_>) {
    let room = place.room;
    let mut top = room.top;
    if !panel.title.is_empty() && !place.ridge {
        let title = shortened(&panel.title, TEXT, room.right - room.left);
        drawing.words(
            room.left,
            top + 12.0,
            &title,
            Words { bold: true, ..Words::new(Anchor::Start, Paint::Ink, TEXT) },
        );
        top += 19.0;
    }
    if !panel.y.label.is_empty() && !place.ridge {
        let label = shortened(&panel.y.label, TICK, room.right - room.left);
        drawing.words(room.left, top + 11.0, &label, Words::new(Anchor::Start, Paint::Quiet, TICK));
        top += 23.0;
    } else if !place.ridge {
        // Room for the upper half of the highest number.
        top += 6.0;
    }
    if let Content::Heat(heat) = &panel.content {
        draw_key(drawing, heat, room.left, top);
        top += HEAT_KEY_HEIGHT;
    }
    let left = room.left + place.left_words + 8.0;
    let right = room.right - 10.0;
    let turned = place.labelled_below && names_turned(&panel.x, right - left);
    let (upright, slanted) = if panel.x.label.is_empty() { (22.0, 8.0) } else { (40.0, 24.0) };
    let below = match (place.labelled_below, turned) {
        (false, _) => 4.0,
        (true, false) => upright,
        (true, true) => turned_height(&panel.x) + slanted,
    };
    let inside = Rectangle { left, top, right, bottom: room.bottom - below };
    let x =
        FittedAxis::new(&panel.x, values(panel, true).into_iter(), most_ticks(right - left, 68.0)).between(left, right);
    let y = FittedAxis::new(&panel.y, values(panel, false).into_iter(), most_ticks(inside.bottom - top, 36.0));
    // Categories go downwards, numbers upwards.
    let y = if panel.y.names().is_some() { y.between(top, inside.bottom) } else { y.between(inside.bottom, top) };
    let frame = Frame { inside, x, y };

    draw_horizontal_axis(drawing, panel, &frame, place, turned);
    draw_vertical_axis(drawing, panel, &frame, place);
    match &panel.content {
        Content::Heat(heat) => draw_heat(drawing, heat, panel, &frame),
        Content::Series(series) => {
            draw_guides(drawing, &panel.guides, &frame, place.id);
            draw_series(drawing, panel, series, &frame);
        }
    }
}

fn names_turned(axis: &Axis, room: f64) -> bool {
    axis.names().is_some_and(|names| {
        let band = room / names.len().max(1) as f64;
        names.iter().any(|name| width(name, TICK) + 6.0 > band)
    })
}

/// Height of names that are turned by 35 degrees.
fn turned_height(axis: &Axis) -> f64 {
    let widest = axis.names().unwrap_or_default().iter().map(|name| width(name, TICK)).fold(0.0, f64::max);
    widest.min(WIDEST_NAME) * 0.574 + 16.0
}

const GRID: Stroke = Stroke { paint: Paint::Line, width: 1.0, dashes: "" };

fn draw_horizontal_axis(drawing: &mut Drawing, panel: &Panel, frame: &Frame, place: Place<'_>, turned: bool) {
    let Rectangle { left, top, right, bottom } = frame.inside;
    let names = panel.x.names().is_some();
    let mut grid = String::new();
    for (value, text) in &frame.x.ticks {
        let Some(at) = frame.x.at(*value) else { continue };
        if !names && !place.ridge {
            // Writing to a string cannot fail.
            let _ = write!(grid, "M{at:.1} {top:.1}V{bottom:.1}");
        }
        if !place.labelled_below {
            continue;
        }
        let words = Words::new(Anchor::Middle, Paint::Quiet, TICK);
        if turned {
            let text = shortened(text, TICK, WIDEST_NAME);
            drawing.words(at + 4.0, bottom + 14.0, &text, Words { anchor: Anchor::End, turned: 35.0, ..words });
        } else {
            // The last number must not stand out of the panel's room.
            let at = at.min(place.room.right - width(text, TICK) / 2.0);
            drawing.words(at, bottom + 16.0, text, words);
        }
    }
    if !grid.is_empty() {
        drawing.stroke(&grid, GRID);
    }
    let axis = Stroke { paint: Paint::Quiet, width: 1.0, dashes: "" };
    drawing.stroke(&format!("M{left:.1} {bottom:.1}H{right:.1}"), axis);
    if place.labelled_below {
        let label = shortened(&panel.x.label, TICK, right - place.room.left);
        let middle = f64::midpoint(left, right);
        // A label that is wider than the frame goes on under the words at the left.
        let at = middle.min(place.room.right - width(&label, TICK) / 2.0);
        drawing.words(at, place.room.bottom - 7.0, &label, Words::new(Anchor::Middle, Paint::Quiet, TICK));
    }
}

fn draw_vertical_axis(drawing: &mut Drawing, panel: &Panel, frame: &Frame, place: Place<'_>) {
    let Rectangle { left, right, top, bottom } = frame.inside;
    let words = Words::new(Anchor::End, Paint::Quiet, TICK);
    if place.ridge {
        let title = shortened(&panel.title, TICK, place.left_words);
        drawing.words(left - 8.0, f64::midpoint(top, bottom) + 6.0, &title, Words { paint: Paint::Ink, ..words });
        return;
    }
    let heat = matches!(panel.content, Content::Heat(_));
    let mut grid = String::new();
    for (value, text) in &frame.y.ticks {
        let Some(at) = frame.y.at(*value) else { continue };
        if !heat && (at - bottom).abs() > 0.5 {
            let _ = write!(grid, "M{left:.1} {at:.1}H{right:.1}");
        }
        let names = matches!(panel.y.scale, Scale::Categories(_));
        let text = if names { shortened(text, TICK, WIDEST_NAME) } else { text.clone() };
        let words = if names { Words { paint: Paint::Ink, ..words } } else { words };
        drawing.words(left - 7.0, at + 4.0, &text, words);
    }
    if !grid.is_empty() {
        drawing.stroke(&grid, GRID);
    }
}

fn draw_guides(drawing: &mut Drawing, guides: &[Guide], frame: &Frame, id: &str) {
    if guides.is_empty() {
        return;
    }
    let Rectangle { left, top, right, bottom } = frame.inside;
    drawing.open_cut(id, left, top, right - left, bottom - top);
    for guide in guides {
        let path = joined(places(guide, frame).into_iter());
        drawing.stroke(&path, Stroke { paint: Paint::Quiet, width: 1.0, dashes: "4 4" });
    }
    drawing.close();
    for guide in guides.iter().filter(|guide| !guide.label.is_empty()) {
        if let Some((x, y)) = last_place_inside(guide, frame) {
            let words = Words::new(Anchor::End, Paint::Quiet, TICK);
            let x = x.max(left + width(&guide.label, TICK)).min(right - 2.0);
            drawing.words(x, (y - 5.0).max(top + 10.0), &guide.label, words);
        }
    }
}

fn places(guide: &Guide, frame: &Frame) -> Vec<(f64, f64)> {
    guide.points.iter().filter_map(|[x, y]| Some((frame.x.at(*x)?, frame.y.at(*y)?))).collect()
}

/// The last place of a guide that is inside of the frame.
fn last_place_inside(guide: &Guide, frame: &Frame) -> Option<(f64, f64)> {
    const PARTS: i32 = 64;
    let Rectangle { left, top, right, bottom } = frame.inside;
    places(guide, frame).windows(2).rev().find_map(|ends| {
        let [(x0, y0), (x1, y1)] = [ends[1], ends[0]];
        (0..=PARTS)
            .map(|part| f64::from(part) / f64::from(PARTS))
            .map(|share| (x0 + (x1 - x0) * share, y0 + (y1 - y0) * share))
            .find(|(x, y)| (left..=right).contains(x) && (top..=bottom).contains(y))
    })
}
