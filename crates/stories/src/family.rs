//! Families of stories: which actions occur in them, and when a story of a family is complete.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::action::{Action, Deed, Message};
use super::world::World;

/// Most sentences of a story.
pub(crate) const MAX_SENTENCES: usize = 15;

/// What kind of action it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MoveKind {
    Place,
    Enter,
    Leave,
    Put,
    Carry,
    SetState,
    TellTopic,
    AnnounceTopic,
    TellBox,
    AnnounceBox,
    TellRoom,
    AnnounceRoom,
}

impl MoveKind {
    pub(crate) fn of(deed: Deed) -> Self {
        match deed {
            Deed::Place(..) => Self::Place,
            Deed::Enter(..) => Self::Enter,
            Deed::Leave(..) => Self::Leave,
            Deed::Put(..) => Self::Put,
            Deed::Carry(..) => Self::Carry,
            Deed::SetState(..) => Self::SetState,
            Deed::Tell(_, _, Message::Topic(_)) => Self::TellTopic,
            Deed::Tell(_, _, Message::BoxOf(..)) => Self::TellBox,
            Deed::Tell(_, _, Message::RoomOf(..)) => Self::TellRoom,
            Deed::Announce(_, Message::Topic(_)) => Self::AnnounceTopic,
            Deed::Announce(_, Message::BoxOf(..)) => Self::AnnounceBox,
            Deed::Announce(_, Message::RoomOf(..)) => Self::AnnounceRoom,
        }
    }

    /// Whether it counts as one of the moves that a story's length is measured by.
    fn is_core(self) -> bool {
        matches!(self, Self::Put | Self::SetState | Self::Carry | Self::TellTopic | Self::AnnounceTopic)
    }
}

/// Which actions a story is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// An object is moved between containers.
    Relocate,
    /// The same, and its properties change.
    #[serde(rename = "relocate+state")]
    RelocateState,
    /// Properties of an object change.
    State,
    /// An object is moved between containers and carried between rooms.
    #[serde(rename = "relocate+carry")]
    RelocateCarry,
    /// News is told from one to another.
    TopicPrivate,
    /// News is told to everybody in the room.
    TopicPublic,
    /// An object is moved between containers, and people tell where it is.
    #[serde(rename = "relocate+telling")]
    RelocateTelling,
    /// Everything but news and properties.
    AllButTopics,
    /// Everything but properties.
    All,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 9] = [
        Self::Relocate,
        Self::RelocateState,
        Self::State,
        Self::RelocateCarry,
        Self::TopicPrivate,
        Self::TopicPublic,
        Self::RelocateTelling,
        Self::AllButTopics,
        Self::All,
    ];

    pub(crate) fn n_rooms(self) -> usize {
        match self {
            Self::RelocateCarry | Self::AllButTopics | Self::All => 2,
            _ => 1,
        }
    }

    /// Fewest people of a story in which minds can differ: openly told news reaches both of two.
    pub(crate) fn min_people(self, is_asymmetric: bool) -> usize {
        match self {
            Self::TopicPrivate | Self::TopicPublic if !is_asymmetric => 3,
            _ => 2,
        }
    }

    /// Actions beside coming and going, and those of them of which one must occur.
    fn kinds(self) -> (&'static [MoveKind], &'static [MoveKind]) {
        use MoveKind::{AnnounceBox, AnnounceRoom, AnnounceTopic, Carry, Put, SetState, TellBox, TellRoom, TellTopic};
        const TELLING: &[MoveKind] = &[TellBox, AnnounceBox, TellRoom, AnnounceRoom];
        match self {
            Self::Relocate => (&[Put], &[Put]),
            Self::RelocateState => (&[Put, SetState], &[Put, SetState]),
            Self::State => (&[SetState], &[SetState]),
            Self::RelocateCarry => (&[Put, Carry], &[Carry]),
            Self::TopicPrivate => (&[TellTopic], &[TellTopic]),
            Self::TopicPublic => (&[AnnounceTopic], &[AnnounceTopic]),
            Self::RelocateTelling => (&[Put, TellBox, AnnounceBox], &[TellBox, AnnounceBox]),
            Self::AllButTopics => (&[Put, Carry, TellBox, AnnounceBox, TellRoom, AnnounceRoom], TELLING),
            Self::All => {
                (&[Put, Carry, TellBox, AnnounceBox, TellRoom, AnnounceRoom, TellTopic, AnnounceTopic], TELLING)
            }
        }
    }
}

/// The name, such as `relocate+carry`.
impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

impl FromStr for Family {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|family| family.to_string() == name).ok_or_else(|| {
            let names = Self::ALL.map(|family| family.to_string());
            format!("there is no family of stories `{name}`: there are {}", names.join(", "))
        })
    }
}

/// What a story has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) family: Family,
    /// Whether one action has peekers or distracted people.
    pub(crate) is_asymmetric: bool,
    pub(crate) n_people: usize,
    /// Number of core moves: an object is put or carried, a property changes, news is told.
    pub(crate) n_moves: usize,
}

#[expect(clippy::struct_field_names, reason = "all are counts")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    pub(crate) n_signature: usize,
    pub(crate) n_core: usize,
    pub(crate) n_people: usize,
    pub(crate) n_asymmetric: usize,
}

impl Plan {
    /// The kinds of actions that are drawn, in their open form and in that with peekers and distracted people.
    pub(crate) fn moves(&self) -> Vec<(MoveKind, bool)> {
        let open = [MoveKind::Enter, MoveKind::Leave].iter().chain(self.family.kinds().0).map(|kind| (*kind, false));
        let asymmetric = if self.is_asymmetric { self.asymmetric_kinds() } else { &[] };
        open.chain(asymmetric.iter().map(|kind| (*kind, true))).collect()
    }

    /// Carrying has no form with peekers, because it is unclear which of the rooms would be watched.
    fn asymmetric_kinds(&self) -> &'static [MoveKind] {
        match self.family {
            Family::RelocateCarry => &[MoveKind::Put],
            family => family.kinds().1,
        }
    }

    pub(crate) fn progress(&self, world: &World) -> Progress {
        let mut progress = Progress { n_people: world.people().len(), ..Progress::default() };
        for event in world.events() {
            progress.n_core += usize::from(MoveKind::of(event.action.deed).is_core());
            progress.n_asymmetric += usize::from(event.action.is_asymmetric());
            progress.n_signature += usize::from(self.is_signature(&event.action));
        }
        progress
    }

    fn is_signature(&self, action: &Action) -> bool {
        let must_be_asymmetric = self.is_asymmetric && self.family != Family::RelocateCarry;
        self.family.kinds().1.contains(&MoveKind::of(action.deed)) && (action.is_asymmetric() || !must_be_asymmetric)
    }

    /// Whether the story is what was planned.
    pub(crate) fn is_complete(&self, world: &World) -> bool {
        self.is_complete_but_for_rooms(world) && world.n_rooms_used() >= self.family.n_rooms()
    }

    /// The same, without regard to the number of rooms.
    pub(crate) fn is_complete_but_for_rooms(&self, world: &World) -> bool {
        let progress = self.progress(world);
        progress.n_signature >= 1
            && progress.n_core == self.n_moves
            && progress.n_people >= self.n_people
            && progress.n_asymmetric == usize::from(self.is_asymmetric)
            && world.n_sentences() <= MAX_SENTENCES
    }

    /// Whether nothing that may follow can complete it.
    pub(crate) fn is_dead(&self, world: &World) -> bool {
        let progress = self.progress(world);
        progress.n_core > self.n_moves || progress.n_asymmetric > 1 || world.n_sentences() > MAX_SENTENCES
    }
}
