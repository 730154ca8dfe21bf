//! The two steps of stage 1, as `trace`, `distill` and `demo` run them: record the teacher, train the student.

use crate::error::{Context as _, SessionError};
use crate::host::Host;
use std::path::{Path, PathBuf};

use aloud_engine::decode::sampling::Sampling;
use aloud_kernels::cpu::{Activations, Cpu};
use aloud_method::targets::{TargetPolicy, TargetStatistics, Targets};
use aloud_model::decoder::{Decoder, Trained};
use aloud_model::load::PretrainedModel;
use aloud_text::text_codec::TextCodec;
use aloud_train::run_directory::RunDirectory;
use aloud_train::stage1::distil::Distillation;
use aloud_train::stage1::fitting::FitProgress;
use aloud_train::stage1::held_out::HeldOutReport;
use aloud_train::stage1::preparation::Preparation;
use aloud_train::stage1::recipe::DistillRecipe;
use aloud_train::stage1::teacher::{TeacherSettings, TracePrompt, record_traces};
use aloud_train::stage1::traces::{
    FORMAT_VERSION as TRACE_FORMAT_VERSION, HiddenDType, ItemSource, TraceHeader, TraceReader, TraceWriter,
};
use serde::Serialize;

use crate::loaded_model::BaseModel;
use crate::numerics::{of_adapter_training, of_full_training, of_model};
use crate::prompts::stop_tokens;
use crate::run_config::run_config;

/// Most packed rows of a reading pass of the teacher.
const ROWS_PER_PASS: usize = 1024;

/// Key of the start adapter's SHA-256 in the settings of traces.
pub const START_ADAPTER: &str = "start_adapter_sha256";

/// How traces are recorded.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Where the prompts come from, in words.
    pub prompts: String,
    /// What their items are a part of.
    pub items: ItemSource,
    /// Depths (blocks) that the lens is read at.
    pub candidates: Vec<usize>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Most tokens of a response.
    pub max_new_tokens: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Responses generated together.
    pub batch: usize,
    /// Number format of the stored hidden states.
    pub hidden_dtype: HiddenDType,
}

/// Records traces of `prompts` into `directory`, or goes on where an earlier call stopped. Returns the number of traces
/// and the response tokens recorded now.
///
/// # Errors
/// If the model cannot answer, or the traces cannot be written.
pub fn record(
    base: &BaseModel,
    codec: &TextCodec,
    cpu: &Cpu,
    prompts: &[TracePrompt],
    recording: &Recording,
    directory: &Path,
    host: &dyn Host,
) -> Result<(usize, usize), SessionError> {
    let config = &base.pretrained.config;
    let Recording { sampling, max_new_tokens, seed, .. } = *recording;
    let mut settings = serde_json::json!({
        "prompts": recording.prompts,
        "temperature": sampling.temperature.to_string(),
        "top_p": sampling.top_p.to_string(),
        "top_k": sampling.top_k,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    });
    if let Some(adapter) = &base.pretrained.weights.start_adapter {
        settings[START_ADAPTER] = adapter.sha256().into();
    }
    let decoder = Decoder::new(&cpu.with_activations(Activations::F32), config, &base.pretrained.weights);
    let header = TraceHeader {
        format_version: TRACE_FORMAT_VERSION,
        base_model: base.identity.clone(),
        candidates: recording.candidates.clone(),
        n_blocks: config.n_layers,
        hidden_size: config.hidden_size,
        hidden_dtype: recording.hidden_dtype,
        settings,
        numerics: Some(of_model(&decoder, None)),
        items: Some(recording.items.clone()),
    };
    let mut writer = TraceWriter::create_or_resume(directory, header)?;
    let settings = TeacherSettings {
        sampling,
        max_new_tokens,
        stop_tokens: stop_tokens(codec, &config.eos_token_ids),
        seed,
        batch: recording.batch,
        rows_per_pass: ROWS_PER_PASS,
    };
    let mut progress = host.progress("recording traces", "traces", Some(prompts.len() as u64));
    let mut tokens = 0;
    let decode = |ids: &[u32]| codec.tokenizer.decode(ids, true).unwrap_or_default();
    record_traces(&decoder, &recording.candidates, prompts, &settings, &mut writer, &decode, &mut |now| {
        tokens = now.tokens;
        progress.set(now.traces as u64);
        progress.message(format!("{tokens} tokens"));
    })
    .with_context(|| {
        format!("traces completed so far are kept in {}: run the same command to go on", directory.display())
    })?;
    let n_traces = writer.n_completed();
    writer.finish()?;
    Ok((n_traces, tokens))
}

/// What a finished distillation came to.
#[derive(Debug, Serialize)]
pub struct Distilled {
    /// Optimiser steps.
    pub steps: u64,
    /// Steps that an earlier, interrupted call had done.
    pub resumed_at: u64,
    /// Where the last checkpoint is.
    pub checkpoint: PathBuf,
    /// Token KL without adapters at the same prescribed depths, nats per token.
    pub token_kl_exited_before: Option<f64>,
    /// As above, at full depth: not 0, since the keys and values of earlier exits differ from the teacher's.
    pub token_kl_full_depth_before: Option<f64>,
    /// What was learned, on traces that were not trained on.
    pub held_out: Option<HeldOutReport>,
}

/// Trains exit heads and adapters on recorded traces, or goes on with an interrupted run.
///
/// # Errors
/// If the run cannot start, go on or be written.
pub fn distil(
    model: PretrainedModel,
    base: aloud_model::checkpoint::BaseIdentity,
    cpu: &Cpu,
    recipe: &DistillRecipe,
    traces: &Path,
    directory: &Path,
    host: &dyn Host,
) -> Result<Distilled, SessionError> {
    let reader = TraceReader::open(traces)?;
    let inputs = [("traces", traces.display().to_string())];
    let digests = [("traces", reader.digest()?)];
    let numerics = match recipe.trained {
        Trained::Adapters | Trained::Exits => of_adapter_training(&model.weights),
        Trained::Full => of_full_training(),
    };
    let config = run_config("distill", recipe.seed, base, numerics, inputs, digests, recipe)?;
    let (run, resume) = RunDirectory::create_or_resume(directory, &config)?;
    let mut progress = None;
    let mut on_preparation = |preparation: Preparation<'_>| {
        let (what, unit, total, done, message) = match preparation {
            Preparation::Translators { progress: FitProgress { step, kl }, steps } => {
                let mean = kl.iter().sum::<f64>() / kl.len().max(1) as f64;
                ("fitting exit translators", "steps", steps, *step, format!("lens KL {mean:.2} nats"))
            }
            Preparation::Heads { progress: FitProgress { step, kl }, steps } => {
                ("training exit heads", "steps", steps, *step, format!("loss {:.3} nats", kl[0]))
            }
            Preparation::LensKl { done } => {
                ("reading traces through translators", "traces", reader.len() as u64, done as u64, String::new())
            }
        };
        if progress.as_ref().is_none_or(|(shown, _)| *shown != what) {
            progress = Some((what, host.progress(what, unit, Some(total))));
        }
        if let Some((_, progress)) = &mut progress {
            progress.set(done);
            progress.message(message);
        }
    };
    let mut distillation =
        Distillation::new(cpu, model, recipe.clone(), &reader, run, resume.as_ref(), &mut on_preparation)?;
    drop(progress);
    let resumed_at = distillation.n_done();
    if resumed_at > 0 {
        host.say(&format!("going on after step {resumed_at} of {}", distillation.n_steps()));
    }
    let mut progress = host.progress("distilling", "steps", Some(distillation.n_steps()));
    let (held_out, checkpoint) = distillation.run(&mut |metrics| {
        progress.set(metrics.step);
        let kl = metrics.token_kl_exited.map_or_else(String::new, |kl| format!("token KL {kl:.2} at exits, "));
        progress.message(format!("loss {:.3}, {kl}{:.0} tokens/s", metrics.loss, metrics.tokens_per_second));
    })?;
    let before = distillation.token_kl_before()?;
    Ok(Distilled {
        steps: distillation.n_steps(),
        resumed_at,
        checkpoint,
        token_kl_exited_before: before.and_then(|(exited, _)| exited),
        token_kl_full_depth_before: before.and_then(|(_, full)| full),
        held_out,
    })
}

/// Exit rate and average layer savings that the traces give as targets at a factor.
///
/// # Errors
/// If a trace cannot be read.
pub fn target_savings(reader: &TraceReader, kl_factor: f64) -> Result<(f64, f64), SessionError> {
    let header = reader.header();
    let targets = Targets {
        candidates: header.candidates.clone(),
        n_blocks: header.n_blocks,
        kl_factor,
        policy: TargetPolicy::Exact,
    };
    let mut statistics = TargetStatistics::new(targets);
    for index in 0..reader.len() {
        statistics.add_trace(&reader.read_lens_kl(index)?, 0, |_, _, _| 0.0);
    }
    Ok((statistics.expected_exit_rate(), statistics.expected_layer_savings()))
}
