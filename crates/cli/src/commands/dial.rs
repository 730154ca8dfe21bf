//! `aloud dial`: depth against exit offset, and the offset for a wanted saving.

use aloud_lab::words::{columns, percent};
use aloud_model::checkpoint::Checkpoint;
use aloud_report::table::Table;
use aloud_session::error::SessionError;
use aloud_tasks::item::Split;
use clap::Args;
use serde_json::json;

use crate::arguments::activations::ActivationArgs;
use crate::arguments::generation::GenerationArgs;
use crate::arguments::model::ModelArgs;
use crate::arguments::prompts::PromptArgs;
use crate::context::{Context, print_result};
use aloud_session::dial::{DialPoint, find_offset, measure};
use aloud_session::host::Host;
use aloud_session::numbers::finite;

#[derive(Args, Debug)]
pub(crate) struct DialArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    generation: GenerationArgs,
    #[command(flatten)]
    activations: ActivationArgs,
    /// Every response begins with this text; it is part of the response
    #[arg(long, value_name = "TEXT")]
    force_start: Option<String>,
    /// Offsets to measure
    #[arg(long, value_name = "X,...", value_delimiter = ',', allow_negative_numbers = true, allow_hyphen_values = true,
          value_parser = finite, default_value = "-8,-6,-4,-2,-1,0,1,2,4,6,8")]
    offsets: Vec<f32>,
    /// Find the offset with this average layer savings (such as 0.4), and store it in the checkpoint as its own
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "offsets")]
    target_savings: Option<f64>,
    /// Find the offset, but leave the checkpoint as it is
    #[arg(long, requires = "target_savings")]
    no_store: bool,
    /// Most sequences decoded together; changes speed, never results
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// For clap: a share of the layers to save.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let accept = |value: &f64| (0.0..1.0).contains(value);
    text.parse().ok().filter(accept).ok_or_else(|| "expected a share from 0 to below 1, such as 0.4".to_owned())
}

pub(crate) fn run(arguments: &DialArgs, context: &Context) -> anyhow::Result<()> {
    if arguments.generation.exits.choice().decide() {
        return Err(SessionError::usage("--exits, --exit-offset and --depth have no place here: use --offsets").into());
    }
    let items = arguments.prompts.choice().items(Split::Train)?;
    if arguments.target_savings.is_some() && arguments.prompts.choice().may_be_evaluated_on()? {
        context.say(
            "warning: these prompts have one part only: evaluate the offset on others (--split says that you know)",
        );
    }
    let cpu = context.cpu();
    let model = arguments.model.choice().load(&cpu, arguments.activations.of_answers(), context)?;
    let Some(path) = model.checkpoint.clone() else {
        return Err(SessionError::usage("an exit offset needs exit heads: give a --checkpoint").into());
    };
    let codec = model.text_codec()?;
    let mut settings = arguments.generation.resolve(&model, &codec)?;
    if let Some(text) = &arguments.force_start {
        settings.force_start(text, &codec)?;
    }
    let prompts = arguments.prompts.choice().encode(&items, &codec)?;
    let batch = arguments.batch.into();
    let mut progress = context.progress("measuring", "offsets", None);
    let mut at = |offset| {
        let point = measure(&model, &codec, &prompts, &settings, batch, offset)?;
        progress.advance(1);
        Ok::<_, SessionError>(point)
    };
    let points = match arguments.target_savings {
        None => arguments.offsets.iter().map(|offset| at(*offset)).collect::<Result<Vec<_>, SessionError>>()?,
        Some(target) => vec![find_offset(target, &mut at)?],
    };
    drop(progress);
    let stores = arguments.target_savings.is_some() && !arguments.no_store;
    if let Some(point) = points.first().filter(|_| stores) {
        Checkpoint::set_exit_offset(&path, point.exit_offset)?;
        context.say(&format!("stored exit offset {} in {}", point.exit_offset, path.display()));
    }
    let stored = stores.then_some(path);
    print_result(arguments.json, &json!({ "points": points, "stored_in": stored, "numerics": model.numerics }), || {
        format!("{}\nmeasured with {}\n", table(&points), model.numerics)
    })
}

fn table(points: &[DialPoint]) -> String {
    let mut table = Table::new(columns(&[], &["exit offset", "ALS", "exit rate", "mean depth", "tokens a response"]));
    for point in points {
        table.row([
            format!("{:.2}", point.exit_offset),
            percent(point.average_layer_savings),
            percent(point.exit_rate),
            format!("{:.2}", point.mean_depth),
            format!("{:.1}", point.response_tokens),
        ]);
    }
    table.to_string()
}
