//! What can go wrong with a model and what is asked of it, as one type: a message, its cause, and whether the arguments are to blame.

use std::error::Error;
use std::fmt;

/// A failure with its chain of causes.
#[derive(Debug)]
pub struct SessionError {
    message: String,
    is_usage: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SessionError {
    /// Something that was done failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_usage: false, source: None }
    }

    /// Something is wrong with what was asked, not with what was done. The message says what is expected.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), is_usage: true, source: None }
    }

    /// An error of another library, with its own causes.
    pub fn caused_by(error: impl Error + Send + Sync + 'static) -> Self {
        Self { message: error.to_string(), is_usage: false, source: Some(Box::new(error)) }
    }

    /// Whether the arguments, or a file of arguments, are to blame.
    pub fn is_usage(&self) -> bool {
        self.is_usage
    }

    /// The same failure as the cause of another one.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), is_usage: self.is_usage, source: Some(Box::new(self)) }
    }
}

/// An error with its causes on one line: `a: b: c`. A cause that the message before already ends with is not said twice.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        next = cause.source();
        let text = cause.to_string();
        let text = text.lines().map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            line = text;
        } else if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

impl fmt::Display for SessionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for SessionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Errors of the libraries, taken over with their own causes.
macro_rules! from_library_errors {
    ($($library:ty),+ $(,)?) => {
        $(impl From<$library> for SessionError {
            fn from(error: $library) -> Self {
                Self::caused_by(error)
            }
        })+
    };
}

from_library_errors!(
    std::io::Error,
    serde_json::Error,
    toml::ser::Error,
    aloud_base::digest::ReadError,
    aloud_base::durable_file::WriteError,
    aloud_engine::decode::request::RequestError,
    aloud_kernels::error::KernelError,
    aloud_measure::error::MeasureError,
    aloud_method::candidates::CandidatesError,
    aloud_model::checkpoint::CheckpointError,
    aloud_model::checkpoint::files::FileError,
    aloud_model::decoder::BatchError,
    aloud_model::error::ModelError,
    aloud_model::lora::MisfitError,
    aloud_model::merged::MergeError,
    aloud_tasks::error::RewardError,
    aloud_tasks::error::TasksError,
    aloud_text::chat_template::ChatTemplateError,
    aloud_text::text_codec::TextCodecError,
    aloud_text::tokenizer::TokenizerError,
    aloud_train::stage1::distil::DistilError,
    aloud_train::training::TrainingError<aloud_train::stage1::distil::DistilError>,
    aloud_train::training::TrainingError<aloud_train::stage2::reinforce::ReinforceError>,
    aloud_train::training::TrainingError<aloud_train::pretrain::pretraining::PretrainError>,
    aloud_train::pretrain::pretraining::PretrainError,
    aloud_train::stage2::reinforce::ReinforceError,
    aloud_train::run_directory::RunError,
    aloud_train::settings::SettingsError,
    aloud_train::stage1::teacher::TeacherError,
    aloud_train::stage1::traces::TraceError,
);

/// Says what was being done when something failed.
pub trait Context<T> {
    /// With a message at hand.
    ///
    /// # Errors
    /// If there was one, with the message in front.
    fn context(self, message: impl Into<String>) -> Result<T, SessionError>;

    /// With a message that is made when it is needed.
    ///
    /// # Errors
    /// If there was one, with the message in front.
    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T, SessionError>;
}

impl<T, E: Into<SessionError>> Context<T> for Result<T, E> {
    fn context(self, message: impl Into<String>) -> Result<T, SessionError> {
        self.map_err(|error| error.into().context(message))
    }

    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T, SessionError> {
        self.map_err(|error| error.into().context(message()))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, message: impl Into<String>) -> Result<T, SessionError> {
        self.ok_or_else(|| SessionError::failed(message))
    }

    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T, SessionError> {
        self.ok_or_else(|| SessionError::failed(message()))
    }
}

/// A [`SessionError`] from a format string.
#[macro_export]
macro_rules! failed {
    ($($message:tt)+) => { $crate::error::SessionError::failed(format!($($message)+)) };
}

/// Ends a function with a [`SessionError`] from a format string.
#[macro_export]
macro_rules! bail {
    ($($message:tt)+) => { return Err($crate::failed!($($message)+)) };
}

/// Ends a function with a [`SessionError`] from a format string, unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            $crate::bail!($($message)+);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once_on_one_line() {
        let cause = SessionError::failed("cannot read a.json: no such file").context("lens\n  failed");
        assert_eq!(one_line(&cause), "lens failed: cannot read a.json: no such file");
        let said_twice = SessionError::failed("no such file").context("cannot read a.json: no such file");
        assert_eq!(one_line(&said_twice), "cannot read a.json: no such file");
    }

    #[test]
    fn blame_survives_context() {
        assert!(SessionError::usage("--n 0: expected 1 or more").context("sweep").is_usage());
        assert!(!SessionError::failed("disk full").context("sweep").is_usage());
        let missing: Result<u8, _> = None.context("nothing there");
        assert_eq!(missing.map_err(|error| error.to_string()), Err("nothing there".to_owned()));
    }
}
