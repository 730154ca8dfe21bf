//! `aloud chat`: a conversation, every token coloured by its depth as it comes.

use std::io::{self, BufRead, IsTerminal};

use aloud_method::exit_policy::ExitPolicy;
use aloud_model::checkpoint::lineage::ItemKey;
use aloud_report::terminal::{ColourSupport, coloured_token, legend_line};
use aloud_tasks::item::Message;
use aloud_text::text_codec::TextCodec;
use clap::Args;

use crate::arguments::activations::ActivationArgs;
use crate::arguments::generation::GenerationArgs;
use crate::arguments::model::ModelArgs;
use crate::arguments::prompts::TemplateVariableArgs;
use crate::context::{Context, print};
use aloud_session::error::{SessionError, one_line};
use aloud_session::generation::{GenerationSettings, Happening, generate, record, summary_line};
use aloud_session::host::Host;
use aloud_session::loaded_model::LoadedModel;
use aloud_session::prompts::{EncodedPrompt, encode_conversation};

const HELP: &str = "/reset forgets the conversation, /exits on|off, /offset X (positive: earlier exits; or think=X,answer=Y), \
                    /quit";

#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// System message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    variables: TemplateVariableArgs,
    #[command(flatten)]
    generation: GenerationArgs,
    #[command(flatten)]
    activations: ActivationArgs,
}

pub(crate) fn run(arguments: &ChatArgs, context: &Context) -> anyhow::Result<()> {
    let cpu = context.cpu();
    let model = arguments.model.choice().load(&cpu, arguments.activations.of_answers(), context)?;
    let codec = model.text_codec()?;
    if !codec.chat_template.is_some() {
        return Err(SessionError::usage("this model has no chat template: choose an instruction-tuned model").into());
    }
    let codec = arguments.variables.choice().apply(&codec)?;
    let settings = arguments.generation.resolve(&model, &codec)?;
    let system = arguments.system.as_deref().map(Message::system);
    let mut chat = Chat {
        model: &model,
        codec: &codec,
        context,
        arguments: &arguments.generation,
        settings,
        messages: Vec::new(),
        system,
        turns: 0,
    };
    chat.messages.extend(chat.system.clone());
    let is_interactive = io::stdin().is_terminal();
    if is_interactive {
        context.say(HELP);
        if context.colours != ColourSupport::None {
            context.say(&legend_line(&chat.settings.candidates, model.n_blocks(), context.colours));
        }
    }
    let mut lines = io::stdin().lock().lines();
    loop {
        if is_interactive {
            print("\n> ")?;
        }
        let Some(line) = lines.next().transpose()? else { return Ok(()) };
        match line.trim() {
            "" => {}
            "/quit" => return Ok(()),
            command if command.starts_with('/') => chat.command(command),
            text => chat.turn(text)?,
        }
    }
}

/// The state of a conversation.
struct Chat<'a> {
    model: &'a LoadedModel,
    codec: &'a TextCodec,
    context: &'a Context,
    arguments: &'a GenerationArgs,
    settings: GenerationSettings,
    messages: Vec<Message>,
    system: Option<Message>,
    turns: u64,
}

impl Chat<'_> {
    /// Does what a line that begins with `/` says; what is wrong with it is said, and the conversation goes on.
    fn command(&mut self, line: &str) {
        let has_heads = self.model.policy.is_some();
        let words: Vec<&str> = line.split_whitespace().collect();
        let exits = match words.as_slice() {
            ["/reset"] => {
                self.messages = self.system.iter().cloned().collect();
                return eprintln!("the conversation is forgotten");
            }
            ["/exits", "off"] => ExitPolicy::Off,
            ["/exits", "on"] | ["/offset", _] if !has_heads => {
                return eprintln!("this model has no exit heads: start with a --checkpoint");
            }
            ["/exits", "on"] => self.model.recommended_exits(),
            ["/offset", text] => {
                let offset = text.parse().map_err(|problem: String| SessionError::usage(problem));
                match offset.and_then(|offset| self.arguments.exits.choice().offset(offset, self.codec)) {
                    Ok(offset) => ExitPolicy::Sampled { offset },
                    Err(error) => return eprintln!("/offset {text}: {error}"),
                }
            }
            _ => return eprintln!("{HELP}"),
        };
        self.settings.exits = exits;
        match &self.settings.exits {
            ExitPolicy::Sampled { offset } => eprintln!("exits on, offset {offset}"),
            _ => eprintln!("exits off"),
        }
    }

    /// One message and its answer. A message that cannot be answered is said why, and dropped.
    fn turn(&mut self, text: &str) -> anyhow::Result<()> {
        self.messages.push(Message::user(text));
        match self.answer() {
            Ok(answer) => self.messages.push(Message::assistant(answer)),
            Err(error) if error.is::<io::Error>() => return Err(error),
            Err(error) => {
                self.messages.pop();
                eprintln!(
                    "error: {}; the message is dropped (/reset forgets the conversation)",
                    one_line(error.as_ref())
                );
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let (text, token_ids) = encode_conversation(&self.messages, self.codec)?;
        let item = ItemKey::of_question(&text);
        let prompt = EncodedPrompt { id: "chat".to_owned(), text, token_ids, answer: None, item };
        let mut answer = None;
        let (n_blocks, colours) = (self.model.n_blocks(), self.context.colours);
        let prompts = std::slice::from_ref(&prompt);
        let timing = generate(self.model, self.codec, prompts, &self.settings, 1, &mut |happening| {
            match happening {
                Happening::Text(piece) => print(&coloured_token(&piece.text, piece.depth, n_blocks, colours))?,
                Happening::Token => {}
                Happening::Finished { response, .. } => answer = Some(response),
            }
            Ok(())
        })?;
        print("\n")?;
        // The same question asked again is answered anew.
        self.turns += 1;
        self.settings.seed = self.settings.seed.wrapping_add(1);
        let Some(response) = answer else { return Ok(String::new()) };
        let record = record(self.model, self.codec, &self.settings, 0, &prompt, response);
        self.context.say(&summary_line(std::slice::from_ref(&record), &timing));
        Ok(record.response)
    }
}
