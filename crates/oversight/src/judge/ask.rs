//! Asks a judge: many questions at a time, each until its reply can be read, up to three times.

use std::sync::atomic::{AtomicUsize, Ordering};

use aloud_openai::client::ChatClient;
use aloud_openai::error::ChatError;
use aloud_openai::message::{ChatMessage, ChatReply, ChatRequest, Usage};

/// How often a judge is asked again.
const MAX_ASKS_AGAIN: u32 = 2;

/// Who judges, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgeSettings {
    /// The judge, by the endpoint's name for it.
    pub judge_model: String,
    /// Seed of the endpoint's own sampling, where it has one.
    pub judge_seed: Option<u64>,
    /// Upper bound of a reply in tokens. Judges that reason in secret need more than the usual 512.
    pub max_tokens: u32,
    /// Seed of the order, and of which items are judged twice.
    pub seed: u64,
}

impl JudgeSettings {
    /// The usual settings for this judge: 512 tokens a reply, seed 0, none for the endpoint.
    pub fn new(judge_model: impl Into<String>) -> Self {
        Self { judge_model: judge_model.into(), judge_seed: None, max_tokens: 512, seed: 0 }
    }
}

/// One question to a judge.
#[derive(Clone, Debug)]
pub(super) struct Question<'a> {
    pub(super) prompt: String,
    /// Version and hash of the words around the judged text.
    pub(super) prompt_version: String,
    /// What is said if the reply cannot be read.
    pub(super) ask_again: &'a str,
    /// The same question with another number is asked anew.
    pub(super) repeat: u32,
}

/// How a question to a judge ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AskOutcome<T> {
    Read(T),
    /// No reply could be read: empty, cut off, or not in the form that was asked for.
    Unreadable,
    /// There was no reply.
    NoReply(String),
}

#[derive(Clone, Debug)]
pub(super) struct Answered<T> {
    pub(super) outcome: AskOutcome<T>,
    pub(super) n_replies: u32,
    /// The model that the endpoint says it used; empty without a reply.
    pub(super) returned_model: String,
    /// Tokens of all replies, as far as the endpoint counts them.
    pub(super) usage: Usage,
}

/// Does `work` for every job, several at a time. `progress` is told how many are done.
pub(super) fn ask_all<Job: Sync, Row: Send>(
    client: &ChatClient,
    jobs: &[Job],
    progress: &(dyn Fn(usize, usize) + Sync),
    work: impl Fn(&Job) -> Result<Row, ChatError> + Sync,
) -> Result<Vec<Row>, ChatError> {
    // A judge may keep us waiting for its first reply.
    if !jobs.is_empty() {
        progress(0, jobs.len());
    }
    let n_done = AtomicUsize::new(0);
    client.try_map(jobs, |job| {
        let row = work(job)?;
        progress(n_done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
        Ok(row)
    })
}

/// Asks, and asks again where the reply cannot be read.
/// A fatal error of the client ends all; any other leaves this question without a reply.
pub(super) fn ask<T>(
    client: &ChatClient,
    settings: &JudgeSettings,
    question: &Question,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Answered<T>, ChatError> {
    let mut answered = Answered {
        outcome: AskOutcome::Unreadable,
        n_replies: 0,
        returned_model: String::new(),
        usage: Usage::default(),
    };
    let mut messages = vec![ChatMessage::user(&question.prompt)];
    for ask_index in 0..=MAX_ASKS_AGAIN {
        let request = ChatRequest {
            model: settings.judge_model.clone(),
            messages: messages.clone(),
            temperature: 0.0,
            max_tokens: settings.max_tokens,
            seed: settings.judge_seed,
            prompt_version: question.prompt_version.clone(),
            repeat_index: question.repeat,
            ask_index,
        };
        let reply = match client.complete(&request) {
            Ok(reply) => reply,
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                answered.outcome = AskOutcome::NoReply(error.to_string());
                return Ok(answered);
            }
        };
        answered.n_replies += 1;
        answered.usage += reply.usage.unwrap_or_default();
        answered.returned_model.clone_from(&reply.model);
        // What was cut off may lack the lines that were to come last.
        if !reply.is_cut_off()
            && let Some(value) = read(&reply.text)
        {
            answered.outcome = AskOutcome::Read(value);
            return Ok(answered);
        }
        push_ask_again(&mut messages, reply, question.ask_again);
    }
    Ok(answered)
}

fn push_ask_again(messages: &mut Vec<ChatMessage>, reply: ChatReply, ask_again: &str) {
    // Endpoints refuse empty messages, and two messages of the same side in a row.
    if reply.text.trim().is_empty() {
        if let Some(last) = messages.last_mut() {
            last.content = format!("{}\n\n{ask_again}", last.content);
        }
        return;
    }
    messages.push(ChatMessage::assistant(reply.text));
    messages.push(ChatMessage::user(ask_again));
}
