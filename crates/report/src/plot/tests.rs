//! Figures as drawings, tables and data.
#![expect(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::palette::Theme;

/// Checks that tags are closed in order and returns how often each element stands there.
pub(crate) fn elements(svg: &str) -> std::collections::BTreeMap<String, usize> {
    let (mut counts, mut open) = (std::collections::BTreeMap::new(), Vec::new());
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap();
        assert!(!text.contains('>'), "{part}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{part}");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap().to_owned();
        *counts.entry(name.clone()).or_default() += 1;
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<String>::new());
    counts
}

/// A figure of one panel.
fn single(name: &str, title: &str, caption: &str, panel: Panel) -> Figure {
    let [name, title, caption] = [name, title, caption].map(str::to_owned);
    Figure { name, title, caption, panels: vec![panel], layout: Layout::Grid { columns: 1 } }
}

fn series(name: &str, style: usize, mark: Mark, points: Vec<Point>) -> Series {
    Series { name: name.to_owned(), style, mark, points }
}

/// Figures of every kind.
pub(crate) fn examples() -> Vec<Figure> {
    let share = |x: f64, y: f64| Point::new(x, y, [y - 0.04, y + 0.05]);
    let curve = |shift: f64| (0..=10).map(|i| share(f64::from(i) / 10.0, 0.2 + shift + 0.06 * f64::from(i))).collect();
    let lines = Panel::of_series(
        Axis::per_cent("share of the trace that is kept", Scale::Fixed(0.0, 1.0)),
        Axis::per_cent("same answer as after the whole trace", Scale::Fixed(0.0, 1.0)),
        vec![series("base", 0, Mark::Line, curve(0.0)), series("stage 2, offset +1", 1, Mark::Line, curve(0.15))],
    );
    let bar = |offset: f64| (0..4).map(|i| share(f64::from(i), 0.1 * f64::from(i + 1) + offset)).collect();
    let bars = Panel::of_series(
        Axis::categories("depth in blocks", ["5", "10", "15", "28"]),
        Axis::per_cent("share of tokens", Scale::FromZero),
        vec![
            series("drawn", 1, Mark::Bars, bar(0.05)),
            series("learned", 2, Mark::Bars, bar(0.0)),
            series("target", 3, Mark::Bars, bar(0.1)),
        ],
    );
    let across =
        |x: f64, place: f64| Point { x, y: Some(place), x_interval: Some([x - 0.7, x + 0.9]), ..Point::default() };
    let dots = Panel::of_series(
        Axis::new("mean depth in blocks", Scale::FromZero),
        Axis::categories("", ["first digit of a result", "function", "newline"]),
        vec![
            series("exits", 1, Mark::Points, vec![across(25.0, 0.0), across(14.0, 1.0), across(9.0, 2.0)]),
            series("oracle", 3, Mark::Points, vec![across(26.0, 0.0), across(12.0, 1.0), across(8.0, 2.0)]),
        ],
    );
    let dial = |als: f64, accuracy: f64, label: &str| Point {
        x: als,
        y: Some(accuracy),
        x_interval: Some([als - 0.01, als + 0.01]),
        y_interval: Some([accuracy - 0.05, accuracy + 0.05]),
        spread: Some(Spread { x: 3e-5, y: 6e-4, covariance: -4e-5 }),
        label: label.to_owned(),
    };
    let mut plane = Panel::of_series(
        Axis::per_cent("average layer savings", Scale::FromZero),
        Axis::per_cent("accuracy", Scale::Linear),
        vec![
            series(
                "offset",
                1,
                Mark::Points,
                vec![dial(0.0, 0.81, "off"), dial(0.08, 0.8, "0"), dial(0.21, 0.71, "+1")],
            ),
            series("static depth", 4, Mark::Line, vec![share(0.05, 0.7), share(0.1, 0.6), share(0.2, 0.4)]),
        ],
    );
    plane.guides.push(Guide { label: "no loss".to_owned(), points: vec![[0.0, 0.81], [1.0, 0.81]] });
    let heat = Panel {
        title: String::new(),
        x: Axis::categories("settling depth in blocks", ["5", "10", "15", "20", "28"]),
        y: Axis::categories("depth in blocks", ["28", "20", "15", "10", "5"]),
        content: Content::Heat(HeatMap {
            values: (0..5)
                .map(|row| (0..5).map(|column| (row != 4).then_some(0.05 * f64::from(row * column))).collect())
                .collect(),
            label: "share of tokens".to_owned(),
            format: NumberFormat::PerCent,
        }),
        guides: Vec::new(),
    };
    let slope = Panel::of_series(
        Axis::categories("", ["base", "exits"]),
        Axis::new("points of 10", Scale::Fixed(0.0, 10.0)),
        vec![
            series(
                "coherence",
                1,
                Mark::Line,
                vec![Point::new(0.0, 8.1, [7.6, 8.5]), Point::new(1.0, 7.2, [6.7, 7.6])],
            ),
            series("clarity", 2, Mark::Line, vec![Point::new(0.0, 8.4, [8.0, 8.8]), Point::new(1.0, 8.3, [7.9, 8.6])]),
        ],
    );
    let ridge = (0..4).map(|dial| {
        let shares = [0.4, 0.2, 0.1, 0.1, 0.2];
        let points = (0..5).map(|i| Point::new(i as f64, shares[(i + dial) % 5], None)).collect();
        Panel {
            title: format!("offset {dial}"),
            ..Panel::of_series(
                Axis::categories("depth in blocks", ["5", "10", "15", "20", "28"]),
                Axis::per_cent("share of tokens", Scale::FromZero),
                vec![series("share", 1, Mark::Bars, points)],
            )
        }
    });
    let histogram = (0..20).map(|i| Point::new(12.5 + 25.0 * f64::from(i), f64::from((i * 7) % 11), None)).collect();
    let mut panels: Vec<Panel> = vec![plane.clone(), lines.clone(), slope.clone(), lines.clone()];
    for (panel, title) in
        panels.iter_mut().zip(["accuracy", "early answering", "a title that is far too long for its panel", "d"])
    {
        panel.title = title.to_owned();
    }
    panels[0].content = Content::Series(vec![plane.series()[1].clone()]);
    let caption = "What the points are, in words that are long enough to need a second line below the figure. n = 200 items, \
                   61 240 tokens; intervals 95 %.";
    let one = |name: &str, title: &str, panel| single(name, title, caption, panel);
    vec![
        one("lines", "How early the answer is fixed", lines),
        one("bars", "Exits drawn, learned and aimed at", bars),
        one("dots", "Depth by kind of token", dots),
        one("plane", "Accuracy against layer savings", plane),
        one("heat", "Depth against settling depth", heat),
        one("slope", "Judged quality", slope.clone()),
        one(
            "histogram",
            "Response length",
            Panel::of_series(
                Axis::new("tokens", Scale::FromZero),
                Axis::new("responses", Scale::FromZero),
                vec![series("exits", 1, Mark::Bars, histogram)],
            ),
        ),
        Figure {
            layout: Layout::Ridge,
            panels: ridge.collect(),
            ..one("ridge", "Depths over the dial", slope.clone())
        },
        Figure {
            name: "multiples".to_owned(),
            title: "Everything against layer savings".to_owned(),
            caption: caption.to_owned(),
            panels,
            layout: Layout::Grid { columns: 3 },
        },
    ]
}

#[test]
fn all_kinds_are_whole_svg_in_page_and_file() {
    for figure in examples() {
        for medium in [Medium::Page, Medium::File(Theme::Light), Medium::File(Theme::Dark)] {
            let svg = to_svg(&figure, medium);
            let counts = elements(&svg);
            assert_eq!(counts["svg"], 1);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", figure.name);
            assert_eq!(svg.contains("var(--"), medium == Medium::Page, "{}", figure.name);
            assert_eq!(svg.contains("61 240 tokens"), medium != Medium::Page, "{}", figure.name);
        }
    }
}

#[test]
fn what_was_not_measured_leaves_a_gap_and_an_empty_field() {
    let points = vec![
        Point::new(0.0, 1.0, None),
        Point::new(1.0, 2.0, None),
        Point::new(2.0, None, None),
        Point::new(3.0, f64::NAN, None),
        Point::new(4.0, 3.0, [2.0, 4.0]),
        Point::new(5.0, 3.0, [2.0, 4.0]),
    ];
    let panel = Panel::of_series(
        Axis::new("k", Scale::Linear),
        Axis::new("v", Scale::Linear),
        vec![series("a, \"b\"", 1, Mark::Line, points)],
    );
    let figure = single("gap", "", "", panel);
    let svg = to_svg(&figure, Medium::Page);
    // Two stretches of line, one band, four markers.
    assert_eq!(svg.matches("stroke-width=\"2\"").count(), 2);
    assert_eq!(svg.matches("fill-opacity=\"0.16\"").count(), 1);
    assert_eq!(svg.matches("<title>").count(), 4);
    assert_eq!(
        to_csv(&figure),
        "panel,series,x,x_low,x_high,y,y_low,y_high,label\n\
         ,\"a, \"\"b\"\"\",0,,,1,,,\n,\"a, \"\"b\"\"\",1,,,2,,,\n,\"a, \"\"b\"\"\",2,,,,,,\n\
         ,\"a, \"\"b\"\"\",3,,,,,,\n,\"a, \"\"b\"\"\",4,,,3,2,4,\n,\"a, \"\"b\"\"\",5,,,3,2,4,\n"
    );
    let json = to_json(&figure);
    assert_eq!(json["panels"][0]["series"][0]["points"][3], json!({"x": 3.0, "y": null}));
    assert_eq!(json["panels"][0]["series"][0]["points"][4]["y_interval"], json!([2.0, 4.0]));
}

#[test]
fn bars_stand_on_zero_with_heights_like_their_values() {
    let panel = Panel::of_series(
        Axis::categories("", ["a", "b"]),
        Axis::new("", Scale::Fixed(0.0, 4.0)),
        vec![series("s", 1, Mark::Bars, vec![Point::new(0.0, 1.0, None), Point::new(1.0, 4.0, None)])],
    );
    let svg = to_svg(&single("bars", "", "", panel), Medium::Page);
    let heights: Vec<f64> = svg
        .split("<path d=\"M")
        .filter(|path| path.contains("var(--s1)"))
        .map(|path| {
            let number = |text: &str| text.split(['h', ' ']).next().unwrap().parse::<f64>().unwrap();
            let (start, rest) = path.split_once('V').unwrap();
            number(start.split(' ').nth(1).unwrap()) - number(rest)
        })
        .collect();
    assert_eq!(heights.len(), 2);
    assert!((heights[1] / heights[0] - 4.0).abs() < 0.01, "{heights:?}");
}

#[test]
fn cells_are_named_in_the_data() {
    let heat = examples().into_iter().find(|figure| figure.name == "heat").unwrap();
    let csv = to_csv(&heat);
    assert!(csv.contains(",share of tokens,10,,,20,,,0.05\n"), "{csv}");
    assert!(csv.contains(",share of tokens,10,,,5,,,\n"), "{csv}");
    assert_eq!(to_json(&heat)["panels"][0]["values"][4][0], json!(null));
}

proptest! {
    #[test]
    fn no_input_breaks_a_drawing(
        numbers in prop::collection::vec(prop_oneof![any::<f64>(), -10.0..10.0_f64, Just(0.0)], 0..12),
        words in "(\\PC|[<>&\"'\n]){0,12}",
        style in any::<usize>(),
        kind in 0..4_usize,
        mark in prop::sample::select(vec![Mark::Line, Mark::Points, Mark::Bars]),
    ) {
        let scale = || match kind {
            0 => Scale::Linear,
            1 => Scale::FromZero,
            2 => Scale::Categories(vec![words.clone(); numbers.len() % 4]),
            _ => Scale::Fixed(numbers.first().copied().unwrap_or(0.0), 1.0),
        };
        let points = numbers
            .chunks(3)
            .map(|values| {
                let value = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
                let spread = Spread { x: value(0), y: value(1), covariance: value(2) };
                Point {
                    x: value(0),
                    y: Some(value(1)),
                    x_interval: Some([value(2), value(1)]),
                    y_interval: Some([value(0), value(2)]),
                    spread: Some(spread),
                    label: words.clone(),
                }
            })
            .collect();
        let panel = Panel {
            title: words.clone(),
            guides: vec![Guide { label: words.clone(), points: vec![[0.0, 0.0], [f64::NAN, 1.0]] }],
            ..Panel::of_series(Axis::new(&*words, scale()), Axis::per_cent(&*words, scale()), vec![series(&words, style, mark, points)])
        };
        let figure = single("any", &words, &words, panel);
        for medium in [Medium::Page, Medium::File(Theme::Dark)] {
            elements(&to_svg(&figure, medium));
        }
        prop_assert!(!to_json(&figure).to_string().contains("NaN"));
        to_csv(&figure);
    }
}
