//! Plans: every sample once an epoch, limits kept, nothing left to chance.

use std::collections::BTreeMap;

use aloud_train::stage1::plan::{Plan, Sample};
use proptest::prelude::*;

fn plan(lens: &[usize], exit_samples: u32, tokens_per_step: usize, accumulation: u32) -> Plan {
    // Traces are numbered from 10, so that a position is never taken for an index.
    let traces = lens.iter().enumerate().map(|(i, &len)| (i + 10, len)).collect();
    Plan { seed: 1, traces, exit_samples, tokens_per_step, accumulation }
}

#[test]
fn a_plan_by_hand() {
    // One trace of 6 rows, 3 patterns: 18 rows, in micro batches of at most 12.
    let steps = plan(&[6], 3, 12, 1).epoch(0);
    assert_eq!(steps.len(), 1, "a trace is never divided between steps");
    let sample = |pattern| Sample { trace: 10, pattern };
    assert_eq!(steps[0].micro_batches, [vec![sample(0), sample(1)], vec![sample(2)]]);
    // A sample longer than the limit is alone.
    assert_eq!(plan(&[20], 2, 12, 1).epoch(0)[0].micro_batches.len(), 2);
    // Four traces of 5 rows, two patterns: 10 rows a trace, two traces a step of 2 * 10 rows.
    let steps = plan(&[5; 4], 2, 10, 2).epoch(0);
    assert_eq!(steps.iter().map(|step| step.samples().count()).collect::<Vec<_>>(), [4, 4]);
    assert!(plan(&[], 4, 10, 1).epoch(0).is_empty());
}

#[test]
fn epochs_differ_and_repeat() {
    let plan = plan(&[3, 4, 5, 6, 7, 8, 9], 2, 16, 1);
    assert_eq!(plan.epoch(3), plan.epoch(3));
    assert_ne!(
        plan.epoch(0).iter().flat_map(|step| step.samples().collect::<Vec<_>>()).collect::<Vec<_>>(),
        plan.epoch(1).iter().flat_map(|step| step.samples().collect::<Vec<_>>()).collect::<Vec<_>>()
    );
}

proptest! {
    #[test]
    fn every_sample_is_used_once_and_limits_hold(
        lens in prop::collection::vec(1_usize..50, 0..30),
        exit_samples in 1_u32..6,
        tokens_per_step in 1_usize..100,
        accumulation in 1_u32..4,
        epoch in 0_u32..5,
    ) {
        let plan = plan(&lens, exit_samples, tokens_per_step, accumulation);
        let mut uses = BTreeMap::new();
        for step in plan.epoch(epoch) {
            prop_assert_eq!(step.epoch, epoch);
            let rows = |samples: &[Sample]| samples.iter().map(|sample| lens[sample.trace - 10]).sum::<usize>();
            for micro_batch in &step.micro_batches {
                prop_assert!(!micro_batch.is_empty());
                prop_assert!(micro_batch.len() == 1 || rows(micro_batch) <= tokens_per_step);
            }
            let samples: Vec<Sample> = step.samples().collect();
            let one_trace = samples.iter().all(|sample| sample.trace == samples[0].trace);
            prop_assert!(one_trace || rows(&samples) <= tokens_per_step * accumulation as usize);
            for sample in samples {
                uses.entry(sample.trace).or_insert_with(Vec::new).push(sample.pattern);
            }
        }
        prop_assert_eq!(uses.len(), lens.len());
        prop_assert!(uses.values().all(|patterns| patterns.iter().copied().eq(0..exit_samples)));
    }
}
