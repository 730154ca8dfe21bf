//! Settings at work.

use super::{Setting, each, fewer, groups_fewer, groups_more, more, part_fewer, split, times_more};

pub(super) const FACTORY: Setting = Setting {
    objects: &[("lamp", "lamps"), ("clock", "clocks"), ("radio", "radios"), ("kettle", "kettles")],
    start: (5, 40),
    multiple_of: 2,
    openings: &[
        "{N} looks after a machine that makes {x @} an hour.",
        "In the factory where {N} works, a machine makes {x @} an hour.",
    ],
    events: &[
        more(0, (2, 20), "After a repair it makes {k} more an hour.", &["After the repair, it makes {=} {@} an hour."]),
        fewer(
            0,
            (2, 8),
            "On hot days it makes {k} fewer an hour, and this week every day is hot.",
            &["This week it makes {=} {~y @} an hour."],
        ),
        each(0, 1, (3, 9), "It runs for {k} hours today.", &["Today it makes {=} {@}."]),
        fewer(
            1,
            (3, 30),
            "A check finds that {k} of them do not work.",
            &["Without these, there {~y is/are} {=} {~y @}."],
        ),
        more(1, (10, 60), "From yesterday, there are {k} {@} in stock.", &["With those in stock, there are {=} {@}."]),
        groups_fewer(
            1,
            (2, 5),
            (5, 20),
            "Then {k} shops collect {j} {@} each.",
            &["The shops collect {=} {@}.", "After that, there {~y is/are} {=} {~y @}."],
        ),
        split(1, 2, (4, 12), "All of them are packed in crates of {k}.", &["They fill {=} {~y crate/crates}."]),
        more(2, (2, 12), "Another hall sends {k} crates.", &["With the other hall, there are {=} crates."]),
        split(2, 3, (2, 6), "A van carries {k} crates on each trip.", &["The van needs {=} {~y trip/trips}."]),
    ],
    questions: &[
        "How many {@} does the machine make in an hour now?",
        "How many {@} are ready?",
        "How many crates are there?",
        "How many trips does the van need?",
    ],
};

pub(super) const POST: Setting = Setting {
    objects: &[("letter", "letters"), ("parcel", "parcels"), ("postcard", "postcards")],
    start: (20, 160),
    multiple_of: 1,
    openings: &["{N} sorts {x @} at the post office.", "At the post office, {N} starts with {x @}."],
    events: &[
        more(0, (10, 80), "At noon, {k} more {@} arrive.", &["After noon, there are {=} {@}."]),
        fewer(
            0,
            (3, 30),
            "{He} sends back {k} {@} with a wrong address.",
            &["Without these, there {~y is/are} {=} {~y @}."],
        ),
        groups_more(
            0,
            (2, 6),
            (8, 30),
            "Then {k} sacks come in with {j} {@} in each.",
            &["The sacks hold {=} {@}.", "Now there are {=} {@}."],
        ),
        part_fewer(
            0,
            (2, 5),
            "{N} then hands {k part} of the {@} to {F}.",
            &["{F} gets {=} {~s @}.", "{N} has {=} {~y @} left."],
        ),
        split(0, 1, (3, 9), "{N} divides the {@} equally among {k} carriers.", &["Each carrier gets {=} {~y @}."]),
        more(
            1,
            (2, 12),
            "Each carrier also has {k} {@} from the day before.",
            &["With those from the day before, each carrier has {=} {@}."],
        ),
        fewer(
            1,
            (2, 8),
            "On the way to work, each carrier delivers {k} of them.",
            &["After that, each carrier has {=} {~y @} left."],
        ),
    ],
    questions: &["How many {@} does {N} have to sort now?", "How many {@} does each carrier have to deliver?"],
};

pub(super) const CLOTH: Setting = Setting {
    objects: &[("cotton", "cotton"), ("silk", "silk"), ("linen", "linen"), ("ribbon", "ribbon")],
    start: (10, 60),
    multiple_of: 2,
    openings: &["{N} has {x} metres of {@}.", "A roll in the workshop of {N} holds {x} metres of {@}."],
    events: &[
        fewer(0, (3, 20), "{He} cuts off {k} metres for {F}.", &["After that, {=} {~y metre is/metres are} left."]),
        groups_more(
            0,
            (2, 5),
            (4, 20),
            "{He} buys {k} more rolls of {j} metres each.",
            &["The new rolls hold {=} metres.", "Now {N} has {=} metres."],
        ),
        groups_fewer(
            0,
            (2, 6),
            (2, 6),
            "{He} sews {k} curtains that take {j} metres each.",
            &["The curtains take {=} metres.", "After that, {=} {~y metre is/metres are} left."],
        ),
        part_fewer(
            0,
            (2, 5),
            "{He} then dyes {k part} of it blue and gives that to {F}.",
            &["{He} dyes {=} {~s metre/metres} blue.", "That leaves {=} {~y metre/metres} for {N}."],
        ),
        more(
            0,
            (4, 30),
            "In a drawer {he} finds another {k} metres.",
            &["With those from the drawer, there are {=} metres."],
        ),
        split(0, 1, (2, 6), "{He} cuts everything into pieces of {k} metres.", &["That makes {=} {~y piece/pieces}."]),
        each(1, 2, (4, 15), "{He} sells each piece for ${k}.", &["The pieces bring in {$=}."]),
        fewer(2, (5, 30), "The thread costs {him} ${k}.", &["After paying for the thread, {N} has {$=}."]),
    ],
    questions: &[
        "How many metres does {N} have now?",
        "How many pieces does {N} have?",
        "How many dollars does {N} make?",
    ],
};

pub(super) const TILES: Setting = Setting {
    objects: &[("tile", "tiles"), ("paving stone", "paving stones")],
    start: (6, 30),
    multiple_of: 1,
    openings: &["{N} lays a floor with {x} rows of {@}.", "For a floor, {N} plans {x} rows of {@}."],
    events: &[
        more(0, (2, 8), "To make the floor longer, {he} adds {k} rows.", &["The longer floor has {=} rows."]),
        fewer(
            0,
            (2, 5),
            "A cupboard needs space, so {he} leaves out {k} rows.",
            &["Without these, there {~y is/are} {=} {~y row/rows}."],
        ),
        each(0, 1, (6, 24), "Each row takes {k} {@}.", &["The rows take {=} {@}."]),
        more(1, (5, 40), "For the border {he} needs {k} more.", &["With the border, {N} needs {=} {@}."]),
        fewer(
            1,
            (10, 50),
            "In the cellar {he} has {k} {@} from another floor, so {he} needs fewer.",
            &["So {N} needs {=} {~y @} from the shop."],
        ),
        split(1, 2, (4, 12), "The shop sells the {@} in boxes of {k}.", &["{N} needs {=} {~y box/boxes}."]),
        more(2, (2, 4), "To be safe, {he} takes {k} extra boxes.", &["With the extra ones, {N} takes {=} boxes."]),
        each(2, 3, (8, 25), "A box costs ${k}.", &["The boxes cost {$=}."]),
        more(3, (10, 40), "The delivery costs ${k} on top.", &["With the delivery, {N} pays {$=}."]),
    ],
    questions: &[
        "How many rows does the floor have?",
        "How many {@} does {N} have to buy?",
        "How many boxes does {N} take?",
        "How many dollars does {N} pay?",
    ],
};

pub(super) const STALL: Setting = Setting {
    objects: &[("sandwich", "sandwiches"), ("ice cream", "ice creams"), ("pancake", "pancakes"), ("samosa", "samosas")],
    start: (10, 80),
    multiple_of: 1,
    openings: &["On Friday, {N} sells {x @} at a stall.", "{N} has a food stall and sells {x @} on Friday."],
    events: &[
        times_more(
            0,
            0,
            (2, 4),
            "At a festival {he} then sells {k times} as many as in all the days before.",
            &["At the festival {he} sells {=} {@}.", "So far, {N} has sold {=} {@}."],
        ),
        more(0, (5, 60), "The next day {he} sells {k} more.", &["With those, {N} has sold {=} {@}."]),
        each(0, 1, (2, 8), "Each of them costs ${k}.", &["The customers pay {$=}."]),
        fewer(1, (10, 60), "The rent for the stall is ${k}.", &["After the rent, {$=} remains."]),
        more(1, (5, 40), "In the tip jar {he} finds ${k}.", &["With the tips, there is {$=}."]),
        groups_fewer(
            1,
            (2, 4),
            (10, 30),
            "{He} pays {k} helpers ${j} each.",
            &["The helpers get {$=}.", "After paying them, {N} has {$=}."],
        ),
        part_fewer(
            1,
            (2, 5),
            "The ingredients then take {k part} of the money that is left.",
            &["The ingredients cost {$=}.", "That leaves {$=}."],
        ),
    ],
    questions: &["How many {@} does {N} sell?", "How many dollars does {N} keep?"],
};

pub(super) const WAGES: Setting = Setting {
    objects: &[
        ("bakery", "bakeries"),
        ("bookshop", "bookshops"),
        ("garage", "garages"),
        ("hotel", "hotels"),
        ("pharmacy", "pharmacies"),
    ],
    start: (2, 9),
    multiple_of: 1,
    openings: &["{N} works in a {@1} for {x} hours a day.", "In a {@1}, {N} works {x} hours a day."],
    events: &[
        each(0, 1, (2, 6), "{He} works there on {k} days a week.", &["{N} works {=} hours a week."]),
        more(
            1,
            (2, 8),
            "This week {he} works {k} extra hours.",
            &["With the extra hours, {N} works {=} hours this week."],
        ),
        fewer(
            1,
            (2, 5),
            "One afternoon {he} leaves {k} hours early.",
            &["After leaving early, {N} has worked {=} {~y hour/hours}."],
        ),
        each(1, 2, (8, 20), "{He} earns ${k} an hour.", &["{N} earns {$=} this week."]),
        more(2, (10, 60), "For good work {he} gets ${k} on top.", &["With the bonus, {N} gets {$=}."]),
        fewer(2, (10, 60), "{He} pays ${k} for train tickets.", &["After paying for the train, {N} has {$=}."]),
        groups_fewer(
            2,
            (2, 5),
            (3, 15),
            "{He} has lunch {k} times for ${j}.",
            &["The lunches cost {$=}.", "After lunch, {N} has {$=}."],
        ),
        part_fewer(
            2,
            (2, 5),
            "{He} then puts {k part} of the money into {his} savings.",
            &["{N} saves {$=}.", "That leaves {$=} to spend."],
        ),
    ],
    questions: &[
        "How many hours a day does {N} work?",
        "How many hours does {N} work this week?",
        "How many dollars does {N} have to spend?",
    ],
};
