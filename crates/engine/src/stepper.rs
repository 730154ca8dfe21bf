//! One pass of several sequences through the blocks: prompts at full depth, single tokens with exits. Rows that stopped
//! are taken out of the batch at the candidate; a block that no row reaches is not run.

use std::ops::Range;

use aloud_kernels::{Backend, Query};
use aloud_model::decoder::{Decoder, Policy};

use crate::ExitReading;
use crate::arena::Arena;
use crate::logistic::sigmoid;
use crate::request::Request;

/// Tokens that one sequence consumes in this pass.
pub(crate) struct Work<'a, B: Backend> {
    pub(crate) arena: &'a mut Arena<B>,
    pub(crate) request: &'a Request,
    /// The tokens, at the positions that follow those consumed so far.
    pub(crate) tokens: &'a [u32],
    /// The response token that the last consumed position emits; exits are decided for steps after 0, of one token.
    pub(crate) step: usize,
    /// Added to the exit logits of this step.
    pub(crate) offset: f32,
}

/// What a sequence's last consumed position came to.
pub(crate) struct StepResult {
    /// Depth (blocks) that it ran to.
    pub(crate) depth: usize,
    /// The candidates it reached.
    pub(crate) exits: Vec<ExitReading>,
}

/// Runs the work and returns, per sequence, its result, and the hidden states of the last positions after the final norm,
/// `[sequences, H]`.
pub(crate) fn step<B: Backend>(
    decoder: &Decoder<B>,
    policy: Option<&Policy<B>>,
    work: &mut [Work<'_, B>],
) -> (Vec<StepResult>, B::Rows) {
    let backend = decoder.backend();
    let n_blocks = decoder.n_blocks();
    let hidden_size = decoder.config().hidden_size;
    let tokens: Vec<u32> = work.iter().flat_map(|work| work.tokens.iter().copied()).collect();
    let mut results: Vec<StepResult> = work.iter().map(|_| StepResult { depth: n_blocks, exits: Vec::new() }).collect();
    let starts: Vec<usize> = work.iter().map(|work| work.arena.len()).collect();
    // Rows of `x` by work item; items leave as they exit.
    let mut live: Vec<usize> = (0..work.len()).collect();
    let mut x = decoder.embed(&tokens);
    let mut finals: Vec<Option<B::Rows>> = work.iter().map(|_| None).collect();

    for block in 0..n_blocks {
        if block > 0 {
            leave(decoder, policy, work, &starts, block, &mut live, &mut x, &mut results, &mut finals);
        }
        if live.is_empty() {
            break;
        }
        // Keys and values are due for the rows themselves and for exited positions that wait at this block.
        let mut parts: Vec<(&B::Rows, Range<usize>)> = Vec::with_capacity(2 * live.len());
        let mut positions: Vec<u32> = Vec::new();
        let mut active: Vec<u32> = Vec::new();
        let mut queries: Vec<Query> = Vec::new();
        let mut due: Vec<Range<usize>> = Vec::with_capacity(live.len());
        let mut row = 0;
        for (sequence, &item) in live.iter().enumerate() {
            let first = positions.len();
            let waiting = work[item].arena.waiting(block, starts[item]);
            if !waiting.is_empty() {
                parts.push((work[item].arena.frozen(), waiting.clone()));
                positions.extend(waiting.map(|position| position as u32));
            }
            let n = work[item].tokens.len();
            parts.push((&x, row..row + n));
            row += n;
            for position in starts[item]..starts[item] + n {
                active.push(positions.len() as u32);
                positions.push(position as u32);
                queries.push(Query { sequence, n_keys: position + 1 });
            }
            due.push(first..positions.len());
        }
        let nobody_waits = active.len() == positions.len();
        let inputs = if nobody_waits {
            decoder.attention_inputs(policy, block, &x, &positions, None)
        } else {
            let rows = backend.concat_rows(hidden_size, &parts);
            decoder.attention_inputs(policy, block, &rows, &positions, Some(&active))
        };
        drop(parts);
        for (&item, due) in live.iter().zip(due) {
            work[item].arena.store(backend, block, &inputs.keys, &inputs.values, due);
        }
        let sequences: Vec<_> = live.iter().map(|&item| work[item].arena.key_values(block)).collect();
        let (attention, _) = backend.attention_forward(decoder.heads(), &inputs.queries, &queries, &sequences);
        x = decoder.finish_block_residual(policy, block, x, &attention);
    }

    let mut row = 0;
    for &item in &live {
        row += work[item].tokens.len();
        finals[item] = Some(backend.concat_rows(hidden_size, &[(&x, row - 1..row)]));
    }
    for (work, start) in work.iter_mut().zip(&starts) {
        debug_assert_eq!(work.arena.len(), *start);
        work.arena.advance(work.tokens.len());
    }
    let parts: Vec<(&B::Rows, Range<usize>)> = finals.iter().flatten().map(|rows| (rows, 0..1)).collect();
    (results, decoder.final_norm(&backend.concat_rows(hidden_size, &parts)))
}

/// Exit decisions at depth `depth`: sequences that stop leave `live` and `x`, with their residual kept.
fn leave<B: Backend>(
    decoder: &Decoder<B>,
    policy: Option<&Policy<B>>,
    work: &mut [Work<'_, B>],
    starts: &[usize],
    depth: usize,
    live: &mut Vec<usize>,
    x: &mut B::Rows,
    results: &mut [StepResult],
    finals: &mut [Option<B::Rows>],
) {
    let backend = decoder.backend();
    let hidden_size = decoder.config().hidden_size;
    let may_stop = |work: &Work<'_, B>| work.step > 0 && work.tokens.len() == 1;
    if !live.iter().any(|&item| may_stop(&work[item])) {
        return;
    }
    let head = policy.and_then(|policy| policy.heads.candidates.iter().position(|candidate| *candidate == depth));
    let logits = match (head, policy) {
        (Some(head), Some(policy)) => Some(policy.exit_logits(head, x, decoder.config().rms_norm_eps)),
        _ => None,
    };
    let mut row = 0;
    let mut kept = Vec::with_capacity(live.len());
    let mut kept_rows: Vec<Range<usize>> = Vec::with_capacity(live.len());
    for &item in live.iter() {
        let work = &mut work[item];
        let rows = row..row + work.tokens.len();
        row = rows.end;
        let request = work.request;
        let stops = may_stop(work) && {
            let reading = logits.as_ref().filter(|_| request.exits != crate::Exits::Off).map(|logits| {
                let logit = logits[rows.start];
                (logit, sigmoid(logit + work.offset))
            });
            let hazard = reading.map_or(0.0, |(_, hazard)| hazard);
            let exited =
                request.exits.stops(hazard, depth, request.seed, request.sequence, work.step, head.unwrap_or(0));
            if let Some((logit, hazard)) = reading {
                results[item].exits.push(ExitReading { depth, logit, hazard, exited });
            }
            exited
        };
        if stops {
            results[item].depth = depth;
            work.arena.freeze(backend, starts[item], x, rows.start);
            finals[item] = Some(backend.concat_rows(hidden_size, &[(&*x, rows)]));
        } else {
            kept.push(item);
            kept_rows.push(rows);
        }
    }
    if kept.len() < live.len() {
        let parts: Vec<(&B::Rows, Range<usize>)> = kept_rows.into_iter().map(|rows| (&*x, rows)).collect();
        *x = backend.concat_rows(hidden_size, &parts);
        *live = kept;
    }
}
