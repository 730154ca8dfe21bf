//! A server on loopback that answers requests from a script, for tests and for the example `scripted_judge`.
#![expect(clippy::missing_panics_doc, reason = "a test stops where it cannot go on")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What the server does with one request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Answers with a status, header lines and a body.
    Status(u16, Vec<&'static str>, String),
    /// Never answers, and holds the connection for so long.
    Hang(Duration),
    /// Answers with a part of a response, and closes.
    CutOff,
    /// Sends a body a byte at a time, for so long, and does not end it.
    Endless(Duration),
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The header of the key.
    pub authorization: Option<String>,
    /// What was asked.
    pub body: Value,
}

type Script = dyn FnMut(&Value) -> Answer + Send;

/// The server. It lives as long as the test process; its threads wait for connections that nobody makes.
pub struct ScriptedServer {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl ScriptedServer {
    /// Answers by a function of the request's body.
    pub fn answering(script: impl FnMut(&Value) -> Answer + Send + 'static) -> Self {
        Self::answering_at(0, script)
    }

    /// The same at a port of loopback; 0 is any that is free.
    pub fn answering_at(port: u16, script: impl FnMut(&Value) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port of loopback");
        let address = format!("http://{}/v1", listener.local_addr().expect("bound"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                thread::spawn(move || serve(&stream, &log, &script));
            }
        });
        Self { address, seen }
    }

    /// Answers in this order, and with status 418 after the last.
    pub fn with_script(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut answers: VecDeque<Answer> = answers.into_iter().collect();
        Self::answering(move |_| answers.pop_front().unwrap_or(Answer::Status(418, vec![], "script ended".to_owned())))
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panics here").clone()
    }
}

/// A chat completion with this text.
pub fn completion(text: &str, finish_reason: &str) -> Answer {
    let body = json!({"id": "c-1", "model": "judge-1", "choices": [{"index": 0, "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": text}}], "usage": {"prompt_tokens": 100, "completion_tokens": 10}});
    Answer::Status(200, vec!["content-type: application/json"], body.to_string())
}

fn serve(mut stream: &TcpStream, log: &Mutex<Vec<Seen>>, script: &Mutex<Box<Script>>) {
    let mut reader = BufReader::new(stream);
    let (mut length, mut authorization, mut line) = (0, None, String::new());
    while reader.read_line(&mut line).is_ok_and(|count| count > 0) && !line.trim().is_empty() {
        if let Some((name, value)) = line.trim().split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "authorization" => authorization = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() || length == 0 {
        return;
    }
    let body = serde_json::from_slice(&body).expect("requests are JSON");
    let answer = script.lock().expect("no script panics")(&body);
    log.lock().expect("no test panics here").push(Seen { authorization, body });
    let _ = match answer {
        Answer::Status(status, headers, body) => {
            let headers: String = headers.iter().flat_map(|header| [header, "\r\n"]).collect();
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} Scripted\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
        }
        Answer::Hang(time) => {
            thread::sleep(time);
            Ok(())
        }
        Answer::Endless(time) => {
            let end = std::time::Instant::now() + time;
            let mut written = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
            while written.is_ok() && std::time::Instant::now() < end {
                thread::sleep(Duration::from_millis(20));
                written = stream.write_all(b" ");
            }
            written
        }
        Answer::CutOff => write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{{\"choices\": ["),
    };
}
