//! The joint log-probability of (exit depth, token): against the engine's replay, and sums over everything that a step can do.

use aloud_engine::read::reading::RecordedSequence;
use aloud_engine::read::replay::replay;
use aloud_model::decoder::{BatchError, Policy, Trained};
use aloud_train::stage2::joint_likelihood::{StepLikelihood, joint_likelihood};

use super::recorded::{Batch, Case, DISTRIBUTION};
use crate::fixtures::Named;

#[test]
fn values_are_those_of_the_engines_replay() {
    for case in [Case::llama(), Case::qwen()] {
        let (decoder, policy) = (case.decoder(), case.policy());
        let full = case.config.n_layers;
        for batch in [case.mixed(), case.batch(|_| 1), case.batch(|_| full)] {
            let steps = batch.read(&decoder, Some(&policy));
            assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [6, 1, 4, 1, 5]);
            for (sequence, steps) in batch.sequences().iter().zip(&steps) {
                let RecordedSequence { prompt, response, depths } = *sequence;
                let offset = DISTRIBUTION.exit_offset.unwrap().into();
                let temperature = DISTRIBUTION.temperature;
                let replayed = replay(&decoder, &policy, prompt, response, depths, &offset, temperature).unwrap();
                for (step, replayed) in steps.iter().zip(&replayed) {
                    assert!((step.token - replayed.log_probability).abs() < 1e-5, "{step:?} {replayed:?}");
                    assert!((step.joint() - replayed.log_joint).abs() < 1e-5, "{step:?} {replayed:?}");
                    assert_eq!(step.exit_entropies.len(), replayed.exits.len());
                    for (entropy, exit) in step.exit_entropies.iter().zip(&replayed.exits) {
                        let hazard = f64::from(exit.hazard);
                        let expected = -hazard * hazard.ln() - (1.0 - hazard) * (1.0 - hazard).ln();
                        assert!((f64::from(*entropy) - expected).abs() < 1e-5, "{entropy} {expected}");
                    }
                }
            }
        }
    }
}

#[test]
fn without_a_policy_only_tokens_count() {
    let case = Case::llama();
    let decoder = case.decoder();
    let batch = case.batch(|_| case.config.n_layers);
    // Heads without adapters: the same model.
    let heads = Policy::new(&case.cpu, None, case.heads.clone());
    let (with, without) = (batch.read(&decoder, Some(&heads)), batch.read(&decoder, None));
    for (with, without) in with.iter().flatten().zip(without.iter().flatten()) {
        assert_eq!((with.token, with.token_entropy), (without.token, without.token_entropy));
        assert_eq!((without.exit, without.exit_entropies.len()), (0.0, 0));
    }
    assert!(with.iter().any(|steps| steps.len() > 1 && steps[1].exit < -0.1));
}

/// All (depth, token) pairs of the last step of a response, and the entropies that follow from them.
#[test]
fn probabilities_of_all_actions_sum_to_one() {
    let case = Case::qwen();
    let (decoder, policy) = (case.decoder(), case.policy());
    let vocabulary = 0..case.config.vocab_size as u32;
    let full = case.config.n_layers;
    let prefix = [4, 9, 2];
    for n_before in 0..3 {
        // Earlier steps stop here and there; step 0 never does.
        let earlier: Vec<usize> = [full, 1].into_iter().take(n_before).collect();
        let depths = if n_before == 0 { vec![full] } else { [&case.heads.candidates[..], &[full]].concat() };
        let mut batch = Batch::default();
        for depth in &depths {
            for token in vocabulary.clone() {
                batch.token_ids.push([&prefix[..], &[7, 1][..n_before], &[token]].concat());
                batch.prompt_lens.push(prefix.len());
                batch.depths.push([&earlier[..], &[*depth]].concat());
            }
        }
        let steps = batch.read(&decoder, Some(&policy));
        let last: Vec<&StepLikelihood> = steps.iter().map(|steps| steps.last().unwrap()).collect();
        let total: f64 = last.iter().map(|step| f64::from(step.joint()).exp()).sum();
        assert!((total - 1.0).abs() < 1e-5, "{n_before} steps before: {total}");
        for of_depth in last.chunks(case.config.vocab_size) {
            let tokens: f64 = of_depth.iter().map(|step| f64::from(step.token).exp()).sum();
            assert!((tokens - 1.0).abs() < 1e-5, "{n_before} steps before: tokens {tokens}");
            let entropy: f64 = of_depth.iter().map(|step| -f64::from(step.token).exp() * f64::from(step.token)).sum();
            assert!(entropy > 0.1);
            for step in of_depth {
                assert!((f64::from(step.token_entropy) - entropy).abs() < 1e-5, "{} {entropy}", step.token_entropy);
            }
        }
        // A step has a decision at every candidate up to where it stopped.
        let n_decisions: Vec<usize> =
            last.chunks(case.config.vocab_size).map(|steps| steps[0].exit_entropies.len()).collect();
        assert_eq!(n_decisions, if n_before == 0 { vec![0] } else { vec![1, 2, 2] });
    }
}

#[test]
fn prompts_and_first_tokens_have_no_exit() {
    let case = Case::llama();
    let batch = case.mixed();
    let decoder = case.decoder();
    let steps = batch.read(&decoder, Some(&case.policy()));
    let mut other = case.heads.clone();
    for bias in &mut other.biases {
        *bias += 2.5;
    }
    let moved = batch.read(&decoder, Some(&Policy::new(&case.cpu, Some(&case.lora), other)));
    for (steps, moved) in steps.iter().zip(&moved) {
        assert_eq!(steps[0], moved[0]);
        assert_eq!((steps[0].exit, steps[0].exit_entropies.len()), (0.0, 0));
        for (step, moved) in steps[1..].iter().zip(&moved[1..]) {
            assert_eq!(step.token, moved.token, "under prescribed depths, heads say nothing about tokens");
            assert!((step.exit - moved.exit).abs() > 0.1, "{} {}", step.exit, moved.exit);
        }
    }

    // A loss of first tokens only: heads have no part in it, the trunk has.
    let mut first_only = batch.clone();
    for d_joint in &mut first_only.d_joint {
        d_joint[1..].fill(0.0);
    }
    let of_heads = |gradients: &Named| -> Vec<f32> {
        gradients.iter().filter(|(name, _)| name.starts_with("head.")).flat_map(|(_, values)| values.clone()).collect()
    };
    let (_, gradients) = first_only.gradients(&decoder, Some(&case.policy()), Trained::Adapters);
    assert!(of_heads(&gradients).iter().all(|g| *g == 0.0));
    assert!(gradients["layers.0.self_attn.v_proj.lora_b"].iter().any(|g| g.abs() > 1e-4));
    let (_, gradients) = batch.gradients(&decoder, Some(&case.policy()), Trained::Adapters);
    assert!(of_heads(&gradients).iter().all(|g| *g != 0.0));
}

/// The exits that a step did not reach do not exist, and what earlier tokens froze is what later ones see.
#[test]
fn exits_beyond_a_stop_do_not_matter() {
    let case = Case::llama();
    let decoder = case.decoder();
    let batch = case.batch(|_| 2);
    let steps = batch.read(&decoder, Some(&case.policy()));
    let mut other = case.heads.clone();
    other.weights[2].fill(9.0);
    assert_eq!(steps, batch.read(&decoder, Some(&Policy::new(&case.cpu, Some(&case.lora), other))));
    let (_, gradients) = batch.gradients(&decoder, Some(&case.policy()), Trained::Adapters);
    assert!(gradients["head.4.weight"].iter().all(|g| *g == 0.0));
    assert_eq!(gradients["head.4.bias"], [0.0]);
    assert!(gradients["head.2.bias"][0] != 0.0);
}

#[test]
fn empty_and_impossible_records() {
    let case = Case::qwen();
    let (decoder, policy) = (case.decoder(), case.policy());
    let read =
        |sequences: &[RecordedSequence<'_>]| joint_likelihood(&decoder, Some(&policy), sequences, DISTRIBUTION, None);
    assert!(read(&[]).unwrap().is_empty());
    let empty = RecordedSequence::new(&[1, 2], 2, &[]);
    assert_eq!(read(&[empty]).unwrap(), [Vec::new()]);
    // A response without tokens among others takes nothing from them.
    let some = RecordedSequence::new(&[1, 2, 3, 4], 2, &[4, 1]);
    let (alone, among) = (read(&[some]).unwrap(), read(&[empty, some, empty]).unwrap());
    assert_eq!(among[1], alone[0]);
    assert_eq!([among[0].len(), among[2].len()], [0, 0]);
    // In the prompt, in the response, and at its end, which is read but never consumed.
    for token_ids in [[1, 11, 3, 4], [1, 2, 11, 4], [1, 2, 3, 11]] {
        let unknown = RecordedSequence::new(&token_ids, 2, &[4, 1]);
        let expected = BatchError::UnknownToken { id: 11, vocab_size: 11 };
        assert_eq!(read(&[some, unknown]).unwrap_err(), expected);
        let (prompt, tokens) = token_ids.split_at(2);
        assert_eq!(replay(&decoder, &policy, prompt, tokens, &[4, 1], &0.0.into(), 1.0).unwrap_err(), expected);
    }
    // The last token is never consumed: 17 tokens fit a context of 16.
    let long = |n: usize| {
        let depths = vec![4; n - 1];
        read(&[RecordedSequence::new(&vec![1; n], 1, &depths)])
    };
    assert_eq!(long(17).unwrap()[0].len(), 16);
    assert_eq!(long(18).unwrap_err(), BatchError::TooLong { length: 17, context: 16 });
}
