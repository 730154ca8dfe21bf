//! Classes of tokens by a table, and depths by class by hand.
#![expect(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;

use super::*;
use crate::metrics::item_rows::tests::{edited_items, items, setting};

#[test]
fn function_words_are_150() {
    assert_eq!(FUNCTION_WORDS.len(), 150);
}

#[test]
fn classes_of_a_text() {
    use TokenClass::{
        Content, DigitCont, DigitFirst, Discourse, Function, Newline, Operator, Punct, ResultFirst, Special, WordCont,
    };
    let expected = [
        ("<think>", Special),
        ("\n", Newline),
        ("So", Discourse),
        (" so", Function),
        (" she", Function),
        (" multi", Content),
        ("pl", WordCont),
        ("ies", WordCont),
        (" ", Punct),
        ("1", DigitFirst),
        ("2", DigitCont),
        (" x", Operator),
        (" 3", DigitFirst),
        (" =", Operator),
        (" ", Punct),
        ("3", ResultFirst),
        ("6", DigitCont),
        (".", Punct),
        ("5", DigitCont),
        (",", Punct),
        (" this", Function),
        (" 7", DigitFirst),
        (" is", Function),
        (" $", Punct),
        ("1", ResultFirst),
        (",", Punct),
        ("250", DigitCont),
        (" \\times", Operator),
        (" 2", DigitFirst),
        (" =", Operator),
        (" -", Operator),
        ("4", ResultFirst),
        (" x", Operator),
        (".\n\n", Newline),
        ("Wait", Discourse),
        (",", Punct),
        (" don", Content),
        ("'t", WordCont),
        ("</think>", Special),
        ("\u{e4}pfel", Content),
    ];
    let tokens: Vec<TokenText<'_>> = expected.iter().map(|(text, _)| TokenText { text, special: false }).collect();
    let found = classify_tokens(&tokens);
    for ((text, expected), found) in expected.iter().zip(found) {
        assert_eq!(found, *expected, "{text:?}");
    }
    assert_eq!(classify_tokens(&[TokenText { text: "so", special: true }]), [Special]);
    let y = [TokenText { text: "is", special: false }, TokenText { text: " x", special: false }];
    assert_eq!(classify_tokens(&y), [Function, Content]);
}

#[test]
fn classes_explain_depth_if_they_differ() {
    // 60 content tokens at 28, 60 operators at 5, and one special token that is too rare for a class of its own.
    let depths = [vec![28; 61], vec![5; 60], vec![28]].concat();
    use TokenClass::{Content, Operator, Special};
    let classes = [vec![Special], vec![Content; 60], vec![Operator; 60], vec![Special]].concat();
    let classified = edited_items(&[&depths, &depths], |_, _, row| row.class.clone_from(&classes));
    let record = token_class_record(&classified, &setting());
    assert!((record.value.unwrap() - 1.0).abs() < 1e-12);
    let rows = record.extra["classes"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["class"].as_str().unwrap()).collect();
    assert_eq!(names, ["content", "operator", "other"]);
    assert_eq!((&rows[1]["mean_depth"]["value"], &rows[1]["eer"]["value"]), (&5.0.into(), &1.0.into()));
    assert_eq!(rows[1]["n"], 120);
    assert_eq!(record.extra["by_quartile"][0]["mean_depth"]["value"], 28.0);
    record.check().unwrap();
    let record = token_class_record(&items(&[&[28, 5]]), &setting());
    assert_eq!(record.null_reason.as_deref(), Some("no_classified_tokens"));
    assert_eq!(record.exclusions["samples_without_classes"], 1);
}

proptest! {
    #[test]
    fn any_text_has_classes(texts in prop::collection::vec("\\PC{0,6}|[0-9.,=$ \n-]{0,3}", 0..20)) {
        let tokens: Vec<TokenText<'_>> = texts.iter().map(|text| TokenText { text, special: false }).collect();
        prop_assert_eq!(classify_tokens(&tokens).len(), texts.len());
    }
}
