//! What can be said of a text without a judge.
//!
//! These are surface statistics; they do not measure coherence or correctness.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::arithmetic::equations;
use crate::statistics::quantile;

/// Tokens of a window in which repetitions are looked for, and length of what is repeated.
const WINDOW: usize = 64;
const REPEATED: usize = 8;
/// A loop says the same thing at least this often in its last window.
const LOOP_TIMES: usize = 4;
/// Tokens of a window of [`windowed_perplexity`].
const PERPLEXITY_WINDOW: usize = 32;

/// Share of repeated n-grams: `1 - unique / all`. `None` for fewer than `n` tokens.
pub fn repetition_n<T: Eq + Hash>(tokens: &[T], n: usize) -> Option<f64> {
    distinct_n(&[tokens], n).map(|distinct| 1.0 - distinct)
}

/// Share of distinct n-grams over several texts (Li et al., 2016): `unique / all`. N-grams do not go across texts. `None` if
/// there is none.
pub fn distinct_n<T: Eq + Hash>(texts: &[&[T]], n: usize) -> Option<f64> {
    let mut unique = HashSet::new();
    let mut all = 0_usize;
    for gram in texts.iter().flat_map(|tokens| tokens.windows(n.max(1))) {
        unique.insert(gram);
        all += 1;
    }
    (all > 0).then(|| unique.len() as f64 / all as f64)
}

/// Share of 64-token windows in which some 8-gram stands twice. A shorter text is one window. `None` for no tokens.
pub fn repeated_windows<T: Eq + Hash>(tokens: &[T]) -> Option<f64> {
    if tokens.is_empty() {
        return None;
    }
    // For each 8-gram the place at which it stood before.
    let mut last: HashMap<&[T], usize> = HashMap::new();
    let before: Vec<Option<usize>> =
        tokens.windows(REPEATED).enumerate().map(|(at, gram)| last.insert(gram, at)).collect();
    let n_windows = tokens.len().saturating_sub(WINDOW) + 1;
    let repeated = (0..n_windows)
        .filter(|start| {
            let end = (start + WINDOW + 1 - REPEATED).min(before.len());
            before
                .get(*start..end)
                .is_some_and(|grams| grams.iter().any(|earlier| earlier.is_some_and(|at| at >= *start)))
        })
        .count();
    Some(repeated as f64 / n_windows as f64)
}

/// Whether a text ends in a loop: some 8-gram stands at least 4 times in its last 64 tokens.
pub fn has_loop<T: Eq + Hash>(tokens: &[T]) -> bool {
    let mut counts: HashMap<&[T], usize> = HashMap::new();
    tokens[tokens.len().saturating_sub(WINDOW)..].windows(REPEATED).any(|gram| {
        let count = counts.entry(gram).or_default();
        *count += 1;
        *count >= LOOP_TIMES
    })
}

/// Compressed bytes (zlib, level 6) over bytes of the text. Little for repetitions; above 1 for very short texts. `None` for an
/// empty text.
pub fn zlib_ratio(text: &str) -> Option<f64> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(text.as_bytes()).ok()?;
    let compressed = encoder.finish().ok()?;
    (!text.is_empty()).then(|| compressed.len() as f64 / text.len() as f64)
}

/// Number of true equations of a text, and of all.
pub fn equation_validity(text: &str) -> (usize, usize) {
    let equations = equations(text);
    (equations.iter().filter(|equation| equation.is_true).count(), equations.len())
}

/// `exp(mean NLL)` of tokens' negative log-probabilities in nats. `None` for no tokens.
pub fn perplexity(nlls: &[f64]) -> Option<f64> {
    (!nlls.is_empty()).then(|| (nlls.iter().sum::<f64>() / nlls.len() as f64).exp())
}

/// The perplexity that 90 % of the 32-token windows of a text do not exceed: local breakdowns. A shorter text, and what is
/// left at the end, is a window too. `None` for no tokens.
pub fn windowed_perplexity(nlls: &[f64]) -> Option<f64> {
    let mut windows: Vec<f64> = nlls.chunks(PERPLEXITY_WINDOW).filter_map(perplexity).collect();
    windows.sort_by(f64::total_cmp);
    quantile(&windows, 0.9)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_values() {
        let text: Vec<&str> = "a b c a b c a b c d".split(' ').collect();
        for (n, expected) in [(1, 0.4), (2, 4.0 / 9.0), (3, 0.5), (4, 4.0 / 7.0)] {
            assert!((distinct_n(&[text.as_slice()], n).unwrap() - expected).abs() < 1e-12);
            assert!((repetition_n(&text, n).unwrap() - (1.0 - expected)).abs() < 1e-12);
        }
        assert_eq!(repetition_n(&text, 11), None);
    }

    #[test]
    fn windows_and_loops() {
        let circle = |length: usize, around: usize| (0..length).map(|at| at % around).collect::<Vec<_>>();
        // 8-grams come back after 16 tokens: within 64 there are 57 of them, each 3 or 4 times.
        assert_eq!((repeated_windows(&circle(200, 16)), has_loop(&circle(200, 16))), (Some(1.0), true));
        // After 40 tokens: twice within a window, which is no loop.
        assert_eq!((repeated_windows(&circle(200, 40)), has_loop(&circle(200, 40))), (Some(1.0), false));
        // After 57 tokens: not within a window.
        assert_eq!((repeated_windows(&circle(200, 57)), has_loop(&circle(200, 57))), (Some(0.0), false));
        assert_eq!((repeated_windows(&circle(200, 56)), repeated_windows(&circle(0, 1))), (Some(1.0), None));
        assert_eq!((repeated_windows(&circle(9, 1)), repeated_windows(&circle(8, 1))), (Some(1.0), Some(0.0)));
        // A loop that has ended is none.
        let mut ended = circle(100, 4);
        ended.extend(1000..1064);
        assert!(!has_loop(&ended) && repeated_windows(&ended).unwrap() > 0.3);
    }

    #[test]
    fn compression_and_perplexity() {
        assert!(zlib_ratio(&"the same again. ".repeat(40)).unwrap() < 0.1);
        assert_eq!(zlib_ratio(""), None);
        assert_eq!(perplexity(&[0.0; 5]), Some(1.0));
        assert!((perplexity(&[1.0, 3.0]).unwrap() - 2.0_f64.exp()).abs() < 1e-12);
        // Ten windows, one of them bad: the quantile is between the last two.
        let mut nlls = vec![0.0; 320];
        nlls[300..].fill(8.0);
        let worst = perplexity(&nlls[288..]).unwrap();
        assert!((windowed_perplexity(&nlls).unwrap() - (1.0 + 0.1 * (worst - 1.0))).abs() < 1e-9);
        assert_eq!((perplexity(&[]), windowed_perplexity(&[])), (None, None));
    }

    proptest! {
        #[test]
        fn windows_by_their_definition(tokens in prop::collection::vec(0_u8..2, 1..150)) {
            let windows: Vec<&[u8]> = if tokens.len() <= WINDOW { vec![&tokens] } else { tokens.windows(WINDOW).collect() };
            let repeats = |window: &&&[u8]| {
                let grams: Vec<&[u8]> = window.windows(REPEATED).collect();
                grams.iter().collect::<HashSet<_>>().len() < grams.len()
            };
            let expected = windows.iter().filter(repeats).count() as f64 / windows.len() as f64;
            prop_assert_eq!(repeated_windows(&tokens), Some(expected));
        }
    }
}
