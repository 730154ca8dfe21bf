//! Why something cannot happen in a story.

/// Why an action was refused. A refused action changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody enters the room that they are in.
    AlreadyThere,
    /// Somebody leaves a room that they are not in.
    NotThere,
    /// Somebody who is in no room does something with a thing, or announces something.
    Nowhere,
    ObjectElsewhere,
    ContainerElsewhere,
    /// The object is in that container, or in that room, already.
    SamePlace,
    PlacedTwice,
    SameState,
    /// Somebody tells themselves something.
    OneSelf,
    NoListener,
    NotBelieved,
    NotTrue,
    /// The speaker believes that the listeners know.
    KnownAlready,
    /// Whoever acts cannot peek or be distracted.
    ActorAsymmetric,
    /// A peeker is a witness anyway.
    PeekerPresent,
    /// A distracted person would not be a witness.
    DistractedAbsent,
    /// Peekers and distracted people make no sense here.
    NoAsymmetry,
    /// The result stays in plain view.
    PlainView,
}
