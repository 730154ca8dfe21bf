//! Tests of the page as a whole.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use aloud_measure::test_runs::record;
use proptest::prelude::*;

fn options() -> ViewOptions {
    ViewOptions { title: "Title".to_owned(), ..ViewOptions::default() }
}

/// The content of the page's data script as JSON.
fn data_of(page: &str) -> serde_json::Value {
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    let (json, _) = rest.split_once("</script>").unwrap();
    serde_json::from_str(json).unwrap()
}

#[test]
fn every_token_has_the_class_of_its_depth() {
    let mut response = record(30, &[5, 10], &[30, 5, 10, 30]);
    for (token, text) in response.tokens.iter_mut().zip(["The", " cat", "\n", " sat"]) {
        token.text = text.to_owned();
    }
    let page = render_page(&[response], &options()).unwrap();
    assert!(page.contains(
        "<span class=\"k2\">The</span><span class=\"k0\"> cat</span><span class=\"k1\"><i>⏎</i>\n</span><span class=\"k2\"> sat</span>"
    ));
    assert!(page.contains("<b class=\"k0\">5</b>33.3\u{a0}%"), "legend");
    assert!(page.contains("<b class=\"k2\">30 full</b>33.3\u{a0}%"), "legend");
    // (25 + 20 + 0) / 3 blocks of 30.
    assert!(page.contains("<dd>50.0\u{a0}%</dd>"), "average layer savings");
    assert_eq!(data_of(&page)["responses"][0]["ids"], serde_json::json!([7, 7, 7, 7]));
}

#[test]
fn hostile_texts_are_harmless() {
    let hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>{{data}}\"'<!--";
    let mut response = record(6, &[2, 4], &[6, 2, 4]);
    response.id = hostile.to_owned();
    response.prompt = hostile.to_owned();
    response.finish_reason = hostile.to_owned();
    response.settings = serde_json::json!({ hostile: hostile });
    response.tokens[1].text = hostile.to_owned();
    response.tokens[1].exits[0].lens_token = Some(hostile.to_owned());
    let options = ViewOptions { title: hostile.to_owned(), notes: vec![hostile.to_owned()], ..options() };
    let page = render_page(&[response], &options).unwrap();
    assert!(!page.contains("<script>alert") && !page.contains("<img"));
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script>").count(), 2);
    assert_eq!(data_of(&page)["texts"][0], hostile);
    // A mark inside a text is text: the data stands in the page once.
    assert_eq!(page.matches("\"responses\":[").count(), 1);
}

#[test]
fn the_page_asks_for_nothing_from_outside() {
    let page = render_page(&[record(6, &[2], &[6, 2])], &options()).unwrap();
    for outside in ["http:", "https:", "//cdn", "@import", "url(", "src=", "fetch(", "XMLHttpRequest"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn target_is_shown_and_checked() {
    let records = [record(30, &[5, 10], &[30, 5, 10, 30, 30])];
    let with = |target| ViewOptions { target_histogram: Some(target), ..options() };
    let page = render_page(&records, &with(vec![0.25, 0.5, 0.25])).unwrap();
    // Observed 0.25, 0.25, 0.5.
    assert!(page.contains("total variation distance 0.250"));
    assert_eq!(page.matches("class=\"target\"").count(), 3);
    for (target, expected) in [
        (vec![0.5, 0.5], "2 shares for 3 depths"),
        (vec![0.5, 0.5, 0.5], "not a distribution"),
        (vec![f64::NAN, 0.5, 0.5], "not a distribution"),
        (vec![-0.5, 1.0, 0.5], "not a distribution"),
    ] {
        let error = render_page(&records, &with(target)).unwrap_err().to_string();
        assert!(error.starts_with("target_histogram: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn every_group_has_a_headline_of_its_own() {
    // Savings of 1/2 in the first group and of 1/4 in the second; 3/8 of all together is nobody's.
    let half = record(8, &[4, 6], &[8, 4, 4]);
    let quarter = record(8, &[4, 6], &[8, 6, 6]);
    let group = |name: &str, n| ResponseGroup { name: name.to_owned(), n };
    let with = |groups| ViewOptions { groups, ..options() };
    let records = [half, quarter.clone(), quarter];
    let page = render_page(&records, &with(vec![group("Before <1>", 1), group("After", 2)])).unwrap();
    let (_, overview) = page.split_once("<div class=\"overview groups\">").unwrap();
    let (overview, rest) = overview.split_once("</header>").unwrap();
    let (before, after) = overview.split_once("<h2>After</h2>").unwrap();
    assert!(before.contains("<h2>Before &lt;1&gt;</h2>"), "{before}");
    let savings = |share: &str| format!("<dt>average layer savings</dt><dd>{share}\u{a0}%</dd>");
    assert!(before.contains(&savings("50.0")) && before.contains("in 1 response<"), "{before}");
    assert!(after.contains(&savings("25.0")) && after.contains("in 2 responses<"), "{after}");
    assert_eq!(overview.matches("class=\"histogram\"").count(), 2);
    assert!(rest.contains("<b class=\"k0\">4</b></button>"), "no share of both together");
    let error = render_page(&records, &with(vec![group("Before", 1)])).unwrap_err().to_string();
    assert_eq!(error, "the groups of the page have 1 responses together, but 3 were given");
}

#[test]
fn unlikely_exits_are_marked() {
    // 40 tokens exit at a depth where each had a chance of 0.25: z = 30 / sqrt(7.5).
    let mut depths = vec![2; 41];
    depths[0] = 6;
    let page = render_page(&[record(6, &[2], &depths)], &options()).unwrap();
    assert!(page.contains("<tr class=\"unlikely\"><td>2</td><td>40</td><td>40</td><td>10.0</td><td>+10.95</td></tr>"));
}

#[test]
fn responses_without_free_tokens_and_without_title() {
    let page = render_page(&[record(6, &[2], &[6]), record(6, &[2], &[])], &ViewOptions::default()).unwrap();
    assert!(page.contains("No token was free to exit"));
    assert!(page.contains("<h1>Token depths</h1>"));
    assert!(matches!(render_page(&[], &options()), Err(MeasureError::Empty)));
}

#[test]
fn ten_thousand_tokens_stay_below_five_megabytes() {
    let candidates = [5, 10, 15, 20, 25];
    let depths: Vec<usize> = (0..1000).map(|i| if i == 0 { 30 } else { [5, 10, 25, 30, 30][i % 5] }).collect();
    let mut response = record(30, &candidates, &depths);
    for (i, token) in response.tokens.iter_mut().enumerate() {
        token.text = format!(" token{i}");
        for exit in &mut token.exits {
            exit.hazard = 0.123_456;
            exit.lens_token = Some(format!(" readout{}", i % 500));
            exit.lens_kl = Some(12.345_678);
        }
    }
    let page = render_page(&vec![response; 10], &options()).unwrap();
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
}

proptest! {
    #[test]
    fn any_token_text_keeps_the_page_whole(texts in prop::collection::vec("(\\PC|[<>&\"'\\n\\x00]|</span>|<script>){0,6}", 1..8)) {
        let mut depths = vec![2; texts.len()];
        depths[0] = 6;
        let mut response = record(6, &[2, 4], &depths);
        for (token, text) in response.tokens.iter_mut().zip(&texts) {
            token.text.clone_from(text);
            token.exits[0].lens_token = Some(text.clone());
        }
        let page = render_page(&[response], &options()).unwrap();
        let (_, rest) = page.split_once("aria-label=\"Response tokens\">").unwrap();
        let (tokens, _) = rest.split_once("</div>").unwrap();
        prop_assert_eq!(tokens.matches("<span").count(), texts.len());
        prop_assert_eq!(tokens.matches("</span>").count(), texts.len());
        prop_assert_eq!(page.matches("<script").count(), 2);
        data_of(&page);
    }
}
