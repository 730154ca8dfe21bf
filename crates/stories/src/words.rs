//! The words of stories: one setting with its people, rooms, containers, objects and news.

use serde::Deserialize;
use toml::Spanned;

use super::names::NAMES;

/// A word with its place in the file, in bytes.
pub(super) type Word = Spanned<String>;

/// A property that an object can get.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateWords {
    /// Whether whoever sees the object sees it.
    pub(crate) visible: bool,
    /// What somebody did: `cut the pear into slices`.
    pub(crate) does: Word,
    /// How the object is then: `is cut into slices`.
    pub(crate) is: Word,
}

/// An object with its properties.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectWords {
    pub(crate) name: Word,
    #[serde(default)]
    pub(crate) states: Vec<StateWords>,
}

/// Where somebody or something is when a story begins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlacementWords {
    /// One of the people, objects or containers.
    pub(crate) what: Word,
    pub(crate) room: Word,
}

/// The words of one setting.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setting {
    pub(crate) name: Word,
    /// The people; those of the program if there are none.
    #[serde(default)]
    pub(crate) people: Vec<Word>,
    pub(crate) rooms: Vec<Word>,
    pub(crate) containers: Vec<Word>,
    pub(crate) topics: Vec<Word>,
    pub(crate) objects: Vec<ObjectWords>,
    /// Facts that every story of the setting begins with.
    #[serde(default)]
    pub(crate) placements: Vec<PlacementWords>,
}

impl Setting {
    /// The names of the people of its stories.
    pub(crate) fn people(&self) -> Vec<&str> {
        if self.people.is_empty() {
            return NAMES.to_vec();
        }
        self.people.iter().map(|name| name.get_ref().as_str()).collect()
    }
}
