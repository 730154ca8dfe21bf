//! What the base model answers at once if its answer step stops at a fixed depth: the calibration of D7.
//!
//! The step that emits the answer consumes the answer's mark. It reads of the prompt, at block `l`, what full depth computed
//! below `l`; so its state at depth `d` of one full pass is its state if it stops there, and one pass gives all depths.

use std::collections::BTreeMap;

use aloud_eval::{Horizon, serial_horizon};
use aloud_kernels::{Backend as _, Cpu, MAX_LOGIT_ROWS, Readout};
use aloud_model::decoder::{Decoder, PackedBatch};
use serde_json::{Value, json};

use super::family::{EvaluationItem, TaskFamily};

/// Right answers and all answers, by number of steps.
type Counts = BTreeMap<usize, [usize; 2]>;

/// The curves of every task whose items have a known number of steps and are answered without a trace too: `[{depth, accuracy,
/// acc: [{k, accuracy}], horizon, relation}]` at every depth (blocks). An answer is its first token.
///
/// # Errors
/// If an item does not fit the model.
pub(super) fn forced_depth_curves(
    decoder: &Decoder<Cpu>,
    family: &dyn TaskFamily,
) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut counts: BTreeMap<&str, Vec<Counts>> = BTreeMap::new();
    let arm = family.arms().iter().find(|arm| !arm.has_trace).filter(|_| family.has_exact_steps());
    let Some(arm) = arm else { return Ok(BTreeMap::new()) };
    for items in family.items().chunks(MAX_LOGIT_ROWS) {
        for (item, answers) in items.iter().zip(answers(decoder, items, &arm.start)?) {
            let Some(n_steps) = item.n_steps else { continue };
            let of_task = counts.entry(&item.task).or_insert_with(|| vec![Counts::new(); decoder.n_blocks()]);
            for (of_depth, answer) in of_task.iter_mut().zip(answers) {
                let [right, all] = of_depth.entry(n_steps).or_default();
                *all += 1;
                *right +=
                    usize::from(item.prompt.answer.is_some() && family.read_answer(&[answer]) == item.prompt.answer);
            }
        }
    }
    let curve = |(task, of_depths): (&str, Vec<Counts>)| {
        let chance = family.chance(task);
        let points = (1..).zip(&of_depths).map(|(depth, counts)| point(depth, counts, chance)).collect();
        (task.to_owned(), points)
    };
    Ok(counts.into_iter().map(curve).collect())
}

fn point(depth: usize, counts: &Counts, chance: f64) -> Value {
    let share = |right: usize, all: usize| right as f64 / all.max(1) as f64;
    let curve: Vec<(usize, f64)> = counts.iter().map(|(k, [right, all])| (*k, share(*right, *all))).collect();
    let [right, all] = counts.values().fold([0, 0], |sum, each| [sum[0] + each[0], sum[1] + each[1]]);
    let horizon = serial_horizon(&curve, chance);
    json!({
        "depth": depth,
        "accuracy": share(right, all),
        "acc": curve.iter().map(|(k, accuracy)| json!({"k": k, "accuracy": accuracy})).collect::<Vec<_>>(),
        "horizon": horizon.map(Horizon::steps),
        "relation": json!(horizon)["relation"],
    })
}

/// The most likely token after prompt and `start`, of each item, at each depth 1 to L.
fn answers(decoder: &Decoder<Cpu>, items: &[EvaluationItem], start: &[u32]) -> anyhow::Result<Vec<Vec<u32>>> {
    let config = decoder.config();
    let mut batch = PackedBatch::new();
    let mut last_rows = Vec::with_capacity(items.len());
    for item in items {
        let tokens = [&item.prompt.token_ids, start].concat();
        batch.push(&tokens, config.vocab_size, config.max_position_embeddings)?;
        last_rows.push(batch.n_rows() as u32 - 1);
    }
    let depths: Vec<usize> = (1..decoder.n_blocks()).collect();
    let backend = decoder.backend();
    Ok(backend.run(|| {
        let full = vec![decoder.n_blocks(); batch.n_rows()];
        let forward = decoder.forward(None, &batch, &full, &depths, false);
        let mut answers = vec![Vec::with_capacity(decoder.n_blocks()); items.len()];
        for residual in forward.at_candidates.iter().chain([&forward.residual]) {
            let hidden = decoder.final_norm(&backend.gather_rows(residual, &last_rows));
            let logits = backend.logits(Readout { hidden: &hidden, weight: decoder.unembedding() });
            for (row, answers) in answers.iter_mut().enumerate() {
                let most_likely = (0..).zip(logits.row(row)).max_by(|(_, a), (_, b)| a.total_cmp(b));
                answers.extend(most_likely.map(|(id, _)| id));
            }
        }
        answers
    }))
}
