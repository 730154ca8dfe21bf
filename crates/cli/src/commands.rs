//! The commands, one file each.

mod bench;
mod chat;
mod compare;
mod data;
mod demo;
mod dial;
mod distill;
mod doctor;
mod eval;
mod eval_text;
mod export;
mod fetch;
mod generate;
mod lab;
mod lens;
mod pretrain;
mod reinforce;
mod report;
mod sweep;
mod trace;
mod verify;
mod view;

use clap::Subcommand;

use crate::context::Context;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole way in minutes, on the built-in tiny reasoner: traces, both training stages, accuracies, a page to look
    /// at; or stage 1 on a language model of yours
    Demo(demo::DemoArgs),
    /// Show what the model would say at each depth: per position and exit candidate the top token, KL and target hazard
    Lens(lens::LensArgs),
    /// Train a tiny reasoner from random weights on the built-in serial tasks
    Pretrain(pretrain::PretrainArgs),
    /// Record a teacher's responses with its hidden states and lens KLs
    Trace(trace::TraceArgs),
    /// Stage 1: distil exit heads and adapters from traces
    Distill(distill::DistillArgs),
    /// Stage 2: reinforcement learning over exits and tokens, from a checkpoint of stage 1
    Reinforce(reinforce::ReinforceArgs),
    /// Generate responses, with early exits if a checkpoint is given
    Generate(generate::GenerateArgs),
    /// Talk with the model
    Chat(chat::ChatArgs),
    /// Measure what exit offsets save, or find and store the offset for a wanted saving
    Dial(dial::DialArgs),
    /// Show responses or traces as one HTML page, every token coloured by its depth
    View(view::ViewArgs),
    /// Evaluate a model on held-out items; with --output, with controls, metrics and everything they are computed from
    Eval(eval::EvalArgs),
    /// Show evaluation runs as one HTML page: tables, figures, samples side by side
    Report(report::ReportArgs),
    /// Set an evaluation run against another on the same items: paired differences with intervals
    Compare(compare::CompareArgs),
    /// Write runs and models in the formats of other programs: Inspect, merged models
    Export(export::ExportArgs),
    /// Evaluate at every value of a dial: exit offset, kl_factor of stage 1, or price of depth of stage 2
    Sweep(sweep::SweepArgs),
    /// Run an experiment file: the commands behind a table of EXPERIMENTS.md, or of your own
    Lab(lab::LabArgs),
    /// Check that stepwise decoding and the teacher-forced pass agree
    Verify(verify::VerifyArgs),
    /// Measure speed and memory of the main work
    Bench(bench::BenchArgs),
    /// Get a model onto the disk
    Fetch(fetch::FetchArgs),
    /// Make or read problems, as JSON Lines
    Data(data::DataArgs),
    /// Say what this machine offers
    Doctor(doctor::DoctorArgs),
}

impl Command {
    /// Runs the command.
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::Demo(arguments) => demo::run(&arguments, context),
            Self::Pretrain(arguments) => pretrain::run(&arguments, context),
            Self::Trace(arguments) => trace::run(&arguments, context),
            Self::Distill(arguments) => distill::run(&arguments, context),
            Self::Reinforce(arguments) => reinforce::run(&arguments, context),
            Self::Dial(arguments) => dial::run(&arguments, context),
            Self::Bench(arguments) => bench::run(&arguments, context),
            Self::Lens(arguments) => lens::run(&arguments, context),
            Self::Generate(arguments) => generate::run(&arguments, context),
            Self::Chat(arguments) => chat::run(&arguments, context),
            Self::View(arguments) => view::run(&arguments, context),
            Self::Eval(arguments) => eval::run(&arguments, context),
            Self::Report(arguments) => report::run(&arguments, context),
            Self::Compare(arguments) => compare::run(&arguments, context),
            Self::Export(arguments) => export::run(&arguments, context),
            Self::Sweep(arguments) => sweep::run(&arguments, context),
            Self::Lab(arguments) => lab::run(&arguments, context),
            Self::Verify(arguments) => verify::run(&arguments, context),
            Self::Fetch(arguments) => fetch::run(&arguments, context),
            Self::Data(arguments) => data::run(&arguments, context),
            Self::Doctor(arguments) => doctor::run(&arguments, context),
        }
    }
}
