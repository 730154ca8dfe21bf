//! Steps whose depth is decided after they ran: they run all blocks, and then go back to the depth that is decided.

use std::sync::Arc;

use aloud_kernels::backend::{Backend, Readout};
use aloud_model::decoder::{Decoder, Policy};

use super::exits::{ExitDecider, Exits};
use super::work::{StepResult, Work};

/// The residuals of a pass's steps that are decided in hindsight.
pub(crate) struct Hindsight<B: Backend> {
    steps: Vec<Undecided<B>>,
}

struct Undecided<B: Backend> {
    /// Of the work of the pass.
    item: usize,
    decider: Arc<dyn ExitDecider>,
    /// Residuals at the depths where it may stop, as far as the pass has come: one row each.
    at_depths: Vec<(usize, B::Rows)>,
}

impl<B: Backend> Hindsight<B> {
    /// For the steps of this work that nobody decided in advance.
    pub(crate) fn new(work: &[Work<'_, B>]) -> Self {
        let undecided = |(item, work): (usize, &Work<'_, B>)| match &work.request.exits {
            Exits::Decider(decider) if work.depths.is_none() && work.depth_in_advance().is_none() => {
                Some(Undecided { item, decider: Arc::clone(decider), at_depths: Vec::new() })
            }
            _ => None,
        };
        Self { steps: work.iter().enumerate().filter_map(undecided).collect() }
    }

    /// Keeps residuals at depth `depth`. `x` are the rows of the live work, in order.
    pub(crate) fn keep(&mut self, backend: &B, depth: usize, live: &[usize], work: &[Work<'_, B>], x: &B::Rows) {
        if self.steps.is_empty() {
            return;
        }
        let mut row = 0;
        for &item in live {
            let step = self.steps.iter_mut().find(|step| step.item == item && step.decider.depths().contains(&depth));
            if let Some(step) = step {
                step.at_depths.push((depth, backend.gather_rows(x, &[row])));
            }
            row += work[item].tokens.len() as u32;
        }
    }

    /// Has the depths decided, and makes the steps what they would be had they stopped there. `finals` are the residuals at the
    /// end.
    pub(crate) fn go_back(
        self,
        decoder: &Decoder<B>,
        policy: Option<&Policy<B>>,
        work: &mut [Work<'_, B>],
        starts: &[usize],
        results: &mut [StepResult],
        finals: &mut [Option<B::Rows>],
    ) {
        let backend = decoder.backend();
        for Undecided { item, decider, at_depths } in self.steps {
            let Some(last) = finals[item].take() else { continue };
            let hidden = decoder.final_norm(&last);
            let lens = |(depth, residual): &(usize, B::Rows)| decoder.lens(policy, *depth, residual);
            let lenses: Vec<B::Rows> = at_depths.iter().map(lens).collect();
            let readout = Readout { hidden: &hidden, weight: decoder.unembedding() };
            let readings = backend.lens_kl(readout, &lenses.iter().collect::<Vec<_>>(), &[0], false);
            let lens_kl: Vec<f32> = readings.iter().flat_map(|reading| &reading.lenses).map(|lens| lens.kl).collect();
            let decided = decider.in_hindsight(work[item].key(), &lens_kl);
            let kept = decided.and_then(|decided| at_depths.iter().find(|(depth, _)| *depth == decided));
            finals[item] = Some(match kept {
                None => last,
                Some((depth, kept)) => {
                    let residual = backend.gather_rows(kept, &[0]);
                    let arena = &mut *work[item].arena;
                    arena.forget(*depth, starts[item]);
                    arena.freeze(backend, starts[item], &residual, 0);
                    results[item].depth = *depth;
                    residual
                }
            });
        }
    }
}
