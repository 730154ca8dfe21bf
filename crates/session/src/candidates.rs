//! Exit candidates as they are asked for: a list of depths or `every N`, with a default for every model.

use aloud_method::candidates::{Candidates, DEFAULT_STEP, every};

use crate::error::SessionError;

/// Reads `5,10,15` or `every 5`.
///
/// # Errors
/// If it is neither.
pub fn parse(text: &str) -> Result<Candidates, String> {
    let expected = || format!("`{text}` is neither a list of depths such as 5,10,15 nor `every 5`");
    if let Some(step) = text.strip_prefix("every") {
        let step = step.trim().parse().ok().filter(|step: &usize| *step > 0);
        return step.map(Candidates::Every).ok_or_else(expected);
    }
    let depths: Result<Vec<usize>, _> = text.split(',').map(|depth| depth.trim().parse()).collect();
    depths.map(Candidates::Depths).map_err(|_| expected())
}

/// The candidate depths: those given, else those of the exit heads, else every 5 blocks below full depth (none for a model
/// of 5 blocks or less).
pub fn resolve(
    given: Option<&Candidates>,
    heads: Option<&[usize]>,
    n_blocks: usize,
) -> Result<Vec<usize>, SessionError> {
    match (given, heads) {
        (Some(given), _) => {
            given.depths(n_blocks).map_err(|error| SessionError::usage(format!("--candidates: {error}")))
        }
        (None, Some(heads)) => Ok(heads.to_vec()),
        (None, None) => Ok(every(DEFAULT_STEP, n_blocks)),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lists_steps_and_defaults() {
        assert_eq!(resolve(None, None, 30).unwrap(), [5, 10, 15, 20, 25]);
        assert!(resolve(None, None, 5).unwrap().is_empty());
        assert_eq!(resolve(None, Some(&[3]), 30).unwrap(), [3]);
        assert_eq!(resolve(Some(&parse("2, 4").unwrap()), Some(&[3]), 6).unwrap(), [2, 4]);
        assert_eq!(resolve(Some(&parse("every 2").unwrap()), None, 6).unwrap(), [2, 4]);
        for wrong in ["every 0", "every", "1,,2", "a", "-1", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for out_of_range in ["6", "0", "2,2", "every 9"] {
            assert!(resolve(Some(&parse(out_of_range).unwrap()), None, 6).is_err(), "{out_of_range}");
        }
    }
}
