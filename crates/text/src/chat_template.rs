//! Conversations as prompts: a model's own chat template (Jinja), rendered as the reference library renders it.

mod date;
mod error;
mod json;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aloud_tasks::item::Message;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

pub use error::ChatTemplateError;
pub use source::TemplateSource;

/// Steps of the template engine after which a rendering is stopped: so many, so many more a message, and one more for so
/// many bytes of the messages. (A step is an instruction or 64 bytes made. Published templates need less than 200 a
/// message.)
const MAX_STEPS: u64 = 100_000;
const MAX_STEPS_PER_MESSAGE: u64 = 1000;
const BYTES_PER_STEP: usize = 4;
/// Stack of a rendering, in bytes. In [`MAX_STEPS`] a template can nest as many lists, and the engine needs up to 700
/// bytes of stack to write or drop each level. Only what is used is ever backed by memory.
const STACK_BYTES: usize = 256 << 20;
/// Variables that every template is given, and nobody else sets.
const GIVEN: [&str; 4] = ["messages", "add_generation_prompt", "raise_exception", "strftime_now"];
/// Name under which the engine knows the template.
const NAME: &str = "chat_template";

/// Texts of the tokens that templates may write themselves; `None` where the model has no such token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTexts {
    /// `bos_token`: begins a text.
    pub bos: Option<String>,
    /// `eos_token`: ends a text or a turn.
    pub eos: Option<String>,
}

/// How a model's conversations are written as text. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    kind: Kind,
    /// The time that templates see; `None` for the current one.
    unix_seconds: Option<i64>,
    /// The user's own variables.
    variables: Arc<BTreeMap<String, serde_json::Value>>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Rendering is an error.
    None,
    /// The contents alone.
    Plain,
    Jinja(Arc<Jinja>),
}

#[derive(Debug)]
struct Jinja {
    environment: Environment<'static>,
    source: TemplateSource,
    special: SpecialTexts,
}

impl ChatTemplate {
    /// The template of `source`, for a model whose special tokens have the texts `special`.
    ///
    /// # Errors
    /// [`ChatTemplateError::Syntax`] if it is not Jinja that this program understands.
    pub fn new(source: TemplateSource, special: SpecialTexts) -> Result<Self, ChatTemplateError> {
        let jinja = Jinja::new(source, special)?;
        Ok(Self::of(Kind::Jinja(Arc::new(jinja))))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, unix_seconds: None, variables: Arc::default() }
    }

    /// The same template with variables of the user's own, such as Qwen3's `enable_thinking`, beside those that
    /// [`render`](Self::render) gives.
    ///
    /// # Errors
    /// [`ChatTemplateError::Variable`] if the template does not use a variable, or `render` gives it.
    pub fn with_variables(self, variables: BTreeMap<String, serde_json::Value>) -> Result<Self, ChatTemplateError> {
        let (used, origin) = match &self.kind {
            Kind::None | Kind::Plain => (BTreeSet::new(), "this model".to_owned()),
            Kind::Jinja(jinja) => (jinja.variables(), jinja.source.origin.clone()),
        };
        for name in variables.keys() {
            let problem = if GIVEN.contains(&name.as_str()) {
                "is given by this program".to_owned()
            } else if used.contains(name) {
                continue;
            } else {
                let own: Vec<&str> = used.iter().map(String::as_str).filter(|name| !GIVEN.contains(name)).collect();
                let own = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
                format!("is not used by the template; it uses: {own}")
            };
            return Err(ChatTemplateError::Variable { origin, name: name.clone(), problem });
        }
        Ok(Self { variables: Arc::new(variables), ..self })
    }

    /// The same template at a fixed time (seconds since 1970-01-01 UTC) instead of the current one: some templates write
    /// the date, and with it always write the same conversation as the same text.
    #[must_use]
    pub fn at_time(self, unix_seconds: i64) -> Self {
        Self { unix_seconds: Some(unix_seconds), ..self }
    }

    /// The template of a model that has none: rendering is an error.
    pub fn none() -> Self {
        Self::of(Kind::None)
    }

    /// The contents alone, a newline between one message and the next; roles are left out. For base models, by explicit
    /// choice.
    pub fn plain() -> Self {
        Self::of(Kind::Plain)
    }

    /// Whether [`render`](Self::render) can render anything.
    pub fn is_some(&self) -> bool {
        !matches!(self.kind, Kind::None)
    }

    /// Writes a conversation as one text. With `add_generation_prompt` it ends where the model's answer begins.
    ///
    /// The template sees what the reference library gives it: `messages`, `add_generation_prompt`, `bos_token`,
    /// `eos_token`, `tools` and `documents` (none), `raise_exception`, `strftime_now` and a `tojson` like Python's; and
    /// the variables of [`with_variables`](Self::with_variables).
    ///
    /// # Errors
    /// [`ChatTemplateError::Missing`] without a template; otherwise if the template refuses the conversation, fails on it
    /// or does not end.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, ChatTemplateError> {
        match &self.kind {
            Kind::None => Err(ChatTemplateError::Missing),
            Kind::Plain => {
                let contents: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
                Ok(contents.join("\n"))
            }
            Kind::Jinja(jinja) => {
                let bytes: usize =
                    messages.iter().map(|message| message.role.as_str().len() + message.content.len()).sum();
                let steps = MAX_STEPS + MAX_STEPS_PER_MESSAGE * messages.len() as u64 + (bytes / BYTES_PER_STEP) as u64;
                jinja.render(self.values(&jinja.special, messages, add_generation_prompt), steps)
            }
        }
    }

    /// What a template sees.
    fn values(&self, special: &SpecialTexts, messages: &[Message], add_generation_prompt: bool) -> Value {
        let unix_seconds = self.unix_seconds;
        let strftime_now = move |format: &str| date::format_time(format, unix_seconds.unwrap_or_else(date::now));
        let message =
            |Message { role, content }: &Message| context! { role => role.as_str(), content => content.as_str() };
        let text = |text: &Option<String>| text.as_deref().map_or(Value::UNDEFINED, Value::from);
        let mut all = BTreeMap::from([
            ("messages", messages.iter().map(message).collect()),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("strftime_now", Value::from_function(strftime_now)),
            ("bos_token", text(&special.bos)),
            ("eos_token", text(&special.eos)),
        ]);
        all.extend(self.variables.iter().map(|(name, value)| (name.as_str(), json::from_json(value))));
        Value::from_pairs(all)
    }
}

impl Jinja {
    fn new(source: TemplateSource, special: SpecialTexts) -> Result<Self, ChatTemplateError> {
        let failed = |error: Error| describe(&error, &source.origin, None);
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(failed)?);
        environment.set_debug(false); // its errors would keep the template's variables
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", json::to_json);
        environment.add_function("raise_exception", raise_exception);
        let text = source::without_generation_tags(&source.text);
        environment.template_from_named_str(NAME, &text).map(drop).map_err(failed)?;
        let source = TemplateSource { text, ..source };
        Ok(Self { environment, source, special })
    }

    /// Names that the template looks up before it sets them, functions of the language left out.
    fn variables(&self) -> BTreeSet<String> {
        let template = self.environment.template_from_named_str(NAME, &self.source.text);
        let mut names: BTreeSet<String> =
            template.map(|template| template.undeclared_variables(false).into_iter().collect()).unwrap_or_default();
        for (global, _) in self.environment.globals() {
            names.remove(global);
        }
        names
    }

    /// Renders in at most so many steps, on a thread with a stack of its own, large enough for whatever a template can build
    /// in them.
    fn render(&self, values: Value, steps: u64) -> Result<String, ChatTemplateError> {
        let origin = &self.source.origin;
        let failed =
            |problem: &str| ChatTemplateError::Render { origin: origin.clone(), line: 1, problem: problem.to_owned() };
        let render = || {
            let mut environment = self.environment.clone();
            environment.set_fuel(Some(steps));
            let rendered = environment.render_named_str(NAME, &self.source.text, values);
            rendered.map_err(|error| describe(&error, origin, Some(steps)))
        };
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name(NAME.to_owned())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, render)
                .map_err(|error| failed(&format!("cannot start a thread: {error}")))?
                .join()
                .map_err(|_| failed("the template engine failed"))?
        })
    }
}

/// A refusal by the template's own `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// The function `raise_exception` of chat templates.
fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refusal(message)))
}

/// The engine's error as ours; `steps` limited a rendering, nothing does while a template is read.
fn describe(error: &Error, origin: &str, steps: Option<u64>) -> ChatTemplateError {
    let origin = origin.to_owned();
    let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    for cause in causes {
        if let Some(Refusal(message)) = cause.downcast_ref() {
            return ChatTemplateError::Refused { origin, message: message.clone() };
        }
        if cause.downcast_ref::<Error>().is_some_and(|cause| cause.kind() == ErrorKind::OutOfFuel) {
            return ChatTemplateError::TooLong { origin, steps: steps.unwrap_or(MAX_STEPS) };
        }
    }
    let line = error.line().unwrap_or(1);
    let problem = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match steps {
        None => ChatTemplateError::Syntax { origin, line, problem },
        Some(_) => ChatTemplateError::Render { origin, line, problem },
    }
}
