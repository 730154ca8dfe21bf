//! Steps that stop where the teacher would: they run all blocks, and then go back to the depth that is drawn.

use aloud_kernels::{Backend, Readout};
use aloud_model::decoder::Decoder;

use crate::Exits;
use crate::exits::OracleExits;
use crate::random::uniform;
use crate::stepper::{StepResult, Work};

/// The residuals of a pass's oracle steps at their candidates.
pub(crate) struct Oracle<B: Backend> {
    steps: Vec<Looked<B>>,
}

struct Looked<B: Backend> {
    /// Of the work of the pass.
    item: usize,
    exits: OracleExits,
    /// One row each, as far as the pass has come.
    at_candidates: Vec<B::Rows>,
}

impl<B: Backend> Oracle<B> {
    /// For the steps of this work that decide by the oracle.
    pub(crate) fn new(work: &[Work<'_, B>]) -> Self {
        let looked = |(item, work): (usize, &Work<'_, B>)| match (&work.request.exits, work.depths) {
            (Exits::Oracle(exits), None) => Some(Looked { item, exits: exits.clone(), at_candidates: Vec::new() }),
            _ => None,
        };
        Self { steps: work.iter().enumerate().filter_map(looked).collect() }
    }

    /// Keeps residuals at depth `depth`. `x` are the rows of the live work, in order.
    pub(crate) fn look(&mut self, backend: &B, depth: usize, live: &[usize], work: &[Work<'_, B>], x: &B::Rows) {
        if self.steps.is_empty() {
            return;
        }
        let mut row = 0;
        for &item in live {
            let step = self.steps.iter_mut().find(|step| step.item == item && step.exits.candidates.contains(&depth));
            if let Some(step) = step {
                step.at_candidates.push(backend.gather_rows(x, &[row]));
            }
            row += work[item].tokens.len() as u32;
        }
    }

    /// Draws the depths, and makes the steps what they would be had they stopped there. `finals` are the residuals at the end.
    pub(crate) fn go_back(
        self,
        decoder: &Decoder<B>,
        work: &mut [Work<'_, B>],
        starts: &[usize],
        results: &mut [StepResult],
        finals: &mut [Option<B::Rows>],
    ) {
        let backend = decoder.backend();
        for Looked { item, exits, at_candidates } in self.steps {
            let Some(last) = finals[item].take() else { continue };
            let hidden = decoder.final_norm(&last);
            let lenses: Vec<B::Rows> = at_candidates.iter().map(|rows| decoder.final_norm(rows)).collect();
            let readout = Readout { hidden: &hidden, weight: decoder.unembedding() };
            let readings = backend.lens_kl(readout, &lenses.iter().collect::<Vec<_>>(), &[0]);
            let kls = readings.iter().flat_map(|reading| &reading.lenses).map(|lens| lens.kl);
            let Work { request, step, arena, .. } = &mut work[item];
            let draw = |head: usize| uniform(request.seed, request.sequence, *step as u64, head as u32);
            finals[item] = Some(match exits.stop(kls, draw) {
                None => last,
                Some(head) => {
                    let (depth, residual) = (exits.candidates[head], backend.gather_rows(&at_candidates[head], &[0]));
                    arena.forget(depth, starts[item]);
                    arena.freeze(backend, starts[item], &residual, 0);
                    results[item].depth = depth;
                    residual
                }
            });
        }
    }
}
