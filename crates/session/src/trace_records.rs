//! Traces as records: each token's depth drawn from its targets, and what the targets of all of them come to.

use std::path::Path;

use aloud_base::numerics::Numerics;
use aloud_base::random::{Domain, KeyedRandom};
use aloud_measure::record::{ExitRecord, FORMAT_VERSION, RecordKind, ResponseRecord, TokenRecord};
use aloud_method::targets::{TargetPolicy, TargetStatistics, Targets};
use aloud_text::tokenizer::Tokenizer;
use aloud_train::stage1::traces::{Trace, TraceReader};
use serde_json::Value;

use crate::bail;
use crate::error::{Context as _, SessionError};

/// Opens a directory of traces that has some.
///
/// # Errors
/// If it is none, or has none yet.
pub fn open_traces(directory: &Path) -> Result<TraceReader, SessionError> {
    if !directory.join("traces.json").is_file() {
        bail!("{} is no directory of traces: it has no `traces.json`", directory.display());
    }
    let reader = TraceReader::open(directory)?;
    if reader.is_empty() {
        bail!("{} has no complete traces yet", directory.display());
    }
    Ok(reader)
}

/// A trace with depths drawn from its targets; `numerics` are those of its store.
pub fn trace_record(
    trace: &Trace,
    targets: &Targets,
    seed: u64,
    tokenizer: &Tokenizer,
    settings: Value,
    numerics: Option<Numerics>,
) -> ResponseRecord {
    let mut random = KeyedRandom::new(seed, Domain::TARGET_REPORT, [trace.index as u64, 0]);
    let depths =
        targets.draw_depths(&trace.lens_kl, |token, candidate| random.uniform_at(token as u64, candidate as u64));
    let response = trace.token_ids.get(trace.prompt_len..).unwrap_or_default();
    let rows = trace.lens_kl.chunks_exact(targets.candidates.len().max(1));
    let tokens = (response.iter().zip(depths).zip(&trace.token_log_probabilities).zip(rows).enumerate())
        .map(|(index, (((token_id, depth), log_probability), kls))| {
            let exits = (targets.candidates.iter().zip(targets.hazards(kls)).zip(kls))
                .filter(|((candidate, _), _)| **candidate <= depth && index > 0)
                .map(|((candidate, hazard), kl)| ExitRecord {
                    depth: *candidate,
                    hazard: hazard as f32,
                    lens_token: None,
                    lens_kl: Some(*kl),
                });
            TokenRecord {
                token_id: *token_id,
                text: tokenizer.token_text(*token_id),
                depth,
                log_probability: Some(*log_probability),
                exits: exits.collect(),
            }
        })
        .collect();
    ResponseRecord {
        format_version: FORMAT_VERSION,
        id: trace.id.clone(),
        kind: RecordKind::Trace,
        prompt: trace.prompt.clone(),
        response: trace.response.clone(),
        n_blocks: targets.n_blocks,
        candidates: targets.candidates.clone(),
        finish_reason: serde_json::to_value(trace.finish_reason)
            .ok()
            .and_then(|reason| reason.as_str().map(str::to_owned))
            .unwrap_or_default(),
        settings,
        numerics,
        tokens,
    }
}

/// Mean target exit distribution of all traces over `candidates`; full depth last.
///
/// # Errors
/// If a candidate is none of the traces', or a trace cannot be read.
pub fn target_histogram(reader: &TraceReader, candidates: &[usize], kl_factor: f64) -> Result<Vec<f64>, SessionError> {
    let header = reader.header();
    let columns: Option<Vec<usize>> =
        candidates.iter().map(|candidate| header.candidates.iter().position(|column| column == candidate)).collect();
    let columns = columns.with_context(|| {
        format!("the traces have lenses at {:?}, the records have exit candidates {candidates:?}", header.candidates)
    })?;
    let targets =
        Targets { candidates: candidates.to_vec(), n_blocks: header.n_blocks, kl_factor, policy: TargetPolicy::Exact };
    let mut statistics = TargetStatistics::new(targets);
    for index in 0..reader.len() {
        let all = reader.read_lens_kl(index)?;
        let rows = all.chunks_exact(header.candidates.len().max(1));
        let chosen: Vec<f32> =
            rows.flat_map(|row| columns.iter().filter_map(|column| row.get(*column).copied())).collect();
        statistics.add_trace(&chosen, 0, |_, _, _| 0.0);
    }
    Ok(statistics.mean_distribution())
}
