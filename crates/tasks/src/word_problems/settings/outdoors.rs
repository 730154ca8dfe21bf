//! Settings outdoors.

use super::{Setting, each, fewer, groups_fewer, groups_more, more, part_fewer, split, times_more};

pub(super) const HENS: Setting = Setting {
    objects: &[("hen", "hens"), ("duck", "ducks")],
    start: (4, 30),
    multiple_of: 1,
    openings: &["{N} keeps {x @}.", "On a small farm, {N} looks after {x @}."],
    events: &[
        more(0, (3, 20), "In spring {he} buys {k} more {@}.", &["After spring, {N} has {=} {@}."]),
        fewer(0, (2, 8), "{He} sells {k} of the {@} to {F}.", &["After the sale, {N} has {=} {~y @}."]),
        each(0, 1, (3, 7), "Each of them lays {k} eggs a week.", &["In a week they lay {=} eggs."]),
        fewer(
            1,
            (3, 15),
            "Every week, {k} of the eggs break.",
            &["Without the broken ones, there {~y is/are} {=} {~y egg/eggs} a week."],
        ),
        groups_fewer(
            1,
            (2, 6),
            (2, 6),
            "Every week {N} gives {j} of the eggs to each of {k} neighbours.",
            &["The neighbours get {=} eggs.", "After that, {=} {~y egg is/eggs are} left each week."],
        ),
        part_fewer(
            1,
            (2, 4),
            "The family then eats {k part} of the eggs that {N} still has each week.",
            &["The family eats {=} {~s egg/eggs}.", "There {~y is/are} {=} {~y egg/eggs} a week for other uses."],
        ),
        split(1, 2, (4, 12), "The eggs are packed in cartons of {k}.", &["That makes {=} {~y carton/cartons} a week."]),
        each(2, 3, (2, 6), "A carton sells for ${k}.", &["The cartons bring in {$=} a week."]),
        fewer(3, (3, 25), "The feed costs ${k} a week.", &["After paying for the feed, {$=} a week remains."]),
        each(3, 4, (2, 8), "{N} saves this money for {k} weeks.", &["In these weeks {N} saves {$=}."]),
    ],
    questions: &[
        "How many {@} does {N} have now?",
        "How many eggs a week remain?",
        "How many cartons does {N} have each week?",
        "How many dollars a week does {N} make?",
        "How many dollars does {N} save?",
    ],
};

pub(super) const ORCHARD: Setting = Setting {
    objects: &[
        ("apple", "apples"),
        ("pear", "pears"),
        ("mango", "mangoes"),
        ("orange", "oranges"),
        ("peach", "peaches"),
    ],
    start: (15, 120),
    multiple_of: 2,
    openings: &["{N} and {F} pick {x @} in the orchard.", "In the morning {N} and {F} pick {x @}."],
    events: &[
        more(
            0,
            (10, 90),
            "A friend picks {k} and puts them with the others.",
            &["With those of the friend, there are {=} {@}."],
        ),
        fewer(
            0,
            (3, 20),
            "They throw away {k} {@} that have gone bad.",
            &["Without the bad ones, there {~y is/are} {=} {~y @}."],
        ),
        times_more(
            0,
            0,
            (2, 4),
            "In the afternoon they pick {k times} as many {@} as they have so far.",
            &["In the afternoon they pick {=} {@}.", "For the whole day that makes {=} {@}."],
        ),
        groups_fewer(
            0,
            (2, 6),
            (3, 9),
            "They give {j} {@} to each of {k} helpers.",
            &["The helpers get {=} {@}.", "After that, {=} {~y @} {~y remains/remain}."],
        ),
        part_fewer(
            0,
            (2, 5),
            "They then press {k part} of the {@} into juice.",
            &["They press {=} {~s @}.", "After that, {=} {~y @} {~y remains/remain}."],
        ),
        split(
            0,
            1,
            (5, 12),
            "They fill baskets with {k} {@} each until none are left over.",
            &["They fill {=} {~y basket/baskets}."],
        ),
        fewer(1, (2, 6), "{N} takes {k} baskets home.", &["After that, {=} {~y basket is/baskets are} left."]),
        each(1, 2, (4, 12), "A shop buys the baskets for ${k} each.", &["The shop pays {$=}."]),
        split(2, 3, (2, 4), "The money is shared equally by {k} people.", &["Each person gets {$=}."]),
    ],
    questions: &[
        "How many {@} are there now?",
        "How many baskets are there now?",
        "How many dollars does the shop pay?",
        "How many dollars does each person get?",
    ],
};

pub(super) const GARDEN: Setting = Setting {
    objects: &[("tomato", "tomatoes"), ("pepper", "peppers"), ("cucumber", "cucumbers"), ("pumpkin", "pumpkins")],
    start: (3, 20),
    multiple_of: 1,
    openings: &["{N} plants {x} rows of {@} in the garden.", "The garden of {N} has {x} rows of {@}."],
    events: &[
        more(0, (2, 8), "A week later {he} adds {k} rows.", &["With the new rows, there are {=} rows."]),
        fewer(0, (2, 5), "{He} then gives {k} of the rows to {F}.", &["After that, {N} has {=} {~y row/rows}."]),
        each(0, 1, (4, 15), "There are {k} plants in each row.", &["The rows hold {=} plants."]),
        fewer(
            1,
            (3, 15),
            "Snails eat {k} of the plants.",
            &["After the snails, there {~y is/are} {=} {~y plant/plants}."],
        ),
        part_fewer(
            1,
            (2, 5),
            "A storm destroys {k part} of the plants.",
            &["The storm destroys {=} {~s plant/plants}.", "That leaves {=} {~y plant/plants}."],
        ),
        more(1, (2, 20), "{N} puts {k} more plants into pots.", &["With the pots, there are {=} plants."]),
        each(1, 2, (2, 9), "In summer, every plant bears {k} {@}.", &["The plants bear {=} {@}."]),
        fewer(2, (5, 40), "{N} eats {k} of the {@} with {his} family.", &["After that, there {~y is/are} {=} {~y @}."]),
        split(2, 3, (4, 10), "{He} puts the {@} into bags of {k}.", &["{He} fills {=} {~y bag/bags}."]),
        each(3, 4, (2, 6), "{He} sells each bag for ${k}.", &["The bags bring in {$=}."]),
    ],
    questions: &[
        "How many rows does {N} have now?",
        "How many plants are there now?",
        "How many {@} does {N} have?",
        "How many bags does {N} fill?",
        "How many dollars does {N} earn?",
    ],
};

pub(super) const FISHING: Setting = Setting {
    objects: &[("trout", "trout"), ("salmon", "salmon"), ("carp", "carp")],
    start: (6, 60),
    multiple_of: 1,
    openings: &["{N} and {F} catch {x} {@} before noon.", "In the first net, {N} and {F} find {x} {@}."],
    events: &[
        more(0, (4, 40), "A cousin adds {k} {@} from another boat.", &["With those of the cousin, there are {=} {@}."]),
        fewer(
            0,
            (2, 15),
            "They set {k} small {@} free again.",
            &["Without the small ones, there {~y is/are} {=} {@}."],
        ),
        groups_more(
            0,
            (2, 5),
            (4, 15),
            "They pull in {k} more nets with {j} {@} in each.",
            &["These nets hold {=} {@}.", "Now there are {=} {@}."],
        ),
        part_fewer(
            0,
            (2, 4),
            "They then keep {k part} of the {@} for their village and sell the others.",
            &["For the village they keep {=} {~s @}.", "They can sell {=} {~y @}."],
        ),
        each(0, 1, (3, 9), "A restaurant pays ${k} for each.", &["The restaurant pays {$=}."]),
        fewer(1, (10, 60), "The fuel for the day costs ${k}.", &["After paying for fuel, {$=} remains."]),
        split(1, 2, (2, 4), "The crew of {k} people shares the money equally.", &["Each of the crew gets {$=}."]),
        each(
            2,
            3,
            (2, 6),
            "This goes on in the same way for {k} days.",
            &["In these days each of the crew earns {$=}."],
        ),
    ],
    questions: &[
        "How many {@} can they sell?",
        "How many dollars do they make?",
        "How many dollars does each of the crew get?",
        "How many dollars does each of the crew earn in all these days?",
    ],
};

pub(super) const TRAINING: Setting = Setting {
    objects: &[("lap", "laps")],
    start: (4, 30),
    multiple_of: 1,
    openings: &["On Monday, {N} runs {x @} around the track.", "{N} starts the week with {x @} around the track."],
    events: &[
        more(0, (3, 20), "The day after, {he} runs {k} more.", &["With those, {he} has run {=} laps."]),
        groups_more(
            0,
            (2, 4),
            (3, 15),
            "During the next {k} days {he} runs {j} laps a day.",
            &["On these days {he} runs {=} laps.", "With the laps before, that makes {=} laps."],
        ),
        times_more(
            0,
            0,
            (2, 3),
            "At a training camp {he} then runs {k times} as many laps as in all the days before.",
            &["At the camp {he} runs {=} laps.", "All in all, that makes {=} laps."],
        ),
        fewer(
            0,
            (2, 6),
            "{His} coach does not count {k} of the laps, because they were too slow.",
            &["The coach counts {=} {~y lap/laps}."],
        ),
        each(0, 1, (2, 9), "{F} promises ${k} to a charity for every lap that counts.", &["{F} gives {$=}."]),
        more(1, (10, 80), "A local shop gives another ${k}.", &["With the shop, the charity gets {$=}."]),
        times_more(
            1,
            1,
            (2, 3),
            "The city then adds {k times} as much as was given.",
            &["The city adds {$=}.", "So the charity gets {$=} in all."],
        ),
        split(1, 2, (2, 6), "The charity divides the money equally among {k} schools.", &["Each school gets {$=}."]),
    ],
    questions: &[
        "How many laps count for {N}?",
        "How many dollars does the charity get?",
        "How many dollars does each school get?",
    ],
};

pub(super) const CYCLING: Setting = Setting {
    objects: &[("bicycle", "bicycles")],
    start: (10, 70),
    multiple_of: 2,
    openings: &[
        "{N} goes on a tour by bicycle and rides {x} kilometres on the first day.",
        "On the first day of a bicycle tour, {N} covers {x} kilometres.",
    ],
    events: &[
        more(
            0,
            (10, 60),
            "On a sunny day {he} rides {k} kilometres.",
            &["With the sunny day, {he} has come {=} kilometres."],
        ),
        groups_more(
            0,
            (2, 5),
            (10, 50),
            "On {k} rainy days {he} covers {j} kilometres a day.",
            &["On the rainy days {he} rides {=} kilometres.", "So far that makes {=} kilometres."],
        ),
        times_more(
            0,
            0,
            (2, 3),
            "Along a river {he} then rides {k times} as far as {he} has come until then.",
            &["Along the river {he} rides {=} kilometres.", "The tour is now {=} kilometres long."],
        ),
        more(
            0,
            (5, 30),
            "A wrong turn costs {him} {k} extra kilometres.",
            &["With the wrong turn, {he} rides {=} kilometres."],
        ),
        split(0, 1, (5, 20), "{His} average speed is {k} kilometres an hour.", &["{N} rides for {=} {~y hour/hours}."]),
        more(1, (2, 8), "{He} also rests for {k} hours in all.", &["With the rests, the tour takes {=} hours."]),
    ],
    questions: &["How many kilometres does {N} ride on the tour?", "How many hours does the tour take?"],
};

pub(super) const WATER: Setting = Setting {
    objects: &[("water", "water")],
    start: (10, 80),
    multiple_of: 5,
    openings: &[
        "A tank on the farm of {N} holds {x} litres of water.",
        "{N} collects rain, and there are {x} litres in the tank.",
    ],
    events: &[
        groups_more(
            0,
            (4, 20),
            (3, 15),
            "A pump runs for {k} minutes and adds {j} litres every minute.",
            &["The pump adds {=} litres.", "Now the tank holds {=} litres."],
        ),
        fewer(
            0,
            (10, 90),
            "{N} takes {k} litres for the vegetables.",
            &["After that, {=} {~y litre is/litres are} left."],
        ),
        groups_fewer(
            0,
            (3, 12),
            (4, 15),
            "Then {k} cows drink {j} litres each.",
            &["The cows drink {=} litres.", "After that, {=} {~y litre is/litres are} left."],
        ),
        more(0, (20, 150), "Rain brings another {k} litres.", &["With the rain, there are {=} litres."]),
        part_fewer(
            0,
            (2, 5),
            "Through a leak, {k part} of the water in the tank is then lost.",
            &["The leak costs {=} {~s litre/litres}.", "After that, {=} {~y litre is/litres are} left."],
        ),
        split(
            0,
            1,
            (5, 15),
            "{N} fills all the water into cans of {k} litres.",
            &["The water fills {=} {~y can/cans}."],
        ),
        fewer(1, (2, 6), "{F} takes {k} of the cans.", &["After that, {=} {~y can is/cans are} left."]),
    ],
    questions: &["How many litres are in the tank now?", "How many cans of water does {N} have?"],
};

pub(super) const SEASHELLS: Setting = Setting {
    objects: &[("seashell", "seashells"), ("smooth stone", "smooth stones"), ("feather", "feathers")],
    start: (10, 90),
    multiple_of: 1,
    openings: &["On the beach, {N} finds {x @}.", "{N} gathers {x @} by the sea."],
    events: &[
        more(
            0,
            (4, 40),
            "The next morning {he} finds {k} more.",
            &["With those of the next morning, {N} has {=} {@}."],
        ),
        fewer(0, (2, 20), "A wave carries {k} of them away.", &["After the wave, {=} {~y @} {~y remains/remain}."]),
        times_more(
            0,
            1,
            (2, 4),
            "{F} finds {k times} as many {@} as {N} has.",
            &["{F} finds {=} {@}.", "Together they have {=} {@}."],
        ),
        fewer(1, (3, 30), "They throw {k} of them back into the sea.", &["After that, they have {=} {~y @} together."]),
        split(1, 2, (3, 9), "They put all the {@} into jars, {k} to a jar.", &["They fill {=} {~y jar/jars}."]),
        groups_fewer(
            0,
            (2, 5),
            (2, 9),
            "{He} glues {j} {@} onto each of {k} picture frames.",
            &["The frames take {=} {@}.", "That leaves {=} {~y @}."],
        ),
        fewer(2, (2, 5), "They give {k} jars to their teacher.", &["After that, they have {=} {~y jar/jars}."]),
        each(2, 3, (2, 7), "A shop buys the jars for ${k} each.", &["The shop pays {$=}."]),
    ],
    questions: &[
        "How many {@} does {N} have now?",
        "How many {@} do {N} and {F} have together now?",
        "How many jars do {N} and {F} have now?",
        "How many dollars does the shop pay?",
    ],
};
