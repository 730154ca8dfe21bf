//! Theory-of-mind stories: models behind a scripted endpoint, and evaluations.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::fixtures::{Folder, Run, aloud, aloud_with_environment, is_written, json_lines, llama, record, words};
use aloud_openai::scripted_server::{Answer, ScriptedServer, completion};

const KEY: &str = "sk-stories-0123456789-secret";

/// What the endpoint says to the message of a request: nothing right about a story, and a script in other words.
fn reply(body: &Value) -> String {
    let message = body["messages"][0]["content"].as_str().unwrap();
    match message.split_once("The next passage as a script:\n") {
        Some((_, after)) => after.split("\n\nWrite this passage").next().unwrap().replace(" put the ", " set the "),
        None => "?".to_owned(),
    }
}

/// An endpoint that answers as many requests as `left` says, and then refuses.
fn limited(left: &Arc<AtomicUsize>) -> ScriptedServer {
    let left = Arc::clone(left);
    ScriptedServer::answering(move |body| {
        let has_one = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if has_one {
            completion(&reply(body), "stop")
        } else {
            Answer::Status(403, vec![], "no credit left".to_owned())
        }
    })
}

/// `aloud data tom` of two families with these arguments, and the key in the environment.
fn tom(arguments: &[&str]) -> Run {
    let fixed = ["data", "tom", "--seed", "4", "--families", "relocate,topic-public", "--people", "3", "--moves", "2"];
    aloud_with_environment(&[&fixed, arguments].concat(), &[("STORY_KEY", KEY)])
}

fn endpoint(kind: &str, url: &str) -> String {
    format!("--{kind}-url {url} --{kind}-model m-1 --{kind}-key-env STORY_KEY")
}

/// The file of an uninterrupted run, and of one whose endpoint fails in the middle and then comes back.
fn interrupted(kind: &str) -> (Folder, String) {
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let server = limited(&left);
    let models = endpoint(kind, server.address());
    let folder = Folder::new();
    let (whole, cut) = (folder.path("whole.jsonl"), folder.path("cut.jsonl"));
    let arguments = |path: &str| format!("--n 6 --out {path} {models}");
    let written = tom(&words(&arguments(&whole)));
    assert_eq!(written.code, 0, "{}", written.stderr);
    assert!(written.stderr.contains("m-1: ") && written.stderr.contains(" requests sent, "), "{}", written.stderr);
    assert_eq!(server.seen()[0].authorization.as_deref(), Some(format!("Bearer {KEY}").as_str()));

    left.store(server.seen().len() / 2, Ordering::SeqCst);
    let command = arguments(&cut);
    let command = words(&command);
    let error = tom(&command).error(1);
    let partial = format!("{cut}.partial");
    for expected in
        ["finished stories are kept in", &partial, "the same command goes on", "403", "no credit left", "m-1"]
    {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let kept = json_lines(&fs::read_to_string(&partial).unwrap());
    assert!(!kept.is_empty() && !Path::new(&cut).exists());
    // Other settings are another file.
    let other = [&command[..], &["--no-unknown"]].concat();
    tom(&other).fails(1, &["an unfinished file of other settings"]);

    left.store(usize::MAX, Ordering::SeqCst);
    let again = tom(&command);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stderr.contains("going on after"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(&cut).unwrap(), fs::read_to_string(&whole).unwrap());
    let card = |name: &str| fs::read_to_string(folder.path(name)).unwrap();
    assert_eq!(card("cut.card.md"), card("whole.card.md"));

    // All is in the cache now: nothing needs to be sent, nor the key to be there, and the key is nowhere.
    let n_seen = server.seen().len();
    fs::remove_file(&cut).unwrap();
    tom(&[&command[..], &["--offline"]].concat()).ok();
    assert_eq!((fs::read_to_string(&cut).unwrap(), server.seen().len()), (fs::read_to_string(&whole).unwrap(), n_seen));
    assert!(!is_written(Path::new(&folder.path("")), KEY.as_bytes()));
    (folder, whole)
}

#[test]
fn a_search_goes_on_where_the_endpoint_failed() {
    let (folder, whole) = interrupted("search");
    let rows = json_lines(&fs::read_to_string(whole).unwrap());
    assert!(
        rows.iter().all(|row| row["g"] == 0.0 && row["target_name"] == "m-1" && row.get("infilled_text").is_none())
    );
    let card = fs::read_to_string(folder.path("whole.card.md")).unwrap();
    assert!(card.contains("searched for with the model `m-1`; its mean accuracy (`g`): 0.0 %"), "{card}");
}

#[test]
fn prose_goes_on_where_the_endpoint_failed() {
    let (folder, whole) = interrupted("infill");
    let rows = json_lines(&fs::read_to_string(&whole).unwrap());
    for row in &rows {
        let bare = row["story_text"].as_str().unwrap();
        assert_eq!(row["infilled_text"].as_str().unwrap(), bare.replace(" put the ", " set the "));
        assert_eq!((&row["infill_model"], &row["infill_rejected_stories"]), (&"m-1".into(), &0.into()));
    }
    let card = fs::read_to_string(folder.path("whole.card.md")).unwrap();
    assert!(card.contains("told in prose by the model `m-1`; rejected rewrites of passages: 0"), "{card}");
    // The same stories without prose are the same but for it.
    let bare = json_lines(&tom(&["--n", "6"]).ok());
    assert_eq!(bare.len(), rows.len());
    assert!(bare.iter().zip(&rows).all(|(bare, row)| bare["answer"] == row["answer"] && bare["trace"] == row["trace"]));
    // As prompts, stories are read in prose.
    let table = folder.path("whole.csv");
    let fails =
        tom(&words(&format!("--n 1 --out {table} --offline --infill-url http://localhost:9/v1 --infill-model m")));
    fails.fails(1, &["no cached reply"]);
}

#[test]
fn prose_that_loses_facts_is_rejected_and_counted() {
    // A story about news loses it; a story without news keeps all.
    let server = ScriptedServer::answering(|body| {
        let told = reply(body);
        let loses = told.contains("told everyone") || told.contains("brought up");
        completion(if loses { "Something was said." } else { &told }, "stop")
    });
    let folder = Folder::new();
    let out = folder.path("stories.jsonl");
    let models = endpoint("infill", server.address());
    tom(&[&["--n", "3", "--out", &out], &words(&models)[..]].concat()).ok();
    let rows = json_lines(&fs::read_to_string(&out).unwrap());
    assert!(rows.iter().all(|row| row["family"] == "relocate"));
    let mut rejected: Vec<(u64, u64)> = rows
        .iter()
        .map(|row| (row["story"].as_u64().unwrap(), row["infill_rejected_stories"].as_u64().unwrap()))
        .collect();
    rejected.dedup();
    assert_eq!(rejected.len(), 3);
    let n_rejected: u64 = rejected.iter().map(|(_, rejected)| rejected).sum();
    assert!(n_rejected > 0 && rejected[2].0 >= 2 + n_rejected, "{rejected:?}");
    let card = fs::read_to_string(folder.path("stories.card.md")).unwrap();
    assert!(card.contains(&format!("rejected stories: {n_rejected}")), "{card}");

    let server = ScriptedServer::answering(|_| completion("Something was said.", "stop"));
    let models = endpoint("infill", server.address());
    tom(&[&["--n", "3", "--replies", &folder.path("r")], &words(&models)[..]].concat())
        .fails(1, &["for 20 stories in a row", "choose another model"]);
}

#[test]
fn wrong_endpoints_are_refused() {
    let url = ["--n", "1", "--search-url", "http://localhost:9/v1"];
    let with = |arguments: &[&str]| tom(&[&url, arguments].concat());
    assert!(with(&[]).stderr.contains("--search-model"));
    with(&["--search-model", "m"]).fails(2, &["--replies"]);
    let named = ["--search-model", "m", "--replies", "r"];
    let error = with(&[&named[..], &["--search-key-env", "sk-secret"]].concat()).error(2);
    assert!(error.contains("--search-key-env: ") && !error.contains("sk-secret"), "{error}");
    with(&[&named[..], &["--search-order", "3"]].concat()).fails(2, &["order 1 or 2, found 3"]);
    with(&[&named[..], &["--concurrency", "0"]].concat()).fails(2, &["at least one"]);
    tom(&["--n", "1", "--infill-url", "localhost", "--infill-model", "m", "--replies", "r"])
        .fails(2, &["--infill-url: "]);
}

#[test]
fn an_evaluation_of_stories() {
    let (folder, model) = llama();
    // A story has more characters, which are its tokens, than the tiny model has positions.
    let config = Path::new(&model).join("config.json");
    let mut values: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    values["max_position_embeddings"] = 4096.into();
    fs::write(&config, values.to_string()).unwrap();
    let checkpoint = folder.checkpoint(&model);
    let fixed = ["--task", "tom", "--n", "8", "--max-new-tokens", "6", "--instruction", "", "--raw"];
    let quick = aloud(&[&["eval", &checkpoint, "--json"], &fixed[..]].concat()).json();
    assert_eq!((&quick["n"], &quick["majority"].as_f64().map(|share| share >= 0.5)), (&8.into(), &Some(true)));
    let kinds: Vec<&str> =
        quick["kinds"].as_array().unwrap().iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["first-order-place", "knows-about", "second-order-place", "yes-no"]);
    assert!(quick["kinds"].as_array().unwrap().iter().all(|kind| kind["n"] == 2));
    assert!(quick["als"].as_f64().unwrap() > 0.0 && quick["strict"]["value"] == 0.0, "{quick}");
    let page = aloud(&[&["eval", &checkpoint], &fixed[..]].concat()).ok();
    assert!(page.contains("majority baseline") && page.contains("yes-no"), "{page}");

    let output = folder.path("run");
    let run = aloud(&[&["eval", &checkpoint, "--output", &output, "--json"], &fixed[..]].concat()).json();
    for model in ["exits", "base"] {
        for id in ["accuracy.strict", "accuracy.lenient", "accuracy.balanced"] {
            let record = record(&run, model, id);
            assert!(
                record["value"].is_number() && record["extra"]["per_type"]["yes-no"]["majority"] == 0.5,
                "{record}"
            );
        }
        assert_eq!(record(&run, model, "accuracy.balanced")["n"], 4);
    }
    assert!(!record(&run, "exits", "depth.by_token_class")["extra"]["classes"].as_array().unwrap().is_empty());
    // Nothing is known of steps, and no equation is in a story.
    let ids: Vec<&str> =
        run["metrics"].as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert!(!ids.contains(&"horizon.without_trace"));
    assert!(record(&run, "exits", "written_steps.coverage")["value"].is_null());
    let again = aloud(&[&["eval", &checkpoint, "--output", &output, "--all"], &fixed[..]].concat()).ok();
    assert!(again.contains("kind of question") && again.contains("majority baseline"), "{again}");
}
