//! What a figure says: panels, axes, series of points, and the words around them. How it looks is decided elsewhere.

/// A figure: one or more panels under one title.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name of its files, and prefix of the ids inside it: letters, digits, `-`, `.` and `_`.
    pub(crate) name: String,
    /// What is shown, in one line.
    pub(crate) title: String,
    /// How to read it, of what it is, and of how many (n).
    pub(crate) caption: String,
    /// The panels, by row.
    pub(crate) panels: Vec<Panel>,
    pub(crate) layout: Layout,
}

/// How the panels of a figure stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In rows of this many; each with its axes.
    Grid { columns: usize },
    /// One above the other, flat, with one horizontal axis below the last: the shapes are compared.
    Ridge,
}

/// A pair of axes with what stands between them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Panel {
    /// What this panel is of; empty if the figure's title says it.
    pub(crate) title: String,
    /// Left to right.
    pub(crate) x: Axis,
    /// Bottom to top; categories top to bottom.
    pub(crate) y: Axis,
    pub(crate) content: Content,
    /// Lines to compare with.
    pub(crate) guides: Vec<Guide>,
}

/// What stands between the axes of a panel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Series(Vec<Series>),
    Heat(HeatMap),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    /// What it measures, with the unit.
    pub(crate) label: String,
    pub(crate) scale: Scale,
    pub(crate) format: NumberFormat,
}

/// Where values stand on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scale {
    /// Evenly, over the range of the data.
    Linear,
    /// Evenly, from 0 on.
    FromZero,
    /// Evenly, from the first to the second value.
    Fixed(f64, f64),
    /// Names; the value `i` is the place of the name `i`.
    Categories(Vec<String>),
}

/// How the numbers of an axis are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberFormat {
    /// As they are.
    Plain,
    /// Fractions, in per cent.
    PerCent,
}

/// Points that belong together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// Name in the legend.
    pub(crate) name: String,
    /// Its colour, marker and dash: the same number looks the same in all figures. 0 is grey, for a reference.
    pub(crate) style: usize,
    pub(crate) mark: Mark,
    pub(crate) points: Vec<Point>,
}

/// How the points of a series are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Joined in order; a value that is missing leaves a gap. Intervals are a band.
    Line,
    /// Each by itself. Intervals are bars.
    Points,
    /// Columns from 0, or rows if the vertical axis has categories. Intervals are bars.
    Bars,
}

/// A point. What is not finite is not drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Point {
    /// Left to right: a number, or the place of a category.
    pub(crate) x: f64,
    /// Bottom to top: a number, or the place of a category. None if it was not measured.
    pub(crate) y: Option<f64>,
    pub(crate) x_interval: Option<[f64; 2]>,
    pub(crate) y_interval: Option<[f64; 2]>,
    /// For a 95 % ellipse.
    pub(crate) spread: Option<Spread>,
    /// Written beside it; empty for nothing.
    pub(crate) label: String,
}

/// The variances of a point's `x` and `y`, and their covariance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) covariance: f64,
}

/// A line to compare with, drawn dashed behind the series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Guide {
    /// Written at its end; empty for nothing.
    pub(crate) label: String,
    /// Its corners. Outside of the axes it is cut.
    pub(crate) points: Vec<[f64; 2]>,
}

/// A field of shaded cells.
///
/// # Shapes
/// `values[row][column]`: a row for each category of the vertical axis, a column for each of the horizontal one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeatMap {
    /// None leaves a cell empty.
    pub(crate) values: Vec<Vec<Option<f64>>>,
    /// What a value is: a fraction, written in per cent.
    pub(crate) label: String,
}

impl Figure {
    /// Panels in a row.
    pub(super) fn columns(&self) -> usize {
        match self.layout {
            Layout::Grid { columns } => columns.clamp(1, self.panels.len().max(1)),
            Layout::Ridge => 1,
        }
    }

    /// Whether it is drawn twice as wide as others, because it has three and more panels in a row.
    pub(crate) fn is_wide(&self) -> bool {
        self.columns() >= 3
    }
}

impl Panel {
    /// A panel of series, without title and guides.
    pub(crate) fn of_series(x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self { title: String::new(), x, y, content: Content::Series(series), guides: Vec::new() }
    }

    /// The series; none for a heat map.
    pub(crate) fn series(&self) -> &[Series] {
        match &self.content {
            Content::Series(series) => series,
            Content::Heat(_) => &[],
        }
    }
}

impl Axis {
    /// An axis of plain numbers.
    pub(crate) fn new(label: impl Into<String>, scale: Scale) -> Self {
        Self { label: label.into(), scale, format: NumberFormat::Plain }
    }

    /// An axis of fractions, written in per cent.
    pub(crate) fn per_cent(label: impl Into<String>, scale: Scale) -> Self {
        Self { label: label.into(), scale, format: NumberFormat::PerCent }
    }

    /// An axis of names.
    pub(crate) fn categories<S: Into<String>>(label: impl Into<String>, names: impl IntoIterator<Item = S>) -> Self {
        Self::new(label, Scale::Categories(names.into_iter().map(Into::into).collect()))
    }

    /// Its names, if it has names.
    pub(super) fn names(&self) -> Option<&[String]> {
        match &self.scale {
            Scale::Categories(names) => Some(names),
            _ => None,
        }
    }
}

impl Point {
    /// A point with the interval of `y`.
    pub(crate) fn new(x: f64, y: impl Into<Option<f64>>, y_interval: impl Into<Option<[f64; 2]>>) -> Self {
        Self { x, y: y.into(), y_interval: y_interval.into(), ..Self::default() }
    }

    /// A point of a horizontal bar, with the interval of `x`.
    pub(crate) fn across(x: f64, place: f64, x_interval: Option<[f64; 2]>) -> Self {
        Self { x, y: Some(place), x_interval, ..Self::default() }
    }

    /// The same point with words beside it.
    #[must_use]
    pub(crate) fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }
}
