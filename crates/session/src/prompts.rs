//! From texts, data sources and prompt files to token ids.

use crate::error::SessionError;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aloud_base::digest::{sha256_digits, sha256_digits_of_file};
use aloud_model::checkpoint::lineage::ItemKey;
use aloud_tasks::item::{Item, Message, Prompt, Role, Split};
use aloud_tasks::prompt_file::PromptFile;
use aloud_tasks::task::Task;
use aloud_text::text_codec::TextCodec;
use aloud_train::stage1::teacher::TracePrompt;
use aloud_train::stage1::traces::ItemSource;
use serde_json::Value;

/// Where prompts come from, and how they are written for the model.
#[derive(Clone, Debug)]
pub struct PromptChoice {
    /// Prompts by themselves.
    pub prompt: Vec<String>,
    /// A task.
    pub data: Option<Arc<dyn Task>>,
    /// A prompt file.
    pub prompts: Option<PathBuf>,
    /// Number of prompts to take.
    pub n: Option<usize>,
    /// Part of the data source; `None` for the command's own.
    pub split: Option<Split>,
    /// Seed of the choice of prompts.
    pub data_seed: u64,
    /// How they are written.
    pub template: Template,
}

/// Variables of the chat template, by name.
#[derive(Clone, Debug, Default)]
pub struct TemplateVariables(pub Vec<(String, Value)>);

/// Reads `KEY=VALUE`: the value as JSON, or else as a text.
///
/// # Errors
/// If there is no key or no `=`.
pub fn template_variable(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()))))
        }
        _ => Err(format!("`{text}` is not KEY=VALUE, such as enable_thinking=false")),
    }
}

impl TemplateVariables {
    /// The codec whose template has the variables.
    ///
    /// # Errors
    /// If the template does not use one (a usage error).
    pub fn apply(&self, codec: &TextCodec) -> Result<TextCodec, SessionError> {
        if self.0.is_empty() {
            return Ok(codec.clone());
        }
        let variables = self.0.iter().cloned().collect();
        let template = codec.chat_template.clone().with_variables(variables);
        let chat_template = template.map_err(|error| SessionError::usage(format!("--template-arg: {error}")))?;
        Ok(TextCodec { chat_template, ..codec.clone() })
    }

    /// In words, for what must stay the same for a recording to go on; nothing where there are none.
    pub fn description(&self) -> String {
        self.texts().fold(String::new(), |text, (name, value)| text + "; " + &name + " " + &value)
    }

    /// Refuses variables where no template is used.
    ///
    /// # Errors
    /// If there are some (a usage error); `why` says what is used instead.
    pub fn refuse(&self, why: &str) -> Result<(), SessionError> {
        if self.0.is_empty() { Ok(()) } else { Err(SessionError::usage(format!("--template-arg: {why}"))) }
    }

    /// Names and values, for records.
    pub fn texts(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().map(|(name, value)| (format!("template_arg.{name}"), value.to_string()))
    }
}

/// How prompts are written for the model.
#[derive(Clone, Default)]
pub struct Template {
    /// Prompts are texts to be continued: no chat template.
    pub raw: bool,
    /// System message.
    pub system: Option<String>,
    /// Written below each question; `None` for the task's own answer format.
    pub instruction: Option<String>,
    /// Variables of the chat template.
    pub variables: TemplateVariables,
}

/// What runs compare when they go on: variables stand in it only where there are some, as in runs from before there were any.
impl fmt::Debug for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { raw, system, instruction, variables } = self;
        let mut shown = formatter.debug_struct("TemplateArgs");
        shown.field("raw", raw).field("system", system).field("instruction", instruction);
        if !variables.0.is_empty() {
            shown.field("template_args", &variables.texts().collect::<BTreeMap<_, _>>());
        }
        shown.finish()
    }
}

/// A prompt as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// Name, unique among the prompts.
    pub id: String,
    /// The text, as templated.
    pub text: String,
    /// Its tokens.
    pub token_ids: Vec<u32>,
    /// The gold answer, if there is one.
    pub answer: Option<String>,
    /// Key of the item that it was made of.
    pub item: ItemKey,
}

impl EncodedPrompt {
    /// The prompt as the teacher is asked it; `response` (text and tokens) if that is given.
    pub fn to_trace(&self, response: Option<(String, Vec<u32>)>) -> TracePrompt {
        let Self { id, text, token_ids, item, .. } = self.clone();
        TracePrompt { id, item: Some(item), prompt: text, prompt_ids: token_ids, response }
    }
}

impl PromptChoice {
    /// The same arguments with their prompts from `file`.
    #[must_use]
    pub fn with_file(&self, file: &Path) -> Self {
        Self { prompts: Some(file.to_owned()), data: None, prompt: Vec::new(), ..self.clone() }
    }

    /// The part of the data source, `default` if none was asked for.
    fn split(&self, default: Split) -> Split {
        self.split.unwrap_or(default)
    }

    /// Whether the prompts are all that their source has, and no part of it was asked for: then the items on which something
    /// is tuned may be those on which it is evaluated.
    ///
    /// # Errors
    /// If the file is none that prompts are read from (a usage error).
    pub fn may_be_evaluated_on(&self) -> Result<bool, SessionError> {
        Ok(self.split.is_none() && self.source()?.is_some_and(|source| source.has_one_part()))
    }

    /// Where the prompts come from and how they are written, in words: what must stay the same for a recording to go on.
    pub fn description(&self, default: Split) -> String {
        let Self { data, prompts, data_seed, template, .. } = self;
        let split = self.split(default);
        let source = match (data, prompts) {
            (Some(data), _) => format!("{data}, {split:?}, seed {data_seed}"),
            (None, Some(file)) => file.display().to_string(),
            (None, None) => "command line".to_owned(),
        };
        let Template { raw, system, instruction, variables } = template;
        let variables = variables.description();
        format!("{source}; raw {raw}; system {system:?}; instruction {instruction:?}{variables}")
    }

    /// The task, `None` of prompts on the command line.
    fn source(&self) -> Result<Option<Arc<dyn Task>>, SessionError> {
        match (&self.data, &self.prompts) {
            (Some(data), _) => Ok(Some(data.clone())),
            (None, Some(file)) => {
                let message = || format!("--prompts {}: the file must end in .jsonl, .json or .csv", file.display());
                let source = PromptFile::at(file).ok_or_else(|| SessionError::usage(message()))?;
                Ok(Some(Arc::new(source)))
            }
            (None, None) => Ok(None),
        }
    }

    /// What the items are a part of.
    ///
    /// # Errors
    /// If their file cannot be read.
    pub fn item_source(&self, default: Split) -> Result<ItemSource, SessionError> {
        if let Some(source) = self.source()? {
            return item_source(source.as_ref(), self.split(default), self.data_seed);
        }
        let sha256 = Some(sha256_digits(serde_json::to_vec(&self.prompt)?));
        Ok(ItemSource { source: "command line".to_owned(), split: "all".to_owned(), seed: self.data_seed, sha256 })
    }

    /// Reads the items that the arguments name, of the part `default` if they name none.
    ///
    /// # Errors
    /// If nothing is named (a usage error), or the source cannot be read.
    pub fn items(&self, default: Split) -> Result<Vec<Item>, SessionError> {
        let Some(source) = self.source()? else {
            if self.prompt.is_empty() {
                return Err(SessionError::usage("nothing to do: give --prompt, --data or --prompts"));
            }
            let item = |(index, text): (usize, &String)| Item::new(format!("prompt-{index}"), text);
            return Ok(self.prompt.iter().enumerate().map(item).collect());
        };
        if self.n.is_none() && source.is_endless() {
            return Err(SessionError::usage(format!("{source} has no end: say how many with --n")));
        }
        Ok(source.load(self.n, self.data_seed, self.split(default))?)
    }

    /// The items as tokens.
    ///
    /// # Errors
    /// If the model cannot read one.
    pub fn encode(&self, items: &[Item], codec: &TextCodec) -> Result<Vec<EncodedPrompt>, SessionError> {
        let default = self.data.as_ref().and_then(|task| task.instruction());
        items.iter().map(|item| self.template.encode(item, default, codec)).collect()
    }
}

/// The part of a task that items chosen by `seed` are of.
///
/// # Errors
/// If their file cannot be read.
pub fn item_source(task: &dyn Task, split: Split, seed: u64) -> Result<ItemSource, SessionError> {
    let sha256 = content_digest(task, split)?;
    Ok(ItemSource { source: task.name(), split: task.part(split).to_owned(), seed, sha256 })
}

/// SHA-256 of the file that the items of a split are read from, `None` of a generator.
///
/// # Errors
/// If it cannot be read.
pub fn content_digest(task: &dyn Task, split: Split) -> Result<Option<String>, SessionError> {
    Ok(task.file(split)?.map(|file| sha256_digits_of_file(&file)).transpose()?)
}

impl Template {
    /// An item as tokens. `default_instruction` is written below its question, unless another one was given.
    ///
    /// # Errors
    /// If the model has no chat template, refuses the conversation, or cannot encode the text.
    pub fn encode(
        &self,
        item: &Item,
        default_instruction: Option<&str>,
        codec: &TextCodec,
    ) -> Result<EncodedPrompt, SessionError> {
        let instruction = self.instruction.as_deref().or(default_instruction).filter(|text| !text.is_empty());
        let prompt = match item.prompt(instruction) {
            Prompt::Chat(messages) if self.raw => {
                let contents: Vec<String> = messages.into_iter().map(|message| message.content).collect();
                Prompt::Raw(contents.join("\n"))
            }
            prompt => prompt,
        };
        let (text, token_ids) = match prompt {
            Prompt::Raw(text) => {
                self.variables
                    .refuse(&format!("item `{}` is a text that is written without a chat template", item.id))?;
                let token_ids = codec.tokenizer.encode(&text, true)?;
                (text, token_ids)
            }
            Prompt::Chat(mut messages) => {
                if let Some(system) = &self.system
                    && messages.first().is_none_or(|first| first.role != Role::System)
                {
                    messages.insert(0, Message::system(system));
                }
                encode_conversation(&messages, &self.variables.apply(codec)?)?
            }
        };
        let key = ItemKey::of_question(&item.question);
        Ok(EncodedPrompt { id: item.id.clone(), text, token_ids, answer: item.answer.clone(), item: key })
    }
}

/// A conversation as text and tokens, ready for the model's answer.
///
/// # Errors
/// If the model has no chat template, refuses the conversation, or cannot encode the text.
pub fn encode_conversation(messages: &[Message], codec: &TextCodec) -> Result<(String, Vec<u32>), SessionError> {
    if !codec.chat_template.is_some() {
        return Err(SessionError::usage(
            "this model has no chat template: give --raw to have it continue the text as it is, or choose an \
             instruction-tuned model",
        ));
    }
    let text = codec.chat_template.render(messages, true)?;
    let token_ids = codec.tokenizer.encode(&text, false)?;
    Ok((text, token_ids))
}

/// The tokens that end a response: those of the configuration, those of the tokenizer, and the one that the chat template
/// writes after an answer (such as `<|im_end|>`).
pub fn stop_tokens(codec: &TextCodec, from_config: &[u32]) -> Vec<u32> {
    const ANSWER: &str = "aloud-answer";
    let mut stops = from_config.to_vec();
    stops.extend_from_slice(codec.tokenizer.eos_token_ids());
    let conversation = [Message::user("question"), Message::assistant(ANSWER)];
    // A template that refuses such a conversation has nothing to say here.
    if let Ok(text) = codec.chat_template.render(&conversation, false)
        && let Some((_, after)) = text.rsplit_once(ANSWER)
        && let Ok(ids) = codec.tokenizer.encode(after, false)
    {
        stops.extend(ids.into_iter().find(|id| codec.tokenizer.is_special(*id)));
    }
    stops.sort_unstable();
    stops.dedup();
    stops
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn prompts(variables: &[&str]) -> PromptChoice {
        let variables = variables.iter().map(|text| template_variable(text).unwrap()).collect();
        PromptChoice {
            prompt: Vec::new(),
            data: None,
            prompts: Some("a.jsonl".into()),
            n: None,
            split: None,
            data_seed: 0,
            template: Template { variables: TemplateVariables(variables), ..Template::default() },
        }
    }

    #[test]
    fn template_arguments_are_json_or_text_and_recorded() {
        for (text, expected) in [
            ("enable_thinking=false", ("enable_thinking", json!(false))),
            ("date_string=26 Jul 2024", ("date_string", json!("26 Jul 2024"))),
            ("a=b=c", ("a", json!("b=c"))),
            ("tools=[1]", ("tools", json!([1]))),
            ("a=", ("a", json!(""))),
        ] {
            assert_eq!(template_variable(text), Ok((expected.0.to_owned(), expected.1)));
        }
        assert!(template_variable("enable_thinking").is_err() && template_variable("=1").is_err());
        let (without, with) = (prompts(&[]), prompts(&["enable_thinking=false"]));
        // Recordings from before there were variables go on.
        let described = "a.jsonl; raw false; system None; instruction None";
        assert_eq!(without.description(Split::Train), described);
        assert_eq!(with.description(Split::Train), format!("{described}; template_arg.enable_thinking false"));
        assert_eq!(format!("{:?}", without.template), "TemplateArgs { raw: false, system: None, instruction: None }");
        assert!(format!("{:?}", with.template).contains("template_arg.enable_thinking"));
    }
}
