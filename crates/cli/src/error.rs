//! How errors become a line on stderr and an exit code.

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use aloud_session::error::{SessionError, one_line};

/// Exit code of a usage error, the same as clap's.
pub(crate) const USAGE: u8 = 2;

/// Prints the error and its causes to stderr as one line, and says how the program ends.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", one_line(error.as_ref()));
    if error.chain().any(is_usage) {
        eprintln!("For more information, try '--help'.");
        return ExitCode::from(USAGE);
    }
    ExitCode::FAILURE
}

/// Whether the arguments are to blame.
fn is_usage(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<SessionError>().is_some_and(SessionError::is_usage)
}

/// Whether the reader of our output has gone away.
fn is_closed_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_found_below_context() {
        let error = anyhow::Error::new(io::Error::from(ErrorKind::BrokenPipe)).context("cannot write");
        assert!(error.chain().any(is_closed_pipe));
        assert!(!anyhow::Error::new(io::Error::from(ErrorKind::NotFound)).chain().any(is_closed_pipe));
    }
}
