//! Search against a language model and prose by one, with models that are scripts.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::family::Family;
use crate::generator::{StoryGenerator, StorySettings};
use crate::part::Part;
use crate::story::{Prose, Story};
use crate::text_model::{Asking, TextModel};
use aloud_tasks::error::TasksError;

type Reply = dyn Fn(&Asking) -> Result<String, String> + Send + Sync;

/// A model that is a function of what it is asked.
struct Script {
    reply: Box<Reply>,
    seen: Mutex<Vec<Asking>>,
}

impl Script {
    fn new(reply: impl Fn(&Asking) -> Result<String, String> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { reply: Box::new(reply), seen: Mutex::default() })
    }

    fn seen(&self) -> Vec<Asking> {
        self.seen.lock().unwrap().clone()
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl TextModel for Script {
    fn name(&self) -> &'static str {
        "script"
    }

    fn replies(&self, asked: &[Asking]) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
        self.seen.lock().unwrap().extend(asked.iter().cloned());
        asked.iter().map(|asking| (self.reply)(asking).map_err(Into::into)).collect()
    }
}

fn generator() -> StoryGenerator {
    let settings = StorySettings { families: vec![Family::Relocate, Family::TopicPublic], ..StorySettings::default() };
    StoryGenerator::new(settings, 3).unwrap()
}

#[test]
fn a_model_that_is_always_wrong_gets_its_stories_and_their_text() {
    let model = Script::new(|_| Ok("?".to_owned()));
    let searching = generator().with_reader(model.clone(), 1).unwrap();
    for index in 0..4 {
        let story = searching.story(index, Some(Part::Train)).unwrap();
        let row = story.rows().remove(0);
        assert_eq!((row.g, row.target_name.as_str()), (0.0, "script"));
        // The last that it was asked is the story as it is written, asked once more.
        let last = model.seen().pop().unwrap();
        assert!(last.text.contains(&row.story_text) && last.repeat == 1, "{} {}", last.text, row.story_text);
    }
    let seen = model.seen();
    assert!(seen.iter().all(|asking| asking.temperature == 0.0 && asking.max_tokens == 40));
    // Questions of order 1 only, each for its own.
    assert!(seen.iter().all(|asking| !asking.text.contains(" think that ") && !asking.text.contains("What does ")));
    // At most 50 stories a search, and one more look at the one that was found.
    let text = |asking: &Asking| asking.text.split("\n\nQuestion: ").next().unwrap().to_owned();
    let stories: std::collections::BTreeSet<String> = seen.iter().map(text).collect();
    assert!(stories.len() <= 4 * 10 * 50, "{}", stories.len());
}

#[test]
fn a_right_answer_the_second_time_is_no_hard_story() {
    // Wrong when it is asked first, and right when it is asked again: by chance, as it were.
    let everything = "yes no unknown";
    let model = Script::new(move |asking| Ok(if asking.repeat == 0 { "?" } else { everything }.to_owned()));
    let settings = StorySettings { families: vec![Family::TopicPublic], ..StorySettings::default() };
    let searching = StoryGenerator::new(settings, 3).unwrap().with_reader(model, 1).unwrap();
    let row = searching.story(0, Some(Part::Train)).unwrap().rows().remove(0);
    assert_eq!(row.g, 1.0);
}

#[test]
fn a_model_that_fails_ends_the_search_with_its_name() {
    let model = Script::new(|_| Err("out of order".to_owned()));
    let error = generator().with_reader(model, 1).unwrap().story(0, None).unwrap_err();
    assert!(matches!(error, TasksError::Model { .. }));
    assert_eq!(error.to_string(), "the model `script`: out of order");
    let error = generator().with_reader(Script::new(|_| Ok(String::new())), 3).unwrap_err().to_string();
    assert!(error.contains("order 1 or 2, found 3"), "{error}");
}

/// The script of the passage that is asked for.
fn script_of(asking: &Asking) -> &str {
    let after = asking.text.split("The next passage as a script:\n").nth(1).unwrap();
    after.split("\n\nWrite this passage").next().unwrap()
}

fn story(index: u64) -> Story {
    StoryGenerator::new(StorySettings::default(), 8).unwrap().story(index, None).unwrap()
}

#[test]
fn a_model_that_repeats_the_script_passes_every_check() {
    let model = Script::new(|asking| Ok(format!("<think>as it is</think>\n{}\n", script_of(asking))));
    for index in 0..60 {
        let bare = story(index).rows().remove(0);
        let told = story(index).infilled(model.as_ref(), 2).unwrap().unwrap();
        let row = told.rows().remove(0);
        let (text, model) = (bare.story_text.clone(), "script".to_owned());
        assert_eq!(row.prose, Some(Prose { text, model, n_rejected_rewrites: 0, n_rejected_stories: 2 }), "{index}");
        assert_eq!((row.story_text, row.question, row.answer), (bare.story_text, bare.question, bare.answer));
        assert_eq!(bare.prose, None);
    }
    assert!(model.seen().iter().any(|asking| script_of(asking).matches(". ").count() > 0), "no passage of two events");
}

#[test]
fn a_passage_without_a_good_rewrite_rejects_the_story_after_five() {
    let model = Script::new(|_| Ok("Somebody did something.".to_owned()));
    let rejection = story(0).infilled(model.as_ref(), 0).unwrap().unwrap_err();
    assert!(story(0).rows()[0].story_text.starts_with(&rejection.passage));
    assert!(rejection.reason.starts_with("`Somebody did something.`: it does not say `"), "{}", rejection.reason);
    let repeats: Vec<u32> = model.seen().iter().map(|asking| asking.repeat).collect();
    assert_eq!(repeats, [0, 1, 2, 3, 4]);
    // A good rewrite at the third try is kept, and the two before it are counted.
    let model = Script::new(|asking| {
        Ok(if asking.repeat < 2 { "Nothing happened.".to_owned() } else { script_of(asking).to_owned() })
    });
    let row = story(0).infilled(model.as_ref(), 0).unwrap().unwrap().rows().remove(0);
    assert_eq!(row.prose.unwrap().n_rejected_rewrites, 2 * (model.seen().len() as u64) / 3);
    let error = story(0).infilled(Script::new(|_| Err("gone".to_owned())).as_ref(), 0).unwrap_err();
    assert_eq!(error.to_string(), "the model `script`: gone");
}

/// Damage to prose is found: every story loses a name, has two people swapped, or gains a word.
#[test]
fn no_damaged_prose_passes() {
    let damages: [fn(&str) -> Option<String>; 5] = [
        |script| script.rsplit_once(' ').map(|(rest, _)| format!("{rest}.")),
        |script| Some(script.replacen(' ', " almost ", 1)),
        |script| Some(format!("{script} Everybody was there.")),
        |script| Some(format!("{script} Zacharias saw it.")),
        |script| Some(script.trim_end_matches('.').to_owned()),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let model = Script::new(move |asking| Ok(damage(script_of(asking)).unwrap_or_default()));
        for index in 0..20 {
            let told = story(index).infilled(model.as_ref(), 0).unwrap();
            assert!(told.is_err(), "damage {number} of story {index}: {:?}", told.map(|story| story.rows().remove(0)));
        }
    }
}
