//! The settings of stories, shipped with the program or from a user's own file, each checked by the rules that keep names from
//! being confused with each other.

use std::path::Path;
use std::sync::OnceLock;

use super::lint;
use super::part::Part;
use super::words::Setting;
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

impl Setting {
    /// The settings of the program.
    pub(crate) fn shipped() -> &'static [Self] {
        static SETTINGS: OnceLock<Vec<Setting>> = OnceLock::new();
        // A test shows that all of them can be read.
        SETTINGS
            .get_or_init(|| SHIPPED.iter().filter_map(|(name, text)| Self::parse(Path::new(name), text).ok()).collect())
    }

    /// The settings of a part of the data: no vocabulary is shared.
    pub(crate) fn of_part(part: Part) -> &'static [Self] {
        let range = match part {
            Part::Train => 0..8,
            Part::Validation => 8..11,
            Part::Test => 11..14,
        };
        &Self::shipped()[range]
    }

    /// Reads a setting of the user's own.
    ///
    /// # Errors
    /// If the file cannot be read, or holds what a setting may not hold; the error names the line.
    pub(crate) fn read(path: &Path) -> Result<Self, TasksError> {
        let text = std::fs::read_to_string(path).map_err(TasksError::read(path))?;
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
        lint::check(&setting).map_err(|fault| TasksError::line(path, line(fault.at), fault.reason))?;
        Ok(setting)
    }
}
