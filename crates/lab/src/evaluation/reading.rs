//! Teacher-forced readings of a model's traces, for the metrics that compare its exits with the teacher's targets and with the
//! depths from which the base model's readout no longer changes.

use aloud_session::error::SessionError;
use std::collections::{BTreeMap, BTreeSet};

use aloud_measure::metrics::exit_distribution::HazardReading;
use aloud_measure::metrics::settling::{SettledToken, SettlingCriterion, settling_depths};
use aloud_measure::run_files::TokenRow;
use aloud_method::hazard::cut;

use super::base_reading::{SETTLED_BITS, TokenReading, exit_logits, lens_depths, read_response};
use super::elicitation::Traced;
use super::examination::Examination;
use super::samples::Readings;
use super::subject::{Models, Subject};
use super::training::Target;

/// A stricter threshold of settling, bits.
const SETTLED_BITS_STRICT: f64 = 0.25;

/// Threshold by the training criterion, nats of KL.
const SETTLED_NATS: f64 = 0.1;

/// What the traces of a model were read for.
pub(crate) struct ExitReadings {
    /// The items whose traces were read.
    pub(crate) items: BTreeSet<String>,
    /// Hazards with exits off, by item; none where exit heads do not decide. Or why there are none: the targets are not known.
    pub(crate) hazards: Result<BTreeMap<String, HazardReading>, &'static str>,
    /// Depths of tokens beside the depths at which they settled, by several criteria.
    pub(crate) criteria: Vec<SettlingCriterion>,
    /// What was read.
    pub(crate) lens: String,
}

impl ExitReadings {
    /// Reads traces with the base model, where `known` does not say already what it makes of them, and, if the model has exit
    /// heads that decide, with exits off.
    pub(crate) fn read(
        models: &Models,
        subject: &Subject<'_>,
        exam: &Examination<'_>,
        traces: &[Traced<'_>],
        known: &Readings,
    ) -> Result<Self, SessionError> {
        let candidates = models.trained.head_depths().unwrap_or_default();
        let depths = lens_depths(models.base(), &subject.candidates);
        let n_blocks = subject.decoder.n_blocks();
        let with_full: Vec<usize> = depths.iter().copied().chain([n_blocks]).collect();
        let (mut items, mut hazards) = (BTreeSet::new(), BTreeMap::new());
        let mut settled: [Vec<Vec<SettledToken>>; 3] = Default::default();
        for Traced { asked, sample, tokens } in traces {
            let prompt = &exam.items()[asked.item].prompt.token_ids;
            let new;
            let readings = if let Some(readings) = known.get(&sample.key) {
                readings
            } else {
                new = read_response(models.base(), prompt, &tokens.ids, &depths)?;
                &new
            };
            let eligible: Vec<usize> =
                tokens.eligible().enumerate().filter(|(_, eligible)| *eligible).map(|(token, _)| token).collect();
            for (of_items, (distances, threshold)) in settled.iter_mut().zip(CRITERIA) {
                of_items.push(settle(tokens, readings, &eligible, &with_full, distances, threshold));
            }
            items.insert(sample.item_id.clone());
            if let (Some(policy), Some(offset), Ok(target)) = (subject.policy, subject.offset(), subject.target()) {
                let logits = exit_logits(subject.decoder, policy, prompt, &tokens.ids)?;
                let offsets = offset.of_steps(&tokens.ids);
                let student = |token: &usize| -> Vec<f64> {
                    logits[*token].iter().map(|logit| subject.hazard(*logit, offsets[*token])).collect()
                };
                let at_candidates: Vec<usize> = depths
                    .iter()
                    .enumerate()
                    .filter(|(_, depth)| candidates.contains(depth))
                    .map(|(at, _)| at)
                    .collect();
                let teacher = |token: &usize| -> Vec<f64> {
                    let kls = &readings[*token].lens_kl;
                    at_candidates.iter().map(|at| target_hazard(target, kls[*at])).collect()
                };
                let reading = HazardReading {
                    student: eligible.iter().map(student).collect(),
                    teacher: eligible.iter().map(teacher).collect(),
                };
                hazards.insert(sample.item_id.clone(), reading);
            }
        }
        let names = ["jsd_bits", "jsd_bits", "kl_nats"];
        let criteria = names
            .into_iter()
            .zip(CRITERIA)
            .zip(settled)
            .map(|((name, (_, threshold)), items)| SettlingCriterion { name: name.to_owned(), threshold, items });
        let lens = if depths.len() + 1 == n_blocks { "plain, at every block" } else { "plain, at the candidates" };
        let hazards = match (subject.offset(), subject.target()) {
            (Some(_), Err(reason)) => Err(reason),
            _ => Ok(hazards),
        };
        Ok(Self { items, hazards, criteria: criteria.collect(), lens: lens.to_owned() })
    }
}

/// Hazard of a target at a lens KL (nats), as stage 1 had it.
fn target_hazard(target: &Target, kl: f64) -> f64 {
    let hazard = aloud_method::targets::target_hazard(kl, target.kl_factor);
    if target.is_cut { cut(hazard) } else { hazard }
}

/// Distances of the lenses of a token.
type LensDistances = fn(&TokenReading) -> &[f64];

const CRITERIA: [(LensDistances, f64); 3] = [
    (|reading| &reading.lens_js_bits, SETTLED_BITS),
    (|reading| &reading.lens_js_bits, SETTLED_BITS_STRICT),
    (|reading| &reading.lens_kl, SETTLED_NATS),
];

fn settle(
    tokens: &TokenRow,
    readings: &[TokenReading],
    eligible: &[usize],
    depths: &[usize],
    distances: LensDistances,
    threshold: f64,
) -> Vec<SettledToken> {
    eligible
        .iter()
        .filter_map(|&token| {
            let distances: Vec<f64> = distances(&readings[token]).iter().copied().chain([0.0]).collect();
            let settled = settling_depths(depths, &distances, threshold)?;
            Some(SettledToken { depth: tokens.depth[token], settled })
        })
        .collect()
}
