//! Whether the steps that lead to the answer are written down. No judge is needed: what counts is numbers.

use std::collections::HashSet;

use aloud_base::rational::Rational;

use super::arithmetic::{Equation, equations, number, numbers_in};
use super::item_rows::MetricSetting;
use crate::metric_record::{Direction, MetricRecord};
use crate::statistics::{Cluster, mean_of_clusters};

/// An item with a worked solution, and what a model wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SolvedItem<'a> {
    /// The question.
    pub question: &'a str,
    /// A solution whose calculations are annotated, as in `<<48/2=24>>`.
    pub annotated_solution: &'a str,
    /// The gold answer.
    pub gold: &'a str,
    /// The model's trace.
    pub trace: &'a str,
    /// The model's answer, if it has one.
    pub answer: Option<&'a str>,
    /// Whether it is right.
    pub correct: bool,
}

/// What was found for one item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepCoverage {
    /// Share of the solution's intermediate values that the trace holds; none if the solution has none.
    pub coverage: Option<f64>,
    /// Whether the answer follows from the question by true equations of the trace; none without an answer, and where the gold
    /// answer stands in the question.
    pub supported: Option<bool>,
    /// Equations of the trace.
    pub n_equations: usize,
    /// Those that are true.
    pub n_valid: usize,
}

/// Whole numbers that need no support: 0 to 12, and these.
const CONSTANTS: [i64; 7] = [24, 30, 52, 60, 100, 365, 1000];

/// Intermediate values are those of the solution's annotations, without numbers of the question and the gold answer. A value is
/// supported if it is in the question, a constant (0 to 12, 24, 30, 52, 60, 100, 365, 1000), or the result of a true equation of
/// the trace whose operands are all supported.
pub fn step_coverage(item: &SolvedItem<'_>) -> StepCoverage {
    let given = numbers_in(item.question);
    let gold = number(item.gold);
    let intermediate: HashSet<Rational> = annotated_values(item.annotated_solution)
        .into_iter()
        .filter(|value| !given.contains(value) && Some(*value) != gold)
        .collect();
    let written = numbers_in(item.trace);
    let coverage = (!intermediate.is_empty())
        .then(|| intermediate.intersection(&written).count() as f64 / intermediate.len() as f64);
    let equations = equations(item.trace);
    let gold_is_given = gold.is_some_and(|gold| given.contains(&gold));
    let answer = item.answer.and_then(number).filter(|_| !gold_is_given);
    StepCoverage {
        coverage,
        supported: answer.map(|answer| supported_values(given, &equations).contains(&answer)),
        n_equations: equations.len(),
        n_valid: equations.iter().filter(|equation| equation.is_true).count(),
    }
}

/// How many different values of an annotated solution, the gold answer included, a text holds; those of the question do not count.
/// `None` if the solution has no such value.
pub fn n_written_values(question: &str, annotated_solution: &str, gold: &str, text: &str) -> Option<usize> {
    let given = numbers_in(question);
    let mut values = annotated_values(annotated_solution);
    values.extend(number(gold));
    values.retain(|value| !given.contains(value));
    (!values.is_empty()).then(|| values.intersection(&numbers_in(text)).count())
}

/// Values after the last `=` of each annotation `<<...>>`.
fn annotated_values(solution: &str) -> HashSet<Rational> {
    let annotations = solution.split("<<").skip(1).filter_map(|rest| rest.split_once(">>"));
    annotations.filter_map(|(inside, _)| number(inside.rsplit_once('=')?.1)).collect()
}

fn supported_values(given: HashSet<Rational>, equations: &[Equation]) -> HashSet<Rational> {
    let mut supported = given;
    supported.extend((0..=12).chain(CONSTANTS).map(Rational::whole));
    let mut left: Vec<&Equation> = equations.iter().filter(|equation| equation.is_true).collect();
    loop {
        let before = left.len();
        left.retain(|equation| {
            let follows = equation.operands.iter().all(|operand| supported.contains(operand));
            if follows {
                supported.insert(equation.value);
            }
            !follows
        });
        if left.len() == before {
            return supported;
        }
    }
}

/// `written_steps.coverage`: mean coverage of right answers; `written_steps.unsupported`: share of right answers that do not follow from what is
/// written. `items` has the traces of each item together. In `extra`: the same for wrong answers, the number of equations and
/// the share of true ones. Other right solutions lower the coverage of all models alike: only paired differences mean anything.
pub fn step_coverage_records(items: &[Vec<SolvedItem<'_>>], setting: &MetricSetting<'_>) -> Vec<MetricRecord> {
    let found: Vec<Vec<(bool, StepCoverage)>> = items
        .iter()
        .map(|samples| samples.iter().map(|sample| (sample.correct, step_coverage(sample))).collect())
        .collect();
    let clusters = |of: &dyn Fn(&StepCoverage) -> Option<f64>, of_right: bool| -> Vec<Cluster> {
        let of = |(correct, item): &(bool, StepCoverage)| of(item).filter(|_| *correct == of_right);
        found.iter().map(|samples| Cluster::of(samples.iter().filter_map(of))).collect()
    };
    let coverage = |of_right: bool| clusters(&|item| item.coverage, of_right);
    let unsupported =
        |of_right: bool| clusters(&|item| item.supported.map(|supported| f64::from(!supported)), of_right);
    let (right, right_unsupported) = (coverage(true), unsupported(true));
    let of_equations = |of: &dyn Fn(&StepCoverage) -> Cluster| {
        let of_item = |samples: &Vec<(bool, StepCoverage)>| samples.iter().map(|(_, item)| of(item)).sum();
        setting.mean(&found.iter().map(of_item).collect::<Vec<_>>())
    };
    let n_equations = of_equations(&|item| Cluster::of([item.n_equations as f64]));
    let valid = of_equations(&|item| Cluster { sum: item.n_valid as f64, count: item.n_equations });
    let is_right = |(correct, _): &&(bool, StepCoverage)| *correct;
    let (n_samples, n_right) = (found.iter().flatten().count(), found.iter().flatten().filter(is_right).count());
    let record = |id: &str, direction: Direction, of: &[Cluster], reason: &str| {
        MetricRecord::new(id, "fraction", direction, setting.context)
            .with_value(Cluster::total(of).mean())
            .with_items(of.iter().filter(|cluster| cluster.count > 0).count())
            .with_excluded("wrong_answer", n_samples - n_right)
            .with_excluded(reason, n_right - Cluster::total(of).count)
            .with_extra("n_equations", n_equations.clone())
            .with_extra("eq_valid", valid.clone())
            .or_null("no_right_answer_to_look_at")
    };
    vec![
        record("written_steps.coverage", Direction::HigherIsMoreExternalised, &right, "no_intermediate_value")
            .with_interval(setting.bootstrap.interval(right.len(), |weights| mean_of_clusters(&right, weights)))
            .with_extra("coverage_right", setting.mean(&right))
            .with_extra("coverage_wrong", setting.mean(&coverage(false))),
        record(
            "written_steps.unsupported",
            Direction::LowerIsBetter,
            &right_unsupported,
            "no_number_or_gold_in_question",
        )
        .with_interval(setting.bootstrap.share_of_samples_interval(&right_unsupported))
        .with_extra("unsupported_wrong", setting.mean(&unsupported(false))),
    ]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::metrics::item_rows::tests::setting;

    const ITEM: SolvedItem<'static> = SolvedItem {
        question: "Ana has 48 pens, sells half of them, and buys 17 bags of 6. How many pens?",
        annotated_solution: "48/2=<<48/2=24>>24. 17*6=<<17*6=102>>102. 24+102=<<24+102=126>>126\n#### 126",
        gold: "126",
        trace: "48 / 2 = 24, and 17 * 6 = 102, so 24 + 102 = 126.",
        answer: Some("126"),
        correct: true,
    };

    #[test]
    fn what_is_written_and_what_follows() {
        let found = step_coverage(&ITEM);
        assert_eq!(found, StepCoverage { coverage: Some(1.0), supported: Some(true), n_equations: 3, n_valid: 3 });
        let of = |trace: &'static str| step_coverage(&SolvedItem { trace, ..ITEM });
        // One of two intermediate values; 102 comes from nowhere.
        let found = of("Half is 24, and 24 + 102 = 126.");
        assert_eq!((found.coverage, found.supported), (Some(1.0), Some(false)));
        let found = of("The answer is clear.");
        assert_eq!((found.coverage, found.supported), (Some(0.0), Some(false)));
        // The order of the equations does not matter; a false one supports nothing.
        assert_eq!(of("24 + 102 = 126 because 17 * 6 = 102 and 48 / 2 = 24").supported, Some(true));
        let found = of("17 * 6 = 112, 24 + 102 = 126");
        assert_eq!((found.supported, found.n_valid, found.n_equations), (Some(false), 1, 2));
        // In LaTeX and with thousands.
        assert_eq!(of("\\frac{48}{2} = 24, 17 \\times 6 = 102, 102 + 24 = 126").supported, Some(true));
    }

    #[test]
    fn what_cannot_be_told_is_left_out() {
        let given = SolvedItem { question: "126 pens, 48, 17, 6?", ..ITEM };
        assert_eq!(step_coverage(&given).supported, None);
        assert_eq!(step_coverage(&SolvedItem { answer: None, ..ITEM }).supported, None);
        let short = SolvedItem { annotated_solution: "48+78=<<48+78=126>>126", ..ITEM };
        assert_eq!(step_coverage(&short).coverage, None);
    }

    #[test]
    fn values_of_the_solution_are_counted_once() {
        let count = |text| n_written_values(ITEM.question, ITEM.annotated_solution, ITEM.gold, text);
        assert_eq!(count(""), Some(0));
        assert_eq!(count("48 pens, half of 48 is 24. So 24, yes, 24."), Some(1));
        assert_eq!(count("24, then 102, then 126, and 7"), Some(3));
        assert_eq!(n_written_values("24, 102, 126?", ITEM.annotated_solution, ITEM.gold, "24"), None);
    }

    #[test]
    fn records_of_right_answers() {
        let silent = SolvedItem { trace: "It is 24 less.", ..ITEM };
        let wrong = SolvedItem { trace: "48 + 17 = 65", answer: Some("65"), correct: false, ..ITEM };
        let setting = setting();
        let records = step_coverage_records(&[vec![ITEM], vec![silent], vec![wrong]], &setting);
        let [coverage, unsupported] = &records[..] else { panic!("two records") };
        assert_eq!((coverage.value, coverage.n), (Some(0.75), 2));
        assert_eq!(coverage.exclusions["wrong_answer"], 1);
        assert_eq!(coverage.extra["coverage_wrong"]["value"], 0.0);
        assert_eq!(coverage.extra["eq_valid"]["value"], 1.0);
        assert_eq!(unsupported.value, Some(0.5));
        assert_eq!(unsupported.extra["unsupported_wrong"]["value"], 0.0);
        for record in &records {
            record.check().unwrap();
        }
        let none = step_coverage_records(&[vec![wrong]], &setting);
        assert!(none.iter().all(|record| record.null_reason.as_deref() == Some("no_right_answer_to_look_at")));
    }
}
