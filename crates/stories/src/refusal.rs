//! Why something cannot happen in a story.

/// Why an action was refused. A refused action changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Somebody enters the room that they are in.
    #[error("that person is in that room already")]
    AlreadyThere,
    /// Somebody leaves a room that they are not in.
    #[error("that person is not in that room")]
    NotThere,
    /// Somebody who is in no room does something with a thing, or announces something.
    #[error("that person is in no room")]
    Nowhere,
    /// The object is in another room.
    #[error("the object is in another room")]
    ObjectElsewhere,
    /// The container stands in another room.
    #[error("the container stands in another room")]
    ContainerElsewhere,
    /// The object is in that container, or in that room, already.
    #[error("it is there already")]
    SamePlace,
    /// Something is placed twice.
    #[error("it has a place already")]
    PlacedTwice,
    /// The property has that value already.
    #[error("it is so already")]
    SameState,
    /// There is no such property or value.
    #[error("there is no such property or value")]
    NoSuchState,
    /// Somebody tells themselves something.
    #[error("nobody tells themselves something")]
    OneSelf,
    /// Nobody else is in the room.
    #[error("nobody else is there to hear it")]
    NoListener,
    /// The speaker does not believe it.
    #[error("the speaker does not believe it")]
    NotBelieved,
    /// It is not so.
    #[error("it is not so")]
    NotTrue,
    /// The speaker believes that the listeners know.
    #[error("the speaker believes that it is known already")]
    KnownAlready,
    /// Whoever acts cannot peek or be distracted.
    #[error("whoever acts notices it openly")]
    ActorAsymmetric,
    /// A peeker is a witness anyway.
    #[error("a peeker must not be a witness")]
    PeekerPresent,
    /// A distracted person would not be a witness.
    #[error("only a witness can be distracted")]
    DistractedAbsent,
    /// Peekers and distracted people make no sense here.
    #[error("this has neither peekers nor distracted people")]
    NoAsymmetry,
    /// The result stays in plain view.
    #[error("nobody can miss what stays in plain view")]
    PlainView,
    /// The number names nobody or nothing of the story.
    #[error("the story has no such person, place or thing")]
    OutOfScope,
}
