//! The commands, one file each.

mod doctor;
mod generate;
mod lens;

use clap::Subcommand;

use crate::context::Context;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the model would say at each depth: per position and exit candidate the top token, KL and target hazard
    Lens(lens::LensArgs),
    /// Generate responses, with early exits if a checkpoint is given
    Generate(generate::GenerateArgs),
    /// Say what this machine offers
    Doctor(doctor::DoctorArgs),
}

impl Command {
    /// Runs the command.
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::Lens(arguments) => lens::run(&arguments, context),
            Self::Generate(arguments) => generate::run(&arguments, context),
            Self::Doctor(arguments) => doctor::run(&arguments, context),
        }
    }
}
