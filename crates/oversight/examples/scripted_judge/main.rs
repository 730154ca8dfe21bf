//! A stand-in for a judge, to try everything that talks to one without any service:
//!
//! ```text
//! cargo run -p aloud-oversight --example scripted_judge -- 8089
//! aloud eval MODEL --output RUN --judge-url http://127.0.0.1:8089/v1 --judge-model scripted-judge
//! ```
//!
//! It counts words and repetitions. It understands nothing, and its grades say nothing about any model.
#![expect(clippy::print_stdout, reason = "a program for the terminal; the server is that of the tests")]

mod surface_grades;

use std::process::ExitCode;
use std::thread;

use aloud_openai::scripted_server::{Answer, ScriptedServer, completion};

fn main() -> ExitCode {
    let port = match std::env::args().nth(1).map(|port| port.parse::<u16>()) {
        None => 0,
        Some(Ok(port)) => port,
        Some(Err(error)) => {
            eprintln!("scripted_judge [PORT]: {error}");
            return ExitCode::from(2);
        }
    };
    let server = ScriptedServer::answering_at(port, |body| match surface_grades::reply(body) {
        Some(text) => completion(&text, "stop"),
        None => Answer::Status(400, vec![], "{\"error\": \"no question of a judge\"}".to_owned()),
    });
    println!("a stand-in for a judge, for tests, listens at {}", server.address());
    loop {
        thread::park();
    }
}
