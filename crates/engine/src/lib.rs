//! Stepwise decoding with stochastic early exits that skip computation. Knows the key/value arena, sampling, exits and
//! batching; knows token ids and never text, files or tasks.

mod arena;
mod engine;
mod exits;
mod logistic;
mod oracle;
mod random;
mod replay;
mod request;
mod sampling;
mod stepper;
mod verify;

pub use engine::{Engine, Event, Flow, Limits};
pub use exits::{AnswerOffset, ExitOffset, ExitReading, ExitRule, Exits, OracleExits};
pub use logistic::{sigmoid, softplus};
pub use random::uniform;
pub use replay::{ReplayedToken, log_joint, replay};
pub use request::{FinishReason, Forced, Prefix, Request, RequestError, Token};
pub use sampling::Sampling;
pub use verify::{ParityReport, verify};
