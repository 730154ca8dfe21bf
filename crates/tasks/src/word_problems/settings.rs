//! The settings in which word problems play: what there is at first, what may happen, what is asked. Each is a TOML file.
//!
//! A story keeps one running value. It starts with the opening at stage 0 (say, cookies); every event changes the value and
//! may lead to another stage (boxes of cookies, then dollars); the question asks for the value at the last stage. An event
//! happens at most once in a story and has one step or two, so that events can be chosen for any number of steps.

use std::sync::LazyLock;

use serde::Deserialize;

use super::arithmetic::Step;

/// The files. Problems of a seed depend on their order.
const FILES: [&str; 29] = [
    include_str!("settings/baking.toml"),
    include_str!("settings/collection.toml"),
    include_str!("settings/savings.toml"),
    include_str!("settings/reading.toml"),
    include_str!("settings/flour.toml"),
    include_str!("settings/bricks.toml"),
    include_str!("settings/beads.toml"),
    include_str!("settings/photos.toml"),
    include_str!("settings/hens.toml"),
    include_str!("settings/orchard.toml"),
    include_str!("settings/garden.toml"),
    include_str!("settings/fishing.toml"),
    include_str!("settings/training.toml"),
    include_str!("settings/cycling.toml"),
    include_str!("settings/water.toml"),
    include_str!("settings/seashells.toml"),
    include_str!("settings/bus.toml"),
    include_str!("settings/library.toml"),
    include_str!("settings/school.toml"),
    include_str!("settings/theatre.toml"),
    include_str!("settings/parking.toml"),
    include_str!("settings/fair.toml"),
    include_str!("settings/museum.toml"),
    include_str!("settings/factory.toml"),
    include_str!("settings/post.toml"),
    include_str!("settings/cloth.toml"),
    include_str!("settings/tiles.toml"),
    include_str!("settings/stall.toml"),
    include_str!("settings/wages.toml"),
];

/// A noun in singular and plural.
pub(super) type Noun = (String, String);

/// A setting for stories. Its sentences are templates of [`super::writing`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    /// Things the story may be about; one is drawn.
    pub(super) objects: Vec<Noun>,
    /// Smallest and largest first value, in multiples of `multiple_of`.
    pub(super) start: (i64, i64),
    /// The first value is a multiple of this.
    pub(super) multiple_of: i64,
    /// First sentences; one is drawn.
    pub(super) openings: Vec<String>,
    /// The question at each stage.
    pub(super) questions: Vec<String>,
    /// What may happen.
    pub(super) events: Vec<Event>,
}

/// Something that changes the running value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    /// The stage at which it may happen.
    pub(super) from: usize,
    /// The stage that it leads to; without it the stage stays.
    pub(super) to: Option<usize>,
    /// Range of the number `k`.
    pub(super) k: (i64, i64),
    /// Range of the number `j`.
    #[serde(default = "one")]
    pub(super) j: (i64, i64),
    /// The operations, one or two; the last result is the new running value.
    pub(super) steps: Vec<Step>,
    /// The sentence of the question.
    pub(super) text: String,
    /// The sentences of the solution, one a step.
    pub(super) work: Vec<String>,
}

fn one() -> (i64, i64) {
    (1, 1)
}

/// All settings.
pub(super) fn settings() -> &'static [Setting] {
    // A test shows that all files can be read.
    static SETTINGS: LazyLock<Vec<Setting>> =
        LazyLock::new(|| FILES.iter().filter_map(|text| toml::from_str(text).ok()).collect());
    &SETTINGS
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::Variable;
    use super::*;

    #[test]
    fn every_file_is_a_setting() {
        for text in FILES {
            let setting: Setting = toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert!(!setting.objects.is_empty(), "{text}");
            assert!(setting.start.0 >= 1 && setting.start.0 <= setting.start.1 && setting.multiple_of >= 1, "{text}");
            assert!(!setting.openings.is_empty(), "{text}");
            for event in &setting.events {
                let told = &event.text;
                let last = event.to.unwrap_or(event.from);
                assert!(event.from <= last && last < setting.questions.len(), "a stage without a question: {told}");
                assert!((1..=2).contains(&event.steps.len()), "one step or two: {told}");
                assert_eq!(event.work.len(), event.steps.len(), "one sentence a step: {told}");
                let Step(left, _, right) = event.steps[0];
                assert!(left != Variable::S && right != Variable::S, "`s` is the result of the first step: {told}");
                assert!([event.k, event.j].iter().all(|(low, high)| 1 <= *low && low <= high), "{told}");
            }
        }
        assert_eq!(settings().len(), FILES.len());
    }
}
