//! The client against a server that misbehaves by script.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use crate::api_key::ApiKey;
use crate::budget::{BudgetLimits, Prices};
use crate::cache::Cache;
use crate::client::{ChatClient, ChatSettings};
use crate::endpoint::Endpoint;
use crate::error::ChatError;
use crate::message::{ChatMessage, ChatReply, ChatRequest};
use crate::retry::RetryPolicy;
use crate::scripted_server::{Answer, ScriptedServer, completion};
use crate::transport::Timeouts;

const KEY: &str = "sk-test-0123456789-secret";

fn request(text: &str) -> ChatRequest {
    ChatRequest {
        model: "judge".to_owned(),
        messages: vec![ChatMessage::user(text)],
        max_tokens: 512,
        seed: Some(1),
        prompt_version: "test-1".to_owned(),
        ..ChatRequest::default()
    }
}

/// Quick tries, and a time limit that a busy machine keeps.
fn settings(address: &str, folder: &Path) -> ChatSettings {
    ChatSettings {
        key: Some(ApiKey::new(KEY).unwrap()),
        timeouts: Timeouts { connect: Duration::from_secs(5), total: Duration::from_secs(20), ..Timeouts::default() },
        retry: RetryPolicy { first_pause: Duration::from_millis(1), ..RetryPolicy::default() },
        ..ChatSettings::new(Endpoint::new(address).unwrap(), folder.join("cache"))
    }
}

fn client(server: &ScriptedServer, folder: &Path) -> ChatClient {
    ChatClient::new(settings(server.address(), folder)).unwrap()
}

fn status(status: u16, text: &str) -> Answer {
    Answer::Status(status, vec![], text.to_owned())
}

/// Every file below the folder.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() { files(&path) } else { vec![std::fs::read(path).unwrap()] }
        })
        .collect()
}

fn holds_key(folder: &Path) -> bool {
    files(folder).iter().any(|content| content.windows(KEY.len()).any(|window| window == KEY.as_bytes()))
}

#[test]
fn a_reply_is_cached_and_never_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::with_script([completion("hello", "stop")]);
    let first = client(&server, folder.path());
    let reply = first.complete(&request("hi")).unwrap();
    assert_eq!((reply.text.as_str(), reply.model.as_str(), reply.from_cache), ("hello", "judge-1", false));
    assert_eq!(server.seen()[0].authorization.as_deref(), Some(&*format!("Bearer {KEY}")));
    assert_eq!(server.seen()[0].body["max_tokens"], 512);
    assert_eq!(first.complete(&request("hi")).unwrap(), ChatReply { from_cache: true, ..reply.clone() });
    // Another process, and one that may send nothing.
    let second = client(&server, folder.path());
    assert_eq!(second.complete(&request("hi")).unwrap().text, "hello");
    let offline = ChatSettings { offline: true, key: None, ..settings(server.address(), folder.path()) };
    let offline = ChatClient::new(offline).unwrap();
    assert_eq!(offline.complete(&request("hi")).unwrap().text, "hello");
    assert_eq!(server.seen().len(), 1);
    assert_eq!((second.report().n_sent, second.report().n_cached), (0, 1));
    assert!(!holds_key(folder.path()));
    // What is not cached is an error there, that names what to do.
    let error = offline.complete(&request("other")).unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("run once without it"), "{error}");
}

#[test]
fn what_was_asked_decides_about_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::answering(|_| completion("hello", "stop"));
    let client = client(&server, folder.path());
    let base = request("hi");
    let requests = [
        base.clone(),
        ChatRequest { model: "other".to_owned(), ..base.clone() },
        ChatRequest { messages: vec![ChatMessage::assistant("hi")], ..base.clone() },
        ChatRequest { temperature: 0.5, ..base.clone() },
        ChatRequest { max_tokens: 511, ..base.clone() },
        ChatRequest { seed: None, ..base.clone() },
        ChatRequest { prompt_version: "test-2".to_owned(), ..base.clone() },
        ChatRequest { repeat_index: 1, ..base.clone() },
        ChatRequest { ask_index: 1, ..base },
    ];
    for (index, request) in requests.iter().enumerate() {
        assert!(!client.complete(request).unwrap().from_cache, "{index}");
        assert!(client.complete(request).unwrap().from_cache, "{index}");
    }
    assert_eq!(server.seen().len(), requests.len());
    // Replies of earlier versions are found again.
    let key = Cache::key(&Endpoint::new("http://localhost:1/v1").unwrap(), &request("hi")).unwrap();
    assert_eq!(key, "6d9be9bcd929b8110eb8c0391257b1cad58477b6d2299ab0df04a5711e948c15");
}

#[test]
fn equal_requests_at_the_same_time_are_sent_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::answering(|_| {
        std::thread::sleep(Duration::from_millis(20));
        completion("hello", "stop")
    });
    let client = client(&server, folder.path());
    let requests = [request("hi"), request("hi"), request("hi")];
    let replies = client.try_map(&requests, |request| client.complete(request)).unwrap();
    assert!(replies.iter().all(|reply| reply.text == "hello"));
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_rate_limit_is_respected() {
    let folder = tempfile::tempdir().unwrap();
    let limit = Answer::Status(429, vec!["retry-after: 1"], "slow down".to_owned());
    let server = ScriptedServer::with_script([limit, completion("hello", "stop")]);
    let started = Instant::now();
    assert_eq!(client(&server, folder.path()).complete(&request("hi")).unwrap().text, "hello");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.seen().len(), 2);
    // Nobody waits for a day.
    let limit = Answer::Status(429, vec!["retry-after: 86400"], "quota used up".to_owned());
    let server = ScriptedServer::with_script([limit]);
    let error = client(&server, folder.path()).complete(&request("hi")).unwrap_err().to_string();
    assert!(error.contains("status 429: quota used up, and it asks to wait 86400 s (at most 600 s)"), "{error}");
}

#[test]
fn errors_that_may_pass_are_tried_again() {
    let broken: [(Answer, &str); 6] = [
        (status(500, "oops"), "status 500: oops"),
        (status(529, ""), "status 529"),
        (status(200, "<html>busy</html>"), "its answer is no JSON"),
        (status(200, r#"{"error": "overloaded"}"#), "no choices[0]: overloaded"),
        (Answer::CutOff, "disconnected"),
        (Answer::Hang(Duration::ZERO), "disconnected"),
    ];
    for (answer, expected) in broken {
        let folder = tempfile::tempdir().unwrap();
        let server = ScriptedServer::with_script([answer.clone(), answer.clone(), completion("hello", "stop")]);
        assert_eq!(client(&server, folder.path()).complete(&request("hi")).unwrap().text, "hello", "{expected}");
        assert_eq!(server.seen().len(), 3, "{expected}");
        // If it does not pass, six tries are all, and nothing is stored.
        let folder = tempfile::tempdir().unwrap();
        let server = ScriptedServer::answering(move |_| answer.clone());
        let client = client(&server, folder.path());
        let error = client.complete(&request("hi")).unwrap_err();
        assert!(!error.is_fatal() && error.to_string().contains("failed 6 times, last: "), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!((server.seen().len(), client.report().n_failed), (6, 1));
        assert!(files(folder.path()).is_empty());
    }
}

#[test]
fn a_hanging_server_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::with_script([Answer::Hang(Duration::from_secs(30)), completion("hello", "stop")]);
    let timeouts =
        Timeouts { connect: Duration::from_secs(5), total: Duration::from_millis(300), ..Timeouts::default() };
    let settings = settings(server.address(), folder.path());
    let mut retry = settings.retry;
    retry.max_tries = 1;
    let hasty = ChatClient::new(ChatSettings { timeouts, retry, ..settings }).unwrap();
    let started = Instant::now();
    let error = hasty.complete(&request("hi")).unwrap_err().to_string();
    assert!(error.contains("timeout") && started.elapsed() < Duration::from_secs(10), "{error}");
    assert_eq!(client(&server, folder.path()).complete(&request("hi")).unwrap().text, "hello");
}

#[test]
fn refusals_are_final_and_never_show_the_key() {
    // Requests that are sent for two different texts: a refusal of one request is no refusal of all.
    for (code, n_sent) in [(400, 2), (401, 1), (403, 1), (404, 1), (422, 2), (307, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let echo = format!(r#"{{"error": {{"message": "no \"{KEY}\" here"}}}}"#);
        let server = ScriptedServer::answering(move |_| {
            Answer::Status(code, vec!["location: http://127.0.0.1:9/elsewhere"], echo.clone())
        });
        let client = client(&server, folder.path());
        let error = client.complete(&request("a")).unwrap_err().to_string();
        assert!(error.contains(&format!("answers {code}: no \"[key hidden]\" here")), "{error}");
        let error = client.complete(&request("b")).unwrap_err().to_string();
        assert!(error.contains(&format!("answers {code}: ")), "{error}");
        assert_eq!(server.seen().len(), n_sent, "{code}");
        let shown = format!("{client:?} {:?} {error}", client.report());
        assert!(!shown.contains(KEY), "{shown}");
        assert!(files(folder.path()).is_empty());
    }
}

#[test]
fn an_echo_of_the_key_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::with_script([completion(&format!("your key is {KEY}"), "stop")]);
    assert_eq!(client(&server, folder.path()).complete(&request("hi")).unwrap().text, "your key is [key hidden]");
    assert!(files(folder.path()).len() == 1 && !holds_key(folder.path()));
}

#[test]
fn what_an_endpoint_does_not_take_is_learnt_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::answering(|body| {
        let refuse = |text: &str| status(400, &format!(r#"{{"error": {{"message": "{text}", "param": "x"}}}}"#));
        if body.get("max_tokens").is_some() {
            refuse("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        } else if body.get("temperature").is_some() {
            refuse("'temperature' does not support 0")
        } else if body.get("seed").is_some() {
            refuse("unknown field `seed`")
        } else {
            completion("hello", "stop")
        }
    });
    let client = client(&server, folder.path());
    client.complete(&request("a")).unwrap();
    assert_eq!(server.seen().len(), 4);
    client.complete(&request("b")).unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[4].body["max_completion_tokens"], 512);
    let report = client.report();
    assert_eq!((report.n_sent, report.n_failed, report.notes.len()), (5, 0, 3));
    assert!(report.notes[0].contains("max_completion_tokens"), "{report:?}");
}

#[test]
fn a_refusal_for_another_reason_teaches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::answering(|body| {
        let is_long = body.to_string().contains("long prompt");
        if is_long { status(400, "max_tokens is too large for this prompt") } else { completion("hello", "stop") }
    });
    let client = client(&server, folder.path());
    let error = client.complete(&request("a long prompt")).unwrap_err();
    assert!(matches!(error, ChatError::Refused { status: 400, .. }), "{error}");
    client.complete(&request("a")).unwrap();
    assert_eq!(server.seen()[2].body["max_tokens"], 512);
    assert!(client.report().notes.is_empty());
}

#[test]
fn an_unreachable_endpoint_stops_everything() {
    let folder = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = ChatClient::new(settings(&format!("http://127.0.0.1:{port}/v1"), folder.path())).unwrap();
    let errors: Vec<String> =
        (0..8).map(|index| client.complete(&request(&index.to_string())).unwrap_err().to_string()).collect();
    assert!(errors[0].contains("failed 6 times, last: io: Connection refused"), "{errors:?}");
    assert!(errors[3..].iter().all(|error| error.starts_with("not sent: http://127.0.0.1")), "{errors:?}");
    let report = client.report();
    assert_eq!((report.n_sent, report.n_failed), (18, 3));
    assert!(report.stopped.unwrap().contains("Connection refused"));
}

#[test]
fn the_budget_stops_cleanly_and_cached_replies_stay() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::answering(|_| completion("hello", "stop"));
    let limits = BudgetLimits { max_calls: Some(3), ..BudgetLimits::default() };
    let limited = ChatClient::new(ChatSettings { limits, ..settings(server.address(), folder.path()) }).unwrap();
    let requests: Vec<ChatRequest> = (0..10).map(|index| request(&index.to_string())).collect();
    let replies = limited.try_map(&requests, |request| Ok::<_, ChatError>(limited.complete(request))).unwrap();
    assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 3);
    assert!(
        replies.iter().filter_map(|reply| reply.as_ref().err()).all(|error| matches!(error, ChatError::Budget { .. }))
    );
    assert_eq!(server.seen().len(), 3);
    assert_eq!(limited.report().stopped.unwrap(), "3 calls allowed, 3 made");
    // With more money it goes on where it was.
    let rest = client(&server, folder.path());
    assert!(requests.iter().all(|request| rest.complete(request).is_ok()));
    assert_eq!((server.seen().len(), rest.report().n_cached), (10, 3));
    // 100 and 10 tokens a reply.
    let prices = Some(Prices { input_per_million: 1e4, output_per_million: 1e4 });
    let limits = BudgetLimits { max_calls: None, max_cost: Some(9.0), prices };
    let limited = ChatClient::new(ChatSettings { limits, ..settings(server.address(), folder.path()) }).unwrap();
    let n_replies = (10..30).filter(|index| limited.complete(&request(&index.to_string())).is_ok()).count();
    // 1.1 a reply, and the next is estimated at 5.12 + 0.01: the fifth would pass 9.
    assert_eq!(n_replies, 4);
    assert!((limited.report().cost - 4.4).abs() < 1e-9);
}

#[test]
fn a_damaged_cache_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::with_script([completion("hello", "stop")]);
    let client = client(&server, folder.path());
    client.complete(&request("hi")).unwrap();
    let subfolder = std::fs::read_dir(folder.path().join("cache")).unwrap().next().unwrap().unwrap().path();
    let path = std::fs::read_dir(subfolder).unwrap().next().unwrap().unwrap().path();
    let content = std::fs::read_to_string(&path).unwrap();
    for (damaged, expected) in [
        (content[..content.len() / 2].to_owned(), "damaged: "),
        (content.replace("\"schema\": 1", "\"schema\": 2"), "schema is 2, this program reads 1"),
        (content.replace("\"key\": \"", "\"key\": \"0"), "the reply to another request"),
        (content.replace("\"choices\"", "\"voices\""), "is damaged: the JSON has no choices[0]"),
    ] {
        std::fs::write(&path, damaged).unwrap();
        let error = client.complete(&request("hi")).unwrap_err();
        assert!(error.is_fatal() && error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("delete the file to ask again"), "{error}");
    }
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_body_that_never_ends_is_left_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::answering(|_| Answer::Endless(Duration::from_mins(1)));
    let settings = settings(server.address(), folder.path());
    // A try may take longer than all of them together.
    let timeouts = Timeouts { request: Duration::from_secs(1), ..settings.timeouts };
    let client = ChatClient::new(ChatSettings { timeouts, ..settings }).unwrap();
    assert_eq!(client.waiting(), None);
    let started = Instant::now();
    let error = std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.complete(&request("hi")).unwrap_err().to_string());
        while client.waiting().is_none_or(|(waited, _)| waited < Duration::from_millis(100)) {
            assert!(!asked.is_finished());
            std::thread::sleep(Duration::from_millis(5));
        }
        asked.join().unwrap()
    });
    assert!(started.elapsed() < Duration::from_secs(15), "{error}");
    assert!(error.contains("timeout") && error.contains("a request may take 1 s in all"), "{error}");
    assert_eq!(client.waiting(), None);
}

#[test]
fn a_budget_that_failures_used_up_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let server = ScriptedServer::answering(|_| status(200, r#"{"error": {"message": "model not loaded"}}"#));
    let limits = BudgetLimits { max_calls: Some(2), ..BudgetLimits::default() };
    let client = ChatClient::new(ChatSettings { limits, ..settings(server.address(), folder.path()) }).unwrap();
    let error = client.complete(&request("hi")).unwrap_err();
    assert!(matches!(error, ChatError::Budget { .. }) && error.to_string().contains("model not loaded"), "{error}");
    let report = client.report();
    assert!(report.stopped.unwrap().contains("2 calls allowed, 2 made; the last failure: the JSON has no choices[0]"));
    assert!(report.last_failure.unwrap().contains("model not loaded"));
}
