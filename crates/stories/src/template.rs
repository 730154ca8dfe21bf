//! The small template language of the stories: `{slot}` is filled in, and what stands in `[...]` is left out where only
//! the main clause is wanted.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// What a sentence tells. Each has several interchangeable templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pattern {
    PlacePerson,
    PlaceThing,
    Enter,
    EnterFrom,
    Leave,
    Put,
    CarryOpen,
    CarryFrom,
    SetState,
    TellTopic,
    AnnounceTopic,
    TellBox,
    AnnounceBox,
    TellRoom,
    AnnounceRoom,
    PeekSight,
    PeekSpeech,
    Distraction,
}

/// The templates of each pattern.
pub(crate) static TEMPLATES: LazyLock<BTreeMap<Pattern, Vec<String>>> =
    // A test reads stories back by them.
    LazyLock::new(|| toml::from_str(include_str!("templates.toml")).unwrap_or_default());

impl Pattern {
    pub(crate) fn templates(self) -> &'static [String] {
        TEMPLATES.get(&self).map_or(&[], Vec::as_slice)
    }
}

/// Fills in a template; `slot` gives the text of a slot. With `is_clause`, only the main clause is written, without what
/// stands in brackets and without the final full stop.
pub(crate) fn fill(template: &str, is_clause: bool, slot: impl Fn(&str) -> String) -> String {
    let mut text = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some(at) = rest.find(['{', '[', ']']) {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        let (mark, after) = after.split_at(1);
        rest = match mark {
            "{" => match after.split_once('}') {
                Some((name, next)) => {
                    text.push_str(&slot(name));
                    next
                }
                None => after,
            },
            "[" if is_clause => after.split_once(']').map_or("", |(_, next)| next),
            _ => after,
        };
    }
    text.push_str(rest);
    if is_clause && text.ends_with('.') {
        text.pop();
    }
    text
}
