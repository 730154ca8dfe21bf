//! The gradient of the joint log-probability of (exit depth, token): against finite differences, and sums.

use std::collections::{BTreeMap, BTreeSet};

use aloud_kernels::cpu::Cpu;
use aloud_model::decoder::{Decoder, Gradients, Policy, Trained};
use aloud_train::stage2::joint_likelihood::{LikelihoodGradient, joint_likelihood};

use super::recorded::{Batch, Case, DISTRIBUTION, noise};
use crate::fixtures::assert_near;

/// Every parameter of model, adapters and heads, to be changed in place.
fn visit(decoder: &mut Decoder<Cpu>, policy: Option<&mut Policy<Cpu>>, f: &mut dyn FnMut(&str, &mut [f32])) {
    decoder.update_parameters(&mut |name, values| f(name, values));
    if let Some(policy) = policy {
        policy.update_parameters(&mut |name, _, values| f(name, values));
    }
}

/// Derivatives of [`Batch::objective`] along a direction in every parameter, against central differences of fourth
/// order. The direction leans towards the gradient, so that there is something to measure, and has a random part
/// everywhere, so that an entry that is wrongly zero shows.
fn check_by_differences(case: &Case, batch: &Batch, with_policy: bool, what: &str) {
    let mut decoder = case.decoder();
    let mut policy = with_policy.then(|| case.policy());
    let (_, gradients) = batch.gradients(&decoder, policy.as_ref(), Trained::Full);
    let mut parameters = Vec::new();
    visit(&mut decoder, policy.as_mut(), &mut |name, values| parameters.push((name.to_owned(), values.to_vec())));
    assert_eq!(gradients.len(), parameters.len(), "{what}: a gradient of every parameter");
    for (number, (name, start)) in parameters.iter().enumerate() {
        let gradient = gradients.get(name).unwrap_or_else(|| panic!("{what}: no gradient of {name}"));
        assert_eq!(gradient.len(), start.len(), "{what}: {name}");
        let mean_square = start.iter().map(|x| x * x).sum::<f32>() / start.len() as f32;
        let size = mean_square.sqrt().max(0.1);
        let toward = |g: f32| if g == 0.0 { 0.0 } else { g.signum() };
        let direction: Vec<f32> = (gradient.iter().enumerate())
            .map(|(i, g)| size * (0.5 * toward(*g) + noise(1000 + number as u64, i)))
            .collect();
        let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let mut at = |step: f32| {
            visit(&mut decoder, policy.as_mut(), &mut |visited, values| {
                if visited == name {
                    for ((value, start), d) in values.iter_mut().zip(start).zip(&direction) {
                        *value = start + step * d;
                    }
                }
            });
            batch.objective(&decoder, policy.as_ref())
        };
        let h = 0.02;
        let found = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * f64::from(h));
        at(0.0);
        assert!(
            (found - expected).abs() <= 1e-4 + 6e-3 * expected.abs(),
            "{what}, {name}: {found} by differences, {expected} by the backward"
        );
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let llama = Case::llama();
    check_by_differences(&llama, &llama.mixed(), true, "tied, mixed depths");
    let qwen = Case::qwen();
    check_by_differences(&qwen, &qwen.mixed(), true, "mixed depths");
    check_by_differences(&qwen, &qwen.batch(|_| 1), true, "all stop at the first candidate");
    check_by_differences(&qwen, &qwen.batch(|_| 4), true, "none stops");
    check_by_differences(&qwen, &qwen.batch(|_| 4), false, "no policy");
}

#[test]
fn one_token_responses_alone_have_gradients_too() {
    let case = Case::qwen();
    let whole = case.mixed();
    let single = |s: usize| Batch { d_joint: vec![vec![0.7]], ..whole.only(s) };
    // Of a prompt of one token, queries and keys of the only position cannot matter: attention has nothing to choose.
    let (_, gradients) = single(1).gradients(&case.decoder(), Some(&case.policy()), Trained::Full);
    assert!(gradients["model.layers.0.self_attn.v_proj.weight"].iter().any(|g| g.abs() > 1e-4));
    assert!(gradients["model.layers.0.self_attn.q_proj.weight"].iter().all(|g| g.abs() < 1e-6));
    check_by_differences(&case, &single(3), true, "one token after two");
}

#[test]
fn what_is_trained_gets_a_gradient_and_nothing_else() {
    for case in [Case::llama(), Case::qwen()] {
        let (mut decoder, mut policy) = (case.decoder(), case.policy());
        let batch = case.mixed();
        let mut of_policy = BTreeSet::new();
        policy.update_parameters(&mut |name, _, _| {
            of_policy.insert(name.to_owned());
        });
        let mut of_model = BTreeSet::new();
        decoder.update_parameters(&mut |name, _| {
            of_model.insert(name.to_owned());
        });
        assert_eq!(of_policy.len(), 2 * (7 * case.config.n_layers + case.heads.candidates.len()));

        let (steps, adapters) = batch.gradients(&decoder, Some(&policy), Trained::Adapters);
        assert_eq!(adapters.keys().cloned().collect::<BTreeSet<_>>(), of_policy);
        let zero: Vec<_> = adapters.iter().filter(|(_, values)| values.iter().all(|g| *g == 0.0)).collect();
        assert!(zero.is_empty(), "{zero:?}");

        let (same_steps, full) = batch.gradients(&decoder, Some(&policy), Trained::Full);
        assert_eq!(full.keys().cloned().collect::<BTreeSet<_>>(), &of_policy | &of_model);
        assert!(adapters.iter().all(|(name, values)| full[name] == *values), "adapters do not depend on what else is");
        let no_policy = case.batch(|_| case.config.n_layers);
        let (_, model) = no_policy.gradients(&decoder, None, Trained::Full);
        assert_eq!(model.keys().cloned().collect::<BTreeSet<_>>(), of_model);

        // Asking for a gradient changes no value.
        assert_eq!(steps, batch.read(&decoder, Some(&policy)));
        assert_eq!(steps, same_steps);
    }
}

#[test]
fn gradients_add_up_and_follow_their_weights() {
    let case = Case::qwen();
    let (decoder, policy) = (case.decoder(), case.policy());
    let batch = case.mixed();
    let (_, whole) = batch.gradients(&decoder, Some(&policy), Trained::Full);
    // One sequence after the other into the same gradients, each with twice its weight.
    let mut gradients = Gradients::new(&case.cpu);
    for (sequence, d_joint) in batch.sequences().iter().zip(&batch.d_joint) {
        let twice = [d_joint.iter().map(|d| 2.0 * d).collect::<Vec<f32>>()];
        let gradient = LikelihoodGradient { d_joint: &twice, trained: Trained::Full, gradients: &mut gradients };
        joint_likelihood(&decoder, Some(&policy), &[*sequence], DISTRIBUTION, Some(gradient)).unwrap();
    }
    for (name, twice) in gradients.into_host() {
        let expected: Vec<f32> = whole[&name].iter().map(|value| 2.0 * value).collect();
        assert_near(&twice, &expected, 0.5e-4, 1e-6, &name);
    }
}

/// Responses to one prompt share its rows, and nothing but the work changes: neither values nor gradients.
#[test]
fn responses_to_one_prompt_share_its_rows() {
    for case in [Case::llama(), Case::qwen()] {
        let (decoder, policy) = (case.decoder(), case.policy());
        let full = case.config.n_layers;
        let stops = [&case.heads.candidates[..], &[full]].concat();
        // Of prompt, response length: twice the same prompt, a response of one token in between, then another prompt of
        // the same length, then the first one again.
        let mut batch = Batch::default();
        for (s, (prompt, n_tokens)) in [(0, 4), (0, 1), (0, 3), (1, 4), (0, 2)].into_iter().enumerate() {
            let token = |i: usize| (prompt * 5 + 3 + i * i) as u32 % 11;
            let response = (0..n_tokens).map(|t| (s * 7 + t * 3) as u32 % 11);
            batch.token_ids.push((0..4).map(token).chain(response).collect());
            batch.prompt_lens.push(4);
            batch
                .depths
                .push((0..n_tokens).map(|t| if t == 0 { full } else { stops[(s + t) % stops.len()] }).collect());
            batch.d_joint.push((0..n_tokens).map(|t| noise(70 + s as u64, t)).collect());
        }
        let (steps, gradients) = batch.gradients(&decoder, Some(&policy), Trained::Full);
        let mut alone = BTreeMap::new();
        for (s, found) in steps.iter().enumerate() {
            let (expected, part) = batch.only(s).gradients(&decoder, Some(&policy), Trained::Full);
            for (found, expected) in found.iter().zip(&expected[0]) {
                assert!((found.joint() - expected.joint()).abs() < 1e-5, "{s}: {found:?}, alone {expected:?}");
            }
            assert_eq!(found.len(), expected[0].len());
            for (name, values) in part {
                let sum = alone.entry(name).or_insert_with(|| vec![0.0f32; values.len()]);
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        for (name, expected) in alone {
            assert_near(&gradients[&name], &expected, 1e-4, 1e-6, &name);
        }
    }
}
