//! `aloud reinforce`: stage 2, reinforcement learning over exits and tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aloud_engine::decode::sampling::Sampling;
use aloud_method::exit_policy::ExitPolicy;
use aloud_model::checkpoint::Checkpoint;
use aloud_session::tasks::task;
use aloud_tasks::extract::Scoring;
use aloud_tasks::item::Split;
use aloud_tasks::reward_program::RewardProgram;
use aloud_tasks::task::Task;
use aloud_train::settings;
use aloud_train::stage2::recipe::{ReinforceRecipe, RolloutExits};
use clap::Args;

use crate::arguments::activations::RefusedActivationArgs;
use crate::arguments::model::ModelArgs;
use crate::arguments::prompts::TemplateArgs;
use crate::arguments::{Choice, one_of};
use crate::commands::dial::share;
use crate::context::{Context, print_result};
use aloud_session::dial::{DialPoint, find_offset, measure};
use aloud_session::error::SessionError;
use aloud_session::generation::GenerationSettings;
use aloud_session::host::Host;
use aloud_session::loaded_model::{BaseModel, LoadedModel};
use aloud_session::numerics::ActivationChoice;
use aloud_session::rollout_task::Rewards;
use aloud_session::stage2::{Stage2, reinforce};

/// Training prompts on which `--target-savings` is met.
const TUNING_PROMPTS: usize = 128;

/// How forgiving the search for an answer is.
const SCORINGS: [Choice<Scoring>; 2] = [
    ("strict", "The answer must be in the asked form", Scoring::Strict),
    ("flexible", "The last number or line counts if there is none in the asked form", Scoring::Flexible),
];

#[derive(Args, Debug)]
pub(crate) struct ReinforceArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    activations: RefusedActivationArgs,
    /// What is learned: serial, chain, perm, vars, word-problems (all also with :steps=N), tom, gsm8k:PATH,
    /// hf:openai/gsm8k, FILE.jsonl or FILE.csv with gold answers
    #[arg(long, value_name = "SOURCE", value_parser = task)]
    data: Arc<dyn Task>,
    /// Number of items to take [default: all; of generators, new ones every step]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    n: Option<u32>,
    #[command(flatten)]
    template: TemplateArgs,
    /// How answers are found in responses (serial tasks have a verifier of their own)
    #[arg(long, value_parser = one_of(&SCORINGS), default_value = "strict")]
    scoring: Scoring,
    /// A program that rewards responses: JSON lines in, JSON lines out; see docs/file-formats.md
    #[arg(long, value_name = "COMMAND")]
    reward_command: Option<String>,
    /// Longest wait for an answer of the program
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "reward_command",
          value_parser = clap::value_parser!(u32).range(1..))]
    reward_timeout: u32,
    /// A recipe (TOML) [default: the defaults of every key]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Override a key of the recipe, such as reward.depth_penalty=1; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The run: configuration, metrics, samples, checkpoints. An interrupted run goes on from its last checkpoint
    #[arg(long, short, visible_alias = "out", value_name = "DIR")]
    output: PathBuf,
    /// At the end, find the exit offset with this average layer savings on training prompts, and store it in the checkpoint
    #[arg(long, value_name = "SHARE", value_parser = share)]
    target_savings: Option<f64>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &ReinforceArgs, context: &Context) -> anyhow::Result<()> {
    let recipe: ReinforceRecipe =
        settings::resolve(arguments.recipe.as_deref(), &arguments.overrides).map_err(SessionError::usage)?;
    if arguments.target_savings.is_some() && recipe.rollouts.exits == RolloutExits::Off {
        let problem = "--target-savings tunes exits, and `rollouts.exits` is \"off\": leave one of them out";
        return Err(SessionError::usage(problem).into());
    }
    let cpu = context.cpu();
    let (base, path, checkpoint) = arguments.model.choice().load_to_train(context)?;
    let rewards = match &arguments.reward_command {
        Some(command) => {
            let timeout = Duration::from_secs(arguments.reward_timeout.into());
            Rewards::OfProgram(Box::new(RewardProgram::start(command, timeout)?))
        }
        None => Rewards::OfTask(arguments.scoring),
    };
    let (n, template) = (arguments.n.map(|n| n as usize), arguments.template.choice());
    let data = match &arguments.reward_command {
        Some(command) => format!("{}, n {n:?}, {template:?}, rewards: {command}", arguments.data),
        None => format!("{}, n {n:?}, {template:?}, scoring {:?}", arguments.data, arguments.scoring),
    };
    let stage2 = Stage2 {
        base: &base,
        stage1: (&path, &checkpoint),
        recipe: &recipe,
        task: Arc::clone(&arguments.data),
        n,
        template,
        data,
        directory: &arguments.output,
    };
    let outcome = reinforce(stage2, rewards, &cpu, context)?;
    if let Some(target) = arguments.target_savings {
        let point = store_offset(arguments, &recipe, base, &outcome.checkpoint, target, context)?;
        context.say(&format!(
            "stored exit offset {:.3}: average layer savings {:.1} % on training prompts",
            point.exit_offset,
            100.0 * point.average_layer_savings
        ));
    }
    print_result(arguments.json, &outcome, || {
        let last = outcome.last_step.as_ref().map_or_else(String::new, |metrics| {
            format!(
                "step {}: task reward {:.3}, average layer savings {:.1} %, {:.1} tokens a response\n",
                metrics.step,
                metrics.task_reward,
                100.0 * metrics.average_layer_savings,
                metrics.response_tokens
            )
        });
        format!("{last}checkpoint: {}\n", outcome.checkpoint.display())
    })
}

/// Finds the exit offset with the wanted savings on prompts of the training part and stores it in the checkpoint. What is
/// evaluated later has no say in it.
fn store_offset(
    arguments: &ReinforceArgs,
    recipe: &ReinforceRecipe,
    base: BaseModel,
    path: &Path,
    target: f64,
    context: &Context,
) -> anyhow::Result<DialPoint> {
    let items = arguments.data.load(Some(TUNING_PROMPTS), recipe.seed, Split::Train)?;
    let cpu = context.cpu();
    let model = LoadedModel::assemble(
        base,
        Some((path.to_owned(), Checkpoint::load(path, None)?)),
        &cpu,
        ActivationChoice::F32,
    )?;
    let codec = model.text_codec()?;
    let (instruction, template) = (arguments.data.instruction(), arguments.template.choice());
    let encode = |item| template.encode(item, instruction, &codec);
    let prompts = items.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
    let settings = GenerationSettings {
        sampling: Sampling { temperature: recipe.rollouts.temperature, ..Sampling::default() },
        seed: recipe.seed,
        ..GenerationSettings::new(&model, &codec, recipe.rollouts.max_new_tokens, ExitPolicy::Off)
    };
    let batch = recipe.rollouts.max_sequences;
    let mut progress = context.progress("turning the dial", "offsets", None);
    let point = find_offset(target, &mut |offset| {
        progress.advance(1);
        measure(&model, &codec, &prompts, &settings, batch, offset)
    })?;
    Checkpoint::set_exit_offset(path, point.exit_offset)?;
    Ok(point)
}
