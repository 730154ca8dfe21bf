//! Returns and advantages by hand, and the whole estimator against the exact gradient of an enumerated toy policy.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use aloud_method::returns::{
    DepthPenalty, ReturnSettings, RlooError, RolloutOutcome, leave_one_out_advantages, rollout_return, step_advantages,
};

/// Only the task reward counts, until a test says otherwise.
fn settings(n_blocks: usize) -> ReturnSettings {
    ReturnSettings {
        n_blocks,
        depth_penalty: 0.0,
        depth_penalty_form: DepthPenalty::Mean,
        token_cost: 0.0,
        kl_coefficient: 0.0,
        variance_reduction: false,
    }
}

fn outcome(task_reward: f64, depths: &[usize], kl: f64) -> RolloutOutcome<'_> {
    RolloutOutcome { task_reward, depths, kl }
}

#[test]
fn leave_one_out_by_hand() {
    let advantages = |returns: &[f64]| leave_one_out_advantages(returns).unwrap();
    assert_eq!(advantages(&[1.0, 0.0]), [1.0, -1.0]);
    // 1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 6 - (1 + 2) / 2.
    assert_eq!(advantages(&[1.0, 2.0, 6.0]), [-3.0, -1.5, 4.5]);
    // Not divided by the standard deviation: twice the returns, twice the advantages.
    assert_eq!(advantages(&[2.0, 4.0, 12.0]), [-6.0, -3.0, 9.0]);
    for equal in [0.0, 0.1, -7.3, 1.0 / 3.0] {
        assert!(advantages(&[equal; 7]).iter().all(|&advantage| advantage == 0.0), "exactly, without rounding");
    }
}

#[test]
fn leave_one_out_refuses() {
    assert_eq!(leave_one_out_advantages(&[]), Err(RlooError::GroupTooSmall(0)));
    assert_eq!(leave_one_out_advantages(&[1.0]), Err(RlooError::GroupTooSmall(1)));
    let not_finite = |quantity| Err(RlooError::NotFinite { rollout: 1, quantity });
    assert_eq!(leave_one_out_advantages(&[1.0, f64::NAN, 2.0]), not_finite("return"));

    let good = outcome(1.0, &[4, 2], 0.1);
    let refused = |bad| step_advantages(&[good, bad], &settings(4)).map(|_| Vec::new());
    assert_eq!(step_advantages(&[good], &settings(4)), Err(RlooError::GroupTooSmall(1)));
    assert_eq!(refused(outcome(f64::NAN, &[4], 0.0)), not_finite("task reward"));
    assert_eq!(refused(outcome(0.0, &[4], f64::NEG_INFINITY)), not_finite("KL"));
    let error = refused(outcome(0.0, &[4], f64::NAN)).unwrap_err();
    assert_eq!(error.to_string(), "the KL of rollout 1 of the group is not a finite number");
    // A KL that costs nothing is refused all the same: what made it is broken.
    assert!(refused(outcome(0.0, &[4], f64::INFINITY)).is_err());
    assert!(step_advantages(&[good, good], &ReturnSettings { token_cost: f64::NAN, ..settings(4) }).is_err());
}

#[test]
fn returns_by_hand() {
    // Token 0 at full depth is not counted: the mean of 1/4, 2/4, 3/4 and 2/4 is 1/2.
    let rollout = outcome(1.0, &[4, 1, 2, 3, 2], 0.25);
    let with = |settings| rollout_return(&rollout, &settings);
    let base = ReturnSettings { depth_penalty: 0.5, ..settings(4) };
    assert_eq!(with(settings(4)), 1.0);
    assert_eq!(with(base), 0.75);
    assert_eq!(with(ReturnSettings { depth_penalty_form: DepthPenalty::Max, ..base }), 0.625, "the deepest ran 3 of 4");
    assert_eq!(with(ReturnSettings { token_cost: 0.125, ..base }), 0.125, "all 5 tokens cost");
    assert_eq!(with(ReturnSettings { kl_coefficient: 2.0, ..base }), 0.25);
    // A single token ran at full depth, whatever the form.
    for depth_penalty_form in [DepthPenalty::Mean, DepthPenalty::Max] {
        let settings = ReturnSettings { depth_penalty_form, token_cost: 0.125, ..base };
        assert_eq!(rollout_return(&outcome(1.0, &[4], 0.0), &settings), 0.375);
    }
}

#[test]
fn step_advantages_by_hand() {
    // L = 4, penalty 2: D is 3/8 and 4/4, returns 1 - 3/4 and 3 - 2, advantages -3/4 and 3/4.
    let group = [outcome(1.0, &[4, 1, 2], 0.0), outcome(3.0, &[4, 4, 4, 4, 4], 0.0)];
    let plain = ReturnSettings { depth_penalty: 2.0, ..settings(4) };
    let reduced = ReturnSettings { variance_reduction: true, ..plain };
    assert_eq!(step_advantages(&group, &plain).unwrap(), [vec![-0.75; 3], vec![0.75; 5]]);
    // Rollout 0: the other has 4 counted steps, so a block is 2 / (4 * 4) = 1/8. Before t = 2: 1 block against 4.
    // Rollout 1: the other has 2 counted steps, so a block is 1/4. Before t = 2, 3, 4: 4 against 1, 8 against 3, and 12
    // against 3, as the shorter one has no third counted step.
    assert_eq!(
        step_advantages(&group, &reduced).unwrap(),
        [vec![-0.75, -0.75, -0.75 - 3.0 / 8.0], vec![0.75, 0.75, 0.75 + 0.75, 0.75 + 1.25, 0.75 + 2.25]]
    );
    // A maximum is no sum over steps. D is 2/4 and 1, returns 0 and 1.
    let max = ReturnSettings { depth_penalty_form: DepthPenalty::Max, ..reduced };
    assert_eq!(step_advantages(&group, &max).unwrap(), [vec![-1.0; 3], vec![1.0; 5]]);

    // Three rollouts: D is 1/2, 1 (a single token) and 1/4, returns -1, -2 and -1/2, advantages 1/4, -5/4 and 1.
    let group = [outcome(0.0, &[4, 1, 3], 0.0), outcome(0.0, &[4], 0.0), outcome(0.0, &[4, 1, 1], 0.0)];
    // Rollout 0: the others have 1 counted step on average: a block is 1/2; before t = 2: 1 against (0 + 1) / 2.
    assert_eq!(
        step_advantages(&group, &reduced).unwrap(),
        [vec![0.25, 0.25, 0.25 + 0.25], vec![-1.25], vec![1.0, 1.0, 1.0 + 0.25]]
    );

    // The others have no counted step: nothing is taken out. Returns -1 and -2.
    let group = [outcome(0.0, &[4, 1, 3], 0.0), outcome(0.0, &[4], 0.0)];
    assert_eq!(step_advantages(&group, &reduced).unwrap(), [vec![1.0; 3], vec![-1.0]]);
}

/// Blocks of the toy policy.
const N_BLOCKS: usize = 3;
/// Where its tokens may stop. `N_CANDIDATES` heads, and full depth.
const CANDIDATES: [usize; N_CANDIDATES] = [1, 2];
const N_CANDIDATES: usize = 2;
/// Its tokens; [`END`] ends a response.
const N_TOKENS: usize = 3;
const END: usize = 0;
const N_PARAMETERS: usize = 20;

type Parameters = [f64; N_PARAMETERS];

/// Parameters of no meaning, different for each `kind`.
fn parameters(kind: usize) -> Parameters {
    std::array::from_fn(|i| 0.8 * ((i * i + 3 * i + 1 + 7 * kind) as f64).sin())
}

/// Log-probability of one step of the toy policy.
#[derive(Clone, Copy)]
struct StepLogProbability {
    /// Of the exit depth; 0 where the depth is pinned.
    exit: f64,
    /// Of the token, read at the depth that was run.
    token: f64,
    /// What the exit term would be if the depth were not pinned.
    unpinned_exit: f64,
}

impl StepLogProbability {
    fn joint(self) -> f64 {
        self.exit + self.token
    }
}

/// Teacher-forced log-probabilities of a response under the toy policy, a residual network of one channel with a memory
/// of the residuals at which earlier tokens stopped: earlier tokens and earlier depths both change later steps.
fn log_probabilities(parameters: &Parameters, depths: &[usize], tokens: &[usize]) -> Vec<StepLogProbability> {
    let (block_weights, rest) = parameters.split_at(N_BLOCKS);
    let (block_biases, rest) = rest.split_at(N_BLOCKS);
    let (head_weights, rest) = rest.split_at(N_CANDIDATES);
    let (head_biases, rest) = rest.split_at(N_CANDIDATES);
    let (unembedding, rest) = rest.split_at(N_TOKENS);
    let (token_biases, rest) = rest.split_at(N_TOKENS);
    let (embedding, rest) = rest.split_at(N_TOKENS - 1);
    let (memory, depth_effect) = (rest[0], rest[1]);

    let log_sigmoid = |z: f64| -(-z).exp().ln_1p();
    let mut state = 0.3_f64;
    let step = |(t, (&depth, &token)): (usize, (&usize, &usize))| {
        let mut residual = state;
        let mut exit = 0.0;
        for block in 0..depth {
            residual += 0.7 * (block_weights[block] * residual + block_biases[block]).tanh();
            if let Some(head) = CANDIDATES.iter().position(|&candidate| candidate == block + 1) {
                let logit = head_weights[head] * residual + head_biases[head];
                exit += log_sigmoid(if depth == block + 1 { logit } else { -logit });
            }
        }
        let logits: Vec<f64> = unembedding.iter().zip(token_biases).map(|(u, b)| u * residual + b).collect();
        let token_term = logits[token] - logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        if token != END {
            state = (memory * residual + embedding[token - 1] + depth_effect * depth as f64 / N_BLOCKS as f64).tanh();
        }
        StepLogProbability { exit: if t == 0 { 0.0 } else { exit }, token: token_term, unpinned_exit: exit }
    };
    depths.iter().zip(tokens).enumerate().map(step).collect()
}

/// One complete response of the toy policy.
struct Sequence {
    depths: Vec<usize>,
    tokens: Vec<usize>,
}

impl Sequence {
    /// Any function of the tokens will do; a truncated response has none.
    fn task_reward(&self) -> f64 {
        let count = |wanted| self.tokens.iter().filter(|&&token| token == wanted).count() as f64;
        if self.tokens.last() == Some(&END) { 0.4 + 0.5 * count(2) - 0.9 * count(1) } else { 0.0 }
    }

    fn probability(&self, parameters: &Parameters) -> f64 {
        let steps = log_probabilities(parameters, &self.depths, &self.tokens);
        steps.into_iter().map(StepLogProbability::joint).sum::<f64>().exp()
    }
}

/// The depths that a step may run.
fn possible_depths(step: usize) -> &'static [usize] {
    if step == 0 { &[N_BLOCKS] } else { &[CANDIDATES[0], CANDIDATES[1], N_BLOCKS] }
}

/// Every complete response of at most `max_steps` tokens.
fn every_sequence(max_steps: usize) -> Vec<Sequence> {
    fn extend(depths: &[usize], tokens: &[usize], max_steps: usize, sequences: &mut Vec<Sequence>) {
        for &depth in possible_depths(tokens.len()) {
            for token in 0..N_TOKENS {
                let depths = [depths, &[depth]].concat();
                let tokens = [tokens, &[token]].concat();
                if token == END || tokens.len() == max_steps {
                    sequences.push(Sequence { depths, tokens });
                } else {
                    extend(&depths, &tokens, max_steps, sequences);
                }
            }
        }
    }
    let mut sequences = Vec::new();
    extend(&[], &[], max_steps, &mut sequences);
    sequences
}

#[test]
fn toy_probabilities_sum_to_one() {
    let policy = parameters(0);
    for (max_steps, expected) in [(1, 3), (2, 1 + 2 * 9), (3, 1 + 2 * (3 + 6 * 9)), (4, 1 + 2 * (3 + 6 * (3 + 6 * 9)))]
    {
        let sequences = every_sequence(max_steps);
        assert_eq!(sequences.len(), expected);
        let total: f64 = sequences.iter().map(|sequence| sequence.probability(&policy)).sum();
        assert!((total - 1.0).abs() < 1e-13, "{max_steps}: {total}");
    }
    // Earlier depths change later steps, or the test would not see a gradient through them.
    let token_of = |depth| log_probabilities(&policy, &[3, depth, 3], &[1, 1, 1])[2].joint();
    assert!((token_of(1) - token_of(2)).abs() > 1e-2);
}

/// What the KL of a rollout is measured against.
#[derive(Clone, Copy, Debug)]
enum Reference {
    /// Token term only, against a fixed policy at full depth.
    Base,
    /// Token and exit terms, against a fixed policy with exits, at the same tokens and depths.
    Stage1,
}

/// `k1` of every step, nats.
fn k1(reference: Reference, policy: &Parameters, sequence: &Sequence) -> Vec<f64> {
    let own = log_probabilities(policy, &sequence.depths, &sequence.tokens).into_iter();
    match reference {
        Reference::Base => {
            let full_depth = vec![N_BLOCKS; sequence.depths.len()];
            let base = log_probabilities(&parameters(1), &full_depth, &sequence.tokens);
            own.zip(base).map(|(own, base)| own.token - base.token).collect()
        }
        Reference::Stage1 => {
            let stage1 = log_probabilities(&parameters(2), &sequence.depths, &sequence.tokens);
            own.zip(stage1).map(|(own, stage1)| own.joint() - stage1.joint()).collect()
        }
    }
}

const STEP: f64 = 1e-5;

/// Central differences of a function of the parameters.
fn gradient<const N: usize>(at: &Parameters, function: impl Fn(&Parameters) -> [f64; N]) -> [[f64; N]; N_PARAMETERS] {
    std::array::from_fn(|parameter| {
        let moved = |by: f64| {
            let mut moved = *at;
            moved[parameter] += by;
            function(&moved)
        };
        let (up, down) = (moved(STEP), moved(-STEP));
        std::array::from_fn(|i| (up[i] - down[i]) / (2.0 * STEP))
    })
}

/// The return as `docs/method.md` has it, without the code under test.
fn documented_return(
    settings: &ReturnSettings,
    reference: Reference,
) -> impl Fn(&Parameters, &Sequence) -> f64 + use<'_> {
    move |policy, sequence| {
        let shares = sequence.depths[1..].iter().map(|&depth| depth as f64 / N_BLOCKS as f64);
        let n_counted = shares.len();
        let depth = match settings.depth_penalty_form {
            _ if n_counted == 0 => 1.0,
            DepthPenalty::Mean => shares.sum::<f64>() / n_counted as f64,
            DepthPenalty::Max => shares.fold(0.0, f64::max),
        };
        let kl: f64 = k1(reference, policy, sequence).iter().sum();
        sequence.task_reward()
            - settings.depth_penalty * depth
            - settings.token_cost * sequence.tokens.len() as f64
            - settings.kl_coefficient * kl
    }
}

/// Everything about the responses of the policy that does not depend on the settings of the return.
struct Enumeration {
    sequences: Vec<Sequence>,
    probabilities: Vec<f64>,
    /// Gradient of every step's log-probability: `[sequence][step][parameter]`.
    scores: Vec<Vec<Vec<f64>>>,
}

/// Which terms of a step's log-probability are trained on.
#[derive(Clone, Copy)]
enum Score {
    /// As the policy samples: the exit term of token 0 is 0.
    Sampled,
    /// With an exit term for token 0, although its depth is pinned.
    FirstExit,
    /// Without the token term of token 0.
    NoFirstToken,
    /// Without any exit term.
    NoExits,
}

impl Enumeration {
    fn new(max_steps: usize, score: Score) -> Self {
        let policy = parameters(0);
        let sequences = every_sequence(max_steps);
        let probabilities = sequences.iter().map(|sequence| sequence.probability(&policy)).collect();
        let scores_of = |sequence: &Sequence| {
            let n_steps = sequence.tokens.len();
            let log_probabilities = |policy: &Parameters| -> [f64; 4] {
                let mut values = [0.0; 4];
                let steps = log_probabilities(policy, &sequence.depths, &sequence.tokens);
                for (t, (value, step)) in values.iter_mut().zip(steps).enumerate() {
                    *value = match score {
                        Score::FirstExit => step.unpinned_exit + step.token,
                        Score::NoFirstToken if t == 0 => 0.0,
                        Score::NoExits => step.token,
                        Score::Sampled | Score::NoFirstToken => step.joint(),
                    };
                }
                values
            };
            let by_parameter = gradient(&policy, log_probabilities);
            (0..n_steps).map(|t| by_parameter.iter().map(|steps| steps[t]).collect()).collect()
        };
        let scores = sequences.iter().map(scores_of).collect();
        Self { sequences, probabilities, scores }
    }

    fn kl(&self, reference: Reference) -> Vec<f64> {
        self.sequences.iter().map(|sequence| k1(reference, &parameters(0), sequence).iter().sum()).collect()
    }

    fn outcomes(&self, reference: Reference) -> Vec<RolloutOutcome<'_>> {
        let with_kl = self.sequences.iter().zip(self.kl(reference));
        with_kl.map(|(sequence, kl)| outcome(sequence.task_reward(), &sequence.depths, kl)).collect()
    }

    /// Expectation over all groups of `group_size` rollouts of `(1/G) sum_i sum_t A_{i,t} grad log P_{i,t}`.
    fn expected_estimate(
        &self,
        group_size: usize,
        outcomes: &[RolloutOutcome<'_>],
        advantages: impl Fn(&[RolloutOutcome<'_>]) -> Vec<Vec<f64>>,
    ) -> Vec<f64> {
        let n = self.sequences.len();
        // What each step's score is multiplied by, over all groups: [sequence][step].
        let mut weights: Vec<Vec<f64>> = self.scores.iter().map(|steps| vec![0.0; steps.len()]).collect();
        for group in 0..n.pow(group_size as u32) {
            let members: Vec<usize> = (0..group_size).map(|i| group / n.pow(i as u32) % n).collect();
            let probability: f64 = members.iter().map(|&member| self.probabilities[member]).product();
            let of_group: Vec<RolloutOutcome<'_>> = members.iter().map(|&member| outcomes[member]).collect();
            for (&member, steps) in members.iter().zip(advantages(&of_group)) {
                assert_eq!(weights[member].len(), steps.len());
                for (weight, advantage) in weights[member].iter_mut().zip(steps) {
                    *weight += probability * advantage / group_size as f64;
                }
            }
        }
        let mut estimate = vec![0.0; N_PARAMETERS];
        for (weight, score) in weights.iter().flatten().zip(self.scores.iter().flatten()) {
            for (sum, value) in estimate.iter_mut().zip(score) {
                *sum += weight * value;
            }
        }
        estimate
    }

    /// Exact gradient of `E[return_of(policy, response)]`, through the return too. No rollout, no baseline.
    fn exact_gradient(&self, return_of: impl Fn(&Parameters, &Sequence) -> f64) -> Vec<f64> {
        let objective = |policy: &Parameters| {
            [self.sequences.iter().map(|s| s.probability(policy) * return_of(policy, s)).sum::<f64>()]
        };
        gradient(&parameters(0), objective).into_iter().flatten().collect()
    }

    fn exact(&self, settings: &ReturnSettings, reference: Reference) -> Vec<f64> {
        self.exact_gradient(documented_return(settings, reference))
    }

    fn library_estimate(&self, group_size: usize, settings: &ReturnSettings, reference: Reference) -> Vec<f64> {
        self.expected_estimate(group_size, &self.outcomes(reference), |group| step_advantages(group, settings).unwrap())
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// Largest difference, as a share of the largest expected component.
fn relative_difference(found: &[f64], expected: &[f64]) -> f64 {
    let difference: Vec<f64> = found.iter().zip(expected).map(|(found, expected)| found - expected).collect();
    largest(&difference) / largest(expected)
}

/// Agreement asked for; the differences' own error is about 1e-9.
const EXACT: f64 = 1e-6;
/// What a wrong estimator must be off by at least.
const WRONG: f64 = 1e-3;

/// Penalty, cost and KL all at work.
fn everything() -> ReturnSettings {
    ReturnSettings {
        depth_penalty: 0.7,
        token_cost: 0.05,
        kl_coefficient: 0.3,
        variance_reduction: true,
        ..settings(N_BLOCKS)
    }
}

#[test]
fn the_estimator_is_unbiased_under_every_setting() {
    let toy = Enumeration::new(3, Score::Sampled);
    for reference in [Reference::Base, Reference::Stage1] {
        for depth_penalty_form in [DepthPenalty::Mean, DepthPenalty::Max] {
            for (token_cost, depth_penalty) in [(0.0, 0.0), (0.0, 0.7), (0.05, 0.0), (0.05, 0.7)] {
                let plain = ReturnSettings {
                    depth_penalty,
                    depth_penalty_form,
                    token_cost,
                    variance_reduction: false,
                    ..everything()
                };
                let exact = toy.exact(&plain, reference);
                assert!(largest(&exact) > 1e-2, "a gradient worth comparing");
                for variance_reduction in [false, true] {
                    let settings = ReturnSettings { variance_reduction, ..plain };
                    let difference = relative_difference(&toy.library_estimate(2, &settings, reference), &exact);
                    assert!(difference < EXACT, "{reference:?} {settings:?}: {difference}");
                }
            }
        }
    }
}

#[test]
fn the_estimator_is_unbiased_in_larger_groups_and_longer_responses() {
    for (group_size, max_steps, reference) in
        [(3, 3, Reference::Stage1), (2, 4, Reference::Base), (2, 4, Reference::Stage1)]
    {
        let toy = Enumeration::new(max_steps, Score::Sampled);
        let settings = everything();
        let exact = toy.exact(&settings, reference);
        let difference = relative_difference(&toy.library_estimate(group_size, &settings, reference), &exact);
        assert!(difference < EXACT, "{group_size} rollouts of {max_steps} steps: {difference}");
    }
}

#[test]
fn a_group_mean_with_the_sample_in_it_shrinks_the_gradient() {
    let toy = Enumeration::new(3, Score::Sampled);
    let settings = ReturnSettings { variance_reduction: false, ..everything() };
    let exact = toy.exact(&settings, Reference::Stage1);
    let found = toy.expected_estimate(2, &toy.outcomes(Reference::Stage1), |group| {
        let returns: Vec<f64> = group.iter().map(|outcome| rollout_return(outcome, &settings)).collect();
        let mean = returns.iter().sum::<f64>() / returns.len() as f64;
        group.iter().zip(returns).map(|(outcome, own)| vec![own - mean; outcome.depths.len()]).collect()
    });
    assert!(relative_difference(&found, &exact) > WRONG);
    let halved: Vec<f64> = exact.iter().map(|value| value / 2.0).collect();
    assert!(relative_difference(&found, &halved) < EXACT, "(G - 1) / G of it");
}

#[test]
fn one_kl_for_the_whole_group_is_no_kl() {
    let toy = Enumeration::new(3, Score::Sampled);
    let settings = everything();
    for reference in [Reference::Base, Reference::Stage1] {
        let found = toy.expected_estimate(2, &toy.outcomes(reference), |group| {
            let kl = group.iter().map(|outcome| outcome.kl).sum::<f64>() / group.len() as f64;
            let group: Vec<_> = group.iter().map(|&outcome| RolloutOutcome { kl, ..outcome }).collect();
            step_advantages(&group, &settings).unwrap()
        });
        let exact = toy.exact(&settings, reference);
        assert!(relative_difference(&found, &exact) > WRONG, "it cancels in the baseline");
        let without = ReturnSettings { kl_coefficient: 0.0, ..settings };
        let exact = toy.exact(&without, reference);
        assert!(relative_difference(&found, &exact) < EXACT);
    }
}

#[test]
fn a_mean_kl_over_a_random_length_is_biased() {
    let toy = Enumeration::new(3, Score::Sampled);
    let settings = ReturnSettings { kl_coefficient: 0.3, ..settings(N_BLOCKS) };
    for reference in [Reference::Base, Reference::Stage1] {
        let exact = toy.exact_gradient(|policy, sequence| {
            let k1 = k1(reference, policy, sequence);
            sequence.task_reward() - settings.kl_coefficient * k1.iter().sum::<f64>() / k1.len() as f64
        });
        let mut outcomes = toy.outcomes(reference);
        for outcome in &mut outcomes {
            outcome.kl /= outcome.depths.len() as f64;
        }
        let found = toy.expected_estimate(2, &outcomes, |group| step_advantages(group, &settings).unwrap());
        assert!(relative_difference(&found, &exact) > WRONG, "{reference:?}");
    }
}

#[test]
fn terms_of_the_log_probability_that_must_be_there() {
    let settings = everything();
    for (score, what) in [(Score::NoFirstToken, "token term of token 0"), (Score::NoExits, "exit terms")] {
        let toy = Enumeration::new(3, score);
        let exact = toy.exact(&settings, Reference::Stage1);
        let difference = relative_difference(&toy.library_estimate(2, &settings, Reference::Stage1), &exact);
        assert!(difference > WRONG, "{what}: {difference}");
    }
}

/// Rollouts of a group share the prompt and the pinned depth, so an exit term of token 0 has the same score in all of
/// them, and advantages sum to 0: it vanishes in every single group. Gradients cannot reveal it; log-probabilities can.
#[test]
fn an_exit_term_of_token_0_cancels_within_every_group() {
    let settings = everything();
    let (right, wrong) = (Enumeration::new(3, Score::Sampled), Enumeration::new(3, Score::FirstExit));
    let extra: Vec<f64> =
        wrong.scores[0][0].iter().zip(&right.scores[0][0]).map(|(wrong, right)| wrong - right).collect();
    assert!(largest(&extra) > WRONG, "the term itself is not small");
    let outcomes = right.outcomes(Reference::Base);
    for pair in outcomes.windows(2) {
        let at_token_0: f64 = step_advantages(pair, &settings).unwrap().iter().map(|steps| steps[0]).sum();
        assert!(at_token_0.abs() < 1e-12);
    }
    let expected = right.library_estimate(2, &settings, Reference::Base);
    assert!(relative_difference(&wrong.library_estimate(2, &settings, Reference::Base), &expected) < EXACT);
}

#[test]
fn counting_the_depth_of_token_0_is_another_objective() {
    let toy = Enumeration::new(3, Score::Sampled);
    for depth_penalty_form in [DepthPenalty::Mean, DepthPenalty::Max] {
        let settings = ReturnSettings { depth_penalty_form, variance_reduction: false, ..everything() };
        let exact = toy.exact(&settings, Reference::Base);
        // A step more in front: token 0 becomes a counted one. The token's cost is the same for all rollouts.
        let shifted: Vec<Vec<usize>> = toy.sequences.iter().map(|s| [&[N_BLOCKS], &s.depths[..]].concat()).collect();
        let found = toy.expected_estimate(2, &toy.outcomes(Reference::Base), |group| {
            let depths = |own: &[usize]| shifted.iter().find(|depths| depths[1..] == *own).unwrap();
            let counted: Vec<_> =
                group.iter().map(|&outcome| RolloutOutcome { depths: depths(outcome.depths), ..outcome }).collect();
            let advantages = step_advantages(&counted, &settings).unwrap();
            advantages.into_iter().map(|steps| steps[1..].to_vec()).collect()
        });
        let difference = relative_difference(&found, &exact);
        assert!(difference > WRONG, "{depth_penalty_form:?}: {difference}");
    }
}

/// The two tempting forms of variance reduction that are biased, beside the one that is not. Four steps, because with
/// three the first step with anything to take out is the last one possible, and the length no secret there.
#[test]
fn variance_reduction_must_not_look_ahead() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Form {
        Contract,
        OwnLength,
        OwnCurrentStep,
    }
    let toy = Enumeration::new(4, Score::Sampled);
    let settings = everything();
    let plain = ReturnSettings { variance_reduction: false, ..settings };
    let exact = toy.exact(&settings, Reference::Base);
    for form in [Form::Contract, Form::OwnLength, Form::OwnCurrentStep] {
        let found = toy.expected_estimate(2, &toy.outcomes(Reference::Base), |group| {
            let mut advantages = step_advantages(group, &plain).unwrap();
            for (i, steps) in advantages.iter_mut().enumerate() {
                let (own, other) = (group[i].depths, group[1 - i].depths);
                let length_of = if form == Form::OwnLength { own } else { other };
                if length_of.len() < 2 {
                    continue;
                }
                let per_block = settings.depth_penalty / (N_BLOCKS * (length_of.len() - 1)) as f64;
                for (t, step) in steps.iter_mut().enumerate() {
                    let until = if form == Form::OwnCurrentStep { t + 1 } else { t };
                    let blocks = |depths: &[usize]| depths.iter().take(until).skip(1).sum::<usize>() as f64;
                    *step += per_block * (blocks(own) - blocks(other));
                }
            }
            if form == Form::Contract {
                for (found, by_hand) in step_advantages(group, &settings).unwrap().iter().zip(&advantages) {
                    assert!(found.iter().zip(by_hand).all(|(found, by_hand)| (found - by_hand).abs() <= 1e-12));
                }
            }
            advantages
        });
        let difference = relative_difference(&found, &exact);
        let holds = if form == Form::Contract { difference < EXACT } else { difference > WRONG };
        assert!(holds, "{form:?}: {difference}");
    }
}
