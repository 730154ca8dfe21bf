//! How byte-level BPE vocabularies split text into words, by the name under `tokenizer.ggml.pre` of a GGUF file.
//!
//! The names and what they mean are those of llama.cpp (`src/llama-vocab.cpp`, `llm_tokenizer_bpe`); where that file
//! spells out a case-insensitive group, the pattern here is the one of the model's published `tokenizer.json`.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// What llama.cpp does with a file that names no pre-tokenizer: these splits one after the other.
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"];

/// The names understood, for error messages.
pub(super) const SUPPORTED: &str = "default, gpt-2, phi-2, mpt, olmo, jais, exaone4, smollm, starcoder, refact, \
     command-r, codeshell, exaone, minerva-7b, llama-bpe, llama3, llama-v3, falcon3, dbrx, smaug-bpe, qwen2, \
     deepseek-r1-qwen, stablelm2, megrez, tekken";

/// How a family of vocabularies is used.
#[derive(Debug)]
pub(super) struct Recipe {
    /// Splits text into words and writes their bytes in the byte alphabet.
    pub(super) pre_tokenizer: PreTokenizerWrapper,
    /// A word that is in the vocabulary is that token, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether texts begin with the BOS token if the file does not say.
    pub(super) add_bos: bool,
}

/// The recipe called `name`, `None` if it is not one of [`SUPPORTED`].
pub(super) fn recipe(name: &str) -> Option<tokenizers::Result<Recipe>> {
    let (pre_tokenizer, begins_with_bos) = match name {
        "default" => (splits(&DEFAULT), false),
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "exaone4" => (Ok(byte_level(true).into()), false),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            let steps = vec![Digits::new(true).into(), byte_level(true).into()];
            (Ok(Sequence::new(steps).into()), false)
        }
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" => (splits(&[LLAMA3]), true),
        "dbrx" | "smaug-bpe" => (splits(&[LLAMA3]), false),
        "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "megrez" => (splits(&[QWEN2]), false),
        "tekken" => (splits(&[TEKKEN]), true),
        _ => return None,
    };
    // In the families whose texts begin with BOS, words of the vocabulary are also taken whole.
    let recipe = |pre_tokenizer| Recipe { pre_tokenizer, ignore_merges: begins_with_bos, add_bos: begins_with_bos };
    Some(pre_tokenizer.map(recipe))
}

/// Splits at the matches of each pattern in turn, matches and what lies between them both being words.
fn splits(patterns: &[&str]) -> tokenizers::Result<PreTokenizerWrapper> {
    let mut steps = Vec::with_capacity(patterns.len() + 1);
    for &pattern in patterns {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
    }
    steps.push(byte_level(false).into());
    Ok(Sequence::new(steps).into())
}

/// The step that writes bytes in the byte alphabet, splitting by the pattern of GPT-2 first if `split_as_gpt2`.
fn byte_level(split_as_gpt2: bool) -> ByteLevel {
    ByteLevel::new(false, true, split_as_gpt2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_name_has_a_recipe() {
        for name in SUPPORTED.split(',') {
            assert!(matches!(recipe(name.trim()), Some(Ok(_))), "{name}");
        }
        assert!(recipe("no-such-pre-tokenizer").is_none());
    }
}
