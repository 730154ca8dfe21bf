//! `aloud data tom`: theory-of-mind stories.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aloud_base::durable_file;
use aloud_stories::dataset::{StoryFile, StoryFormat};
use aloud_stories::family::Family;
use aloud_stories::generator::{Asymmetry, StoryGenerator, StorySettings};
use aloud_stories::part::Part;
use aloud_stories::story::Story;
use aloud_stories::text_model::TextModel as _;
use aloud_tasks::error::TasksError;
use clap::{Args, ValueEnum};

use super::story_models::StoryModelArgs;
use crate::arguments::endpoint::ChatTextModel;
use crate::arguments::{Choice, one_of};
use crate::context::{Context, print};
use aloud_session::error::SessionError;
use aloud_session::host::Host;

/// Stories with an own structure fail to appear: so many duplicates in a row end the work.
const MAX_DUPLICATES: u64 = 10_000;

/// A model whose prose is rejected for so many stories in a row will not do.
const MAX_REJECTED: u64 = 20;

/// Part of the stories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PartArg {
    /// All three parts in one file, eight, one and one of ten; every row says which
    All,
    /// For training
    Train,
    /// For the choice of settings and checkpoints
    Validation,
    /// Held out
    Test,
}

/// Whether somebody peeks or is distracted.
const ASYMMETRIES: [Choice<Asymmetry>; 3] = [
    ("mixed", "In half of the stories", Asymmetry::Mixed),
    ("never", "In none", Asymmetry::Never),
    ("always", "In all", Asymmetry::Always),
];

#[derive(Args, Debug)]
pub(super) struct StoryArgs {
    /// Number of stories
    #[arg(long, value_name = "N")]
    n: u64,
    /// Which part of the stories; parts share no structure and no setting
    #[arg(long, value_enum, default_value = "all")]
    split: PartArg,
    /// The same seed gives the same stories
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// File to write (.jsonl or .csv), with a data card beside it; `-` for JSON Lines on stdout. An interrupted file goes on
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    /// Tell each story with its questions and, step by step, why each answer is right, instead of writing rows
    #[arg(long)]
    explain: bool,
    /// Families of stories, such as relocate,topic-private [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    families: Vec<Family>,
    /// Whether somebody secretly sees something or misses it
    #[arg(long, value_parser = one_of(&ASYMMETRIES), default_value = "mixed")]
    asymmetry: Asymmetry,
    /// Number of people: 3 or 2..4
    #[arg(long, value_name = "RANGE", default_value = "2..4", value_parser = range)]
    people: RangeInclusive<usize>,
    /// Number of moves that change something: 3 or 2..4
    #[arg(long, value_name = "RANGE", default_value = "2..4", value_parser = range)]
    moves: RangeInclusive<usize>,
    /// Number of rooms [default: what the family needs]
    #[arg(long, value_name = "N")]
    rooms: Option<usize>,
    /// Longest chain of people in a question: 2 asks what one thinks that another believes
    #[arg(long, value_name = "N", default_value_t = 2)]
    order: usize,
    /// Most questions about one story
    #[arg(long, value_name = "N", default_value_t = 6)]
    questions: usize,
    /// Ask for no place that somebody cannot know
    #[arg(long)]
    no_unknown: bool,
    /// Search for stories on which readers with simple shortcuts fail; slower
    #[arg(long)]
    search: bool,
    /// A setting of your own (TOML): rooms, containers, objects, news
    #[arg(long, value_name = "FILE")]
    words: Option<PathBuf>,
    #[command(flatten)]
    models: StoryModelArgs,
}

impl StoryArgs {
    fn settings(&self) -> StorySettings {
        StorySettings {
            families: if self.families.is_empty() { Family::ALL.to_vec() } else { self.families.clone() },
            asymmetry: self.asymmetry,
            people: self.people.clone(),
            moves: self.moves.clone(),
            rooms: self.rooms,
            max_order: self.order,
            asks_unknown: !self.no_unknown,
            questions: self.questions,
            search: self.search,
            words: self.words.clone(),
        }
    }

    fn part(&self) -> Option<Part> {
        match self.split {
            PartArg::All => None,
            PartArg::Train => Some(Part::Train),
            PartArg::Validation => Some(Part::Validation),
            PartArg::Test => Some(Part::Test),
        }
    }

    /// Everything that the stories of a file depend on.
    fn description(&self) -> anyhow::Result<String> {
        let words = self.words.as_deref().map(std::fs::read_to_string).transpose()?;
        let version = env!("CARGO_PKG_VERSION");
        Ok(format!(
            "aloud {version}: n {}, seed {}, {:?}, {:?}, {}\n{}",
            self.n,
            self.seed,
            self.split,
            self.settings(),
            self.models.description(),
            words.unwrap_or_default()
        ))
    }
}

/// `3` or `2..4`, both ends included.
fn range(text: &str) -> Result<RangeInclusive<usize>, String> {
    let number = |text: &str| text.parse::<usize>().map_err(|_| "expected a number or a range such as 2..4".to_owned());
    match text.split_once("..") {
        Some((low, high)) => Ok(number(low)?..=number(high.trim_start_matches('='))?),
        None => number(text).map(|number| number..=number),
    }
}

pub(super) fn run(arguments: &StoryArgs, context: &Context) -> anyhow::Result<()> {
    let usage = |error| match error {
        error @ TasksError::StorySetting { .. } => SessionError::usage(error.to_string()).into(),
        error => anyhow::Error::from(error),
    };
    let mut generator = StoryGenerator::new(arguments.settings(), arguments.seed).map_err(usage)?;
    let models = arguments.models.open(&arguments.out)?;
    if let Some(reader) = &models.reader {
        generator = generator.with_reader(reader.clone(), arguments.models.search_order()).map_err(usage)?;
    }
    let part = arguments.part();
    let mut maker = StoryMaker { generator, part, writer: models.writer.clone(), n_rejected: 0 };
    if arguments.explain {
        explain(arguments, &mut maker)?;
    } else if arguments.out == Path::new("-") {
        maker.each(arguments.n, &mut |story| {
            for row in story.rows() {
                print(&String::from_utf8_lossy(&StoryFormat::Jsonl.row(&row)?))?;
            }
            Ok(())
        })?;
    } else {
        write(arguments, &mut maker, context)?;
    }
    for model in [&models.reader, &models.writer].into_iter().flatten() {
        context.say(&model.summary());
    }
    Ok(())
}

/// Makes stories, and has them told in prose if that is asked for.
struct StoryMaker {
    generator: StoryGenerator,
    part: Option<Part>,
    writer: Option<Arc<ChatTextModel>>,
    /// Stories in a row whose prose was rejected.
    n_rejected: u64,
}

impl StoryMaker {
    fn story(&self, index: u64) -> Result<Story, TasksError> {
        self.generator.story(index, self.part)
    }

    /// The story with its prose; `None` if no prose for it passes.
    fn told(&mut self, story: Story) -> anyhow::Result<Option<Story>> {
        let Some(writer) = &self.writer else { return Ok(Some(story)) };
        match story.infilled(writer.as_ref(), self.n_rejected)? {
            Ok(story) => {
                self.n_rejected = 0;
                Ok(Some(story))
            }
            Err(rejection) => {
                self.n_rejected += 1;
                if self.n_rejected >= MAX_REJECTED {
                    anyhow::bail!(
                        "no prose of `{}` for {} stories in a row passed; the last passage was `{}`, its last rewrite {}: \
                         choose another model",
                        writer.name(),
                        self.n_rejected,
                        rejection.passage,
                        rejection.reason
                    );
                }
                Ok(None)
            }
        }
    }

    /// Gives `n` stories to `take`, in their order.
    fn each(&mut self, n: u64, take: &mut dyn FnMut(Story) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let (mut index, mut n_taken) = (0, 0);
        while n_taken < n {
            if let Some(story) = self.told(self.story(index)?)? {
                take(story)?;
                n_taken += 1;
            }
            index += 1;
        }
        Ok(())
    }
}

/// Tells the stories, to stdout or into a file.
fn explain(arguments: &StoryArgs, maker: &mut StoryMaker) -> anyhow::Result<()> {
    let is_file = arguments.out != Path::new("-");
    let mut told = Vec::new();
    maker.each(arguments.n, &mut |story| {
        let story = story.explained();
        if is_file {
            told.push(story);
        } else {
            print(&format!("{story}\n"))?;
        }
        Ok(())
    })?;
    if is_file {
        durable_file::write(&arguments.out, told.join("\n").as_bytes())?;
    }
    Ok(())
}

/// Writes the file and its card.
fn write(arguments: &StoryArgs, maker: &mut StoryMaker, context: &Context) -> anyhow::Result<()> {
    let mut file = StoryFile::open(&arguments.out, &arguments.description()?)?;
    if file.n_stories() > 0 {
        context.say(&format!("going on after {} stories", file.n_stories()));
    }
    if let Err(error) = fill(&mut file, arguments, maker, context) {
        let n_kept = file.n_stories();
        // What is finished is written out as the file is closed.
        drop(file);
        let kept = format!(
            "{n_kept} finished stories are kept in {}.partial, and the same command goes on from there",
            arguments.out.display()
        );
        return Err(if n_kept > 0 { error.context(kept) } else { error });
    }
    let card = file.finish()?;
    let card_path = arguments.out.with_extension("card.md");
    durable_file::write(&card_path, card.to_string().as_bytes())?;
    let (stories, questions) = (card.n_stories(), card.n_questions());
    context.say(&format!(
        "{stories} stories with {questions} questions in {}, described in {}",
        arguments.out.display(),
        card_path.display()
    ));
    Ok(())
}

/// Writes stories until there are as many as asked for.
fn fill(file: &mut StoryFile, arguments: &StoryArgs, maker: &mut StoryMaker, context: &Context) -> anyhow::Result<()> {
    let mut progress = context.progress("making", "stories", Some(arguments.n));
    let mut n_duplicates = 0;
    while file.n_stories() < arguments.n {
        let story = maker.story(file.next_index())?;
        let index = story.index();
        if file.has(&story) {
            file.leave_out(index);
            n_duplicates += 1;
            if n_duplicates > MAX_DUPLICATES {
                let advice = "allow more families, people or moves, or ask for fewer stories";
                anyhow::bail!("there are no more stories of another structure after {}: {advice}", file.n_stories());
            }
            continue;
        }
        n_duplicates = 0;
        match maker.told(story)? {
            Some(story) => {
                file.write(&story)?;
            }
            None => file.leave_out(index),
        }
        progress.set(file.n_stories());
    }
    Ok(())
}
