//! Adds to a record what the lens says at every candidate that a token reached.

use crate::error::SessionError;
use aloud_measure::record::{ExitRecord, ResponseRecord};
use aloud_method::hazard::hazard;
use aloud_method::targets::target_hazard;
use aloud_text::text_codec::TextCodec;

use crate::lens_pass::lens_pass;
use crate::loaded_model::LoadedModel;

/// Factor of the hazards that are written where a model has no exit heads.
const KL_FACTOR: f64 = 1.0;

/// Reads the response in one teacher-forced pass at its own depths, and writes top token and KL of the lens at every
/// candidate reached. Hazards that were not recorded are those of the heads without offset, or, without heads, the target
/// hazards at `kl_factor` 1; the settings then say so under `hazards`.
///
/// # Errors
/// If the record does not fit the model.
pub fn annotate(
    record: &mut ResponseRecord,
    prompt: &[u32],
    model: &LoadedModel,
    codec: &TextCodec,
) -> Result<(), SessionError> {
    let Some(last_of_prompt) = prompt.len().checked_sub(1) else { return Ok(()) };
    // The step that emits token `t` consumes position `last_of_prompt + t`; the last token is consumed by none.
    let n_consumed = record.tokens.len().saturating_sub(1);
    let mut token_ids = prompt.to_vec();
    token_ids.extend(record.tokens.iter().take(n_consumed).map(|token| token.token_id));
    let mut depths = vec![record.n_blocks; last_of_prompt];
    depths.extend(record.tokens.iter().map(|token| token.depth));
    depths.truncate(token_ids.len());
    let readings = lens_pass(&model.decoder, model.policy.as_ref(), &token_ids, &depths, &record.candidates)?;
    let mut hazards_added = None;
    for (token, reading) in record.tokens.iter_mut().zip(readings.get(last_of_prompt..).unwrap_or_default()).skip(1) {
        let depth = token.depth;
        let recorded = std::mem::take(&mut token.exits);
        token.exits = (record.candidates.iter().zip(&reading.lenses).enumerate())
            .filter(|(_, (candidate, _))| **candidate <= depth)
            .map(|(head, (candidate, lens))| {
                let known = recorded.iter().find(|exit| exit.depth == *candidate).map(|exit| exit.hazard);
                let hazard = known.unwrap_or_else(|| {
                    if let Some(logit) = reading.exit_logits.get(head) {
                        hazards_added = Some("exit heads, offset 0".to_owned());
                        hazard(*logit, 0.0)
                    } else {
                        hazards_added = Some(format!("targets, kl_factor {KL_FACTOR}"));
                        target_hazard(f64::from(lens.kl), KL_FACTOR) as f32
                    }
                });
                ExitRecord {
                    depth: *candidate,
                    hazard,
                    lens_token: Some(codec.tokenizer.token_text(lens.top_token)),
                    lens_kl: Some(lens.kl),
                }
            })
            .collect();
    }
    if let (Some(hazards), Some(settings)) = (hazards_added, record.settings.as_object_mut()) {
        settings.insert("hazards".to_owned(), hazards.into());
    }
    Ok(())
}
