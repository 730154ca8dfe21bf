//! A row of `tokens.jsonl`: the tokens of one response, in lists of equal length.

use serde::{Deserialize, Serialize};

use super::{ExitConvention, LogRow, RunIdentity};
use crate::token_class::TokenClass;

/// The bit of [`TokenRow::flags`] that says that the token's id stands in the prompt or earlier in the response.
pub const COPY_FLAG: u8 = 1;

/// The part of a response that a token belongs to. 0 and 1 in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Region {
    /// The trace, its end mark included.
    Think,
    /// What comes after it.
    Answer,
}

impl From<Region> for u8 {
    fn from(region: Region) -> Self {
        match region {
            Region::Think => 0,
            Region::Answer => 1,
        }
    }
}

impl TryFrom<u8> for Region {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            0 => Ok(Self::Think),
            1 => Ok(Self::Answer),
            _ => Err(format!("region {number} is neither 0 (think) nor 1 (answer)")),
        }
    }
}

/// The tokens of one response. Token `t` is the one that a step emitted, and `depth[t]` is the depth of that step.
///
/// # Shapes
/// `T` response tokens. All lists are `[T]`; those that may be absent are empty then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Key of the sample.
    pub key: String,
    /// Ids in the vocabulary.
    pub ids: Vec<u32>,
    /// Depths in blocks.
    pub depth: Vec<usize>,
    /// Whether the depth was no free choice: the first token, and all tokens where exits are off.
    pub forced_full: Vec<bool>,
    /// Whether the token was put there and not chosen. May be absent: none was.
    #[serde(default)]
    pub forced_token: Vec<bool>,
    /// Kinds of token. May be absent.
    #[serde(default)]
    pub class: Vec<TokenClass>,
    /// Bits: [`COPY_FLAG`]. May be absent.
    #[serde(default)]
    pub flags: Vec<u8>,
    /// `-log2 p_base(token | before)`, of the base model at full depth. May be absent.
    #[serde(default)]
    pub surprisal_bits: Vec<f64>,
    /// Entropy of the base model's distribution there. May be absent.
    #[serde(default)]
    pub entropy_bits: Vec<f64>,
    /// Settling depths (blocks) of the base model's readout: the first, and the last. May be absent.
    #[serde(default)]
    pub settle: Vec<[usize; 2]>,
    /// Hazards, offset included, at the candidates that the token reached, in increasing depth. Lists may be empty.
    /// May be absent.
    #[serde(default)]
    pub exit_hazard: Vec<Vec<f64>>,
    /// Part of the response. May be absent.
    #[serde(default)]
    pub region: Vec<Region>,
}

impl TokenRow {
    /// Whether each token was chosen freely at a freely chosen depth: what depth metrics count.
    pub fn eligible(&self) -> impl Iterator<Item = bool> {
        let forced_token = self.forced_token.iter().copied().chain(std::iter::repeat(false));
        self.forced_full.iter().zip(forced_token).map(|(full, token)| !full && !token)
    }

    /// Depths (blocks) of the eligible tokens.
    pub fn eligible_depths(&self) -> impl Iterator<Item = usize> {
        self.depth.iter().zip(self.eligible()).filter(|(_, eligible)| *eligible).map(|(depth, _)| *depth)
    }

    /// Names and lengths of the lists beside `ids`, and whether each may be absent.
    fn lengths(&self) -> [(&'static str, usize, bool); 10] {
        [
            ("depth", self.depth.len(), false),
            ("forced_full", self.forced_full.len(), false),
            ("forced_token", self.forced_token.len(), true),
            ("class", self.class.len(), true),
            ("flags", self.flags.len(), true),
            ("surprisal_bits", self.surprisal_bits.len(), true),
            ("entropy_bits", self.entropy_bits.len(), true),
            ("settle", self.settle.len(), true),
            ("exit_hazard", self.exit_hazard.len(), true),
            ("region", self.region.len(), true),
        ]
    }
}

impl LogRow for TokenRow {
    const FILE: &'static str = "tokens";

    fn key(&self) -> String {
        self.key.clone()
    }

    fn convert(&mut self, convention: ExitConvention) {
        for depth in &mut self.depth {
            *depth = convention.depth(*depth);
        }
    }

    fn fault(&self, identity: &RunIdentity) -> Option<String> {
        let n_tokens = self.ids.len();
        if let Some((name, length, _)) = self
            .lengths()
            .into_iter()
            .find(|(_, length, may_be_absent)| *length != n_tokens && !(*may_be_absent && *length == 0))
        {
            return Some(format!("`{name}` has {length} values for {n_tokens} tokens"));
        }
        let RunIdentity { n_blocks, exit_candidates, .. } = identity;
        if let Some((token, depth)) =
            self.depth.iter().enumerate().find(|(_, depth)| *depth != n_blocks && !exit_candidates.contains(depth))
        {
            return Some(format!(
                "token {token}: depth {depth} is neither an exit candidate {exit_candidates:?} nor full depth \
                 {n_blocks}; is the exit_convention of the header right?"
            ));
        }
        if let Some(token) =
            self.depth.iter().zip(&self.forced_full).position(|(depth, full)| *full && depth != n_blocks)
        {
            return Some(format!("token {token}: forced_full, but not at full depth {n_blocks}"));
        }
        let settled_outside = |pair: &[usize; 2]| pair[0] > pair[1] || pair[1] > *n_blocks;
        if let Some(token) = self.settle.iter().position(settled_outside) {
            return Some(format!(
                "token {token}: settle {:?} is not two rising depths up to {n_blocks}",
                self.settle[token]
            ));
        }
        let no_bits = |bits: &f64| !bits.is_finite() || *bits < -1e-3;
        if let Some(token) =
            [&self.surprisal_bits, &self.entropy_bits].iter().find_map(|list| list.iter().position(no_bits))
        {
            return Some(format!("token {token}: surprisal or entropy is not a number of bits from 0"));
        }
        let no_hazards = |hazards: &Vec<f64>| {
            hazards.len() > exit_candidates.len() || hazards.iter().any(|hazard| !(0.0..=1.0).contains(hazard))
        };
        self.exit_hazard
            .iter()
            .position(no_hazards)
            .map(|token| format!("token {token}: exit_hazard is not up to {} numbers in 0..1", exit_candidates.len()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::test_runs::{identity, token_row};

    #[test]
    fn what_does_not_fit_is_named() {
        type Damage = fn(&mut TokenRow);
        let damages: &[(Damage, &str)] = &[
            (|r| r.depth = vec![28], "`depth` has 1 values for 3 tokens"),
            (|r| r.class = vec![TokenClass::Content], "`class` has 1 values for 3 tokens"),
            (|r| r.depth[1] = 4, "token 1: depth 4 is neither an exit candidate [5, 10, 15, 20, 25] nor full depth 28"),
            (|r| r.depth[0] = 5, "token 0: forced_full, but not at full depth 28"),
            (|r| r.settle = vec![[5, 5], [10, 5], [5, 28]], "token 1: settle [10, 5]"),
            (|r| r.surprisal_bits = vec![0.0, 1.0, f64::NAN], "token 2: surprisal"),
            (|r| r.exit_hazard = vec![vec![], vec![0.5], vec![1.5]], "token 2: exit_hazard"),
        ];
        let good = token_row("a", &[28, 5, 10]);
        assert_eq!(good.fault(&identity()), None);
        for (damage, expected) in damages {
            let mut bad = good.clone();
            damage(&mut bad);
            let fault = bad.fault(&identity()).unwrap();
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn inserted_and_pinned_tokens_are_not_eligible() {
        let mut row = token_row("a", &[28, 5, 10, 28]);
        assert_eq!(row.eligible_depths().collect::<Vec<_>>(), [5, 10, 28]);
        row.forced_token = vec![false, true, false, false];
        assert_eq!(row.eligible_depths().collect::<Vec<_>>(), [10, 28]);
    }

    #[test]
    fn regions_are_numbers_in_the_file() {
        let mut row = token_row("a", &[28, 5]);
        row.region = vec![Region::Think, Region::Answer];
        let json = serde_json::to_string(&row).unwrap();
        assert!(json.contains("\"region\":[0,1]"), "{json}");
        assert_eq!(serde_json::from_str::<TokenRow>(&json).unwrap(), row);
        let error = serde_json::from_str::<TokenRow>(&json.replace("[0,1]", "[0,2]")).unwrap_err().to_string();
        assert!(error.contains("region 2 is neither"), "{error}");
    }
}
