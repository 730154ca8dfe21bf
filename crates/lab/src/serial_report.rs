//! What serial items answered in both styles come to: accuracy, style and depth, by task and number of steps.

use aloud_measure::metrics::serial_horizon::{Horizon, serial_horizon};
use aloud_measure::statistics::wilson_interval;
use aloud_method::savings::{average_layer_savings, exit_rate, mean_depth};
use aloud_report::table::{Align, Table};
use aloud_tasks::serial::{MAX_SERIAL_STEPS, SerialTask};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::words::{blocks, interval, percent};

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct SerialReport {
    /// Number of blocks `L` of the model.
    pub n_blocks: usize,
    /// Seed of the items and of the exits.
    pub seed: u64,
    /// Most tokens of a response.
    pub max_new_tokens: usize,
    /// How exits were decided: `exits`, and `exit_offset` or `depth`.
    #[serde(flatten)]
    pub exits: Map<String, Value>,
    /// Over all items.
    #[serde(flatten)]
    pub all: SerialMeasures,
    /// By task.
    pub tasks: Vec<TaskReport>,
}

/// Measures of one task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskReport {
    /// The task.
    pub task: SerialTask,
    /// Where direct answers stop working; `None` without items.
    pub opaque_serial_horizon: Option<Horizon>,
    /// Over all its items.
    #[serde(flatten)]
    pub all: SerialMeasures,
    /// By number of steps, ascending.
    pub steps: Vec<StepsReport>,
}

/// Measures of one number of steps of one task.
#[derive(Clone, Debug, Serialize)]
pub struct StepsReport {
    /// The number of steps.
    pub k: usize,
    /// Over its items.
    #[serde(flatten)]
    pub all: SerialMeasures,
}

/// Measures of a group of items. "Thinking" responses are those with `<t>` forced, "direct" ones those with `<a>`
/// forced. Depths are of response tokens `t >= 1`, all of the group together; `None` if there is no such token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SerialMeasures {
    /// Number of items.
    pub n: usize,
    /// Share of correct thinking responses.
    pub accuracy: f64,
    /// Wilson's 95 % interval of it.
    pub accuracy_interval: [f64; 2],
    /// Share of correct direct responses.
    pub accuracy_direct: f64,
    /// Wilson's 95 % interval of it.
    pub accuracy_direct_interval: [f64; 2],
    /// Expected share of correct responses if the model chooses the style: mean of `p(<t>) * correct_thinking +
    /// p(<a>) * correct_direct`. A response that would begin with another token counts as wrong.
    pub accuracy_own_style: f64,
    /// Mean probability of `<t>` as the first token.
    pub think_aloud_rate: f64,
    /// Average layer savings of thinking responses.
    pub als: Option<f64>,
    /// Average layer savings of direct responses.
    pub als_direct: Option<f64>,
    /// Share of the tokens of thinking responses that left before full depth.
    pub exit_rate: Option<f64>,
    /// Mean depth (blocks) of the tokens of thinking responses.
    pub mean_depth: Option<f64>,
    /// Mean over thinking responses of their deepest token's depth (blocks).
    pub deepest_step: Option<f64>,
    /// Mean number of tokens of thinking responses, `<t>` and `<eos>` included.
    pub trace_length: f64,
}

impl SerialReport {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut table = Table::new([
            ("task", Align::Left),
            ("k", Align::Right),
            ("n", Align::Right),
            ("<t> correct", Align::Right),
            ("95 %", Align::Left),
            ("<a> correct", Align::Right),
            ("95 %", Align::Left),
            ("p(<t>)", Align::Right),
            ("tokens", Align::Right),
            ("ALS", Align::Right),
            ("deepest", Align::Right),
        ]);
        for task in &self.tasks {
            for steps in &task.steps {
                let all = &steps.all;
                table.row([
                    task.task.to_string(),
                    steps.k.to_string(),
                    all.n.to_string(),
                    percent(all.accuracy),
                    interval(all.accuracy_interval),
                    percent(all.accuracy_direct),
                    interval(all.accuracy_direct_interval),
                    percent(all.think_aloud_rate),
                    format!("{:.1}", all.trace_length),
                    percent(all.als),
                    blocks(all.deepest_step),
                ]);
            }
        }
        let horizons: Vec<String> = (self.tasks.iter())
            .filter_map(|task| Some(format!("{} {}", task.task, task.opaque_serial_horizon?)))
            .collect();
        format!("{}\n\n{table}\nopaque serial horizon (steps): {}\n", self.headline(), horizons.join(", "))
    }

    /// What holds for all items, in two lines.
    fn headline(&self) -> String {
        let all = &self.all;
        format!(
            "{} items: accuracy {} ({}) thinking aloud, {} ({}) direct, {} in its own style; think-aloud rate {}\n\
             thinking aloud: average layer savings {} (direct: {}), exit rate {}, mean depth {} and deepest {} of \
             {} blocks, {:.1} tokens a response",
            all.n,
            percent(all.accuracy),
            interval(all.accuracy_interval),
            percent(all.accuracy_direct),
            interval(all.accuracy_direct_interval),
            percent(all.accuracy_own_style),
            percent(all.think_aloud_rate),
            percent(all.als),
            percent(all.als_direct),
            percent(all.exit_rate),
            blocks(all.mean_depth),
            blocks(all.deepest_step),
            self.n_blocks,
            all.trace_length,
        )
    }
}

/// A response whose first token was forced, judged.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) is_correct: bool,
    /// The model's own probability of the first token.
    pub(crate) style_probability: f64,
    pub(crate) n_tokens: usize,
    /// Of the tokens that were free to exit: all but the first.
    pub(crate) depths: Vec<usize>,
}

/// Both responses to one item.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) task: SerialTask,
    pub(crate) n_steps: usize,
    pub(crate) thinking: Judged,
    pub(crate) direct: Judged,
}

/// The measures of a task; `None` without items.
pub(crate) fn task_report(task: SerialTask, outcomes: &[&Outcome], n_blocks: usize) -> Option<TaskReport> {
    let of_task: Vec<&Outcome> = outcomes.iter().copied().filter(|outcome| outcome.task == task).collect();
    let steps = |k: usize| {
        let of_steps: Vec<&Outcome> = of_task.iter().copied().filter(|outcome| outcome.n_steps == k).collect();
        Some(StepsReport { k, all: measure(&of_steps, n_blocks)? })
    };
    let steps: Vec<StepsReport> = (1..=MAX_SERIAL_STEPS).filter_map(steps).collect();
    let curve: Vec<(usize, f64)> = steps.iter().map(|steps| (steps.k, steps.all.accuracy_direct)).collect();
    Some(TaskReport {
        task,
        opaque_serial_horizon: serial_horizon(&curve, task.chance()),
        all: measure(&of_task, n_blocks)?,
        steps,
    })
}

/// The measures of these outcomes; `None` if there are none.
pub(crate) fn measure(outcomes: &[&Outcome], n_blocks: usize) -> Option<SerialMeasures> {
    let n = outcomes.len();
    let mean = |value: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(|outcome| value(outcome)).sum::<f64>() / n as f64;
    let thinking: Vec<&Judged> = outcomes.iter().map(|outcome| &outcome.thinking).collect();
    let direct: Vec<&Judged> = outcomes.iter().map(|outcome| &outcome.direct).collect();
    let n_correct = |responses: &[&Judged]| responses.iter().filter(|response| response.is_correct).count();
    let all_depths = |responses: &[&Judged]| -> Vec<usize> {
        responses.iter().flat_map(|response| response.depths.iter().copied()).collect()
    };
    let (n_thinking, n_direct) = (n_correct(&thinking), n_correct(&direct));
    let (thinking_depths, direct_depths) = (all_depths(&thinking), all_depths(&direct));
    let deepest: Vec<usize> = thinking.iter().filter_map(|response| response.depths.iter().copied().max()).collect();
    Some(SerialMeasures {
        n,
        accuracy: n_thinking as f64 / n as f64,
        accuracy_interval: wilson_interval(n_thinking, n)?,
        accuracy_direct: n_direct as f64 / n as f64,
        accuracy_direct_interval: wilson_interval(n_direct, n)?,
        accuracy_own_style: mean(&own_style),
        think_aloud_rate: mean(&|outcome| outcome.thinking.style_probability),
        als: average_layer_savings(&thinking_depths, n_blocks),
        als_direct: average_layer_savings(&direct_depths, n_blocks),
        exit_rate: exit_rate(&thinking_depths, n_blocks),
        mean_depth: mean_depth(&thinking_depths),
        deepest_step: mean_depth(&deepest),
        trace_length: mean(&|outcome| outcome.thinking.n_tokens as f64),
    })
}

/// Probability of a correct response to an item if the model chooses the style.
fn own_style(outcome: &Outcome) -> f64 {
    let share = |response: &Judged| if response.is_correct { response.style_probability } else { 0.0 };
    share(&outcome.thinking) + share(&outcome.direct)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn judged(is_correct: bool, style_probability: f64, depths: &[usize]) -> Judged {
        Judged { is_correct, style_probability, n_tokens: depths.len() + 1, depths: depths.to_vec() }
    }

    fn outcome(thinking: Judged, direct: Judged) -> Outcome {
        Outcome { task: SerialTask::Chain, n_steps: 1, thinking, direct }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn measures_by_hand() {
        let outcomes = [
            outcome(judged(true, 0.7, &[2, 12, 4]), judged(true, 0.2, &[6])),
            outcome(judged(true, 0.5, &[6]), judged(false, 0.5, &[12])),
            outcome(judged(false, 0.9, &[]), judged(true, 0.1, &[12])),
            outcome(judged(false, 0.5, &[12]), judged(false, 0.4, &[12])),
        ];
        let measures = measure(&outcomes.iter().collect::<Vec<_>>(), 12).unwrap();
        assert_eq!(measures.n, 4);
        close(measures.accuracy, 0.5);
        close(measures.accuracy_direct, 0.5);
        assert_eq!(Some(measures.accuracy_interval), wilson_interval(2, 4));
        // (0.7 + 0.2) + 0.5 + 0.1 + 0: a tenth of the first item goes to other tokens and is wrong.
        close(measures.accuracy_own_style, 1.5 / 4.0);
        close(measures.think_aloud_rate, 2.6 / 4.0);
        // Depths 2, 12, 4, 6, 12 of 12, of all responses together.
        close(measures.mean_depth.unwrap(), 7.2);
        close(measures.als.unwrap(), 0.4);
        close(measures.exit_rate.unwrap(), 0.6);
        close(measures.als_direct.unwrap(), 1.0 - 42.0 / 48.0);
        // The response without a counted token has no deepest one.
        close(measures.deepest_step.unwrap(), (12.0 + 6.0 + 12.0) / 3.0);
        close(measures.trace_length, (4.0 + 2.0 + 1.0 + 2.0) / 4.0);
        assert_eq!(measure(&[], 12), None);
    }
}
