//! A figure as SVG.

use super::drawing::{Anchor, Drawing, Stroke, TEXT, Words, lines, width};
use super::figure::{Content, Figure, Layout, Mark, Panel, Series};
use super::frame::{Place, Rectangle};
use super::heat::HEAT_KEY_HEIGHT;
use super::paint::{Medium, Paint, dashes, marker};
use super::panel::{draw_panel, left_words};
use crate::text::escape;

/// Width of a figure of one or two panels.
const WIDTH: f64 = 560.0;
/// Width of a figure of three and more columns.
const WIDE: f64 = 1120.0;
const GAP: f64 = 22.0;
/// Room around a figure in a file of its own.
const MARGIN: f64 = 18.0;
const TITLE: f64 = 15.0;
const LEGEND_ROW: f64 = 19.0;
const RIDGE_ROW: f64 = 46.0;
const FONTS: &str = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif";

/// The figure as one `<svg>` element, for a page or as the content of a file.
pub(crate) fn to_svg(figure: &Figure, medium: Medium) -> String {
    let inner = if figure.is_wide() { WIDE } else { WIDTH };
    let margin = if medium == Medium::Page { 0.0 } else { MARGIN };
    let mut drawing = Drawing::new(medium);
    let mut top = margin;
    if medium != Medium::Page {
        for line in lines(&figure.title, TITLE, inner) {
            drawing.words(
                margin,
                top + 13.0,
                &line,
                Words { bold: true, ..Words::new(Anchor::Start, Paint::Ink, TITLE) },
            );
            top += 20.0;
        }
        top += 6.0;
    }
    top = draw_legend(&mut drawing, figure, margin, top, inner);
    top = draw_panels(&mut drawing, figure, margin, top, inner);
    if medium != Medium::Page {
        top += 8.0;
        for line in lines(&figure.caption, TEXT, inner) {
            drawing.words(margin, top + 11.0, &line, Words::new(Anchor::Start, Paint::Quiet, TEXT));
            top += 17.0;
        }
    }
    let (full_width, height) = (inner + 2.0 * margin, top + margin);
    let ground = match medium {
        Medium::Page => String::new(),
        Medium::File => {
            format!("<rect width=\"{full_width:.0}\" height=\"{height:.0}\" fill=\"{}\"/>", medium.colour(Paint::Paper))
        }
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full_width:.0} {height:.0}\" width=\"{full_width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{}\" font-family=\"{}\">{ground}{}</svg>",
        escape(&figure.title),
        escape(FONTS),
        drawing.svg
    )
}

/// The distinct series, by name, in order of appearance.
fn legend_entries(figure: &Figure) -> Vec<&Series> {
    let mut entries: Vec<&Series> = Vec::new();
    for series in figure.panels.iter().flat_map(Panel::series) {
        if !entries.iter().any(|entry| entry.name == series.name) {
            entries.push(series);
        }
    }
    entries
}

/// Whether each panel has one series and says its name above: then a legend would say it again.
fn titles_name_series(figure: &Figure) -> bool {
    figure.panels.iter().all(|panel| matches!(panel.series(), [one] if one.name == panel.title))
}

/// Draws the legend, if there is more than one series, and returns where the next thing begins.
fn draw_legend(drawing: &mut Drawing, figure: &Figure, left: f64, top: f64, room: f64) -> f64 {
    let entries = legend_entries(figure);
    if entries.len() < 2 || figure.layout == Layout::Ridge || titles_name_series(figure) {
        return top;
    }
    let (mut x, mut y) = (left, top);
    for entry in entries {
        let wide = 26.0 + width(&entry.name, TEXT) + 14.0;
        if x > left && x + wide > left + room {
            (x, y) = (left, y + LEGEND_ROW);
        }
        let middle = y + 8.0;
        let paint = Paint::Series(entry.style);
        match entry.mark {
            Mark::Bars => drawing.fill(&format!("M{:.1} {:.1}h12v11h-12z", x + 5.0, middle - 5.5), paint, 1.0),
            Mark::Line => {
                let stroke = Stroke { paint, width: 2.0, dashes: dashes(entry.style) };
                drawing.stroke(&format!("M{x:.1} {middle:.1}h21"), stroke);
                drawing.mark(&marker(entry.style, x + 10.5, middle), paint);
            }
            Mark::Points => drawing.mark(&marker(entry.style, x + 10.5, middle), paint),
        }
        drawing.words(x + 26.0, middle + 4.0, &entry.name, Words::new(Anchor::Start, Paint::Ink, TEXT));
        x += wide;
    }
    y + LEGEND_ROW + 8.0
}

fn draw_panels(drawing: &mut Drawing, figure: &Figure, left: f64, top: f64, room: f64) -> f64 {
    let columns = figure.columns();
    let wide = (room - GAP * (columns as f64 - 1.0)) / columns as f64;
    let ridge = figure.layout == Layout::Ridge;
    let ridge_words = figure.panels.iter().map(|panel| width(&panel.title, 11.0)).fold(0.0, f64::max).min(190.0);
    let mut top = top;
    for (row, panels) in figure.panels.chunks(columns).enumerate() {
        let last = (row + 1) * columns >= figure.panels.len();
        let tall = panels.iter().map(|panel| height(panel, figure, wide, last)).fold(0.0, f64::max);
        for (column, panel) in panels.iter().enumerate() {
            let start = left + column as f64 * (wide + GAP);
            let id = format!("{}-{}", figure.name, row * columns + column);
            let place = Place {
                room: Rectangle { left: start, top, right: start + wide, bottom: top + tall },
                labelled_below: !ridge || last,
                ridge,
                left_words: if ridge { ridge_words } else { left_words(panel, tall) },
                id: &id,
            };
            draw_panel(drawing, panel, place);
        }
        top += tall + if ridge || last { 0.0 } else { GAP };
    }
    top
}

/// Height of a panel, words included.
fn height(panel: &Panel, figure: &Figure, wide: f64, last: bool) -> f64 {
    if figure.layout == Layout::Ridge {
        return if last { RIDGE_ROW + 38.0 } else { RIDGE_ROW };
    }
    let key = if matches!(panel.content, Content::Heat(_)) { HEAT_KEY_HEIGHT } else { 0.0 };
    match panel.y.names() {
        Some(names) => {
            let n_series = panel.series().len().max(1) as f64;
            names.len() as f64 * (12.0 + 11.0 * n_series).clamp(24.0, 90.0) + 84.0 + key
        }
        None => (0.52 * wide + 40.0).clamp(200.0, 340.0),
    }
}
