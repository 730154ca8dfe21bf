//! `aloud compare`: paired differences of two evaluation runs.

use std::path::{Path, PathBuf};

use aloud_compare::paired::{Comparison, Difference, compare};
use aloud_lab::words::percent;
use aloud_measure::evaluation_run::{EvaluationRun, open_runs};
use aloud_measure::statistics::Bootstrap;
use aloud_report::table::{Align, Table};
use clap::Args;

use crate::context::{Context, print_result};
use aloud_session::error::SessionError;
use aloud_session::host::Host;

#[derive(Args, Debug)]
#[command(
    after_help = "Differences are B less A, on the items that both have. Intervals are 95 %, by a bootstrap that draws \
                        items with both runs."
)]
pub(crate) struct CompareArgs {
    /// Folder of the evaluation run to compare with
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Folder of the evaluation run that is compared
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Draws of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..))]
    draws: u32,
    /// Seed of the draws
    #[arg(long, value_name = "SEED", default_value_t = 7)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &CompareArgs, context: &Context) -> anyhow::Result<()> {
    let set = open_runs(&[arguments.a.clone(), arguments.b.clone()])?;
    let a = one_run(&set.runs, &arguments.a)?;
    let b = one_run(&set.runs, &arguments.b)?;
    let bootstrap = Bootstrap { n_draws: arguments.draws as usize, seed: arguments.seed, ..Bootstrap::default() };
    let comparison = compare(a, b, &bootstrap)?;
    for remark in comparison.remarks.iter().filter(|_| !arguments.json) {
        context.say(remark);
    }
    print_result(arguments.json, &comparison, || table(&comparison))
}

/// The run of a folder.
fn one_run<'a>(runs: &'a [EvaluationRun], folder: &Path) -> anyhow::Result<&'a EvaluationRun> {
    let mut below = runs.iter().filter(|run| run.folder.starts_with(folder));
    match (below.next(), below.next()) {
        (Some(run), None) => Ok(run),
        (None, _) => Err(EvaluationRun::open(folder).err().map_or_else(
            || SessionError::usage(format!("{} is not a run", folder.display())).into(),
            anyhow::Error::from,
        )),
        (Some(first), Some(_)) => Err(SessionError::usage(format!(
            "{} holds several runs; name one of them, for instance {}",
            folder.display(),
            first.folder.display()
        ))
        .into()),
    }
}

fn table(comparison: &Comparison) -> String {
    let Comparison { a, b, metrics, .. } = comparison;
    let mut table = Table::new([
        ("task", Align::Left),
        ("metric", Align::Left),
        (&format!("A: {a}"), Align::Right),
        (&format!("B: {b}"), Align::Right),
        ("B - A", Align::Right),
        ("95 % interval", Align::Right),
        ("items", Align::Right),
        ("McNemar p", Align::Right),
        ("note", Align::Left),
    ]);
    for metric in metrics {
        let interval = metric.ci.as_ref();
        let interval = interval.map(|ci| format!("{} .. {}", signed(ci.lo, &metric.unit), signed(ci.hi, &metric.unit)));
        table.row([
            metric.task.clone(),
            metric.id.clone(),
            metric.a.map(|value| written(value, &metric.unit)).unwrap_or_default(),
            metric.b.map(|value| written(value, &metric.unit)).unwrap_or_default(),
            metric.difference.map(|value| signed(value, &metric.unit)).unwrap_or_default(),
            interval.unwrap_or_default(),
            metric.n_items.to_string(),
            metric.mcnemar_p.map(|p| format!("{p:.3}")).unwrap_or_default(),
            note(metric),
        ]);
    }
    table.to_string()
}

fn note(metric: &Difference) -> String {
    let unpaired = (metric.n_unpaired > 0).then(|| format!("{} items in one run only", metric.n_unpaired));
    let reason = metric.null_reason.as_ref().map(|reason| reason.replace('_', " "));
    [unpaired, reason].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// A value: fractions in per cent.
fn written(value: f64, unit: &str) -> String {
    if unit == "fraction" { percent(value) } else { format!("{value:.3}") }
}

/// A difference with its sign: of fractions in percentage points.
fn signed(value: f64, unit: &str) -> String {
    if unit == "fraction" { format!("{:+.1} pp", 100.0 * value) } else { format!("{value:+.3}") }
}
