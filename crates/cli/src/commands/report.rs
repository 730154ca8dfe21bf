//! `aloud report`: evaluation runs as one HTML page.

use std::collections::HashMap;
use std::path::PathBuf;

use aloud_base::durable_file;
use aloud_measure::evaluation_run::{EvaluationRun, RunSet, open_runs};
use aloud_measure::statistics::Bootstrap;
use aloud_model::source::ModelSource;
use aloud_report::page::{ReportOptions, TokenText, render_markdown, render_report};
use aloud_text::text_codec::TextCodec;
use aloud_text::tokenizer::Tokenizer;
use clap::Args;

use crate::context::{Context, print};
use aloud_report::plot::files::write_figures;
use aloud_session::error::SessionError;
use aloud_session::host::Host;
use aloud_session::loaded_model::resolve;

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// Folders of evaluation runs, of evaluations (with a run for each model), or of sweeps
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The page
    #[arg(long, short, value_name = "FILE.html")]
    output: PathBuf,
    /// Also write each figure as SVG, CSV and JSON into this folder
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,
    /// Also write the records as tables in Markdown
    #[arg(long, value_name = "FILE.md")]
    markdown: Option<PathBuf>,
    /// Title of the page
    #[arg(long, value_name = "TEXT", default_value = "")]
    title: String,
    /// Two runs, by their names on the page, whose samples are shown side by side [default: base and the first other]
    #[arg(long, value_name = "NAME", num_args = 2)]
    side_by_side: Vec<String>,
    /// Most items side by side
    #[arg(long, value_name = "N", default_value_t = 6)]
    samples: usize,
    /// Draws of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..))]
    draws: u32,
    /// Seed of the draws
    #[arg(long, value_name = "SEED", default_value_t = 7)]
    seed: u64,
}

pub(crate) fn run(arguments: &ReportArgs, context: &Context) -> anyhow::Result<()> {
    let set = open_runs(&arguments.runs)?;
    for left_out in &set.left_out {
        context.say(&format!("left out: {}: {}", left_out.folder.display(), left_out.reason));
    }
    let side_by_side = side_by_side(&set, &arguments.side_by_side)?;
    let tokenizers = tokenizers(&set, side_by_side, context);
    let text_of = |tokenizer: &Tokenizer| {
        let tokenizer = tokenizer.clone();
        move |id| tokenizer.token_text(id)
    };
    let texts: Vec<_> = set.runs.iter().map(|run| tokenizers.get(&run.manifest.model_source).map(text_of)).collect();
    let options = ReportOptions {
        title: arguments.title.clone(),
        bootstrap: Bootstrap { n_draws: arguments.draws as usize, seed: arguments.seed, ..Bootstrap::default() },
        side_by_side,
        n_samples: arguments.samples,
        token_texts: texts.iter().map(|text| text.as_ref().map(|text| text as TokenText<'_>)).collect(),
    };
    let report = render_report(&set, &options);
    durable_file::write(&arguments.output, report.html.as_bytes())?;
    if let Some(path) = &arguments.markdown {
        durable_file::write(path, render_markdown(&set, &arguments.title).as_bytes())?;
    }
    if let Some(folder) = &arguments.figures {
        write_figures(folder, &report.figures)?;
    }
    Ok(print(&format!("{}\n", arguments.output.display()))?)
}

/// The places of the two runs: by name, or the base model and the first other, or the first two.
fn side_by_side(set: &RunSet, names: &[String]) -> anyhow::Result<Option<[usize; 2]>> {
    let place = |name: &String| {
        set.runs.iter().position(|run| run.name == *name).ok_or_else(|| {
            let known: Vec<&str> = set.runs.iter().map(|run| run.name.as_str()).collect();
            SessionError::usage(format!("no run is called `{name}`; expected one of: {}", known.join("; ")))
        })
    };
    if let [first, second] = names {
        return Ok(Some([place(first)?, place(second)?]));
    }
    let is_base = |run: &EvaluationRun| run.manifest.model == "base";
    let first = set.runs.iter().position(is_base).unwrap_or(0);
    let trained = set.runs.iter().position(|run| run.manifest.model == "exits");
    let second = trained.filter(|place| *place != first).or_else(|| (0..set.runs.len()).find(|place| *place != first));
    Ok(second.map(|second| [first, second]))
}

/// The tokenizers of the runs side by side, by model source. What cannot be had is said, and missing.
fn tokenizers(set: &RunSet, side_by_side: Option<[usize; 2]>, context: &Context) -> HashMap<String, Tokenizer> {
    let mut found = HashMap::new();
    for run in side_by_side.into_iter().flatten().filter_map(|place| set.runs.get(place)) {
        let source = &run.manifest.model_source;
        if found.contains_key(source) {
            continue;
        }
        match tokenizer(source, context) {
            Ok(tokenizer) => drop(found.insert(source.clone(), tokenizer)),
            Err(error) => context.say(&format!("no tokenizer of {source}, tokens are not shown: {error:#}")),
        }
    }
    found
}

fn tokenizer(source: &str, context: &Context) -> anyhow::Result<Tokenizer> {
    let source: ModelSource = source.parse()?;
    Ok(TextCodec::load(&resolve(&source, context)?)?.tokenizer)
}
