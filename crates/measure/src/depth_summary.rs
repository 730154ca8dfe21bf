//! Depths of responses in a few numbers: how much depth is given up, where, and whether the sampler does what the hazards say.
//!
//! `d_t` is the depth of the step that emitted token `t`, `L` the number of blocks. Token 0 is pinned to full depth and is
//! not counted: all means are over `t >= 1`, weighted by token over all responses (long responses count more).

use aloud_method::savings::{SamplerCheck, average_layer_savings, exit_histogram, exit_rate, mean_depth};

use crate::error::MeasureError;
use crate::record::ResponseRecord;

/// Depth metrics of one or more responses of the same model. Means are `None` if no token was free to exit.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthSummary {
    /// Number of blocks `L`.
    pub n_blocks: usize,
    /// Exit candidates, in blocks.
    pub candidates: Vec<usize>,
    /// Number of response tokens, the pinned ones included.
    pub n_tokens: usize,
    /// Number of tokens that were free to exit.
    pub n_free: usize,
    /// [`average_layer_savings`].
    pub average_layer_savings: Option<f64>,
    /// [`exit_rate`]. It flatters: an exit near full depth saves next to nothing.
    pub exit_rate: Option<f64>,
    /// [`mean_depth`], in blocks.
    pub mean_depth: Option<f64>,
    /// [`exit_histogram`]: a share per candidate, then the share at full depth.
    pub histogram: Option<Vec<f64>>,
}

/// The depths of tokens that were free to exit: all but the first of each response.
fn free_depths(records: &[ResponseRecord]) -> Vec<usize> {
    records.iter().flat_map(|record| record.tokens.iter().skip(1)).map(|token| token.depth).collect()
}

/// The depth metrics of responses.
///
/// # Errors
/// If there is no record, one contradicts itself, or they come from models with different blocks or candidates.
pub fn summarise(records: &[ResponseRecord]) -> Result<DepthSummary, MeasureError> {
    let first = records.first().ok_or(MeasureError::Empty)?;
    for record in records {
        record.check()?;
        if record.n_blocks != first.n_blocks || record.candidates != first.candidates {
            return Err(MeasureError::MixedModels {
                id: record.id.clone(),
                n_blocks: record.n_blocks,
                candidates: record.candidates.clone(),
                expected_n_blocks: first.n_blocks,
                expected_candidates: first.candidates.clone(),
            });
        }
    }
    let depths = free_depths(records);
    Ok(DepthSummary {
        n_blocks: first.n_blocks,
        candidates: first.candidates.clone(),
        n_tokens: records.iter().map(|record| record.tokens.len()).sum(),
        n_free: depths.len(),
        average_layer_savings: average_layer_savings(&depths, first.n_blocks),
        exit_rate: exit_rate(&depths, first.n_blocks),
        mean_depth: mean_depth(&depths),
        histogram: exit_histogram(&depths, &first.candidates),
    })
}

/// The sampler check of each candidate of `candidates`, over all tokens that were free to exit.
pub fn sampler_check(records: &[ResponseRecord], candidates: &[usize]) -> Vec<SamplerCheck> {
    candidates
        .iter()
        .map(|candidate| {
            let free = records.iter().flat_map(|record| record.tokens.iter().skip(1));
            let seen = free.filter_map(|token| {
                let exit = token.exits.iter().find(|exit| exit.depth == *candidate)?;
                Some((f64::from(exit.hazard), token.depth == *candidate))
            });
            SamplerCheck::of(*candidate, seen)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::test_runs::record;

    const CANDIDATES: [usize; 5] = [5, 10, 15, 20, 25];

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn first_token_of_every_response_is_left_out() {
        let responses: [&[usize]; 3] = [&[28, 5, 10, 28], &[28, 25, 5, 28, 15], &[28]];
        let records = responses.map(|depths| record(28, &CANDIDATES, depths));
        let summary = summarise(&records).unwrap();
        assert_eq!((summary.n_tokens, summary.n_free), (10, 7));
        let free = [5, 10, 28, 25, 5, 28, 15];
        assert_eq!(summary.mean_depth, mean_depth(&free));
        assert_eq!(summary.average_layer_savings, average_layer_savings(&free, 28));
        assert_eq!((summary.exit_rate, summary.histogram), (exit_rate(&free, 28), exit_histogram(&free, &CANDIDATES)));
        let pinned = summarise(&records[2..]).unwrap();
        assert_eq!((pinned.average_layer_savings, pinned.exit_rate, pinned.histogram), (None, None, None));
    }

    #[test]
    fn models_are_not_mixed() {
        let error = summarise(&[record(28, &CANDIDATES, &[28]), record(30, &CANDIDATES, &[30])]).unwrap_err();
        assert!(matches!(error, MeasureError::MixedModels { n_blocks: 30, .. }), "{error}");
        assert!(matches!(summarise(&[]).unwrap_err(), MeasureError::Empty));
    }

    #[test]
    fn sampler_check_by_hand() {
        // 8 free tokens reach depth 2 with q = 0.25: 2 expected, 3 exit, variance 8 * 0.25 * 0.75 = 1.5.
        // 5 of them reach depth 4: 1.25 expected, 1 exits, variance 0.9375.
        let checks = sampler_check(&[record(6, &[2, 4], &[6, 2, 2, 2, 4, 6, 6, 6, 6])], &[2, 4]);
        assert_eq!((checks[0].reached, checks[0].exits), (8, 3));
        close(checks[0].expected, 2.0);
        close(checks[0].z.unwrap(), 1.0 / 1.5_f64.sqrt());
        assert_eq!((checks[1].reached, checks[1].exits), (5, 1));
        close(checks[1].z.unwrap(), -0.25 / 0.9375_f64.sqrt());
        let mut silent = record(6, &[2, 4], &[6, 2]);
        silent.tokens[1].exits.clear();
        assert_eq!(
            sampler_check(&[silent], &[2])[0],
            SamplerCheck { depth: 2, reached: 0, exits: 0, expected: 0.0, z: None }
        );
    }
}
