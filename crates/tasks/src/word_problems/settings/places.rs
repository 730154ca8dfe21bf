//! Settings in public places.

use super::{Setting, each, fewer, groups_fewer, groups_more, more, part_fewer, split, times_more};

pub(super) const BUS: Setting = Setting {
    objects: &[("bus", "buses"), ("train", "trains"), ("ferry", "ferries"), ("tram", "trams")],
    start: (8, 90),
    multiple_of: 1,
    openings: &[
        "{N} takes a {@1} that starts with {x} passengers.",
        "{N} drives a {@1} that has {x} passengers on board.",
    ],
    events: &[
        more(0, (3, 30), "At the market, {k} people get on.", &["After the market, there are {=} passengers."]),
        fewer(
            0,
            (2, 20),
            "At the town hall, {k} people get off.",
            &["After the town hall, there {~y is/are} {=} {~y passenger/passengers}."],
        ),
        groups_more(
            0,
            (2, 5),
            (2, 9),
            "At each of the next {k} stops, {j} people get on and nobody gets off.",
            &["At these stops, {=} people get on.", "Now there are {=} passengers."],
        ),
        groups_fewer(
            0,
            (2, 5),
            (2, 8),
            "Along the park there are {k} stops, and at each of them {j} people get off.",
            &[
                "Along the park, {=} people get off.",
                "After the park, there {~y is/are} {=} {~y passenger/passengers}.",
            ],
        ),
        part_fewer(
            0,
            (2, 5),
            "At the university, {k part} of the passengers get off.",
            &["At the university, {=} of them get off.", "That leaves {=} {~y passenger/passengers}."],
        ),
        each(0, 1, (2, 6), "At the last stop everyone on board pays ${k}.", &["The passengers pay {$=}."]),
        fewer(1, (5, 40), "Of this money, ${k} goes to the city.", &["After the share of the city, {$=} remains."]),
    ],
    questions: &[
        "How many passengers are on the {@1} now?",
        "How many dollars are left for the company that runs the {@1}?",
    ],
};

pub(super) const LIBRARY: Setting = Setting {
    objects: &[("book", "books"), ("magazine", "magazines"), ("record", "records"), ("film", "films")],
    start: (15, 120),
    multiple_of: 2,
    openings: &["The library where {N} works has {x @} for lending.", "{N} runs a library with {x @} for lending."],
    events: &[
        fewer(0, (5, 40), "One day, visitors borrow {k} of the {@}.", &["After that day, the library has {=} {~y @}."]),
        more(0, (4, 35), "A week later, {k} {@} are brought back.", &["With those, the library has {=} {@}."]),
        groups_more(
            0,
            (2, 6),
            (6, 25),
            "A publisher sends {k} boxes with {j} new {@} in each.",
            &["The publisher sends {=} {@}.", "With them, the library has {=} {@}."],
        ),
        groups_fewer(
            0,
            (3, 8),
            (2, 6),
            "Then {k} children borrow {j} {@} each.",
            &["The children borrow {=} {@}.", "After that, the library has {=} {~y @}."],
        ),
        part_fewer(
            0,
            (2, 4),
            "The library then gives {k part} of the {@} to a hospital.",
            &["The hospital gets {=} {~s @}.", "The library keeps {=} {~y @}."],
        ),
        split(0, 1, (4, 15), "All the {@} are put on shelves, {k} to a shelf.", &["They fill {=} {~y shelf/shelves}."]),
        more(
            1,
            (2, 9),
            "There are {k} more shelves, which are empty.",
            &["With the empty ones, there are {=} shelves."],
        ),
    ],
    questions: &["How many {@} does the library have now?", "How many shelves does the library have?"],
};

pub(super) const SCHOOL: Setting = Setting {
    objects: &[("sheet of paper", "sheets of paper"), ("pencil", "pencils"), ("paintbrush", "paintbrushes")],
    start: (12, 48),
    multiple_of: 1,
    openings: &["There are {x} children in the art class of {N}.", "{N} teaches art to {x} children."],
    events: &[
        more(
            0,
            (2, 12),
            "From another class, {k} children join them.",
            &["With the other class, there are {=} children."],
        ),
        fewer(0, (2, 8), "Today {k} children are ill at home.", &["Today there {~y is/are} {=} {~y child/children}."]),
        split(0, 1, (2, 6), "They work in groups of {k}.", &["They form {=} {~y group/groups}."]),
        each(1, 2, (2, 8), "Each group gets {k} {@}.", &["The groups get {=} {@}."]),
        each(0, 2, (2, 6), "Each child needs {k} {@}.", &["The children need {=} {@}."]),
        more(
            2,
            (4, 20),
            "In case some are spoiled, {N} puts out {k} more.",
            &["With the extra ones, {N} puts out {=} {@}."],
        ),
        split(2, 3, (4, 12), "The {@} come in packs of {k}.", &["That is {=} {~y pack/packs}."]),
        fewer(
            3,
            (2, 4),
            "The school still has {k} packs, so fewer have to be bought.",
            &["So {N} has to buy {=} {~y pack/packs}."],
        ),
        each(3, 4, (3, 8), "A pack costs ${k}.", &["The packs cost {$=}."]),
    ],
    questions: &[
        "How many children are in the lesson today?",
        "How many groups are there?",
        "How many {@} are needed?",
        "How many packs does {N} have to buy?",
        "How many dollars does {N} have to pay?",
    ],
};

pub(super) const THEATRE: Setting = Setting {
    objects: &[("theatre", "theatres"), ("cinema", "cinemas"), ("concert hall", "concert halls")],
    start: (5, 24),
    multiple_of: 1,
    openings: &["{N} works in a {@1} with {x} rows of seats.", "{N} manages a {@1} with {x} rows of seats."],
    events: &[
        more(0, (2, 6), "For a big evening, {k} rows are added.", &["With the added rows, there are {=} rows."]),
        fewer(
            0,
            (2, 3),
            "For safety, {k} rows stay closed.",
            &["Without the closed rows, there {~y is/are} {=} {~y row/rows}."],
        ),
        each(
            0,
            1,
            (6, 20),
            "There are {k} seats in every row, and all of them are sold.",
            &["That makes {=} sold seats."],
        ),
        fewer(
            1,
            (4, 30),
            "Of the people with a ticket, {k} stay at home.",
            &["Without those at home, there {~y is/are} {=} {~y visitor/visitors}."],
        ),
        more(
            1,
            (4, 20),
            "At the door, {k} more visitors buy a ticket to stand at the back.",
            &["With those who stand, there are {=} visitors."],
        ),
        part_fewer(
            1,
            (2, 5),
            "In the break, {k part} of the visitors go home.",
            &["In the break, {=} of them go home.", "After the break, {=} {~y is/are} still there."],
        ),
        split(
            1,
            2,
            (4, 10),
            "After the show the visitors stand at tables, {k} at each.",
            &["They stand at {=} {~y table/tables}."],
        ),
        each(2, 3, (2, 6), "On each table, {N} puts {k} glasses.", &["{N} puts out {=} glasses."]),
        more(3, (4, 20), "On the bar there are {k} more glasses.", &["With the bar, there are {=} glasses."]),
    ],
    questions: &[
        "How many rows can be used?",
        "How many visitors are there at the end of the show?",
        "How many tables are needed?",
        "How many glasses are there?",
    ],
};

pub(super) const PARKING: Setting = Setting {
    objects: &[("car", "cars")],
    start: (8, 90),
    multiple_of: 1,
    openings: &["In the morning, {N} sees {x} cars in a car park.", "{N} counts {x} cars in a car park."],
    events: &[
        more(0, (4, 40), "In the next hour, {k} cars arrive.", &["After that hour, there are {=} cars."]),
        fewer(0, (3, 25), "Later, {k} cars drive away.", &["Without those, {=} {~y car is/cars are} left."]),
        groups_more(
            0,
            (2, 6),
            (3, 12),
            "For {k} hours, {j} cars arrive every hour.",
            &["In these hours, {=} cars arrive.", "Now there are {=} cars."],
        ),
        groups_fewer(
            0,
            (2, 5),
            (2, 10),
            "After a match, {j} cars leave every minute for {k} minutes.",
            &["After the match, {=} cars leave.", "Then {=} {~y car is/cars are} left."],
        ),
        part_fewer(
            0,
            (2, 5),
            "When the shops close, {k part} of the cars leave.",
            &["When the shops close, {=} {~s car leaves/cars leave}.", "That leaves {=} {~y car/cars}."],
        ),
        each(0, 1, (2, 9), "Each of the cars that are still there pays ${k} for the night.", &["The cars pay {$=}."]),
        fewer(1, (5, 60), "A guard gets ${k} of this money.", &["After paying the guard, {$=} remains."]),
    ],
    questions: &["How many cars are in the car park now?", "How many dollars does the owner of the car park keep?"],
};

pub(super) const FAIR: Setting = Setting {
    objects: &[("ticket", "tickets"), ("token", "tokens")],
    start: (6, 70),
    multiple_of: 1,
    openings: &["At the fair, {N} has {x @}.", "{N} comes to the fair with {x @}."],
    events: &[
        groups_fewer(
            0,
            (2, 6),
            (2, 7),
            "{He} rides {k} times, and each ride takes {j} {@}.",
            &["The rides take {=} {@}.", "After the rides, {N} has {=} {~y @}."],
        ),
        more(0, (3, 25), "At a game {he} wins {k} {@}.", &["After the game, {N} has {=} {@}."]),
        fewer(0, (2, 15), "{He} pays {k} {@} for a lemonade.", &["After the lemonade, {N} has {=} {~y @}."]),
        times_more(
            0,
            1,
            (2, 4),
            "{F} has {k times} as many {@} as {N} has now.",
            &["{F} has {=} {@}.", "Together they have {=} {@}."],
        ),
        groups_more(
            0,
            (2, 5),
            (3, 10),
            "{N} buys {k} strips of {j} {@}.",
            &["The strips hold {=} {@}.", "Now {N} has {=} {@}."],
        ),
        split(
            1,
            2,
            (2, 8),
            "They spend everything on prizes that take {k} {@} each.",
            &["They get {=} {~y prize/prizes}."],
        ),
        fewer(1, (2, 20), "They spend {k} {@} on the big wheel.", &["After the big wheel, they have {=} {~y @}."]),
        fewer(2, (2, 4), "They give {k} of the prizes away.", &["After that, they have {=} {~y prize/prizes}."]),
    ],
    questions: &[
        "How many {@} does {N} have now?",
        "How many {@} do {N} and {F} have together now?",
        "How many prizes do {N} and {F} have?",
    ],
};

pub(super) const MUSEUM: Setting = Setting {
    objects: &[("museum", "museums"), ("zoo", "zoos"), ("aquarium", "aquariums")],
    start: (15, 150),
    multiple_of: 2,
    openings: &[
        "On Saturday, {x} people visit the {@1} where {N} works.",
        "{N} counts {x} visitors in the {@1} on Saturday.",
    ],
    events: &[
        times_more(
            0,
            0,
            (2, 3),
            "On Sunday there are {k times} as many visitors as on the whole of Saturday.",
            &["On Sunday there are {=} visitors.", "On the weekend there are {=} visitors."],
        ),
        more(
            0,
            (20, 100),
            "A school trip brings {k} more visitors.",
            &["With the school trip, there are {=} visitors."],
        ),
        groups_more(
            0,
            (2, 6),
            (10, 40),
            "Then {k} coaches arrive with {j} visitors in each.",
            &["The coaches bring {=} visitors.", "In all, that makes {=} visitors."],
        ),
        split(0, 1, (5, 20), "The visitors are shown around in groups of {k}.", &["That makes {=} {~y group/groups}."]),
        each(1, 2, (5, 20), "A guide gets ${k} for each group.", &["The guides get {$=}."]),
        more(
            1,
            (2, 6),
            "For people who come late, there are {k} extra groups.",
            &["With the extra ones, there are {=} groups."],
        ),
        more(
            2,
            (10, 50),
            "A sponsor gives the guides ${k} on top.",
            &["With the sponsor's money, the guides get {$=}."],
        ),
        split(2, 3, (2, 6), "There are {k} guides, who share the money equally.", &["Each guide gets {$=}."]),
    ],
    questions: &[
        "How many visitors are there in all?",
        "How many groups are there?",
        "How many dollars do the guides get together?",
        "How many dollars does each guide get?",
    ],
};
