//! Exit candidates: the depths (blocks) at which a token may stop (arXiv 2603.21376, the architecture).

use serde::{Deserialize, Serialize};

/// Blocks between candidates where nothing else is said.
pub const DEFAULT_STEP: usize = 5;

/// Candidate depths, before the number of blocks is known. Written as `"every 5"` or as a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Candidates {
    /// Every so many blocks, below full depth.
    Every(usize),
    /// These depths.
    Depths(Vec<usize>),
}

impl Default for Candidates {
    fn default() -> Self {
        Self::Every(DEFAULT_STEP)
    }
}

/// Depths that cannot be a model's candidates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a model of {n_blocks} blocks needs strictly increasing depths from 1 to {}, at least one; these are {depths:?}",
    n_blocks.saturating_sub(1)
)]
pub struct CandidatesError {
    /// What was given, or what would follow.
    pub depths: Vec<usize>,
    /// Blocks of the model.
    pub n_blocks: usize,
}

impl Candidates {
    /// The candidates of a model of `n_blocks` blocks: strictly increasing, each in `1..L`.
    ///
    /// # Errors
    /// If there would be none, or the list is not strictly increasing or out of range.
    pub fn depths(&self, n_blocks: usize) -> Result<Vec<usize>, CandidatesError> {
        let depths = match self {
            Self::Every(step) => every(*step, n_blocks),
            Self::Depths(depths) => depths.clone(),
        };
        let fit = !depths.is_empty() && are_candidates(&depths, n_blocks);
        if fit { Ok(depths) } else { Err(CandidatesError { depths, n_blocks }) }
    }
}

/// Candidates `step, 2 step, ... < L`; none for a step of 0.
pub fn every(step: usize, n_blocks: usize) -> Vec<usize> {
    (1..n_blocks).filter(|depth| step > 0 && depth.is_multiple_of(step)).collect()
}

/// Whether depths are strictly increasing, each in `1..L`.
pub fn are_candidates(depths: &[usize], n_blocks: usize) -> bool {
    depths.iter().all(|depth| (1..n_blocks).contains(depth)) && depths.is_sorted_by(|a, b| a < b)
}

/// Number of the candidate with this depth; full depth, and any other, comes after the last.
pub fn outcome(depth: usize, candidates: &[usize]) -> usize {
    candidates.iter().position(|candidate| *candidate == depth).unwrap_or(candidates.len())
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "write \"every 5\" or a list of depths such as [5, 10, 15]")]
enum Written {
    Words(String),
    Depths(Vec<usize>),
}

impl TryFrom<Written> for Candidates {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Depths(depths) => Ok(Self::Depths(depths)),
            Written::Words(words) => {
                let step = words.strip_prefix("every ").and_then(|step| step.trim().parse().ok());
                step.filter(|step: &usize| *step > 0)
                    .map(Self::Every)
                    .ok_or_else(|| "write \"every 5\" or a list of depths such as [5, 10, 15]".to_owned())
            }
        }
    }
}

impl From<Candidates> for Written {
    fn from(candidates: Candidates) -> Self {
        match candidates {
            Candidates::Every(step) => Self::Words(format!("every {step}")),
            Candidates::Depths(depths) => Self::Depths(depths),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn steps_and_lists() {
        assert_eq!(Candidates::default().depths(30).unwrap(), [5, 10, 15, 20, 25]);
        assert!(Candidates::default().depths(5).is_err() && every(5, 5).is_empty() && every(0, 5).is_empty());
        assert_eq!(Candidates::Depths(vec![2, 4]).depths(6).unwrap(), [2, 4]);
        for wrong in [vec![], vec![0], vec![6], vec![2, 2], vec![4, 2]] {
            let error = Candidates::Depths(wrong.clone()).depths(6).unwrap_err();
            assert_eq!((&error.depths, error.n_blocks), (&wrong, 6));
        }
        assert_eq!([5, 10, 28, 7].map(|depth| outcome(depth, &[5, 10])), [0, 1, 2, 2]);
    }

    #[test]
    fn they_are_written_as_they_are_read() {
        for text in ["\"every 3\"", "[5,10,15]"] {
            let candidates: Candidates = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&candidates).unwrap(), text);
        }
        for wrong in ["\"every 0\"", "\"all\"", "5", "[-1]"] {
            let error = serde_json::from_str::<Candidates>(wrong).unwrap_err().to_string();
            assert!(error.contains("write \"every 5\" or a list of depths"), "{wrong}: {error}");
        }
    }
}
