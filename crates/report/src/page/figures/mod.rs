//! The figures of the page: at first the model and its base, then, on request, the controls beside them; never more than
//! three series between two axes.

mod depth;
mod dial;
mod externalisation;
mod quality;
mod quality_distribution;
mod subject;
mod task;

use crate::plot::{Content, Figure, Layout, Panel, Scale};
pub(super) use dial::dial_figures;
pub(super) use quality_distribution::quality_distributions;
pub(super) use subject::{ACCURACY, Subject};
use subject::{Draw, role};

const MOST_SERIES: usize = 3;

/// Figures that belong together: their headline, and how each is drawn.
pub(super) const GROUPS: [(&str, &[Draw]); 4] = [
    ("Depth", depth::DEPTH),
    ("Task", task::TASK),
    ("Text quality", quality::QUALITY),
    ("Is the reasoning in the text?", externalisation::EXTERNALISATION),
];

/// The figures of a part of a family of tasks.
pub(super) const OF_PARTS: &[Draw] = &[task::by_steps, externalisation::horizon];

/// Which runs of a task are seen at first: base and trained models; and which on request: the controls.
pub(super) struct Cast {
    base: Vec<usize>,
    /// The trained models, or all points of a sweep.
    models: Vec<usize>,
    controls: Vec<usize>,
}

impl Cast {
    /// From the places of the runs in their set.
    pub(super) fn of(subject: &Subject<'_>) -> Self {
        let [mut base, mut models, mut controls] = [0, 1, 2].map(|wanted| -> Vec<usize> {
            subject.runs.iter().copied().filter(|place| role(&subject.set.runs[*place]) == wanted).collect()
        });
        if models.is_empty() && base.is_empty() {
            models = controls.drain(..controls.len().min(1)).collect();
        }
        controls.extend(base.drain(base.len().min(1)..));
        Self { base, models, controls }
    }

    /// Whether the models are too many for one table with their base.
    pub(super) fn is_large(&self) -> bool {
        self.models.len() > 2
    }

    pub(super) fn first(&self) -> Vec<usize> {
        [&self.base[..], &self.models].concat()
    }

    /// The figures of models and base.
    pub(super) fn figures(&self, subject: &Subject<'_>, draws: &[Draw]) -> Vec<Figure> {
        draws.iter().filter_map(|draw| limited(subject, *draw, &self.base, &self.models, "model")).collect()
    }

    /// The same beside the controls, where these have something to show.
    pub(super) fn with_controls(&self, subject: &Subject<'_>, draws: &[Draw]) -> Vec<Figure> {
        if self.controls.is_empty() {
            return Vec::new();
        }
        // Beside two models each control would be a fourth series.
        let fixed = if self.models.len() == 1 { self.first() } else { self.base.clone() };
        let draw = |draw: &Draw| {
            let alone = draw(&Subject { runs: &self.controls, ..*subject });
            alone?;
            let figure = limited(subject, *draw, &fixed, &self.controls, "control")?;
            Some(Figure {
                name: format!("{}.controls", figure.name),
                title: format!("{}, beside controls", figure.title),
                ..figure
            })
        };
        draws.iter().filter_map(draw).collect()
    }
}

/// One figure of all runs, or, where that has too many series between two axes, small multiples: a panel for each of `each`
/// beside the fixed runs.
fn limited(subject: &Subject<'_>, draw: Draw, fixed: &[usize], each: &[usize], role: &str) -> Option<Figure> {
    let together = draw(&Subject { runs: &[fixed, each].concat(), ..*subject })?;
    if together.panels.iter().all(|panel| panel.series().len() <= MOST_SERIES) {
        return Some(together);
    }
    let panels: Vec<Panel> = each
        .iter()
        .filter_map(|place| {
            // What the run has nothing of is not drawn without it.
            draw(&Subject { runs: &[*place], ..*subject })?;
            let name = &subject.set.runs[*place].name;
            let figure = draw(&Subject { runs: &[fixed, &[*place]].concat(), ..*subject })?;
            Some(figure.panels.into_iter().map(|panel| titled(panel, name, role)).collect::<Vec<_>>())
        })
        .flatten()
        .collect();
    let columns = panels.len().clamp(1, 3);
    Some(Figure { panels: with_one_scale(panels), layout: Layout::Grid { columns }, ..together })
}

/// The panel under the name of the run, whose series is called by its role: then one legend is for all panels.
fn titled(mut panel: Panel, name: &str, role: &str) -> Panel {
    if let Content::Series(series) = &mut panel.content {
        series.iter_mut().filter(|one| one.name == name).for_each(|one| role.clone_into(&mut one.name));
    }
    panel.title = if panel.title.is_empty() { name.to_owned() } else { format!("{name}: {}", panel.title) };
    panel
}

/// The panels with vertical axes that can be compared: where they follow the data, those of all panels.
fn with_one_scale(mut panels: Vec<Panel>) -> Vec<Panel> {
    let ends = |panel: &Panel| -> Vec<f64> {
        let points = panel.series().iter().flat_map(|series| &series.points);
        points.flat_map(|point| point.y.into_iter().chain(point.y_interval.into_iter().flatten())).collect()
    };
    let values: Vec<f64> = panels.iter().flat_map(ends).filter(|value| value.is_finite()).collect();
    let (Some(low), Some(high)) = (values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max))
    else {
        return panels;
    };
    for panel in &mut panels {
        match panel.y.scale {
            Scale::Linear => panel.y.scale = Scale::Fixed(low, high),
            Scale::FromZero => panel.y.scale = Scale::Fixed(low.min(0.0), high.max(0.0)),
            _ => {}
        }
    }
    panels
}
