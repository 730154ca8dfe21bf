//! Where things are drawn: rectangles, the place of a panel, and its frame with fitted axes.

use super::scale::FittedAxis;

/// Size of words at ticks.
pub(super) const TICK: f64 = 11.0;

/// A rectangle of the drawing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rectangle {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// Where and how a panel is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// All of its room, words included.
    pub(super) room: Rectangle,
    /// Whether the horizontal axis has its numbers and label.
    pub(super) labelled_below: bool,
    /// Whether the panel stands in a ridge: its title stands beside it, its vertical axis has no numbers.
    pub(super) ridge: bool,
    /// Room for the words at the left, at least.
    pub(super) left_words: f64,
    /// Id for what it is cut to.
    pub(super) id: &'a str,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) inside: Rectangle,
    pub(super) x: FittedAxis,
    pub(super) y: FittedAxis,
}

/// Radius of a 95 % ellipse of a two-dimensional normal distribution: `sqrt(-2 ln 0.05)`.
pub(super) const ELLIPSE_RADIUS: f64 = 2.447_746_830_680_816;
