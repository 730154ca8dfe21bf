//! The dial: what an exit offset saves on given prompts, and the offset for a wanted saving.

use crate::bail;
use crate::error::SessionError;
use aloud_method::exit_policy::ExitPolicy;
use aloud_method::savings::{exit_rate, mean_depth, savings_of_mean_depth};
use aloud_text::text_codec::TextCodec;
use serde::Serialize;

use crate::generation::{GenerationSettings, Happening, generate};
use crate::loaded_model::LoadedModel;
use crate::prompts::EncodedPrompt;

/// What responses came to at one offset. Depth figures are over tokens after each response's first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DialPoint {
    /// Added to every exit logit.
    pub exit_offset: f32,
    /// `mean_t (1 - d_t / L)`.
    pub average_layer_savings: f64,
    /// Share of tokens that stopped before full depth.
    pub exit_rate: f64,
    /// Mean depth, blocks.
    pub mean_depth: f64,
    /// Mean length of a response, tokens.
    pub response_tokens: f64,
}

/// Offsets beyond these decide every hazard by themselves.
pub const OFFSETS: std::ops::RangeInclusive<f32> = -16.0..=16.0;

/// Halvings of the interval of offsets: to 1/128.
const HALVINGS: usize = 12;

/// Generates responses at an offset and measures them. The draws are the same at every offset.
///
/// # Errors
/// If a prompt does not fit the model.
pub fn measure(
    model: &LoadedModel,
    codec: &TextCodec,
    prompts: &[EncodedPrompt],
    settings: &GenerationSettings,
    batch: usize,
    offset: f32,
) -> Result<DialPoint, SessionError> {
    let settings = GenerationSettings { exits: ExitPolicy::Sampled { offset: offset.into() }, ..settings.clone() };
    let n_blocks = model.n_blocks();
    let (mut depths, mut tokens) = (Vec::new(), 0);
    generate(model, codec, prompts, &settings, batch, &mut |happening| {
        if let Happening::Finished { response, .. } = happening {
            tokens += response.tokens.len();
            depths.extend(response.tokens.iter().skip(1).map(|token| token.depth));
        }
        Ok(())
    })?;
    let mean_depth = mean_depth(&depths).unwrap_or(0.0);
    Ok(DialPoint {
        exit_offset: offset,
        average_layer_savings: savings_of_mean_depth(mean_depth, n_blocks),
        exit_rate: exit_rate(&depths, n_blocks).unwrap_or(0.0),
        mean_depth,
        response_tokens: tokens as f64 / prompts.len().max(1) as f64,
    })
}

/// The offset at which `measure` gives the savings `target`, by halving an interval in which it lies: savings grow with the
/// offset.
///
/// # Errors
/// If no offset does (the error says what can be reached), or a measurement fails.
pub fn find_offset(
    target: f64,
    measure: &mut dyn FnMut(f32) -> Result<DialPoint, SessionError>,
) -> Result<DialPoint, SessionError> {
    let (mut low, mut high) = (measure(*OFFSETS.start())?, measure(*OFFSETS.end())?);
    let (smallest, largest) = (low.average_layer_savings, high.average_layer_savings);
    // Savings are counted in whole tokens: the ends are taken with a little room.
    if target < smallest - 0.005 || target > largest + 0.005 {
        bail!(
            "no exit offset saves {:.1} %: on these prompts savings go from {:.1} % to {:.1} %",
            100.0 * target,
            100.0 * smallest,
            100.0 * largest
        );
    }
    for _ in 0..HALVINGS {
        let middle = measure(f32::midpoint(low.exit_offset, high.exit_offset))?;
        if middle.average_layer_savings < target { low = middle } else { high = middle }
    }
    let distance = |point: &DialPoint| (point.average_layer_savings - target).abs();
    Ok(if distance(&low) < distance(&high) { low } else { high })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn point(exit_offset: f32, average_layer_savings: f64) -> DialPoint {
        DialPoint { exit_offset, average_layer_savings, exit_rate: 0.0, mean_depth: 0.0, response_tokens: 0.0 }
    }

    fn logistic(offset: f32) -> DialPoint {
        point(offset, 0.8 / (1.0 + (-f64::from(offset) + 1.0).exp()))
    }

    #[test]
    fn the_offset_of_a_target_is_found() {
        // 0.8 / (1 + e^(1 - x)) = 0.4 at x = 1.
        let found = find_offset(0.4, &mut |offset| Ok(logistic(offset))).unwrap();
        assert!((found.exit_offset - 1.0).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn a_target_out_of_reach_is_refused_with_what_can_be_reached() {
        let error = find_offset(0.9, &mut |offset| Ok(logistic(offset))).unwrap_err().to_string();
        assert!(error.contains("no exit offset saves 90.0 %") && error.contains("from 0.0 % to 80.0 %"), "{error}");
    }

    #[test]
    fn a_failing_measurement_ends_the_search() {
        assert!(find_offset(0.4, &mut |_| bail!("no")).is_err());
    }
}
