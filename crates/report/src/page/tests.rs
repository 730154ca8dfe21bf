//! The page of small evaluation runs.
#![expect(clippy::unwrap_used, reason = "tests")]
use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use aloud_measure::evaluation_run::open_runs;
use aloud_measure::test_runs::{Fixture, token_text, write_controls, write_run, write_sweep};

use crate::plot::tests::elements;
use crate::plot::{Medium, to_svg};
use crate::words::{number, reason_of};

fn set(folders: &[PathBuf]) -> RunSet {
    open_runs(folders).unwrap()
}

fn quick<'a>() -> ReportOptions<'a> {
    ReportOptions {
        title: String::new(),
        bootstrap: Bootstrap { n_draws: 100, ..Bootstrap::default() },
        side_by_side: None,
        n_samples: 6,
        token_texts: Vec::new(),
    }
}

/// A page with everything on it.
fn whole() -> (tempfile::TempDir, RunSet) {
    let folder = tempfile::tempdir().unwrap();
    let mut folders = write_controls(folder.path(), 24);
    let sweep = folder.path().join("sweep");
    write_sweep(&sweep, &[-2.0, 0.0, 1.0, 2.0]);
    folders.push(sweep);
    let set = set(&folders);
    (folder, set)
}

#[test]
fn markdown_has_every_record_or_its_reason() {
    let (_folder, set) = whole();
    let text = render_markdown(&set, "A title");
    assert!(text.starts_with("# A title\n\nThese are behavioural dependences"), "{text}");
    for run in &set.runs {
        for record in &run.records {
            let id = record.id.replace('_', "\\_");
            let row = text.lines().find(|line| line.starts_with(&format!("| {id} | "))).unwrap();
            let expected = match (record.value, &record.ci) {
                (Some(value), Some(_)) => number(value, &record.unit),
                (Some(_), None) => "no interval".to_owned(),
                (None, _) => reason_of(record),
            };
            assert!(row.contains(&expected), "{row}: {expected}");
        }
    }
    assert!(text.contains("anchor\\_stability") && text.contains("- **saved:** layers: "));
}

#[test]
fn the_page_has_all_its_parts_and_needs_no_network() {
    let (_folder, set) = whole();
    let text = |id: u32| token_text(id);
    let options = ReportOptions { side_by_side: Some([0, 1]), token_texts: vec![Some(&text), Some(&text)], ..quick() };
    let report = render_report(&set, &options);
    for expected in [
        "they do not observe what the model &quot;really&quot; reasoned.",
        "anchor_stability",
        "the answer depends on more of the trace than in every control",
        "exits − base_noise",
        "Judge: a judge.",
        "base_one_depth (control of exits)",
        "class=\"d5\"",
        "unparsed 3",
    ] {
        assert!(report.html.contains(expected), "{expected}");
    }
    for figure in &report.figures {
        assert!(figure.panels.iter().all(|panel| panel.series().len() <= 3), "{} has too many series", figure.name);
        let caption_end = format!("{}</text>", figure.caption.split(' ').next_back().unwrap());
        for medium in [Medium::Page, Medium::File] {
            let svg = to_svg(figure, medium);
            assert_eq!(elements(&svg)["svg"], 1);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", figure.name);
            assert_eq!(svg.contains("var(--"), medium == Medium::Page, "{}", figure.name);
            assert_eq!(svg.contains(&caption_end), medium == Medium::File, "{}", figure.name);
        }
    }
    let names: Vec<&str> = report.figures.iter().map(|figure| figure.name.as_str()).collect();
    let expected = "savings.average depth.quantiles exits.rate exits.distance_to_target exits.reliability depth.by_token_class \
                    depth.by_surprisal depth.regret savings.speed depth.exchange_rate accuracy.strict length.trace \
                    quality.criteria text.multiples early_answering.curve early_answering.curve.controls \
                    necessity.with_and_without necessity.log_probabilities horizon.without_trace written_steps.coverage \
                    written_steps.unsupported dial.accuracy dial.multiples dial.depths.offset dial.length dial.horizon \
                    length.funnel";
    for metric in expected.split(' ') {
        assert!(names.contains(&format!("gsm8k-{metric}").as_str()), "{metric} is missing from {names:?}");
    }
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "ids of figures are unique");
    // It needs no network.
    for word in ["src=", "@import", "url(http", "<link rel=\"stylesheet"] {
        assert!(!report.html.contains(word), "{word}");
    }
    let without_namespace = report.html.replace("http://www.w3.org/2000/svg", "").replace("http:%2F%2Fwww.w3.org", "");
    assert!(!without_namespace.contains("href=\"http"));
}

#[test]
fn numbers_without_an_interval_are_not_printed_and_reasons_are() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), &Fixture::default());
    let html = render_report(&set(&[folder.path().to_path_buf()]), &quick()).html;
    // text.divergence_from_base is 0.12 without an interval.
    assert!(html.contains("text.divergence_from_base (nats)</th><td class=\"none-cell\">–<small>no interval"), "kl");
    assert!(html.contains("–<small>no base pass</small>"));
    assert!(
        html.contains("No judge was run. These are surface statistics; they do not measure coherence or correctness.")
    );
    assert!(html.contains("no run `base`"));
}

#[test]
fn what_models_and_files_say_is_escaped() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), &Fixture::default());
    let evil = "</script><script>alert(1)</script>";
    let mut runs = set(&[folder.path().to_path_buf()]);
    let run = &mut runs.runs[0];
    run.name = evil.to_owned();
    run.remarks.push(evil.to_owned());
    run.manifest.model_source = evil.to_owned();
    for sample in &mut run.samples {
        sample.completion = evil.to_owned();
        sample.extracted.strict = Some(evil.to_owned());
        sample.gold = Some(evil.to_owned());
    }
    for record in &mut run.records {
        record.unit = evil.to_owned();
        record.extra.insert(evil.to_owned(), evil.into());
    }
    runs.left_out.push(aloud_measure::evaluation_run::LeftOut { folder: PathBuf::from(evil), reason: evil.to_owned() });
    let text = |_: u32| evil.to_owned();
    for token_texts in [vec![None], vec![Some(&text as TokenText<'_>)]] {
        let options = ReportOptions { title: evil.to_owned(), side_by_side: Some([0, 0]), token_texts, ..quick() };
        let html = render_report(&runs, &options).html;
        assert_eq!(html.matches("<script").count(), 1);
        assert!(!html.contains("alert(1)<"));
    }
}

#[test]
fn a_run_without_rows_and_records_still_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), &Fixture::default());
    for file in ["metrics.json", "samples.jsonl", "tokens.jsonl", "elicitations.jsonl"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    let report = render_report(&set(&[folder.path().to_path_buf()]), &quick());
    assert!(report.html.contains("there is no metrics.json"));
    assert!(report.figures.is_empty());
}

#[test]
fn records_of_a_family_are_of_all_its_items() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), &Fixture::default());
    let mut runs = set(&[folder.path().to_path_buf()]);
    for record in &mut runs.runs[0].records {
        record.context.task = "serial".to_owned();
    }
    let report = render_report(&runs, &quick());
    assert_eq!(runs.runs[0].tasks(), ["serial", "gsm8k"]);
    let names: Vec<&str> = report.figures.iter().map(|figure| figure.name.as_str()).collect();
    assert!(names.contains(&"serial-depth.quantiles"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("gsm8k-")), "{names:?}");
}

#[test]
fn a_model_without_exits_stands_beside_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = set(&write_controls(folder.path(), 8));
    let base = runs.runs.iter_mut().find(|run| run.name == "base").unwrap();
    let aoc = base.records.iter_mut().find(|record| record.id == "early_answering.area").unwrap();
    aoc.id = "early_answering.area.full_depth".to_owned();
    let html = render_report(&runs, &quick()).html;
    assert!(!html.contains("<th scope=\"row\">early_answering.area.full_depth</th><td class=\"none"));
    let row = html.split("<th scope=\"row\">early_answering.area</th>").nth(1).unwrap();
    assert!(row.starts_with("<td>40.0\u{a0}%"), "{}", &row[..200]);
}

#[test]
fn hypotheses_have_their_contrasts_their_numbers_and_their_controls() {
    let folder = tempfile::tempdir().unwrap();
    let html = render_report(&set(&write_controls(folder.path(), 24)), &quick()).html;
    let row = html.split("<th scope=\"row\">exits: H1</th>").nth(1).unwrap();
    let row = &row[..row.find("</tr>").unwrap()];
    // The gate of base_noise takes its contrast; the tier is too small for a verdict.
    assert!(row.contains("n 2") && row.contains("unadjusted") && row.contains("not testable: the tier toy"), "{row}");
    assert!(row.contains("decides nothing") || row.contains("base_noise is no control"), "{row}");
    let controls = html.split("is it one?").nth(1).unwrap();
    assert!(controls.contains("<th scope=\"row\">exits: exits_off</th>") && controls.contains("no: "), "{controls}");
}

#[test]
fn the_page_opens_with_the_answers_and_one_table_of_model_and_base() {
    let folder = tempfile::tempdir().unwrap();
    let html = render_report(&set(&write_controls(folder.path(), 24)), &quick()).html;
    let main = html.split("<main>").nth(1).unwrap();
    let answers = main.find("<dt>saved</dt>").unwrap();
    let (table, figure) = (main.find("<table").unwrap(), main.find("<figure").unwrap());
    assert!(answers < table && table < figure && figure < main.find("Gates").unwrap());
    let head = &main[table..table + main[table..].find("</thead>").unwrap()];
    assert!(head.contains(">base<") && head.contains(">exits<") && head.contains(">exits − base<"), "{head}");
    assert!(!head.contains("base_noise"), "{head}");
    assert!(main.contains("not claimed (not testable): that the answer depends on more of the trace"));
}

#[test]
fn runs_of_an_earlier_version_are_shown_with_todays_names() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/earlier_run"));
    let runs = set(&[folder]);
    assert!(runs.left_out.is_empty() && runs.runs.iter().all(|run| run.remarks.is_empty()), "{:?}", runs.left_out);
    let names: Vec<&str> = runs.runs.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(names, ["base", "exits", "base_one_depth"]);
    let report = render_report(&runs, &quick());
    for expected in [
        "exits against base: 2 items of serial, tier standard",
        "layers: 24.3\u{a0}% (23.5 to 25.1)",
        "accuracy: 99.0\u{a0}% (98.3 to 99.4), base 100.0\u{a0}% (99.7 to 100.0); −1.0\u{a0}pp (−1.6 to −0.5)",
        "<th scope=\"row\">layers saved</th>",
        "base_one_depth (control of exits)",
        "accuracy.at_steps.1",
        "early_answering.area.full_depth",
    ] {
        assert!(report.html.contains(expected), "{expected}");
    }
    for earlier in ["A1.als", "B3.", "D1.", "&quot;ee&quot;", ">ee<", "ee_off"] {
        assert!(!report.html.contains(earlier), "{earlier}");
    }
    assert!(report.figures.iter().any(|figure| figure.name == "serial-depth.quantiles"), "rows are read too");
}
