//! Settings at home.

use super::{Setting, each, fewer, groups_fewer, groups_more, more, part_fewer, split, times_more};

pub(super) const BAKING: Setting = Setting {
    objects: &[("cookie", "cookies"), ("muffin", "muffins"), ("bread roll", "bread rolls"), ("scone", "scones")],
    start: (6, 48),
    multiple_of: 2,
    openings: &["{N} bakes {x @} for a school fair.", "{N} takes {x @} out of the oven for a school fair."],
    events: &[
        more(
            0,
            (6, 48),
            "Later that day {he} bakes another {k}.",
            &["With the second batch, there {~y is/are} {=} {~y @}."],
        ),
        fewer(
            0,
            (2, 12),
            "{His} brother eats {k} of the {@}.",
            &["Without what the brother eats, {=} {~y @} {~y is/are} left."],
        ),
        groups_more(
            0,
            (2, 6),
            (4, 12),
            "{F} brings {k} trays with {j} {@} on each.",
            &["{F} brings {=} {@}.", "Together that makes {=} {@}."],
        ),
        part_fewer(
            0,
            (2, 5),
            "{N} then gives {k part} of the {@} to a neighbour.",
            &["The neighbour gets {=} {~s @}.", "After that, {N} has {=} {~y @}."],
        ),
        split(0, 1, (3, 8), "{N} packs all the {@} into boxes of {k}.", &["The {@} fill {=} {~y box/boxes}."]),
        more(1, (3, 20), "{F} adds {k} boxes of the same size.", &["With those of {F}, there are {=} boxes."]),
        each(1, 2, (3, 9), "They sell every box for ${k}.", &["The boxes bring in {$=}."]),
        fewer(
            2,
            (3, 20),
            "Butter and sugar cost ${k}, which {N} pays from this money.",
            &["After paying for butter and sugar, {$=} remains."],
        ),
        more(
            2,
            (5, 40),
            "A teacher puts another ${k} into the cash box.",
            &["With the teacher's gift, the cash box holds {$=}."],
        ),
        split(2, 3, (2, 5), "The money is split equally among {k} classes.", &["Each class gets {$=}."]),
    ],
    questions: &[
        "How many {@} are there now?",
        "How many boxes are there?",
        "How many dollars are in the cash box now?",
        "How many dollars does each class get?",
    ],
};

pub(super) const COLLECTION: Setting = Setting {
    objects: &[
        ("stamp", "stamps"),
        ("marble", "marbles"),
        ("sticker", "stickers"),
        ("football card", "football cards"),
    ],
    start: (8, 60),
    multiple_of: 2,
    openings: &["{N} collects {@} and has {x} of them.", "{N} owns {x @}."],
    events: &[
        more(0, (3, 40), "For {his} birthday, {he} gets {k} more {@}.", &["After the birthday, {N} has {=} {@}."]),
        fewer(
            0,
            (2, 25),
            "{He} gives {k} {@} to {his} cousin.",
            &["After the gift to {his} cousin, {N} has {=} {~y @}."],
        ),
        groups_more(
            0,
            (2, 6),
            (3, 12),
            "{He} buys {k} packs of {j} {@}.",
            &["The packs hold {=} {@}.", "Now {N} has {=} {@}."],
        ),
        groups_fewer(
            0,
            (2, 6),
            (2, 8),
            "{He} gives {k} classmates {j} {@} each.",
            &["The classmates get {=} {@}.", "After that, {N} has {=} {~y @}."],
        ),
        part_fewer(
            0,
            (2, 5),
            "{He} then swaps {k part} of {his} {@} for a comic book.",
            &["{He} swaps {=} {~s @}.", "That leaves {=} {~y @}."],
        ),
        times_more(
            0,
            1,
            (2, 4),
            "{F} has {k times} as many {@} as {N}.",
            &["{F} has {=} {@}.", "Together they have {=} {@}."],
        ),
        split(
            0,
            2,
            (2, 9),
            "{N} puts all the {@} into an album, {k} to a page.",
            &["The {@} fill {=} {~y page/pages}."],
        ),
        more(2, (2, 12), "The album also has {k} empty pages.", &["With the empty pages, the album has {=} pages."]),
        fewer(1, (2, 20), "{F} then loses {k} {@}.", &["Now they have {=} {~y @} together."]),
    ],
    questions: &[
        "How many {@} does {N} have now?",
        "How many {@} do {N} and {F} have together now?",
        "How many pages does the album have?",
    ],
};

pub(super) const SAVINGS: Setting = Setting {
    objects: &[("bicycle", "bicycles"), ("guitar", "guitars"), ("camera", "cameras"), ("tent", "tents")],
    start: (10, 150),
    multiple_of: 2,
    openings: &["{N} is saving for a {@1} and has ${x}.", "{N} wants to buy a {@1} and has saved ${x}."],
    events: &[
        groups_more(
            0,
            (3, 10),
            (4, 15),
            "For {k} weeks, {he} puts ${j} into {his} savings box every week.",
            &["In these weeks {he} saves {$=}.", "The savings grow to {$=}."],
        ),
        more(0, (5, 60), "{His} grandmother gives {him} ${k}.", &["With the gift of {his} grandmother, {N} has {$=}."]),
        fewer(0, (4, 40), "{He} spends ${k} on a present for {F}.", &["After buying the present, {N} has {$=}."]),
        groups_fewer(
            0,
            (2, 5),
            (3, 14),
            "{He} buys {k} books for ${j} each.",
            &["The books cost {$=}.", "After that, {N} has {$=}."],
        ),
        part_fewer(
            0,
            (2, 5),
            "{He} then lends {k part} of {his} money to {F}.",
            &["{F} borrows {$=}.", "For now, {N} keeps {$=}."],
        ),
        times_more(
            0,
            1,
            (2, 3),
            "{F} has saved {k times} as much as {N}.",
            &["{F} has {$=}.", "Together they have {$=}."],
        ),
        fewer(
            1,
            (10, 60),
            "Together they buy a board game for ${k}.",
            &["After buying the game, they have {$=} together."],
        ),
    ],
    questions: &["How many dollars does {N} have now?", "How many dollars do {N} and {F} have together now?"],
};

pub(super) const READING: Setting = Setting {
    objects: &[("novel", "novels"), ("travel book", "travel books"), ("history book", "history books")],
    start: (60, 240),
    multiple_of: 2,
    openings: &["{N} wants to read a book of {x} pages.", "{N} borrows a book that has {x} pages."],
    events: &[
        fewer(
            0,
            (8, 50),
            "One evening {he} reads {k} pages.",
            &["After that evening, {=} {~y page is/pages are} left."],
        ),
        groups_fewer(
            0,
            (2, 6),
            (5, 20),
            "During the next {k} days {he} reads {j} pages a day.",
            &["In these days {he} reads {=} pages.", "After them, {=} {~y page is/pages are} left."],
        ),
        part_fewer(
            0,
            (2, 5),
            "On a long train ride, {he} reads {k part} of the pages that are left.",
            &["On the train {he} reads {=} {~s page/pages}.", "After the ride, {=} {~y page is/pages are} left."],
        ),
        more(
            0,
            (20, 90),
            "{F} lends {him} another book of {k} pages, which {he} wants to read as well.",
            &["With the other book, {N} has {=} pages to read."],
        ),
        split(0, 1, (4, 20), "{N} reads the rest at {k} pages a day.", &["For the rest {he} needs {=} {~y day/days}."]),
        more(1, (2, 6), "{He} also takes {k} days off from reading.", &["With the days off, it takes {=} days."]),
    ],
    questions: &["How many pages does {N} still have to read?", "How many days does {N} need for the rest?"],
};

pub(super) const FLOUR: Setting = Setting {
    objects: &[("flour", "flour"), ("rice", "rice"), ("sugar", "sugar")],
    start: (8, 40),
    multiple_of: 50,
    openings: &["{N} has {x} grams of {@} in the kitchen.", "A jar in the kitchen of {N} holds {x} grams of {@}."],
    events: &[
        fewer(0, (100, 400), "{He} uses {k} grams for dinner.", &["After dinner, {=} {~y gram is/grams are} left."]),
        groups_more(
            0,
            (2, 5),
            (150, 350),
            "{He} buys {k} bags of {j} grams each.",
            &["The bags hold {=} grams.", "Now there are {=} grams."],
        ),
        groups_fewer(
            0,
            (2, 6),
            (40, 120),
            "{He} makes {k} puddings, and each needs {j} grams.",
            &["The puddings need {=} grams.", "After making them, {N} has {=} {~y gram/grams}."],
        ),
        part_fewer(
            0,
            (2, 5),
            "{He} then gives {k part} of the {@} to {F}.",
            &["{F} gets {=} {~s gram/grams}.", "{N} keeps {=} {~y gram/grams}."],
        ),
        more(
            0,
            (50, 500),
            "In a cupboard {he} finds {k} more grams.",
            &["With what was in the cupboard, there are {=} grams."],
        ),
        split(
            0,
            1,
            (20, 60),
            "{He} fills all of it into small bags of {k} grams.",
            &["It fills {=} small {~y bag/bags}."],
        ),
        each(1, 2, (2, 6), "{He} sells every small bag for ${k}.", &["The small bags bring in {$=}."]),
        fewer(
            1,
            (2, 8),
            "{He} gives away {k} of the small bags.",
            &["After that, {=} small {~y bag is/bags are} left."],
        ),
    ],
    questions: &[
        "How many grams of {@} does {N} have now?",
        "How many small bags does {N} have?",
        "How many dollars does {N} earn?",
    ],
};

pub(super) const BRICKS: Setting = Setting {
    objects: &[("toy brick", "toy bricks"), ("wooden block", "wooden blocks"), ("magnetic tile", "magnetic tiles")],
    start: (20, 120),
    multiple_of: 2,
    openings: &["{N} has a box of {x @}.", "{N} empties {x @} onto the floor."],
    events: &[
        groups_fewer(
            0,
            (2, 6),
            (5, 25),
            "{He} builds {k} towers from {j} {@} each.",
            &["The towers take {=} {@}.", "That leaves {=} {~y @}."],
        ),
        more(0, (10, 80), "{F} brings {k} more.", &["With those of {F}, there are {=} {@}."]),
        fewer(
            0,
            (3, 30),
            "Under the sofa, {k} of the {@} get lost.",
            &["Without the lost ones, there {~y is/are} {=}."],
        ),
        part_fewer(
            0,
            (2, 4),
            "{His} sister then takes {k part} of the {@}.",
            &["{His} sister takes {=} {~s @}.", "{N} has {=} {~y @} left."],
        ),
        groups_more(
            0,
            (2, 5),
            (6, 24),
            "{N} buys {k} bags with {j} {@} in each.",
            &["The bags hold {=} {@}.", "Now there are {=} {@}."],
        ),
        split(
            0,
            1,
            (4, 15),
            "From all the {@} that are left, {N} builds toy cars, and each car takes {k}.",
            &["{N} can build {=} toy {~y car/cars}."],
        ),
        each(1, 2, (2, 6), "Every toy car gets {k} passengers made of clay.", &["The cars need {=} passengers."]),
        fewer(1, (2, 6), "{F} takes {k} of the toy cars home.", &["After that, {=} toy {~y car is/cars are} left."]),
    ],
    questions: &[
        "How many loose {@} are there now?",
        "How many toy cars does {N} have?",
        "How many clay passengers does {N} need?",
    ],
};

pub(super) const BEADS: Setting = Setting {
    objects: &[("glass bead", "glass beads"), ("wooden bead", "wooden beads"), ("silver bead", "silver beads")],
    start: (30, 160),
    multiple_of: 2,
    openings: &["{N} makes necklaces and has {x @}.", "To make necklaces, {N} buys {x @}."],
    events: &[
        more(0, (10, 60), "{F} gives {him} {k} more {@}.", &["With those of {F}, {N} has {=} {@}."]),
        fewer(0, (4, 30), "{He} drops {k} {@} and cannot find them again.", &["After that, {N} has {=} {~y @}."]),
        groups_more(
            0,
            (2, 6),
            (8, 30),
            "{He} orders {k} bags with {j} {@} in each.",
            &["The bags hold {=} {@}.", "Now {N} has {=} {@}."],
        ),
        part_fewer(
            0,
            (2, 5),
            "It then turns out that {k part} of the {@} cannot be used.",
            &["That is {=} {~s @}.", "So {=} {~y @} can be used."],
        ),
        split(
            0,
            1,
            (6, 24),
            "Each necklace takes {k} {@}, and {N} uses them all.",
            &["{N} makes {=} {~y necklace/necklaces}."],
        ),
        fewer(
            1,
            (2, 5),
            "{N} keeps {k} of the necklaces for {his} family.",
            &["After that, {=} {~y necklace is/necklaces are} for sale."],
        ),
        each(
            1,
            2,
            (5, 20),
            "At the market {he} sells every necklace that is for sale for ${k}.",
            &["{N} takes in {$=} at the market."],
        ),
        fewer(2, (5, 30), "The market stall costs {him} ${k}.", &["After paying for the stall, {N} has {$=}."]),
    ],
    questions: &[
        "How many {@} can {N} use now?",
        "How many necklaces does {N} have for sale?",
        "How many dollars does {N} have from the market?",
    ],
};

pub(super) const PHOTOS: Setting = Setting {
    objects: &[("photo", "photos"), ("picture", "pictures")],
    start: (20, 150),
    multiple_of: 2,
    openings: &["{N} has {x @} on {his} phone.", "On a holiday, {N} takes {x @} with {his} phone."],
    events: &[
        fewer(
            0,
            (4, 30),
            "{He} deletes {k} {@} that are blurred.",
            &["Without the blurred ones, there {~y is/are} {=} {~y @}."],
        ),
        more(0, (5, 60), "{F} sends {him} {k} more {@}.", &["With those of {F}, there are {=} {@}."]),
        groups_more(
            0,
            (2, 7),
            (5, 20),
            "On each of the next {k} days {he} takes {j} more {@}.",
            &["On these days {he} takes {=} {@}.", "Now there are {=} {@}."],
        ),
        part_fewer(
            0,
            (2, 5),
            "{He} then moves {k part} of the {@} from the phone to {his} computer.",
            &["{He} moves {=} {~s @}.", "On the phone, {=} {~y @} {~y remains/remain}."],
        ),
        split(0, 1, (4, 12), "{He} prints all of them, {k} to a sheet.", &["{He} prints {=} {~y sheet/sheets}."]),
        more(1, (2, 15), "{He} also prints {k} sheets with maps.", &["With the maps, {he} prints {=} sheets."]),
        each(1, 2, (2, 5), "Every sheet costs ${k}.", &["The sheets cost {$=}."]),
        more(2, (4, 15), "For the delivery {he} pays another ${k}.", &["With the delivery, {N} pays {$=}."]),
    ],
    questions: &[
        "How many {@} are on the phone now?",
        "How many sheets does {N} print?",
        "How many dollars does {N} pay?",
    ],
};
