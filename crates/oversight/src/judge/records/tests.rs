//! Records of a judge whose grades are made up.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::super::corruption::LADDER_CLEAN;
use super::super::pairwise::{PairwiseRow, Verdict};
use super::super::scores::Scores;
use super::*;
use aloud_measure::test_runs::context;

const ITEMS: usize = 12;

fn row(model: &str, item: usize, grades: Option<[f64; 4]>) -> JudgeRow {
    let scores = grades.map(|grades| {
        let names = QUALITY.criteria.iter().map(|name| (*name).to_owned());
        let sum: f64 = grades.iter().sum();
        Scores { criteria: names.zip(grades).collect(), sum, overall_reported: Some(sum), ..Scores::default() }
    });
    JudgeRow {
        model: model.to_owned(),
        item: format!("item-{item}"),
        status: if scores.is_some() { JudgeStatus::Scored } else { JudgeStatus::Unreadable },
        scores,
        n_tokens: Some(10 + item),
        ..JudgeRow::default()
    }
}

/// Grades of `base` and of `exits`, who is two points less coherent; a judge that notices all corruptions.
fn judgement() -> Judgement {
    let grade = |item: usize| 5.0 + (item % 4) as f64;
    let mut judgement = Judgement::default();
    for item in 0..ITEMS {
        judgement.quality.push(row("base", item, Some([grade(item), 7.0, 8.0, 9.0])));
        judgement.quality.push(row("exits", item, Some([grade(item) - 2.0, 7.0, 8.0, 9.0])));
    }
    for item in 0..3 {
        let again = judgement.quality[2 * item].clone();
        judgement.quality.push(JudgeRow { repeat: 1, ..again });
    }
    judgement.ladder.push(row(LADDER_CLEAN, 0, Some([9.0; 4])));
    judgement.ladder.extend(Corruption::ALL.map(|corruption| row(corruption.name(), 0, Some([4.0; 4]))));
    judgement.stripped.push(row("exits", 0, Some([2.0, 7.0, 8.0, 9.0])));
    judgement.pairs = [Some(Verdict::First), Some(Verdict::Second), None]
        .into_iter()
        .map(|swapped| PairwiseRow {
            models: ["base".to_owned(), "exits".to_owned()],
            verdicts: [Some(Verdict::First), swapped],
            ..PairwiseRow::default()
        })
        .collect();
    judgement
}

fn records(judgement: &Judgement, judge: &str, name: &str) -> BTreeMap<String, MetricRecord> {
    let bootstrap = Bootstrap { n_draws: 200, ..Bootstrap::default() };
    let settings = JudgeSettings::new(judge);
    let all = JudgedRecords { judgement, settings: &settings, base: Some("base"), bootstrap };
    let records = all.of_run(name, "models/llama-small", &RecordContext { gates: Vec::new(), ..context() });
    for record in &records {
        record.check().unwrap();
    }
    records.into_iter().map(|record| (record.id.clone(), record)).collect()
}

#[test]
fn grades_with_differences_to_the_base() {
    let records = records(&judgement(), "gpt-5", "exits");
    let coherence = &records["quality.coherence"];
    // Coherence is 3, 4, 5 and 6, three times each.
    assert_eq!((coherence.value, coherence.n), (Some(4.5), ITEMS));
    assert_eq!(coherence.extra["histogram"], json!([0, 0, 3, 3, 3, 3, 0, 0, 0, 0]));
    assert_eq!(coherence.extra["minus_base"], json!({"value": -2.0, "lo": -2.0, "hi": -2.0, "n": ITEMS}));
    let overall = &records["quality.overall"];
    assert_eq!((overall.value, &overall.extra["source_compat"]), (Some(28.5), &json!(28.5 / 40.0)));
    // The lengths are 10 to 21 tokens.
    assert_eq!(overall.extra["mean_tokens"], 15.5);
    assert_eq!(coherence.extra["standard_deviation"], json!((15.0_f64 / 11.0).sqrt()));
    assert_eq!(overall.extra["length"]["n"], ITEMS);
    assert_eq!((coherence.unit.as_str(), overall.unit.as_str()), ("points of 10", "points of 40"));
    assert_eq!((&overall.extra["lowest"], &overall.extra["histogram"][23]), (&json!(4), &json!(3)));
    assert_eq!(records["quality.overall_minus_base"].value, Some(-2.0));
    assert_eq!(records["quality.overall_minus_base"].ci.as_ref().map(|ci| [ci.lo, ci.hi]), Some([-2.0, -2.0]));
    assert_eq!((records["judge.sanity_ladder"].value, records["judge.reliability"].value), (Some(1.0), Some(1.0)));
    assert_eq!(records["judge.markup_shift"].value, Some(-1.0));
    // Of two pairs with two verdicts one agrees, and the base wins it.
    let (swap, wins) = (&records["judge.swap_consistency"], &records["judge.win_rate"]);
    assert_eq!((swap.value, swap.n, wins.value, wins.n), (Some(0.5), 2, Some(0.0), 1));
    assert_eq!(swap.exclusions["no_verdict_in_both_orders"], 1);
    assert_eq!(coherence.extra["self_judged"], false);
    assert_eq!(self::records(&judgement(), "llama-70b", "exits")["quality.overall"].extra["self_judged"], true);
    let of_base = self::records(&judgement(), "gpt-5", "base");
    assert!(!of_base.contains_key("quality.overall_minus_base") && !of_base.contains_key("judge.win_rate"));
}

#[test]
fn a_gate_that_is_not_met_takes_the_grades_away() {
    let reason = |judgement: &Judgement, id: &str| records(judgement, "gpt-5", "exits")[id].null_reason.clone();
    let gated = |name: &str| Some(format!("gate:{name}"));
    let mut blind = judgement();
    for row in &mut blind.ladder {
        row.scores.clone_from(&judgement().ladder[0].scores);
    }
    assert_eq!(reason(&blind, "quality.coherence"), gated("judge_sanity_ladder"));
    assert_eq!(records(&blind, "gpt-5", "exits")["judge.sanity_ladder"].value, Some(0.0));
    let mut unsteady = judgement();
    unsteady.quality.retain(|row| row.repeat == 0);
    assert_eq!(reason(&unsteady, "quality.overall"), gated("judge_reliability"));
    assert_eq!(reason(&unsteady, "quality.overall_minus_base"), gated("judge_reliability"));
    // One of twelve is more than 5 % and more than 3 points above the base's failures.
    let mut unreadable = judgement();
    unreadable.quality[1] = row("exits", 0, None);
    assert_eq!(reason(&unreadable, "quality.clarity"), gated("judge_failures"));
    let record = &records(&unreadable, "gpt-5", "exits")["quality.clarity"];
    assert_eq!((record.exclusions["unreadable"], record.n, &record.extra["parse_failures"]), (1, ITEMS - 1, &json!(1)));
    // A failure is no 0: it is not among the others' grades.
    assert_eq!(records(&unreadable, "gpt-5", "exits")["quality.clarity"].extra["histogram"][7], ITEMS - 1);
    assert_eq!(record.extra["parse_failure_rate"], json!(1.0 / 12.0));
    // The failures of another model are not those of the base.
    assert_eq!(records(&unreadable, "gpt-5", "base")["quality.clarity"].value, Some(8.0));
    // What was given no grades is said, and how.
    for (status, expected) in
        [(JudgeStatus::NoReply, "judge_did_not_reply"), (JudgeStatus::EmptyResponse, "only_empty_responses")]
    {
        let mut without = judgement();
        without.quality = (0..ITEMS).map(|item| JudgeRow { status, ..row("exits", item, None) }).collect();
        assert_eq!(reason(&without, "quality.clarity").as_deref(), Some(expected));
    }
    assert_eq!(reason(&judgement(), "reading.legibility").as_deref(), Some("nothing_to_judge"));
    // Sums that are all equal agree, though no alpha can be computed.
    let mut constant = judgement();
    constant.quality.retain(|row| row.repeat == 0 || row.item == "item-0");
    assert_eq!((reason(&constant, "quality.overall"), reason(&constant, "judge.reliability").is_some()), (None, true));
}
