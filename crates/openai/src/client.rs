//! The client: cache, budget, tries and fallbacks around one HTTP exchange.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

use super::budget::{Bill, Budget, Spent};
use super::cache::{Cache, CachedReply, SCHEMA};
use super::concurrency::{InFlight, try_map_bounded};
use super::request_shape::RequestShape;
use super::retry::{concerns_all_requests, may_pass};
use super::transport::{HttpReply, NoReply, Transport};
use crate::api_key::ApiKey;
use crate::budget::BudgetLimits;
use crate::endpoint::Endpoint;
use crate::error::ChatError;
use crate::message::{ChatReply, ChatRequest, Usage};
use crate::retry::RetryPolicy;
use crate::transport::Timeouts;
use aloud_base::random::KeyedRandom;

/// So many requests in a row that failed in every try mean that the endpoint is gone, and the rest is not sent.
const FAILURES_TO_STOP: u32 = 3;

/// Characters of the endpoint's own words that a message repeats.
const MESSAGE_CHARS: usize = 300;

/// How replies are had.
#[derive(Clone, Debug)]
pub struct ChatSettings {
    /// Where requests go.
    pub endpoint: Endpoint,
    /// The secret for it, where it asks for one.
    pub key: Option<ApiKey>,
    /// The folder of cached replies.
    pub cache: PathBuf,
    /// Whether nothing may be sent: what is not cached is an error.
    pub offline: bool,
    /// Requests at a time; at least 1.
    pub concurrency: usize,
    /// Where spending stops.
    pub limits: BudgetLimits,
    /// How long a try may take.
    pub timeouts: Timeouts,
    /// How often a request is tried.
    pub retry: RetryPolicy,
    /// Seed of the pauses between tries.
    pub seed: u64,
}

impl ChatSettings {
    /// The usual settings: 4 requests at a time, no limits of spending, no key.
    pub fn new(endpoint: Endpoint, cache: PathBuf) -> Self {
        Self {
            endpoint,
            key: None,
            cache,
            offline: false,
            concurrency: 4,
            limits: BudgetLimits::default(),
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            seed: 0,
        }
    }
}

/// What a client did so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChatReport {
    /// HTTP requests that were sent, further tries included.
    pub n_sent: u64,
    /// Replies that came from the cache.
    pub n_cached: u64,
    /// Requests that were given up after they had been sent.
    pub n_failed: u64,
    /// Tokens that the endpoint counted.
    pub usage: Usage,
    /// What that cost, in the currency of the prices; 0 without prices.
    pub cost: f64,
    /// Which limit of the budget, or which failure, kept requests from being sent.
    pub stopped: Option<String>,
    /// What the last try that brought no reply ended with.
    pub last_failure: Option<String>,
    /// What was learnt about the endpoint, a sentence each.
    pub notes: Vec<String>,
}

/// What threads share, beside budget and cache.
#[derive(Debug, Default)]
struct State {
    shape: RequestShape,
    /// Without what the budget knows: its `stopped` is a failure that concerns all requests.
    report: ChatReport,
    /// Requests in a row that failed in every try.
    n_failed_in_a_row: u32,
    /// When the requests that have no reply yet were first sent.
    open: Vec<Instant>,
}

/// How one try ended.
enum Outcome {
    Reply {
        response: Value,
        reply: ChatReply,
    },
    /// The endpoint refuses a field that was sent; the sentence says which.
    OtherShape(RequestShape, &'static str),
    MayPass {
        reason: String,
        asked_pause: Option<Duration>,
    },
    Final(ChatError),
}

/// A client of one endpoint, to be used from any number of threads.
#[derive(Debug)]
pub struct ChatClient {
    settings: ChatSettings,
    transport: Transport,
    cache: Cache,
    budget: Budget,
    in_flight: InFlight,
    state: Mutex<State>,
}

impl ChatClient {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// If a setting is not usable.
    pub fn new(settings: ChatSettings) -> Result<Self, ChatError> {
        if settings.retry.max_tries == 0 || settings.concurrency == 0 {
            let reason = "at least one try and one request at a time are needed";
            return Err(ChatError::setting("chat client", reason));
        }
        Ok(Self {
            transport: Transport::new(&settings.endpoint, settings.key.as_ref(), settings.timeouts)?,
            cache: Cache::new(settings.cache.clone()),
            budget: Budget::new(settings.limits)?,
            in_flight: InFlight::default(),
            state: Mutex::default(),
            settings,
        })
    }

    /// Does `work` for every item, as many at a time as the settings allow, until one fails; for work that calls
    /// [`ChatClient::complete`]. The results are in the order of the items.
    ///
    /// # Errors
    /// The first error of `work`, by the order of the items.
    pub fn try_map<Item: Sync, Output: Send, Error: Send>(
        &self,
        items: &[Item],
        work: impl Fn(&Item) -> Result<Output, Error> + Sync,
    ) -> Result<Vec<Output>, Error> {
        try_map_bounded(items, self.settings.concurrency, work)
    }

    /// The reply to a request: from the cache, or from the endpoint and then into the cache.
    ///
    /// # Errors
    /// If there is no reply (see [`ChatError`]), or it could not be stored.
    pub fn complete(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let key = Cache::key(&self.settings.endpoint, request)?;
        let _turn = self.in_flight.enter(&key);
        if let Some(cached) = self.cache.read(&key)? {
            let reply = ChatReply::from_response(&cached.response, &request.model).map_err(|reason| {
                let reason = format!("the reply {key} is damaged: {reason}; delete the file to ask again");
                ChatError::Cache { path: self.settings.cache.clone(), reason }
            })?;
            self.state().report.n_cached += 1;
            return Ok(ChatReply { from_cache: true, ..reply });
        }
        if self.settings.offline {
            return Err(ChatError::NotCached { model: request.model.clone(), key: key.clone() });
        }
        let started = Instant::now();
        self.state().open.push(started);
        let answered = self.ask(request, &key, started);
        self.note_outcome(&answered, started);
        answered
    }

    /// What was done so far.
    pub fn report(&self) -> ChatReport {
        let Spent { n_calls, usage, cost, reached, .. } = self.budget.spent();
        let report = self.state().report.clone();
        let stopped = report.stopped.clone().or(reached.map(|limit| with_failure(limit, &report)));
        ChatReport { n_sent: n_calls, usage, cost, stopped, ..report }
    }

    /// How long the oldest request that has no reply yet has been waiting, and what the last failed try ended with, if one did;
    /// `None` if no request is open.
    pub fn waiting(&self) -> Option<(Duration, Option<String>)> {
        let state = self.state();
        Some((state.open.iter().min()?.elapsed(), state.report.last_failure.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the request until there is a reply or no hope, and stores the reply.
    fn ask(&self, request: &ChatRequest, key: &str, begin: Instant) -> Result<ChatReply, ChatError> {
        let mut random = KeyedRandom::named(self.settings.seed, &format!("pause {key}"));
        let retry = self.settings.retry;
        let mut n_sent = 0;
        let mut n_tries = 0;
        let mut time_limit = self.settings.timeouts.request;
        let mut shape = self.state().shape;
        let mut lessons = Vec::new();
        loop {
            if let Some(reason) = self.state().report.stopped.clone() {
                return Err(ChatError::Stopped { reason });
            }
            let body = shape.body(request);
            let started = Instant::now();
            n_sent += 1;
            let longest = self.settings.timeouts.total.min(time_limit.saturating_sub(begin.elapsed()));
            match self.try_once(request, shape, &body, longest)? {
                Outcome::Reply { response, reply } => {
                    self.learn(shape, &lessons);
                    self.cache.write(&CachedReply {
                        schema: SCHEMA,
                        key: key.to_owned(),
                        request: body,
                        response,
                        model: reply.model.clone(),
                        usage: reply.usage,
                        seconds: started.elapsed().as_secs_f64(),
                        unix_time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
                        n_tries: n_sent,
                    })?;
                    return Ok(reply);
                }
                // Not a failed try. It ends: each of the three fields is given up once.
                Outcome::OtherShape(next, lesson) => {
                    shape = next;
                    lessons.push(lesson);
                }
                Outcome::Final(error) => return Err(error),
                Outcome::MayPass { reason, asked_pause } => {
                    n_tries += 1;
                    let failed = |reason| ChatError::Failed { url: self.transport.url().to_owned(), n_tries, reason };
                    if let Some(pause) = asked_pause.filter(|pause| *pause > retry.longest_asked_pause) {
                        let (asked, allowed) = (pause.as_secs(), retry.longest_asked_pause.as_secs());
                        return Err(failed(format!("{reason}, and it asks to wait {asked} s (at most {allowed} s)")));
                    }
                    if n_tries >= retry.max_tries {
                        return Err(failed(reason));
                    }
                    time_limit += asked_pause.unwrap_or_default();
                    let pause = retry.pause(n_tries, asked_pause, &mut random);
                    if begin.elapsed() + pause >= time_limit {
                        let seconds = self.settings.timeouts.request.as_secs_f64();
                        return Err(failed(format!("{reason}; a request may take {seconds} s in all")));
                    }
                    thread::sleep(pause);
                }
            }
        }
    }

    /// One exchange, paid for.
    fn try_once(
        &self,
        request: &ChatRequest,
        shape: RequestShape,
        body: &Value,
        longest: Duration,
    ) -> Result<Outcome, ChatError> {
        let estimate = self.budget.reserve(request).map_err(|error| match error {
            ChatError::Budget { reason } => ChatError::Budget { reason: with_failure(reason, &self.state().report) },
            other => other,
        })?;
        let answer = self.transport.post(body.to_string().as_bytes(), longest);
        let may_be_billed = match &answer {
            Ok(reply) => (200..300).contains(&reply.status),
            Err(no_reply) => no_reply.may_be_billed,
        };
        let outcome = match answer {
            Ok(answer) => self.read_answer(answer, request, shape),
            Err(NoReply { reason, may_pass: true, .. }) => Outcome::MayPass { reason, asked_pause: None },
            Err(NoReply { reason, .. }) => {
                Outcome::Final(ChatError::Failed { url: self.transport.url().to_owned(), n_tries: 1, reason })
            }
        };
        let bill = match &outcome {
            Outcome::Reply { reply: ChatReply { usage: Some(usage), .. }, .. } => Bill::Counted(*usage),
            _ if may_be_billed => Bill::Unknown,
            _ => Bill::Nothing,
        };
        self.budget.settle(estimate, bill);
        match &outcome {
            Outcome::MayPass { reason, .. } => self.state().report.last_failure = Some(reason.clone()),
            Outcome::Final(error) => self.state().report.last_failure = Some(error.to_string()),
            Outcome::Reply { .. } | Outcome::OtherShape(..) => {}
        }
        Ok(outcome)
    }

    fn read_answer(&self, answer: HttpReply, request: &ChatRequest, shape: RequestShape) -> Outcome {
        let HttpReply { status, retry_after, body } = answer;
        let json = serde_json::from_slice(&body).map(|json| match &self.settings.key {
            Some(key) => key.hide_in_json(json),
            None => json,
        });
        if (200..300).contains(&status) {
            // A broken document is most often a broken connection or a proxy's page: no reply of the model.
            let read = json.map_err(|error| format!("its answer is no JSON: {error}")).and_then(|response| {
                match ChatReply::from_response(&response, &request.model) {
                    Ok(reply) => Ok(Outcome::Reply { response, reply }),
                    Err(reason) => Err(format!("{reason}: {}", shortened(&self.words_of(Some(&response), &body)))),
                }
            });
            return read.unwrap_or_else(|reason| Outcome::MayPass { reason, asked_pause: None });
        }
        let words = self.words_of(json.ok().as_ref(), &body);
        if status == 400
            && let Some((next, lesson)) = shape.after_refusal(&words)
        {
            return Outcome::OtherShape(next, lesson);
        }
        let message = shortened(&words);
        if may_pass(status) {
            return Outcome::MayPass { reason: format!("status {status}: {message}"), asked_pause: retry_after };
        }
        Outcome::Final(ChatError::Refused { url: self.transport.url().to_owned(), status, message })
    }

    /// What the endpoint says about an error, on one line and without the key.
    fn words_of(&self, json: Option<&Value>, body: &[u8]) -> String {
        let error = json.and_then(|json| json.get("error"));
        let field = |name| error.and_then(|error| error.get(name)).and_then(Value::as_str).map(str::to_owned);
        let words = match (field("message").or_else(|| error.and_then(Value::as_str).map(str::to_owned)), json) {
            (Some(message), _) => match field("param") {
                Some(field) if !message.contains(&field) => format!("{message} ({field})"),
                _ => message,
            },
            (None, Some(json)) => json.to_string(),
            (None, None) => {
                let text = String::from_utf8_lossy(body);
                self.settings.key.as_ref().map_or_else(|| text.clone().into_owned(), |key| key.hide_in(&text))
            }
        };
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Keeps the shape of a request that was answered. One that was refused in every shape, for another reason that named a
    /// field, teaches nothing.
    fn learn(&self, shape: RequestShape, lessons: &[&str]) {
        let mut state = self.state();
        state.shape = state.shape.merged(shape);
        for lesson in lessons {
            if !state.report.notes.iter().any(|note| note == lesson) {
                state.report.notes.push((*lesson).to_owned());
            }
        }
    }

    /// Counts failures, and stops the client where a failure concerns all requests.
    fn note_outcome(&self, answered: &Result<ChatReply, ChatError>, started: Instant) {
        let mut state = self.state();
        if let Some(place) = state.open.iter().position(|open| *open == started) {
            state.open.swap_remove(place);
        }
        let stops = match answered {
            Ok(_) => {
                state.n_failed_in_a_row = 0;
                return;
            }
            Err(ChatError::Refused { status, .. }) => {
                state.report.n_failed += 1;
                concerns_all_requests(*status)
            }
            Err(ChatError::Failed { .. }) => {
                state.report.n_failed += 1;
                state.n_failed_in_a_row += 1;
                state.n_failed_in_a_row >= FAILURES_TO_STOP
            }
            Err(_) => return,
        };
        if let (true, Err(error)) = (stops, answered) {
            state.report.stopped.get_or_insert_with(|| error.to_string());
        }
    }
}

/// A limit that was reached, with what used it up: a budget may be gone on tries that brought no reply.
fn with_failure(limit: String, report: &ChatReport) -> String {
    match &report.last_failure {
        Some(failure) => format!("{limit}; the last failure: {failure}"),
        None => limit,
    }
}

/// The start of the endpoint's words, without characters that would steer a terminal.
fn shortened(words: &str) -> String {
    words.chars().filter(|character| !character.is_control()).take(MESSAGE_CHARS).collect()
}
