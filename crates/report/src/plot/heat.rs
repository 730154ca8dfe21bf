//! Heat maps: the stronger a cell is filled, the larger its value, which is also written where there is room.

use super::drawing::{Anchor, Drawing, Words, width};
use super::figure::{HeatMap, NumberFormat, Panel};
use super::frame::{Frame, TICK};
use super::paint::{INK_TO_PAPER, Paint};
use super::scale::number;

/// Room of the key.
pub(super) const HEAT_KEY_HEIGHT: f64 = 24.0;

/// The smallest and largest value; 0 is always among them.
fn range(heat: &HeatMap) -> (f64, f64) {
    let finite = heat.values.iter().flatten().flatten().copied().filter(|value| value.is_finite());
    let (low, high) = finite.fold((0.0, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
    if high > low { (low, high) } else { (low, low + 1.0) }
}

/// How strongly a cell is filled, for its place from the smallest to the largest value.
fn heat_share(share: f64) -> f64 {
    0.06 + 0.94 * share
}

fn fill(share: f64) -> Paint {
    Paint::Heat(heat_share(share))
}

/// What fills mean: a row of cells between the smallest and the largest value.
pub(super) fn draw_key(drawing: &mut Drawing, heat: &HeatMap, left: f64, top: f64) {
    const CELLS: usize = 8;
    let (low, high) = range(heat);
    let [low, high] = [low, high].map(|value| number(value, (high - low) / 100.0, NumberFormat::PerCent));
    let words = Words::new(Anchor::Start, Paint::Quiet, TICK);
    let mut x = left;
    drawing.words(x, top + 11.0, &heat.label, words);
    x += width(&heat.label, TICK) + 14.0;
    drawing.words(x, top + 11.0, &low, words);
    x += width(&low, TICK) + 6.0;
    for cell in 0..CELLS {
        drawing.fill(&format!("M{x:.1} {:.1}h13v11h-13z", top + 1.5), fill(cell as f64 / (CELLS - 1) as f64), 1.0);
        x += 13.0;
    }
    drawing.words(x + 6.0, top + 11.0, &high, words);
}

pub(super) fn draw_heat(drawing: &mut Drawing, heat: &HeatMap, panel: &Panel, frame: &Frame) {
    let (low, high) = range(heat);
    let range = high - low;
    let (wide, tall) = (frame.x.band(), frame.y.band());
    let (columns, rows) = (panel.x.names().unwrap_or_default(), panel.y.names().unwrap_or_default());
    for ((row, row_name), values) in rows.iter().enumerate().zip(&heat.values) {
        for ((column, column_name), value) in columns.iter().enumerate().zip(values) {
            let (Some(x), Some(y)) = (frame.x.at(column as f64), frame.y.at(row as f64)) else { continue };
            let Some(value) = value.filter(|value| value.is_finite()) else { continue };
            let share = (value - low) / range;
            let text = number(value, range / 100.0, NumberFormat::PerCent);
            drawing.open_named(&format!("{row_name}, {column_name}: {text}"));
            let (half_width, half_height) = ((wide / 2.0 - 0.75).max(0.5), (tall / 2.0 - 0.75).max(0.5));
            let (left, top, wide_cell) = (x - half_width, y - half_height, 2.0 * half_width);
            let cell = format!("M{left:.1} {top:.1}h{wide_cell:.1}v{:.1}h-{wide_cell:.1}z", 2.0 * half_height);
            drawing.fill(&cell, fill(share), 1.0);
            let written = format!("{:.0}", 100.0 * value);
            if width(&written, TICK) + 4.0 <= wide && tall >= 15.0 {
                // Paper on strong fills, ink on weak ones; both are readable where they change.
                let paint = if heat_share(share) > INK_TO_PAPER { Paint::Paper } else { Paint::Ink };
                drawing.words(x, y + 4.0, &written, Words::new(Anchor::Middle, paint, TICK));
            }
            drawing.close();
        }
    }
}
