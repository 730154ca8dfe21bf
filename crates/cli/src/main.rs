//! The `aloud` program: arguments, progress, exit codes. Everything else is in the libraries.
//!
//! Exit codes: 0 success (a closed output pipe included), 1 failure, 2 usage error.

mod arguments;
#[cfg(test)]
mod command_reference;
mod commands;
mod context;
mod distilled;
mod error;
mod progress;

use std::process::ExitCode;

use aloud_kernels::cpu::SimdLevel;
use aloud_session::error::SessionError;
use clap::Parser;

use commands::Command;
use context::{Context, GlobalArgs};

/// Large activations are allocated and freed all the time: this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Teach a language model to think aloud: stochastic early exits, trained, run and shown.
#[derive(Debug, Parser)]
#[command(name = "aloud", version, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help on a closed pipe is no failure.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(error::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if let Err(error) = SimdLevel::from_environment() {
        return error::report(&SessionError::usage(error).into());
    }
    let context = Context::new(&arguments.global);
    match arguments.command.run(&context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
    }
}
