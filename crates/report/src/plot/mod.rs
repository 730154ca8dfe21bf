//! Figures: lines with bands, points with intervals and ellipses, bars, histograms, heat maps, ridges; as SVG for a page
//! or a file, with their numbers as CSV and JSON.
//!
//! `figure` says what is shown, the other files how it looks. Nothing here knows metrics.

mod data;
mod drawing;
mod figure;
pub mod files;
mod frame;
mod heat;
mod marks;
mod paint;
mod panel;
mod render;
mod scale;

pub(crate) use data::{to_csv, to_json};
pub use figure::Figure;
pub(crate) use figure::{Axis, Content, Guide, HeatMap, Layout, Mark, Panel, Point, Scale, Series, Spread};
pub(crate) use paint::{Medium, N_STYLES, style_sheet};
pub(crate) use render::to_svg;

#[cfg(test)]
pub(crate) mod tests;
