//! Figures as drawings, tables and data.
#![expect(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;
use serde_json::json;

use super::*;

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
    let panel = Panel {
        title: String::new(),
        x: Axis::categories("settling depth in blocks", ["5", "10"]),
        y: Axis::categories("depth in blocks", ["28", "20"]),
        content: Content::Heat(HeatMap {
            values: vec![vec![Some(0.1), None], vec![Some(0.25), Some(0.05)]],
            label: "share of tokens".to_owned(),
        }),
        guides: Vec::new(),
    };
    let heat = single("heat", "", "", panel);
    let csv = to_csv(&heat);
    assert!(csv.contains(",share of tokens,10,,,20,,,0.05\n"), "{csv}");
    assert!(csv.contains(",share of tokens,10,,,28,,,\n"), "{csv}");
    assert_eq!(to_json(&heat)["panels"][0]["values"][0][1], json!(null));
    // Four cells, of which one is empty; a key of eight.
    assert_eq!(to_svg(&heat, Medium::Page).matches("color-mix").count(), 11);
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
        for medium in [Medium::Page, Medium::File] {
            elements(&to_svg(&figure, medium));
        }
        prop_assert!(!to_json(&figure).to_string().contains("NaN"));
        to_csv(&figure);
    }
}
