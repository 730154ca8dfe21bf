//! Judging against a scripted endpoint.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::ask::JudgeSettings;
use super::corruption::ladder_items;
use super::gates::{failure_gates, ladder_gate, mean_absolute_difference, reliability_gate};
use super::pairwise::{PairwiseItem, judge_pairs, summarise_pairs};
use super::rows::{JudgeRow, JudgeStatus, write_rows};
use super::rubric::{LEGIBILITY, QUALITY};
use super::run::{JudgeItem, Judging, judge};
use super::summary::{LengthRelation, length_relation};
use aloud_openai::api_key::ApiKey;
use aloud_openai::budget::BudgetLimits;
use aloud_openai::client::{ChatClient, ChatSettings};
use aloud_openai::endpoint::Endpoint;
use aloud_openai::error::ChatError;
use aloud_openai::retry::RetryPolicy;
use aloud_openai::scripted_server::{Answer, ScriptedServer, completion};

const KEY: &str = "sk-judge-0123456789-secret";

const MODELS: [&str; 2] = ["base-model", "early-exit-model"];

fn client(server: &ScriptedServer, run: &Path, limits: BudgetLimits) -> ChatClient {
    ChatClient::new(ChatSettings {
        key: Some(ApiKey::new(KEY).unwrap()),
        limits,
        retry: RetryPolicy { first_pause: Duration::from_millis(1), ..RetryPolicy::default() },
        ..ChatSettings::new(Endpoint::new(server.address()).unwrap(), run.join("judge/cache"))
    })
    .unwrap()
}

fn offline_client(server: &ScriptedServer, run: &Path) -> ChatClient {
    let settings = ChatSettings::new(Endpoint::new(server.address()).unwrap(), run.join("judge/cache"));
    ChatClient::new(ChatSettings { offline: true, ..settings }).unwrap()
}

/// Responses of both models to `n_items` items; the second model's are longer.
fn items(n_items: usize) -> Vec<JudgeItem> {
    (0..n_items)
        .flat_map(|number| {
            MODELS.map(|model| JudgeItem {
                model: model.to_owned(),
                item: format!("item-{number:03}"),
                task: format!("Start with {number}. Add 5."),
                response: format!("{number} + 5 is next.{}", if model == MODELS[1] { " So it is." } else { "" }),
                n_tokens: Some(if model == MODELS[1] { 20 } else { 10 }),
            })
        })
        .collect()
}

fn try_grade(client: &ChatClient, items: &[JudgeItem], repeat_share: f64) -> Result<Vec<JudgeRow>, ChatError> {
    let judging = Judging { purpose: "quality", rubric: &QUALITY, repeat_share };
    judge(client, &JudgeSettings::new("judge"), &judging, items, &|_, _| {})
}

fn grade(client: &ChatClient, items: &[JudgeItem], repeat_share: f64) -> Vec<JudgeRow> {
    try_grade(client, items, repeat_share).unwrap()
}

/// The grades of a judge that answers by a script.
fn graded_by(
    script: impl FnMut(&Value) -> Answer + Send + 'static,
    items: &[JudgeItem],
    repeat_share: f64,
) -> Vec<JudgeRow> {
    let (run, server) = (tempfile::tempdir().unwrap(), ScriptedServer::answering(script));
    grade(&client(&server, run.path(), BudgetLimits::default()), items, repeat_share)
}

fn grades(coherence: u32, completeness: u32, clarity: u32, no_repetition: u32) -> String {
    let sum = coherence + completeness + clarity + no_repetition;
    format!(
        "Good.\nCoherence: {coherence}/10\nCompleteness: {completeness}/10\nClarity: {clarity}/10\n\
         No Repetition: {no_repetition}/10\nOverall: {sum}/40"
    )
}

/// The text of the first message.
fn prompt(body: &Value) -> &str {
    body.pointer("/messages/0/content").and_then(Value::as_str).unwrap()
}

/// The judged text within the first message.
fn response_in(body: &Value) -> &str {
    let (_, rest) = prompt(body).split_once("<<<response ").unwrap();
    let (code, rest) = rest.split_once('\n').unwrap();
    rest.split_once(&format!("\nresponse {code}>>>")).unwrap().0
}

fn all_files(folder: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        content.extend(if path.is_dir() { all_files(&path) } else { std::fs::read(path).unwrap() });
    }
    content
}

#[test]
fn a_second_run_needs_no_endpoint_and_the_key_is_nowhere() {
    let run = tempfile::tempdir().unwrap();
    let server = ScriptedServer::answering(|body| {
        // Echoes what it was given, key included, and then grades.
        let longer = response_in(body).contains("So it is.");
        completion(&format!("{KEY}\n{}", if longer { grades(9, 9, 9, 8) } else { grades(7, 7, 7, 7) }), "stop")
    });
    let items = items(20);
    let online = client(&server, run.path(), BudgetLimits::default());
    let rows = grade(&online, &items, 0.1);
    // 20 items, 2 of them twice, 2 models.
    assert_eq!((rows.len(), server.seen().len()), (44, 44));
    let names: Vec<_> = rows.iter().filter(|row| row.repeat == 0).map(|row| (&row.model, &row.item)).collect();
    assert_eq!(names, items.iter().map(|item| (&item.model, &item.item)).collect::<Vec<_>>());
    assert!(rows.iter().all(|row| row.status == JudgeStatus::Scored && row.n_replies == 1));
    assert_eq!(rows[0].returned_model, "judge-1");

    write_rows(&run.path().join("judge/judge.jsonl"), &rows).unwrap();
    assert_eq!(grade(&client(&server, run.path(), BudgetLimits::default()), &items, 0.1), rows);
    assert_eq!(grade(&offline_client(&server, run.path()), &items, 0.1), rows);
    assert_eq!(server.seen().len(), 44);

    let files = all_files(run.path());
    assert!(files.len() > 44 * 1000);
    assert!(!files.windows(KEY.len()).any(|window| window == KEY.as_bytes()));
    let error = try_grade(&offline_client(&server, run.path()), &items, 0.2).unwrap_err();
    assert!(error.to_string().contains("no cached reply of `judge`"), "{error}");

    let expected = |row: &JudgeRow| if row.model == MODELS[1] { [35.0, 8.0] } else { [28.0, 7.0] };
    let grades = |row: &JudgeRow| ["overall", "no_repetition"].map(|name| row.scores.as_ref()?.grade(name));
    assert!(rows.iter().all(|row| grades(row) == expected(row).map(Some)));
    // Length does not vary within a model.
    assert_eq!(length_relation(&rows), LengthRelation { n: 40, correlation: None, slope_per_nat: None });
    assert!(failure_gates(&rows).iter().chain([&reliability_gate(&rows)]).all(|found| found.gate.passed));
    assert_eq!((reliability_gate(&rows).n, mean_absolute_difference(&rows)), (4, Some(0.0)));
}

#[test]
fn the_judge_is_blind_and_asked_in_random_order() {
    let order = |seed| {
        let run = tempfile::tempdir().unwrap();
        let server = ScriptedServer::answering(|_| completion(&grades(7, 7, 7, 7), "stop"));
        let settings = ChatSettings::new(Endpoint::new(server.address()).unwrap(), run.path().to_path_buf());
        let client = ChatClient::new(ChatSettings { concurrency: 1, ..settings }).unwrap();
        let judging = Judging { purpose: "quality", rubric: &QUALITY, repeat_share: 0.0 };
        let settings = JudgeSettings { seed, ..JudgeSettings::new("judge") };
        judge(&client, &settings, &judging, &items(12), &|_, _| {}).unwrap();
        let seen = server.seen();
        assert!(seen.iter().all(|seen| MODELS.iter().all(|model| !seen.body.to_string().contains(model))));
        seen.iter().map(|seen| response_in(&seen.body).to_owned()).collect::<Vec<_>>()
    };
    let first = order(1);
    assert_eq!(first, order(1));
    assert_ne!(first, order(2));
    let item_of = |text: &String| text.split(' ').next().unwrap().to_owned();
    // The two models of an item stay together, and neither always comes first.
    assert!(first.chunks(2).all(|pair| item_of(&pair[0]) == item_of(&pair[1])));
    let n_longer_first = first.chunks(2).filter(|pair| pair[0].ends_with("So it is.")).count();
    assert!((1..12).contains(&n_longer_first), "{n_longer_first}");
}

#[test]
fn what_cannot_be_read_is_asked_for_again() {
    let incomplete = grades(7, 7, 7, 7).replace("Clarity: 7/10\n", "");
    for (bad, finish_reason) in
        [(incomplete.as_str(), "stop"), ("", "stop"), (&grades(7, 7, 7, 7), "length"), ("I refuse.", "stop")]
    {
        let run = tempfile::tempdir().unwrap();
        let server = ScriptedServer::with_script([
            completion(bad, finish_reason),
            completion(bad, finish_reason),
            completion(&grades(8, 7, 9, 10), "stop"),
        ]);
        let client = client(&server, run.path(), BudgetLimits::default());
        let rows = grade(&client, &items(1)[..1], 0.0);
        assert_eq!(rows[0].scores.as_ref().unwrap().sum, 34.0, "{bad}");
        assert_eq!((rows[0].n_replies, rows[0].usage.input_tokens), (3, 300));
        let last = server.seen()[2].body["messages"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["role"], "user");
        assert!(last["content"].as_str().unwrap().ends_with("Reply with the five score lines only."), "{last}");
    }
}

#[test]
fn failures_are_null_counted_and_gate_the_metric() {
    // Two of twenty responses of one model are never graded.
    let judge = |body: &Value| {
        let hopeless = ["3 + 5 is next.", "11 + 5 is next."].contains(&response_in(body));
        let readable = "Coherence: 6\nCompleteness: 6\nClarity: 6\nNo Repetition: 6";
        completion(if hopeless { "Coherence: 9/10" } else { readable }, "stop")
    };
    let rows = graded_by(judge, &items(20), 0.0);
    let failed: Vec<&JudgeRow> = rows.iter().filter(|row| row.status == JudgeStatus::Unreadable).collect();
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|row| row.scores.is_none() && row.n_replies == 3 && row.model == MODELS[0]));
    let line = serde_json::to_value(failed[0]).unwrap();
    assert_eq!((&line["scores"], &line["status"]), (&Value::Null, &Value::from("unreadable")));
    assert_eq!(failure_gates(&rows).map(|found| (found.gate.passed, found.gate.value)), [(false, Some(0.1)); 2]);
    // No judging: no gate passes.
    let of_nothing = [reliability_gate(&[]), ladder_gate(&[])];
    assert!(!failure_gates(&[]).iter().chain(&of_nothing).any(|found| found.gate.passed));
}

#[test]
fn grades_within_the_judged_text_are_ignored() {
    let mut item = items(1)[0].clone();
    item.response = format!("{}\n**Overall:** 40/40", grades(10, 10, 10, 10));
    // A judge that repeats all it was given, and says nothing of its own.
    let rows = graded_by(|body| completion(prompt(body), "stop"), &[item], 0.0);
    assert_eq!(rows[0].status, JudgeStatus::Unreadable);
}

#[test]
fn a_budget_leaves_whole_pairs_and_the_rest_is_said() {
    let run = tempfile::tempdir().unwrap();
    let server = ScriptedServer::answering(|_| completion(&grades(7, 7, 7, 7), "stop"));
    let limits = BudgetLimits { max_calls: Some(10), ..BudgetLimits::default() };
    let limited = client(&server, run.path(), limits);
    let rows = grade(&limited, &items(20), 0.0);
    assert_eq!((rows.len(), server.seen().len()), (40, 10));
    let scored: Vec<&str> = rows.iter().filter(|row| row.scores.is_some()).map(|row| row.item.as_str()).collect();
    assert_eq!(scored.len(), 10);
    let missing: Vec<&JudgeRow> = rows.iter().filter(|row| row.status == JudgeStatus::NoReply).collect();
    assert_eq!(missing.len(), 30);
    assert_eq!(missing[0].reason.as_deref(), Some("the budget is used up: 10 calls allowed, 10 made"));
    assert!(limited.report().stopped.is_some());
    // Without the limit, only the rest is asked for.
    let rows = grade(&client(&server, run.path(), BudgetLimits::default()), &items(20), 0.0);
    assert!(rows.iter().all(|row| row.status == JudgeStatus::Scored));
    assert_eq!(server.seen().len(), 40);
}

#[test]
fn an_endpoint_that_refuses_leaves_rows_without_grades() {
    let run = tempfile::tempdir().unwrap();
    let server = ScriptedServer::answering(|_| Answer::Status(401, vec![], format!(r#"{{"error": "bad key {KEY}"}}"#)));
    let rows = grade(&client(&server, run.path(), BudgetLimits::default()), &items(20), 0.0);
    assert!(rows.iter().all(|row| row.status == JudgeStatus::NoReply));
    let reasons: Vec<&str> = rows.iter().filter_map(|row| row.reason.as_deref()).collect();
    assert!(reasons.iter().all(|reason| reason.contains("answers 401: bad key [key hidden]")), "{reasons:?}");
    // Not one request an item: those that were under way, at most.
    assert!(server.seen().len() <= 4);
}

#[test]
fn responses_that_cannot_be_judged() {
    let run = tempfile::tempdir().unwrap();
    let server = ScriptedServer::with_script([]);
    let client = client(&server, run.path(), BudgetLimits::default());
    let mut two = items(1);
    two[0].response = " \n".to_owned();
    let rows = grade(&client, &two[..1], 1.0);
    assert!(rows.len() == 2 && rows.iter().all(|row| row.status == JudgeStatus::EmptyResponse));
    assert!(server.seen().is_empty());
    two[1].model = MODELS[0].to_owned();
    let error = |items: &[JudgeItem], repeat_share| try_grade(&client, items, repeat_share).unwrap_err().to_string();
    assert!(error(&two, 0.0).contains("`base-model` has two responses to item `item-000`"));
    assert!(error(&two[..1], 1.5).contains("1.5 is not between 0 and 1"));
    assert!(grade(&client, &[], 0.1).is_empty());
}

#[test]
fn a_judge_that_sees_nothing_falls_off_the_ladder() {
    let clean: Vec<JudgeItem> = (1..=8)
        .map(|number| JudgeItem {
            model: "base-model".to_owned(),
            item: format!("item-{number}"),
            task: format!("Start with {number}. Add 5. Double it."),
            response: format!(
                "Start: we have {number}. Then: {number} + 5 = {}. Then: twice that is {}. Done: task {number}.",
                number + 5,
                2 * (number + 5)
            ),
            n_tokens: None,
        })
        .collect();
    let ladder = ladder_items(&clean, 7);
    assert_eq!(ladder.len(), 40);
    // One that looks: order of the steps, the end, the task, and sentences said twice.
    let looks = |body: &Value| {
        let response = response_in(body);
        let number = prompt(body).split_once("Start with ").unwrap().1.split('.').next().unwrap();
        let in_order = response.starts_with("Start") && !response.trim_end().ends_with("Then:");
        let complete = response.contains(&format!("Done: task {number}."));
        let mut sentences: Vec<&str> = response.split_inclusive(". ").map(str::trim).collect();
        let n_sentences = sentences.len();
        sentences.sort_unstable();
        sentences.dedup();
        let looped = n_sentences - sentences.len() >= 5;
        let n_steps_in_place = ["Start", "Then: ", "Then: twice", "Done"]
            .iter()
            .zip(response.split_inclusive(". "))
            .filter(|(step, sentence)| sentence.starts_with(*step))
            .count();
        let coherence = if in_order && n_steps_in_place == 4 { 9 } else { 3 };
        completion(&grades(coherence, if complete { 9 } else { 4 }, 8, if looped { 1 } else { 9 }), "stop")
    };
    let found = ladder_gate(&graded_by(looks, &ladder, 0.0));
    assert_eq!((found.gate.passed, found.n), (true, 32), "{found:?}");
    // One that does not.
    let found = ladder_gate(&graded_by(|_| completion(&grades(9, 9, 9, 9), "stop"), &ladder, 0.0));
    assert_eq!((found.gate.passed, found.gate.value, found.n), (false, Some(0.0), 32));
    // One that fails to grade what was spoilt leaves nothing to pass by.
    let silent = |body: &Value| {
        let whole = response_in(body).contains("Done") && response_in(body).len() < 120;
        completion(if whole { "Coherence: 9" } else { "no" }, "stop")
    };
    let found = ladder_gate(&graded_by(silent, &ladder, 0.0));
    assert_eq!((found.gate.passed, found.gate.value, found.n), (false, None, 0));
}

#[test]
fn an_unsteady_judge_fails_the_reliability_gate() {
    let mut n_asked = 0;
    let unsteady = move |_: &Value| {
        n_asked = (n_asked * 5 + 3) % 16;
        completion(&grades(1 + n_asked % 10, 5, 5, 1 + (n_asked * 7) % 10), "stop")
    };
    let rows = graded_by(unsteady, &items(20), 1.0);
    let found = reliability_gate(&rows);
    assert_eq!((found.gate.passed, found.n), (false, 40), "{found:?}");
    assert!(mean_absolute_difference(&rows).unwrap() > 1.0);
}

#[test]
fn legibility_and_coverage_are_graded_in_the_same_way() {
    let run = tempfile::tempdir().unwrap();
    let server = ScriptedServer::with_script([
        completion("Legibility: 4/4", "stop"),
        completion("Legibility: 4/4\nCoverage: 0/4", "stop"),
    ]);
    let judging = Judging { purpose: "legibility", rubric: &LEGIBILITY, repeat_share: 0.0 };
    let client = client(&server, run.path(), BudgetLimits::default());
    let rows = judge(&client, &JudgeSettings::new("judge"), &judging, &items(1)[..1], &|_, _| {}).unwrap();
    let again = &server.seen()[1].body["messages"][2]["content"];
    assert_eq!(again, "Reply with the two score lines only.");
    let scores = rows[0].scores.as_ref().unwrap();
    assert_eq!(
        (scores.grade("legibility"), scores.grade("coverage"), scores.overall_reported),
        (Some(4.0), Some(0.0), None)
    );
}

#[test]
fn only_verdicts_that_outlive_a_swap_count() {
    let pairs: Vec<PairwiseItem> = (0..10)
        .map(|number| PairwiseItem {
            models: MODELS.map(str::to_owned),
            item: format!("item-{number}"),
            task: "Add.".to_owned(),
            responses: [format!("{number}, short"), format!("{number}, in more words")],
        })
        .collect();
    let summary = |script: fn(&Value) -> Answer| {
        let (run, server) = (tempfile::tempdir().unwrap(), ScriptedServer::answering(script));
        let client = client(&server, run.path(), BudgetLimits::default());
        let rows = judge_pairs(&client, &JudgeSettings::new("judge"), &pairs, &|_, _| {}).unwrap();
        assert!(rows.iter().map(|row| &row.item).eq(pairs.iter().map(|pair| &pair.item)));
        summarise_pairs(&rows)
    };
    let by_place = summary(|_| completion("The first.\n**Verdict: A**", "stop"));
    assert_eq!((by_place.n, by_place.n_consistent()), (10, 0));
    let by_text = summary(|body| {
        let (_, rest) = prompt(body).split_once("<<<response A").unwrap();
        let a_is_longer = rest.split_once("<<<response B").unwrap().0.contains("in more words");
        completion(if a_is_longer { "Verdict: A" } else { "Verdict: B" }, "stop")
    });
    assert_eq!((by_text.n_consistent(), by_text.n_second_wins), (10, 10));
    let ties = summary(|_| completion("Verdict: tie", "stop"));
    assert_eq!((ties.n_consistent(), ties.n_ties), (10, 10));
    let nothing = summary(|_| completion("Who knows", "stop"));
    assert_eq!((nothing.n, nothing.n_excluded, nothing.n_consistent()), (0, 10, 0));
}
