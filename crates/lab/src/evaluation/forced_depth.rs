//! What the base model answers at once if its answer step stops at a fixed depth.
//!
//! This calibrates the serial horizon.
//!
//! The step that emits the answer consumes the answer's mark. It reads of the prompt, at block `l`, what full depth computed
//! below `l`; so its state at depth `d` of one full pass is its state if it stops there, and one pass gives all depths.

use aloud_session::ensure;
use aloud_session::error::SessionError;
use std::collections::BTreeMap;

use aloud_kernels::backend::{MAX_LOGIT_ROWS, Memory as _, Readout, Unembedding as _};
use aloud_kernels::cpu::Cpu;
use aloud_measure::metrics::serial_horizon::{Horizon, serial_horizon};
use aloud_model::decoder::{Decoder, PackedBatch};
use serde_json::{Value, json};

use super::examination::{EvaluationItem, Examination};

/// Answers by number of steps: right here and at full depth, here only, at full depth only, at neither.
type Counts = BTreeMap<usize, [usize; 4]>;

/// The curves of every task whose items have a known number of steps and are answered without a trace too: `[{depth, accuracy,
/// acc: [{k, accuracy}], against_full: [{k, both, only_here, only_full, neither}], horizon, relation}]` at every depth (blocks). An
/// answer is its first token.
pub(crate) fn forced_depth_curves(
    decoder: &Decoder<Cpu>,
    exam: &Examination<'_>,
) -> Result<BTreeMap<String, Value>, SessionError> {
    let mut counts: BTreeMap<&str, Vec<Counts>> = BTreeMap::new();
    let arm = exam.arms().iter().find(|arm| !arm.has_trace).filter(|_| exam.task().has_exact_steps());
    let Some(arm) = arm else { return Ok(BTreeMap::new()) };
    for items in exam.items().chunks(MAX_LOGIT_ROWS) {
        for (item, answers) in items.iter().zip(answers(decoder, items, &arm.start)?) {
            let Some(n_steps) = item.asked.n_steps else { continue };
            let of_task = counts.entry(item.asked.task).or_insert_with(|| vec![Counts::new(); decoder.n_blocks()]);
            let is_right =
                |answer: u32| item.prompt.answer.is_some() && exam.read_answer(&[answer]) == item.prompt.answer;
            let right: Vec<bool> = answers.into_iter().map(is_right).collect();
            let at_full = right.last().copied().unwrap_or(false);
            for (of_depth, here) in of_task.iter_mut().zip(right) {
                let kind = match (here, at_full) {
                    (true, true) => 0,
                    (true, false) => 1,
                    (false, true) => 2,
                    (false, false) => 3,
                };
                of_depth.entry(n_steps).or_default()[kind] += 1;
            }
        }
    }
    let curve = |(task, of_depths): (&str, Vec<Counts>)| {
        let chance = exam.task().chance(task);
        let points = (1..).zip(&of_depths).map(|(depth, counts)| point(depth, counts, chance)).collect();
        (task.to_owned(), points)
    };
    Ok(counts.into_iter().map(curve).collect())
}

fn point(depth: usize, counts: &Counts, chance: f64) -> Value {
    let share = |right: usize, all: usize| right as f64 / all.max(1) as f64;
    let right_of_all = |[both, only_here, only_full, neither]: [usize; 4]| {
        let right = both + only_here;
        [right, right + only_full + neither]
    };
    let counted = counts.iter().map(|(k, counts)| (*k, right_of_all(*counts)));
    let curve: Vec<(usize, f64)> = counted.clone().map(|(k, [right, all])| (k, share(right, all))).collect();
    let [right, all] = counted.fold([0, 0], |sum, (_, each)| [sum[0] + each[0], sum[1] + each[1]]);
    let against_full = |(k, [both, only_here, only_full, neither]): (&usize, &[usize; 4])| json!({"k": k, "both": both, "only_here": only_here, "only_full": only_full, "neither": neither});
    let horizon = serial_horizon(&curve, chance);
    json!({
        "depth": depth,
        "accuracy": share(right, all),
        "acc": curve.iter().map(|(k, accuracy)| json!({"k": k, "accuracy": accuracy})).collect::<Vec<_>>(),
        "against_full": counts.iter().map(against_full).collect::<Vec<_>>(),
        "horizon": horizon.map(Horizon::steps),
        "relation": json!(horizon)["relation"],
    })
}

/// The most likely token after prompt and `start`, of each item, at each depth 1 to L.
fn answers(decoder: &Decoder<Cpu>, items: &[EvaluationItem], start: &[u32]) -> Result<Vec<Vec<u32>>, SessionError> {
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
    let full = vec![decoder.n_blocks(); batch.n_rows()];
    let forward = decoder.forward(None, &batch, &full, &depths, false);
    let mut answers = vec![Vec::with_capacity(decoder.n_blocks()); items.len()];
    for residual in forward.at_candidates.iter().chain([&forward.residual]) {
        let hidden = decoder.final_norm(&backend.gather_rows(residual, &last_rows));
        let logits = backend.logits(Readout { hidden: &hidden, weight: decoder.unembedding() });
        for (row, answers) in answers.iter_mut().enumerate() {
            ensure!(
                logits.row(row).iter().all(|logit| logit.is_finite()),
                "item `{}`: the base model's logits at depth {} are not finite",
                items[row].prompt.id,
                answers.len() + 1
            );
            let most_likely = (0..).zip(logits.row(row)).max_by(|(_, a), (_, b)| a.total_cmp(b));
            answers.extend(most_likely.map(|(id, _)| id));
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::path::Path;

    use aloud_engine::decode::batching::Limits;
    use aloud_engine::decode::complete::complete;
    use aloud_engine::decode::request::Request;
    use aloud_method::exit_policy::ExitPolicy;
    use aloud_model::load::load;
    use aloud_model::source::ResolvedSource;

    use aloud_tasks::serial::SerialTask;
    use aloud_tasks::task::Amount;

    use super::*;
    use crate::evaluation::samples::{Asked, all_asked};
    use crate::evaluation::test_codec::{serial_examination, symbol_codec};

    #[test]
    fn one_pass_answers_as_stopping_does() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/toy/written-steps");
        let model = load(&ResolvedSource::Directory(folder)).unwrap();
        let decoder = Decoder::new(&Cpu::new(1), &model.config, &model.weights);
        let codec = symbol_codec();
        let exam = serial_examination(&codec, Some(SerialTask::Chain), Amount::InAll(24));
        let start = &exam.arms()[1].start;
        let at_once = answers(&decoder, exam.items(), start).unwrap();
        let at_once_asked: Vec<Asked<'_>> = all_asked(&exam).into_iter().filter(|asked| !asked.arm.has_trace).collect();
        for depth in 1..=decoder.n_blocks() {
            let exits = if depth < decoder.n_blocks() { ExitPolicy::Fixed { depth } } else { ExitPolicy::Off };
            let requests: Vec<Request> =
                at_once_asked.iter().map(|asked| asked.request(&exam, exits.clone().into(), 0)).collect();
            let responses = complete(&decoder, None, Limits::default(), &requests, &|| {}).unwrap();
            let stopped: Vec<u32> = responses.iter().map(|response| response.tokens[1].id).collect();
            let expected: Vec<u32> = at_once.iter().map(|answers| answers[depth - 1]).collect();
            assert_eq!(stopped, expected, "depth {depth}");
        }
        // At some depth the answers are others, or nothing was tested.
        assert!(at_once.iter().any(|answers| answers[0] != answers[5]));
    }

    #[test]
    fn a_point_by_hand() {
        let counts = Counts::from([(1, [3, 1, 0, 0]), (2, [1, 0, 2, 1])]);
        let point = point(3, &counts, 0.0);
        assert_eq!((&point["accuracy"], &point["acc"][1]["accuracy"]), (&0.625.into(), &0.25.into()));
        let against_full = json!({"k": 2, "both": 1, "only_here": 0, "only_full": 2, "neither": 1});
        assert_eq!(point["against_full"][1], against_full);
        // From 1 to 0.25 the half is passed after two thirds of the way.
        assert!((point["horizon"].as_f64().unwrap() - 5.0 / 3.0).abs() < 1e-12);
        assert_eq!((&point["relation"], &point["depth"]), (&"at".into(), &3.into()));
    }
}
