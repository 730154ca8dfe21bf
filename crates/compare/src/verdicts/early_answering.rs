//! H1: the area over the curve of early answers rises, at equal length of the traces.

use super::contrast::{Claim, Contrast, PairedDifference};
use super::controls::Controls;
use super::decision::{Evidence, contrasts};
use super::subject::Measured;
use crate::paired::{ADJUSTED_AREA, AREA, PairedAreas};
use aloud_measure::metric_record::IntervalMethod;
use aloud_measure::statistics::Bootstrap;

const METHOD: IntervalMethod = IntervalMethod::PairedClusterBootstrap;

/// More of the area than the control has, by 0.05.
pub(super) const CLAIM: Claim = Claim { sign: 1.0, smallest: 0.05 };

/// The evidence on H1 in a task, or in all of them together.
pub(super) fn evidence(
    model: &Measured<'_>,
    controls: &[Measured<'_>],
    chosen: &Controls,
    task: &str,
    bootstrap: &Bootstrap,
) -> Evidence {
    let withheld = model.withheld(task, AREA);
    let (contrasts, mut obstacles) = contrasts(controls, chosen, |control| {
        let key = control.key();
        if let Some(reason) = withheld.clone().or_else(|| control.withheld(task, AREA)) {
            return Err(reason);
        }
        let areas = PairedAreas::of(&control.measures, &model.measures, task);
        let areas = areas.ok_or_else(|| format!("{AREA} has no value beside {key}"))?;
        contrast(key, &areas, bootstrap).ok_or_else(|| {
            format!("traces of {key} and of the model are never equally long: D1 cannot be adjusted for length")
        })
    });
    obstacles.dedup();
    Evidence {
        name: "H1",
        claim_words: "the answer depends on more of the trace than in every control, at equal length",
        metric: ADJUSTED_AREA,
        claim: CLAIM,
        contrasts,
        condition: None,
        obstacles,
    }
}

/// The contrast with one control; `None` if no difference at equal length can be told.
pub(super) fn contrast(control: &str, areas: &PairedAreas, bootstrap: &Bootstrap) -> Option<Contrast> {
    let [Some(raw), Some(adjusted)] = areas.values() else { return None };
    let draws = areas.draws(bootstrap);
    let contrast = Contrast::new(control, areas.items.len(), adjusted, &draws.adjusted, CLAIM, (bootstrap, METHOD));
    contrast.ci.as_ref()?;
    let ci = Bootstrap { level: 0.95, ..*bootstrap }.interval_of_draws(draws.raw).map(|ci| ci.by(METHOD));
    Some(Contrast { unadjusted: Some(PairedDifference { difference: raw, ci }), ..contrast })
}
