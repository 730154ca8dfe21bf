//! `aloud verify`: the stepwise engine against the teacher-forced pass, on recorded tokens and depths.

use std::path::PathBuf;

use aloud_engine::read::verify::ParityReport;
use aloud_kernels::cpu::Activations;
use aloud_lab::words::columns;
use aloud_report::table::Table;
use aloud_session::difference::{Difference, SampleText};
use aloud_session::host::Host;
use aloud_session::numerics::ActivationChoice;
use aloud_session::parity::{Records, compare, generate};
use anyhow::bail;
use clap::Args;
use serde_json::json;

use crate::arguments::activations::ActivationArgs;
use crate::arguments::model::ModelArgs;
use crate::context::{Context, print_result};

#[derive(Args, Debug)]
#[command(
    after_help = "Without records a few responses are generated first: with exits sampled from the checkpoint's heads, \
                        or, without a checkpoint, with a depth drawn for every token."
)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    activations: ActivationArgs,
    /// Records of responses, as written by `aloud generate --out`
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Largest difference allowed
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    tolerance: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &VerifyArgs, context: &Context) -> anyhow::Result<()> {
    let records = arguments.records.as_deref().map(Records::read).transpose()?;
    let _instructions = records.as_ref().and_then(Records::use_instructions);
    let activations = match &records {
        Some(records) => records.activations(arguments.activations.given())?,
        None => arguments.activations.of_measurements(),
    };
    let cpu = context.cpu();
    let model = arguments.model.choice().load(&cpu, activations, context)?;
    let recorded = match &records {
        Some(records) => records.of_model(&model, context)?,
        None => generate(&model)?,
    };
    let mut progress = context.progress("replaying", "responses", Some(recorded.len() as u64));
    let (report, of_record) = compare(&model, &recorded, &cpu, &mut || progress.advance(1))?;
    drop(progress);
    let differences = [
        ("logits", Some(report.logits)),
        ("exit logits", model.policy.is_some().then_some(report.exit_logits)),
        ("keys and values", Some(report.keys_values)),
        ("log P of exit and token", Some(report.log_joint)),
        ("recorded log-probability", of_record),
    ];
    // A difference that is not a number is no parity either.
    let too_large = |difference: f32| difference.is_nan() || f64::from(difference) > arguments.tolerance;
    let failed: Vec<&str> = differences
        .iter()
        .filter_map(|(name, difference)| difference.filter(|difference| too_large(*difference)).map(|_| *name))
        .collect();
    // What rounding costs is said where there is any.
    let from_f32 = (model.decoder.backend().activations() == Activations::Q8)
        .then(|| {
            let exact = arguments.model.choice().load(&cpu, ActivationChoice::F32, context)?;
            Difference::between(&exact, &model, &SampleText::read(None)?)
        })
        .transpose()?;
    let result = json!({
        "responses": recorded.len(),
        "tokens": report.n_tokens,
        "logits": report.logits,
        "exit_logits": report.exit_logits,
        "keys_values": report.keys_values,
        "log_joint": report.log_joint,
        "recorded_log_probability": of_record,
        "keys_values_computed": report.n_keys_values_computed,
        "keys_values_skipped": report.n_keys_values_skipped,
        "tolerance": arguments.tolerance,
        "numerics": model.numerics,
        "from_f32": from_f32,
        "passed": failed.is_empty(),
    });
    print_result(arguments.json, &result, || {
        let rounding = from_f32.as_ref().map_or_else(String::new, Difference::of_rounding);
        format!("{}Replayed with {}.\n{rounding}", table(recorded.len(), &report, &differences), model.numerics)
    })?;
    if !failed.is_empty() {
        bail!("no parity: {} differ by more than {}", failed.join(", "), arguments.tolerance);
    }
    Ok(())
}

fn table(n_responses: usize, report: &ParityReport, differences: &[(&str, Option<f32>)]) -> String {
    let mut table = Table::new(columns(&["largest difference"], &[""]));
    for (name, difference) in differences {
        if let Some(difference) = difference {
            table.row([(*name).to_owned(), format!("{difference:.2e}")]);
        }
    }
    let n_pairs = report.n_keys_values_computed + report.n_keys_values_skipped;
    format!(
        "{table}\n{n_responses} responses, {} tokens: stepwise engine against teacher-forced pass. The engine computed keys and values \
         of {} of {n_pairs} positions and blocks; nothing read the others.\n",
        report.n_tokens, report.n_keys_values_computed,
    )
}
