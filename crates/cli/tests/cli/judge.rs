//! A judge behind `aloud eval` and `aloud sweep`, against a scripted endpoint on loopback.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use crate::fixtures::{Folder, Run, is_written, json_lines, record};

#[path = "../../../oversight/examples/scripted_judge/surface_grades.rs"]
mod surface_grades;

use aloud_openai::scripted_server::{ScriptedServer, completion};

const KEY: &str = "sk-judge-0123456789-secret";

/// A checkpoint of the built-in model whose heads exit half of the time, and where models and runs are.
struct Setting {
    folder: Folder,
    checkpoint: String,
}

impl Setting {
    fn new() -> Self {
        let folder = Folder::new();
        let checkpoint = folder.reasoner("checkpoint", |_| {});
        Self { folder, checkpoint }
    }

    /// `aloud eval` of the checkpoint and the base, with a judge. What was generated before is not generated again.
    fn evaluate(&self, url: &str, arguments: &[&str]) -> Run {
        let run = self.folder.path("run");
        let fixed = ["eval", &self.checkpoint, "--output", &run, "--task", "chain", "--tier", "toy", "--n", "16"];
        let judge = ["--max-new-tokens", "24", "--json", "--judge-url", url, "--judge-key-env", "JUDGE_KEY"];
        self.run(&[&fixed[..], &judge, arguments].concat())
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.folder.run_with(arguments, &[("JUDGE_KEY", KEY)])
    }

    fn judge_file(&self, name: &str) -> String {
        fs::read_to_string(Path::new(&self.folder.path("run/judge")).join(name)).unwrap()
    }

    fn report(&self) -> Value {
        serde_json::from_str(&self.judge_file("report.json")).unwrap()
    }

    /// Rows of `judge.jsonl` for a purpose.
    fn rows(&self, purpose: &str) -> Vec<Value> {
        let rows = json_lines(&self.judge_file("judge.jsonl")).into_iter();
        rows.filter(|row| row["purpose"] == purpose).collect()
    }
}

/// A judge that counts words.
fn counting_judge() -> ScriptedServer {
    ScriptedServer::answering(|body| completion(&surface_grades::reply(body).expect("a question of a judge"), "stop"))
}

#[test]
fn grades_become_records_and_a_second_run_sends_nothing() {
    let setting = Setting::new();
    let server = counting_judge();
    let judge = ["--judge-model", "scripted-judge"];
    let run = setting.evaluate(server.address(), &judge);
    let (printed, said) = (run.stdout.clone(), run.stderr.clone());
    let evaluation = run.json();
    for id in
        ["quality.coherence", "quality.completeness", "quality.clarity", "quality.no_repetition", "quality.overall"]
    {
        for model in ["base", "exits"] {
            let record = record(&evaluation, model, id);
            let value = record["value"].as_f64().unwrap_or_else(|| panic!("{record:#}"));
            let interval = &record["ci"];
            assert!(interval["lo"].as_f64().unwrap() <= value && value <= interval["hi"].as_f64().unwrap());
            assert_eq!((&record["n"], &record["extra"]["judge_model"]), (&16.into(), &judge[1].into()));
            assert_eq!((&record["extra"]["partial"], &record["extra"]["self_judged"]), (&false.into(), &false.into()));
            let histogram = record["extra"]["histogram"].as_array().unwrap();
            assert_eq!(histogram.iter().filter_map(Value::as_u64).sum::<u64>(), 16);
            let gates: Vec<&str> =
                record["gates"].as_array().unwrap().iter().map(|gate| gate["name"].as_str().unwrap()).collect();
            assert_eq!(
                gates,
                ["judge_sanity_ladder", "judge_reliability", "judge_failure_difference", "judge_failures"]
            );
        }
    }
    // Exits in the middle of nowhere make other texts than the base writes.
    let difference = record(&evaluation, "exits", "quality.overall_minus_base");
    let overall = |model: &str| record(&evaluation, model, "quality.overall")["value"].as_f64().unwrap();
    assert!((difference["value"].as_f64().unwrap() - (overall("exits") - overall("base"))).abs() < 1e-9);
    assert_eq!(difference["ci"]["method"], "paired_cluster_bootstrap");
    assert!(record(&evaluation, "base", "reading.legibility")["value"].as_f64().unwrap() > 0.0);
    assert_eq!(record(&evaluation, "base", "judge.reliability")["value"], 1.0);
    assert_eq!(record(&evaluation, "exits", "judge.swap_consistency")["value"], 1.0);
    assert_eq!(
        record(&evaluation, "exits", "text.repeated_4")["extra"]["judge_spearman"]["verdict"],
        "fewer than 100 graded responses"
    );

    // 16 items, 2 of them twice, 2 models.
    assert_eq!(setting.rows("quality").len(), 36);
    assert!(setting.rows("quality").iter().all(|row| row["scores"]["criteria"]["coherence"].is_number()));
    assert_eq!(setting.rows("ladder").iter().filter(|row| row["model"] == "clean").count(), 8);
    assert_eq!(setting.judge_file("judge_pairs.jsonl").lines().count(), 16);
    let n_sent = server.seen().len();
    assert_eq!((&setting.report()["client"]["n_sent"], &setting.report()["partial"]), (&n_sent.into(), &false.into()));
    let authorization = Some(format!("Bearer {KEY}"));
    assert!(server.seen().iter().all(|seen| seen.authorization == authorization));

    let metrics = setting.folder.path("run/exits/metrics.json");
    let written = fs::read_to_string(&metrics).unwrap();
    assert_eq!(setting.evaluate(server.address(), &judge).json(), evaluation);
    let offline = [&judge[..], &["--judge-offline"]].concat();
    assert_eq!(setting.evaluate(server.address(), &offline).json(), evaluation);
    assert_eq!((server.seen().len(), fs::read_to_string(&metrics).unwrap()), (n_sent, written));
    assert_eq!(setting.report()["client"]["n_sent"], 0);

    let page = setting.folder.path("page.html");
    setting.run(&["report", &setting.folder.path("run"), "--output", &page, "--draws", "100"]).ok();
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("Judge: scripted-judge.") && !html.contains("No judge was run"));
    assert!(html.contains("Stand-ins against the judge") && html.contains("reading.legibility"));

    assert!(!is_written(Path::new(&setting.folder.path("")), KEY.as_bytes()));
    assert!(!printed.contains(KEY) && !said.contains(KEY));

    // A reply that is not in the cache ends a run that may send nothing; the evaluation without it stands.
    let other = ["--judge-offline", "--judge-model", "another"];
    setting.evaluate(server.address(), &other).fails(1, &["no cached reply of `another`"]);
    assert_eq!(server.seen().len(), n_sent);
}

#[test]
fn nonsense_is_counted_and_never_a_grade() {
    let setting = Setting::new();
    let server = ScriptedServer::answering(|_| completion("A fine text.\nCoherence: 11/10\nClarity: 9/10", "stop"));
    let evaluation = setting.evaluate(server.address(), &["--judge-model", "scripted-judge"]).json();
    let coherence = record(&evaluation, "exits", "quality.coherence");
    assert_eq!(
        (&coherence["value"], &coherence["null_reason"]),
        (&Value::Null, &Value::from("gate:judge_failures")),
        "{coherence:#}"
    );
    assert_eq!((&coherence["exclusions"]["unreadable"], &coherence["n"]), (&16.into(), &0.into()));
    assert_eq!(
        (&coherence["extra"]["parse_failure_rate"], &coherence["extra"]["partial"]),
        (&1.0.into(), &false.into())
    );
    assert_eq!(record(&evaluation, "exits", "judge.sanity_ladder")["null_reason"], "no_pair_was_graded");
    assert_eq!(record(&evaluation, "exits", "judge.win_rate")["exclusions"]["no_verdict_in_both_orders"], 16);
    assert!(record(&evaluation, "exits", "text.repeated_4")["extra"].get("judge_spearman").is_none());
    // Asked three times in all.
    assert!(setting.rows("quality").iter().all(|row| row["n_replies"] == 3 && row["scores"].is_null()));
}

#[test]
fn an_endpoint_that_is_gone_costs_its_grades_alone() {
    let setting = Setting::new();
    // The port was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let run = setting.evaluate(&url, &["--judge-model", "scripted-judge", "--judge-tries", "1"]);
    assert!(run.stderr.contains("warning: the judge did not reply to "), "{}", run.stderr);
    assert!(run.stderr.contains("failed 1 times"), "{}", run.stderr);
    let evaluation = run.json();
    assert_eq!(record(&evaluation, "exits", "quality.overall")["null_reason"], "judge_did_not_reply");
    assert!(record(&evaluation, "exits", "savings.average")["value"].is_number());
    assert_eq!(setting.report()["partial"], true);
    let page = setting.folder.path("page.html");
    setting.run(&["report", &setting.folder.path("run"), "--output", &page, "--draws", "100"]).ok();
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("No grade may be used") && html.contains("Partial: the judge did not reply"));
}

#[test]
fn a_budget_ends_the_judging_and_kin_is_named() {
    let setting = Setting::new();
    let server = counting_judge();
    let budget = ["--judge-model", "tiny-reasoner-large", "--judge-max-calls", "60", "--judge-concurrency", "1"];
    let run = setting.evaluate(server.address(), &budget);
    assert!(run.stderr.contains("its grades are marked `self_judged`"), "{}", run.stderr);
    assert!(run.stderr.contains("60 calls allowed"), "{}", run.stderr);
    let evaluation = run.json();
    assert_eq!(server.seen().len(), 60);
    let overall = record(&evaluation, "exits", "quality.overall");
    assert_eq!((&overall["extra"]["partial"], &overall["extra"]["self_judged"]), (&true.into(), &true.into()));
    assert!(overall["exclusions"]["no_reply"].as_u64().unwrap() > 0 && overall["n"].as_u64().unwrap() > 0);
    assert_eq!(setting.report()["kinship"]["exits"], "same_family");
    // The rest, with another budget.
    let evaluation = setting.evaluate(server.address(), &["--judge-model", "tiny-reasoner-large"]).json();
    assert_eq!(record(&evaluation, "exits", "quality.overall")["extra"]["partial"], false);
    assert_eq!(record(&evaluation, "exits", "quality.overall")["n"], 16);
}

#[test]
fn a_sweep_is_judged_as_a_whole() {
    let setting = Setting::new();
    let server = counting_judge();
    let sweep = setting.folder.path("sweep");
    let asked = ["--task", "chain", "--tier", "toy", "--n", "16", "--max-new-tokens", "16"];
    let dial = ["sweep", &setting.checkpoint, "--dial", "offset", "--values", "-2,2", "--output", &sweep];
    let arguments = [&dial[..], &asked].concat();
    let file = |name: &str| Path::new(&sweep).join(name);

    // Without a judge the stand-ins are shown.
    let text = setting.run(&arguments).ok();
    assert!(text.contains("No judge was run.") && text.contains("repetition (stand-in)"), "{text}");
    let stand_in = fs::read_to_string(file("plots/chain-text.perplexity.by-offset.csv")).unwrap();
    assert!(stand_in.lines().any(|line| line.starts_with("base,")), "{stand_in}");

    let judge = ["--judge-url", server.address(), "--judge-model", "scripted-judge"];
    let judged = [&arguments[..], &judge].concat();
    let rows = setting.run(&[&judged[..], &["--json"]].concat()).json()["rows"].clone();
    for row in rows.as_array().unwrap() {
        for name in ["coherence", "completeness", "clarity", "no_repetition", "overall"] {
            assert!(row["quality"][name].is_number(), "{row}");
        }
        assert!(row["quality"]["proxy_repeated_4"].is_number());
    }
    assert!(rows[2]["offset"].is_null() && rows[2]["quality"]["legibility"].is_number());
    // Three models, 16 items, 2 of them twice: the base is judged once.
    let lines = fs::read_to_string(file("judge/judge.jsonl")).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains("\"purpose\":\"quality\"")).count(), 3 * 18);
    let figure = fs::read_to_string(file("plots/chain-quality.coherence.by-offset.svg")).unwrap();
    assert!(figure.contains("Judge: scripted-judge") || figure.contains("Coherence, judged"), "{figure}");
    let metrics = fs::read_to_string(file("offset-2/exits/metrics.json")).unwrap();
    assert!(metrics.contains("quality.overall_minus_base"));

    let n_sent = server.seen().len();
    let text = setting.run(&judged).ok();
    assert!(text.contains("coherence (judge)") && text.contains("Judge: scripted-judge;"), "{text}");
    assert_eq!(server.seen().len(), n_sent);
    let page = setting.folder.path("page.html");
    setting.run(&["report", &sweep, "--output", &page, "--draws", "100"]).ok();
    assert!(fs::read_to_string(&page).unwrap().contains("Coherence, judged, over offset"));
}

#[test]
fn a_judge_needs_a_folder_and_a_key_that_is_there() {
    let setting = Setting::new();
    let judge = ["eval", "tiny-reasoner", "--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m"];
    setting.run(&judge).fails(2, &["--output"]);
    let run = setting.folder.path("run");
    setting
        .run(&[&judge[..], &["--output", &run, "--judge-key-env", "NO_SUCH_KEY"]].concat())
        .fails(2, &["--judge-key-env"]);
    // Nothing was generated before that was found.
    assert!(!Path::new(&run).join("base/samples.jsonl").exists());
}
