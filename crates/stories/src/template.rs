//! The small template language of the stories: `{slot}` is filled in, and what stands in `[...]` is left out where only
//! the main clause is wanted.

/// What a sentence tells. Each has several interchangeable templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Pattern {
    /// All patterns, in the order in which a sentence is read.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 18] = [
        Self::PlacePerson,
        Self::PlaceThing,
        Self::EnterFrom,
        Self::Enter,
        Self::Leave,
        Self::CarryFrom,
        Self::CarryOpen,
        Self::Put,
        Self::TellTopic,
        Self::AnnounceTopic,
        Self::TellBox,
        Self::AnnounceBox,
        Self::TellRoom,
        Self::AnnounceRoom,
        Self::PeekSight,
        Self::PeekSpeech,
        Self::Distraction,
        Self::SetState,
    ];

    /// Its templates.
    pub(crate) fn templates(self) -> &'static [&'static str] {
        match self {
            Self::PlacePerson => &["At the outset, {actor} was in the {room}."],
            Self::PlaceThing => &["At the outset, the {thing} was in the {room}."],
            Self::Enter => &[
                "{actor} came into the {room}.",
                "{actor} walked into the {room}.",
                "{actor} stepped into the {room}.",
            ],
            Self::EnterFrom => &[
                "{actor} left the {origin} and went straight into the {room}.",
                "{actor} walked out of the {origin} and directly into the {room}.",
            ],
            Self::Leave => {
                &["{actor} left the {room}.", "{actor} walked out of the {room}.", "{actor} went out of the {room}."]
            }
            Self::Put => &[
                "{actor} put the {object} into the {container}[ in the {room}].",
                "{actor} placed the {object} in the {container}[, which stands in the {room}].",
                "{actor} moved the {object} into the {container}[, which stands in the {room}].",
            ],
            Self::CarryOpen => &[
                "{actor} picked up the {object} and carried it[ from the {origin}] to the {room}.",
                "{actor} took the {object} along[ from the {origin}] to the {room}.",
            ],
            // Where the object was is what may be asked for.
            Self::CarryFrom => &[
                "{actor} took the {object}[ out of the {container}] and carried it[ from the {origin}] to the {room}.",
                "{actor} removed the {object}[ from the {container}] and went[ from the {origin}] to the {room} with it.",
            ],
            Self::SetState => &["{actor} {does}[ in the {room}].", "[In the {room}, ]{actor} {does}."],
            Self::TellTopic => &[
                "{actor} told {listener}, and nobody else, about {topic}.",
                "In a private message, {actor} told {listener} about {topic}.",
            ],
            Self::AnnounceTopic => &[
                "{actor} told everyone in the {room} about {topic}.",
                "{actor} brought up {topic} in front of everyone in the {room}.",
            ],
            Self::TellBox => &[
                "{actor} told {listener}, and nobody else, that the {object} was in the {container}.",
                "In a private message, {actor} let {listener} know that the {object} was in the {container}.",
            ],
            Self::AnnounceBox => &[
                "{actor} told everyone in the {room} that the {object} was in the {container}.",
                "In front of everyone in the {room}, {actor} said that the {object} was in the {container}.",
            ],
            Self::TellRoom => &[
                "{actor} told {listener}, and nobody else, that {entity} was in the {place}.",
                "In a private message, {actor} let {listener} know that {entity} was in the {place}.",
            ],
            Self::AnnounceRoom => &[
                "{actor} told everyone in the {room} that {entity} was in the {place}.",
                "In front of everyone in the {room}, {actor} said that {entity} was in the {place}.",
            ],
            Self::PeekSight => &[
                "{others} secretly watched this one thing happen, and nobody noticed {others}.",
                "Unnoticed by everyone, {others} secretly saw just this happen.",
            ],
            Self::PeekSpeech => &[
                "{others} secretly overheard these words and nothing else, and nobody noticed {others}.",
                "Unnoticed by everyone, {others} secretly overheard just these words.",
            ],
            Self::Distraction => &[
                "{others} {was} distracted for just that moment and missed it completely; nobody noticed that.",
                "Nobody noticed that {others} {was} distracted for just that moment and missed it completely.",
            ],
        }
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
