//! How often verdicts falsely say "supported", by simulation from recorded items: `cargo run --release -p aloud-lab --example
//! verdict_calibration -- --runs 5000`. Other items: `--record MODEL_RUN CONTROL_RUN` prints what two evaluation runs recorded, as
//! `--items FILE` reads it.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::path::Path;

use aloud_compare::verdicts::{CalibratedHypothesis, NullSimulation, RecordedItems};
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::statistics::{Bootstrap, wilson_interval};
use aloud_report::table::{Align, Table};

/// Items of the tiny reasoner after a short stage 1, with its own exits and with exits off.
const RECORDED: &str = include_str!("../../../compare/tests/data/recorded_items.json");

/// Largest share of false support, as the upper end of its 95 % interval.
const MOST: f64 = 0.05;

/// What is simulated: whose size it is, the hypothesis, and its number of items.
const SIZES: [(&str, CalibratedHypothesis, usize); 9] = [
    ("smallest that is judged", CalibratedHypothesis::EarlyAnswering, 100),
    ("standard, one task", CalibratedHypothesis::EarlyAnswering, 200),
    ("standard, serial", CalibratedHypothesis::EarlyAnswering, 600),
    ("full, GSM8K", CalibratedHypothesis::EarlyAnswering, 1319),
    ("smallest that is judged", CalibratedHypothesis::Horizon, 5),
    ("half of standard", CalibratedHypothesis::Horizon, 13),
    ("standard", CalibratedHypothesis::Horizon, 25),
    ("four times standard", CalibratedHypothesis::Horizon, 100),
    ("full", CalibratedHypothesis::Horizon, 200),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| arguments.iter().position(|each| each == flag).map(|place| place + 1);
    if let Some(place) = after("--record") {
        let [model, control] = arguments.get(place..place + 2).unwrap_or_default() else {
            return Err("--record needs the folders of two runs: the model's and a control's".into());
        };
        let (model, control) = (EvaluationRun::open(Path::new(model))?, EvaluationRun::open(Path::new(control))?);
        println!("{}", serde_json::to_string(&RecordedItems::of_runs(&model, &control))?);
        return Ok(());
    }
    let value = |flag: &str| after(flag).and_then(|place| arguments.get(place));
    let runs: u64 = value("--runs").map_or(Ok(400), |runs| runs.parse())?;
    let recorded: RecordedItems = match value("--items") {
        Some(file) => serde_json::from_str(&std::fs::read_to_string(file)?)?,
        None => serde_json::from_str(RECORDED)?,
    };
    let mut table = Table::new([
        ("tier", Align::Left),
        ("hypothesis", Align::Left),
        ("items", Align::Right),
        ("equal control", Align::Left),
        ("supported", Align::Right),
        ("of", Align::Right),
        ("95 % upper bound", Align::Right),
    ]);
    let mut within = true;
    for (tier, hypothesis, n_items) in SIZES {
        for (equal_control, name) in ["base", "base_noise", "exits_off"].into_iter().enumerate() {
            let null = NullSimulation { hypothesis, equal_control, n_items, bootstrap: Bootstrap::headline() };
            let supported = count(&null, &recorded, runs);
            let most = wilson_interval(supported, runs as usize).map_or(1.0, |[_, most]| most);
            within &= most <= MOST;
            let (words, items) = match hypothesis {
                CalibratedHypothesis::EarlyAnswering => ("H1", n_items.to_string()),
                CalibratedHypothesis::Horizon => ("H4", format!("{n_items} a number of steps")),
            };
            table.row([
                tier.to_owned(),
                words.to_owned(),
                items,
                name.to_owned(),
                supported.to_string(),
                runs.to_string(),
                format!("{:.2} %", 100.0 * most),
            ]);
        }
    }
    print!("{table}");
    if within { Ok(()) } else { Err(format!("more than {:.0} % of false support", 100.0 * MOST).into()) }
}

/// Simulations that end in "supported", on all processors.
fn count(null: &NullSimulation, recorded: &RecordedItems, runs: u64) -> usize {
    let n_threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let part = |thread: u64| {
        (thread..runs).step_by(n_threads as usize).filter(|run| null.is_supported(recorded, *run)).count()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|thread| scope.spawn(move || part(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(runs as usize)).sum()
    })
}
