//! One pass of several sequences through the blocks: given tokens at prescribed depths, single tokens with exits. Rows that
//! stopped run no further block; a sequence all of whose rows stopped is taken out of the batch, and a block that no row
//! reaches is not run.

use std::ops::Range;

use aloud_kernels::backend::{Backend, Query};
use aloud_model::decoder::{Decoder, Policy};

use aloud_method::hazard::hazard;

use super::hindsight::Hindsight;
use super::work::{StepResult, Work};
use crate::exit_reading::ExitReading;

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
    // Depth of every token; those that decide it are lowered when they stop.
    let mut depths: Vec<Vec<usize>> = (work.iter())
        .map(|work| work.depths.map_or_else(|| vec![n_blocks; work.tokens.len()], <[usize]>::to_vec))
        .collect();
    let starts: Vec<usize> = work.iter().map(|work| work.arena.len()).collect();
    // Rows of `x` by work item; items leave as they exit.
    let mut live: Vec<usize> = (0..work.len()).collect();
    let mut x = decoder.embed(&tokens);
    let mut finals: Vec<Option<B::Rows>> = work.iter().map(|_| None).collect();
    let mut hindsight = Hindsight::new(work);
    let in_advance: Vec<Option<usize>> = work.iter().map(Work::depth_in_advance).collect();

    for block in 0..n_blocks {
        if block > 0 {
            hindsight.keep(backend, block, &live, work, &x);
            decide(decoder, policy, work, &in_advance, block, &live, &x, &mut depths, &mut results);
            leave(decoder, work, &starts, block, &depths, &mut live, &mut x, &mut finals);
        }
        if live.is_empty() {
            break;
        }
        // Keys and values are due for the rows themselves and for exited positions that wait at this block.
        let mut parts: Vec<(&B::Rows, Range<usize>)> = Vec::with_capacity(2 * live.len());
        let mut positions: Vec<u32> = Vec::new();
        // Rows that run the block: among those with keys and values, and among `x`.
        let mut active: Vec<u32> = Vec::new();
        let mut active_x: Vec<u32> = Vec::new();
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
            for (token, position) in (starts[item]..starts[item] + n).enumerate() {
                if depths[item][token] > block {
                    active.push(positions.len() as u32);
                    active_x.push((row + token) as u32);
                    queries.push(Query { sequence, n_keys: position + 1 });
                }
                positions.push(position as u32);
            }
            row += n;
            due.push(first..positions.len());
        }
        let nobody_waits = row == positions.len();
        let subset = (active.len() < positions.len()).then_some(active.as_slice());
        let inputs = if nobody_waits {
            decoder.attention_inputs(policy, block, &x, &positions, subset)
        } else {
            let rows = backend.concat_rows(hidden_size, &parts);
            decoder.attention_inputs(policy, block, &rows, &positions, subset)
        };
        drop(parts);
        for (&item, due) in live.iter().zip(due) {
            work[item].arena.store(backend, block, &inputs.keys, &inputs.values, due);
        }
        let sequences: Vec<_> = live.iter().map(|&item| work[item].arena.key_values(block)).collect();
        let (attention, _) = backend.attention_forward(decoder.heads(), &inputs.queries, &queries, &sequences);
        if active_x.len() == row {
            x = decoder.finish_block(policy, block, x, &attention, false).residual;
        } else {
            let running = backend.gather_rows(&x, &active_x);
            let running = decoder.finish_block(policy, block, running, &attention, false).residual;
            backend.scatter_rows(&mut x, &active_x, &running);
        }
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
    for (result, depths) in results.iter_mut().zip(&depths) {
        result.depth = depths.last().copied().unwrap_or(n_blocks);
    }
    hindsight.go_back(decoder, policy, work, &starts, &mut results, &mut finals);
    let parts: Vec<(&B::Rows, Range<usize>)> = finals.iter().flatten().map(|rows| (rows, 0..1)).collect();
    let depths: Vec<usize> = results.iter().map(|result| result.depth).collect();
    (results, decoder.read_out(policy, &backend.concat_rows(hidden_size, &parts), &depths))
}

/// Exit decisions at depth `depth`, of the tokens that decide for themselves. `in_advance` are the depths that are known.
fn decide<B: Backend>(
    decoder: &Decoder<B>,
    policy: Option<&Policy<B>>,
    work: &[Work<'_, B>],
    in_advance: &[Option<usize>],
    depth: usize,
    live: &[usize],
    x: &B::Rows,
    depths: &mut [Vec<usize>],
    results: &mut [StepResult],
) {
    if !live.iter().any(|&item| work[item].depths.is_none()) {
        return;
    }
    let head = policy.and_then(|policy| policy.heads.candidates.iter().position(|candidate| *candidate == depth));
    let logits = match (head, policy) {
        (Some(head), Some(policy)) => Some((head, policy.exit_logits(head, x, decoder.config().rms_norm_eps))),
        _ => None,
    };
    let mut next_row = 0;
    for &item in live {
        let work = &work[item];
        let row = next_row;
        next_row += work.tokens.len();
        if work.depths.is_some() {
            continue;
        }
        let exits = &work.request.exits;
        let seen = logits.as_ref().filter(|_| exits.read_heads()).map(|(head, logits)| {
            let logit = logits[row];
            (*head as u32, logit, exits.probability(hazard(logit, work.offset)))
        });
        let exited = match (in_advance[item], seen) {
            (Some(known), _) => known == depth,
            (None, Some((head, _, hazard))) if exits.offset().is_some() => work.key().uniform(head) < f64::from(hazard),
            (None, _) => false,
        };
        if let Some((_, logit, hazard)) = seen {
            results[item].exits.push(ExitReading { depth, logit, hazard, exited });
        }
        if exited {
            depths[item][0] = depth;
        }
    }
}

/// Keeps the residuals of the rows that stop at `depth`. Sequences all of whose rows have stopped leave `live` and `x`.
fn leave<B: Backend>(
    decoder: &Decoder<B>,
    work: &mut [Work<'_, B>],
    starts: &[usize],
    depth: usize,
    depths: &[Vec<usize>],
    live: &mut Vec<usize>,
    x: &mut B::Rows,
    finals: &mut [Option<B::Rows>],
) {
    let backend = decoder.backend();
    let hidden_size = decoder.config().hidden_size;
    let mut row = 0;
    let mut kept = Vec::with_capacity(live.len());
    let mut kept_rows: Vec<Range<usize>> = Vec::with_capacity(live.len());
    for &item in live.iter() {
        let rows = row..row + depths[item].len();
        row = rows.end;
        for (token, _) in depths[item].iter().enumerate().filter(|(_, stops_at)| **stops_at == depth) {
            work[item].arena.freeze(backend, starts[item] + token, x, rows.start + token);
        }
        if depths[item].iter().all(|stops_at| *stops_at <= depth) {
            finals[item] = Some(backend.concat_rows(hidden_size, &[(&*x, rows.end - 1..rows.end)]));
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
