//! The words of stories: settings with their rooms, containers, objects and news, shipped with the program or from a user's
//! own file, and the rules that keep names from being confused with each other.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;
use toml::Spanned;

use super::lint;
use super::names::NAMES;
use aloud_tasks::error::TasksError;

/// The settings of the program, those of the training part first.
const SHIPPED: [(&str, &str); 14] = [
    ("bakery", include_str!("settings/bakery.toml")),
    ("garage", include_str!("settings/garage.toml")),
    ("museum", include_str!("settings/museum.toml")),
    ("school", include_str!("settings/school.toml")),
    ("farm", include_str!("settings/farm.toml")),
    ("ship", include_str!("settings/ship.toml")),
    ("playhouse", include_str!("settings/playhouse.toml")),
    ("clinic", include_str!("settings/clinic.toml")),
    ("hotel", include_str!("settings/hotel.toml")),
    ("radio station", include_str!("settings/radio_station.toml")),
    ("laboratory", include_str!("settings/laboratory.toml")),
    ("lighthouse", include_str!("settings/lighthouse.toml")),
    ("library", include_str!("settings/library.toml")),
    ("mountain hut", include_str!("settings/mountain_hut.toml")),
];

/// Which of the settings tell stories of the training, validation and test part: no vocabulary is shared.
const TRAIN: Range<usize> = 0..8;
const VALIDATION: Range<usize> = 8..11;
const TEST: Range<usize> = 11..14;

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
    /// The settings of the program.
    pub(crate) fn shipped() -> &'static [Self] {
        static SETTINGS: OnceLock<Vec<Setting>> = OnceLock::new();
        // A test shows that all of them can be read.
        SETTINGS
            .get_or_init(|| SHIPPED.iter().filter_map(|(name, text)| Self::parse(Path::new(name), text).ok()).collect())
    }

    /// The settings of a part of the data.
    pub(crate) fn of_part(part: super::part::Part) -> &'static [Self] {
        let range = match part {
            super::part::Part::Train => TRAIN,
            super::part::Part::Validation => VALIDATION,
            super::part::Part::Test => TEST,
        };
        Self::shipped().get(range).unwrap_or_default()
    }

    /// Reads a setting of the user's own.
    ///
    /// # Errors
    /// If the file cannot be read, or holds what a setting may not hold; the error names the line.
    pub(crate) fn read(path: &Path) -> Result<Self, TasksError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| TasksError::Read { path: path.to_path_buf(), source })?;
        Self::parse(path, &text)
    }

    /// Reads a setting from the text of the file `path`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, TasksError> {
        let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count() as u64;
        let setting: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            TasksError::line(path, line(at), error.message())
        })?;
        match lint::fault(&setting) {
            Some(fault) => Err(TasksError::line(path, line(fault.at), fault.reason)),
            None => Ok(setting),
        }
    }

    /// The names of the people of its stories.
    pub(crate) fn people(&self) -> Vec<&str> {
        if self.people.is_empty() {
            return NAMES.to_vec();
        }
        self.people.iter().map(|name| name.get_ref().as_str()).collect()
    }
}
