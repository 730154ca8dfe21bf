//! The engine on the committed tiny models: parity with the teacher-forced pass, batch invariance, seeds, exits.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use aloud_engine::decode::batching::{Engine, Event, Flow, Limits};
use aloud_engine::decode::complete::complete;
use aloud_engine::decode::exits::{ExitDecider, Exits};
use aloud_engine::decode::request::{FinishReason, Forced, Prefix, Request, RequestError, Token};
use aloud_engine::decode::sampling::Sampling;
use aloud_engine::decode::step_key::StepKey;
use aloud_engine::read::replay::replay;
use aloud_engine::read::verify::{ParityReport, verify};
use aloud_kernels::cpu::Cpu;
use aloud_kernels::matrix::Matrix;
use aloud_method::exit_offset::{AnswerOffset, ExitOffset};
use aloud_method::exit_policy::ExitPolicy;
use aloud_method::targets::target_hazard;
use aloud_model::config::ModelConfig;
use aloud_model::decoder::{Decoder, Policy};
use aloud_model::exit_heads::{ExitHeads, HeadInput};
use aloud_model::exit_propagation::ExitPropagation;
use aloud_model::exit_translators::{ExitReadout, ExitTranslators, Translator};
use aloud_model::lora::LoraPair;
use aloud_model::source::ResolvedSource;
use aloud_model::weights::{ModelWeights, Parameter};
use proptest::prelude::*;

fn load(name: &str) -> (ModelConfig, ModelWeights) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden").join(name);
    let model = aloud_model::load::load(&ResolvedSource::Directory(dir)).unwrap();
    (model.config, model.weights)
}

/// A model with heads that exit often and depend on what they read.
fn tiny(name: &str) -> (Decoder<Cpu>, Policy<Cpu>) {
    let (config, weights) = load(name);
    let cpu = Cpu::new(2);
    let candidates: Vec<usize> = (1..config.n_layers).collect();
    let weights_of = |d: usize| (0..config.hidden_size).map(|i| ((i * 7 + d * 3) % 5) as f32 * 0.3 - 0.6).collect();
    let heads = ExitHeads {
        input: HeadInput::Rms,
        weights: candidates.iter().map(|d| weights_of(*d)).collect(),
        biases: vec![-0.8; candidates.len()],
        candidates,
    };
    (Decoder::new(&cpu, &config, &weights), Policy::new(&cpu, None, heads))
}

/// Heads as those, with translators that are far from the identity and propagation maps that add something.
fn translated(policy: Policy<Cpu>, config: &ModelConfig, readout: ExitReadout) -> Policy<Cpu> {
    let mut translators = ExitTranslators::new(readout, &policy.heads.candidates, 3, config, 4).unwrap();
    for (depth, map) in translators.candidates.iter().zip(&mut translators.maps) {
        let (Translator::LowRank(LoraPair { b: last, .. }) | Translator::Block { down: last, .. }) = map;
        let values = (0..last.rows() * last.columns()).map(|i| ((i * 5 + depth) % 7) as f32 * 0.2 - 0.6).collect();
        *last = Matrix::from_f32(last.rows(), last.columns(), values).unwrap();
    }
    let mut propagation = ExitPropagation::new(2, &policy.heads.candidates, config, 4).unwrap();
    for pair in propagation.maps.values_mut().flat_map(|maps| [&mut maps.keys, &mut maps.values]) {
        let values = (0..pair.b.rows() * pair.b.columns()).map(|i| (i % 5) as f32 * 0.2 - 0.4).collect();
        pair.b = Matrix::from_f32(pair.b.rows(), pair.b.columns(), values).unwrap();
    }
    policy.with_translators(Some(&translators)).with_propagation(Some(&propagation))
}

fn request(sequence: u64, exits: impl Into<Exits>) -> Request {
    Request {
        prompt: (0..4 + sequence as u32 * 3).map(|i| (i * 13 + sequence as u32) % 53).collect(),
        max_new_tokens: 20,
        exits: exits.into(),
        seed: 11,
        sequence,
        ..Request::default()
    }
}

fn ids(tokens: &[Token]) -> Vec<u32> {
    tokens.iter().map(|token| token.id).collect()
}

fn depths(tokens: &[Token]) -> Vec<usize> {
    tokens.iter().map(|token| token.depth).collect()
}

fn run(
    decoder: &Decoder<Cpu>,
    policy: &Policy<Cpu>,
    requests: &[Request],
    limits: Limits,
) -> (Vec<Vec<Token>>, Vec<FinishReason>) {
    let n_done = AtomicUsize::new(0);
    let on_done = || _ = n_done.fetch_add(1, Relaxed);
    let completions = complete(decoder, Some(policy), limits, requests, &on_done).unwrap();
    assert_eq!(n_done.into_inner(), requests.len());
    completions.into_iter().map(|completion| (completion.tokens, completion.reason)).unzip()
}

/// Requests `0..n`, with sampled exits.
fn sampled(n: u64, offset: f32) -> Vec<Request> {
    (0..n).map(|i| request(i, ExitPolicy::Sampled { offset: offset.into() })).collect()
}

/// The largest difference between decoding a record and reading it.
fn disparity(report: &ParityReport) -> f32 {
    report.logits.max(report.exit_logits).max(report.keys_values).max(report.log_joint)
}

/// Tokens, depths, probabilities and exit logits are the same bits alone, together, and in small prompt chunks.
#[test]
fn results_do_not_depend_on_the_batch() {
    for name in ["tiny_llama", "tiny_qwen2", "tiny_llama_rope3", "tiny_qwen2_tied"] {
        let (decoder, policy) = tiny(name);
        let requests = sampled(6, 0.3);
        let (together, _) = run(&decoder, &policy, &requests, Limits::default());
        let (few, _) = run(&decoder, &policy, &requests, Limits { max_sequences: 2, max_prompt_rows: 3 });
        assert_eq!(together, few, "{name}: batched by twos");
        for (i, request) in requests.iter().enumerate() {
            let (alone, reasons) = run(&decoder, &policy, std::slice::from_ref(request), Limits::default());
            assert_eq!(alone[0], together[i], "{name}: request {i} alone");
            assert_eq!(reasons[0], FinishReason::Length);
        }
        // The draws differ by sequence and the exits happen: otherwise this test says nothing.
        let depths = depths(&together.concat());
        assert!(depths.iter().any(|d| *d < decoder.n_blocks()) && depths.contains(&decoder.n_blocks()));
        assert!(together.iter().all(|tokens| tokens[0].depth == decoder.n_blocks() && tokens[0].exits.is_empty()));
        assert_ne!(ids(&together[0]), ids(&together[1]));
    }
}

/// What the engine recorded is what the teacher-forced pass says of it: logits, exit logits, keys and values, log P.
#[test]
fn stepwise_equals_teacher_forced() {
    for name in ["tiny_llama", "tiny_qwen2", "tiny_llama_rope3", "tiny_qwen2_tied"] {
        let (decoder, policy) = tiny(name);
        let requests = sampled(4, 0.0);
        let (generated, _) = run(&decoder, &policy, &requests, Limits::default());
        for (request, tokens) in requests.iter().zip(&generated) {
            let (ids, depths) = (ids(tokens), depths(tokens));
            let report = verify(&decoder, &policy, &request.prompt, &ids, &depths, &0.0.into(), 1.0).unwrap();
            assert!(disparity(&report) < 1e-4, "{name}: {report:?}");
            assert_eq!(report.n_tokens, 20);
            for (token, replayed) in
                tokens.iter().zip(replay(&decoder, &policy, &request.prompt, &ids, &depths, &0.0.into(), 1.0).unwrap())
            {
                assert!((token.log_probability - replayed.log_probability).abs() < 1e-4);
                assert_eq!(token.exits.len(), replayed.exits.len());
                assert!(token.exits.iter().zip(&replayed.exits).all(|(a, b)| a.exited == b.exited));
            }
        }
    }
}

/// With translators and propagation maps too; they change what exits say and leave behind, and nothing where nothing exits: without
/// exits the bits are the base model's.
#[test]
fn translators_and_propagation_maps_are_of_exits_alone() {
    for (name, readout) in [("tiny_llama", ExitReadout::LowRank), ("tiny_qwen2", ExitReadout::Block)] {
        let ((decoder, policy), (_, plain)) = (tiny(name), tiny(name));
        let policy = translated(policy, decoder.config(), readout);
        let requests = sampled(4, 0.3);
        let (generated, _) = run(&decoder, &policy, &requests, Limits::default());
        for (request, tokens) in requests.iter().zip(&generated) {
            let (ids, depths) = (ids(tokens), depths(tokens));
            let report = verify(&decoder, &policy, &request.prompt, &ids, &depths, &0.0.into(), 1.0).unwrap();
            assert!(disparity(&report) < 1e-4, "{name}: {report:?}");
            let replay = |policy| replay(&decoder, policy, &request.prompt, &ids, &depths, &0.0.into(), 1.0).unwrap();
            // Until the first exit, and no longer, the readings are the same.
            let first = depths.iter().position(|depth| *depth < decoder.n_blocks());
            for (t, (with, without)) in replay(&policy).iter().zip(replay(&plain)).enumerate() {
                let same = first.is_none_or(|first| t < first);
                assert_eq!(with.log_probability == without.log_probability, same, "{name} at token {t} of {depths:?}");
            }
        }
        let full: Vec<Request> = (0..3).map(|i| request(i, ExitPolicy::Off)).collect();
        let limits = Limits::default();
        assert_eq!(run(&decoder, &policy, &full, limits), run(&decoder, &plain, &full, limits));
        let base = complete(&decoder, None, limits, &full, &|| {}).unwrap();
        let base: Vec<Vec<Token>> = base.into_iter().map(|completion| completion.tokens).collect();
        assert!(run(&decoder, &policy, &full, limits).0.iter().zip(&base).all(|(a, b)| {
            a.iter().zip(b).all(|(a, b)| (a.id, a.log_probability.to_bits()) == (b.id, b.log_probability.to_bits()))
        }));
    }
}

/// The joint log-probabilities of a step sum to one over all depths and tokens.
#[test]
fn joint_probability_sums_to_one() {
    let (decoder, policy) = tiny("tiny_llama");
    let prompt = request(1, ExitPolicy::Off).prompt;
    let mut total = 0.0f64;
    for depth in 1..=decoder.n_blocks() {
        for token in 0..decoder.config().vocab_size as u32 {
            let replayed =
                replay(&decoder, &policy, &prompt, &[5, token], &[decoder.n_blocks(), depth], &0.4.into(), 1.0)
                    .unwrap();
            total += f64::from(replayed[1].log_joint).exp();
        }
    }
    assert!((total - 1.0).abs() < 1e-4, "{total}");
}

/// Fixed exits leave the later blocks without keys and values: they are never computed.
#[test]
fn skipped_blocks_are_not_computed() {
    let (decoder, policy) = tiny("tiny_llama");
    let l = decoder.n_blocks();
    let prompt = request(2, ExitPolicy::Off).prompt;
    let ids = [1, 2, 3, 4, 5, 6];
    let depths = [l, 2, 2, 2, 2, 2];
    let report = verify(&decoder, &policy, &prompt, &ids, &depths, &0.0.into(), 1.0).unwrap();
    assert_eq!(report.n_keys_values_skipped, (l - 2) * 5);
    // A later token at full depth makes up for all of them, and only then.
    let depths = [l, 2, 2, 2, 2, l];
    let report = verify(&decoder, &policy, &prompt, &ids, &depths, &0.0.into(), 1.0).unwrap();
    assert_eq!(report.n_keys_values_skipped, 0);
    assert!(report.keys_values < 1e-4 && report.logits < 1e-4, "{report:?}");
}

/// A dial: more offset, less depth; a huge one stops at the first candidate, a very negative one never.
#[test]
fn offset_moves_the_mean_depth() {
    let (decoder, policy) = tiny("tiny_llama");
    let mean = |offset: f32| {
        let requests = sampled(8, offset);
        let (tokens, _) = run(&decoder, &policy, &requests, Limits::default());
        let depths: Vec<usize> = tokens.iter().flat_map(|tokens| tokens[1..].iter().map(|t| t.depth)).collect();
        depths.iter().sum::<usize>() as f64 / depths.len() as f64
    };
    assert_eq!(mean(60.0), 1.0);
    assert_eq!(mean(-60.0), decoder.n_blocks() as f64);
    let means = [mean(-2.0), mean(0.0), mean(2.0)];
    assert!(means[0] > means[1] && means[1] > means[2], "{means:?}");
}

/// The answer has an offset of its own: it moves the depths of the steps after the marker and changes nothing before.
#[test]
fn the_answer_has_its_own_offset() {
    let (decoder, policy) = tiny("tiny_llama");
    let requests = sampled(6, 0.3);
    let (constant, _) = run(&decoder, &policy, &requests, Limits::default());
    let mut means = Vec::new();
    for answer in [-60.0, -2.0, 0.3, 2.0, 60.0] {
        let offset = |i: usize| {
            let marker = ids(&constant[i][4..6]);
            ExitOffset { think: 0.3, answer: Some(AnswerOffset { offset: answer, marker }) }
        };
        let spans: Vec<Request> = (requests.iter().enumerate())
            .map(|(i, request)| Request { exits: ExitPolicy::Sampled { offset: offset(i) }.into(), ..request.clone() })
            .collect();
        let (generated, _) = run(&decoder, &policy, &spans, Limits { max_sequences: 3, max_prompt_rows: 7 });
        let mut answer_depths = Vec::new();
        for (i, tokens) in generated.iter().enumerate() {
            let begin = offset(i).of_steps(&ids(tokens)).iter().position(|step| *step == answer).unwrap_or(6).max(1);
            assert!((1..=6).contains(&begin));
            let begin = if answer == 0.3 { 20 } else { begin };
            assert_eq!(tokens[..begin], constant[i][..begin]);
            answer_depths.extend(tokens[6..].iter().map(|token| token.depth));

            // The teacher-forced reading has the same hazards and joint log-probabilities.
            let (prompt, ids, depths) = (&requests[i].prompt, ids(tokens), depths(tokens));
            let report = verify(&decoder, &policy, prompt, &ids, &depths, &offset(i), 1.0).unwrap();
            assert!(disparity(&report) < 1e-4, "{report:?}");
            let replayed = replay(&decoder, &policy, prompt, &ids, &depths, &offset(i), 1.0).unwrap();
            for (token, replayed) in tokens.iter().zip(&replayed) {
                let hazards = token.exits.iter().zip(&replayed.exits);
                assert!(hazards.into_iter().all(|(a, b)| (a.hazard - b.hazard).abs() < 1e-5));
            }
        }
        means.push(answer_depths.iter().sum::<usize>() as f64 / answer_depths.len() as f64);
    }
    assert_eq!((means[0], means[4]), (decoder.n_blocks() as f64, 1.0));
    assert!(means.is_sorted_by(|a, b| a > b), "{means:?}");
}

#[test]
fn stop_tokens_and_callers_end_sequences() {
    let (decoder, policy) = tiny("tiny_qwen2");
    let free = run(&decoder, &policy, &[request(0, ExitPolicy::Off)], Limits::default()).0.remove(0);
    let mut stopping = request(0, ExitPolicy::Off);
    stopping.stop_tokens = vec![free[4].id];
    let first = free.iter().position(|token| token.id == free[4].id).unwrap();
    let (tokens, reasons) = run(&decoder, &policy, &[stopping], Limits::default());
    assert_eq!(tokens[0], free[..=first]);
    assert_eq!(reasons[0], FinishReason::Stop);
    let mut seen = 0;
    Engine::new(&decoder, None, Limits::default())
        .run(&[request(0, ExitPolicy::Off)], &mut |event| {
            seen += usize::from(matches!(event, Event::Token { .. }));
            if seen == 3 { Flow::Finish } else { Flow::Continue }
        })
        .unwrap();
    assert_eq!(seen, 3);
}

/// A forced start that equals what would have been drawn changes nothing: neither draws nor exits nor probabilities.
#[test]
fn a_forced_start_draws_the_rest() {
    let (decoder, policy) = tiny("tiny_llama");
    let free = sampled(3, 0.3);
    let (drawn, reasons) = run(&decoder, &policy, &free, Limits::default());
    for n in [1, 5, 20, 30] {
        let forced = free.iter().zip(&drawn).map(|(request, tokens)| {
            let mut start = ids(&tokens[..n.min(tokens.len())]);
            // More than `max_new_tokens` of them are not taken.
            start.resize(n, 0);
            Request { forced: Forced::Start(start), ..request.clone() }
        });
        let (tokens, forced_reasons) = run(&decoder, &policy, &forced.collect::<Vec<_>>(), Limits::default());
        assert_eq!(forced_reasons, reasons);
        for (token, drawn) in tokens.iter().flatten().zip(drawn.iter().flatten()) {
            assert_eq!((token.index, token.id, token.depth), (drawn.index, drawn.id, drawn.depth));
            assert_eq!(token.exits, drawn.exits);
            assert!((token.log_probability - drawn.log_probability).abs() < 1e-6);
        }
    }
    // A stop token in the start ends the response there; another start leads elsewhere.
    let other = Request { forced: Forced::Start(vec![7, 8, 9]), stop_tokens: vec![8], ..free[0].clone() };
    let (tokens, reasons) = run(&decoder, &policy, &[other], Limits::default());
    assert_eq!(ids(&tokens[0]), [7, 8]);
    assert_eq!(reasons[0], FinishReason::Stop);
}

/// A forced token has the log-probability of the distribution at the request's temperature; 0 counts as 1.
#[test]
fn forced_tokens_have_their_log_probability() {
    let (decoder, policy) = tiny("tiny_llama");
    let ids = [3, 60, 7, 90];
    let recorded = [decoder.n_blocks(), 2, 4, 1];
    for (temperature, counts_as) in [(0.0, 1.0), (0.6, 0.6), (1.0, 1.0)] {
        let mut forced = request(1, Exits::recorded(recorded.to_vec()));
        forced.sampling = Sampling { temperature, top_k: 2, ..Sampling::default() };
        forced.forced = Forced::Start(ids.to_vec());
        forced.max_new_tokens = ids.len();
        let replayed = replay(&decoder, &policy, &forced.prompt, &ids, &recorded, &0.0.into(), counts_as).unwrap();
        let (tokens, _) = run(&decoder, &policy, &[forced], Limits::default());
        for (token, replayed) in tokens[0].iter().zip(&replayed) {
            assert!((token.log_probability - replayed.log_probability).abs() < 1e-4, "at {temperature}");
        }
        assert_eq!(depths(&tokens[0]), recorded);
    }
}

/// A weight that is not a number, or that overflows, ends the run at the first token whose logits show it; no token follows.
#[test]
fn logits_that_are_not_finite_are_an_error() {
    let (config, weights) = load("tiny_llama");
    for (value, parameter) in [f32::NAN, f32::INFINITY, 1e38].into_iter().flat_map(|value| {
        ["model.layers.1.mlp.down_proj.weight", "model.layers.2.self_attn.o_proj.weight", "model.embed_tokens.weight"]
            .map(|name| (value, name))
    }) {
        let mut weights = weights.clone();
        let (_, matrix) = weights.parameters_mut().into_iter().find(|(name, _)| name == parameter).unwrap();
        let Parameter::Matrix(matrix) = matrix else { panic!("{parameter} is no matrix") };
        // Of token 9, in the embedding.
        let columns = matrix.columns();
        matrix.f32_mut().unwrap()[9 * columns] = value;
        let decoder = Decoder::new(&Cpu::new(2), &config, &weights);
        // Only the second request consumes token 9, as the last of its prompt.
        let requests = [1, 2].map(|sequence| Request {
            prompt: if sequence == 2 { vec![5, 6, 7, 9] } else { vec![5, 6, 7, 8] },
            sequence,
            stop_tokens: Vec::new(),
            ..request(sequence, ExitPolicy::Off)
        });
        let mut seen = [0; 2];
        let result = Engine::new(&decoder, None, Limits::default()).run(&requests, &mut |event| {
            if let Event::Token { request, .. } = event {
                seen[request] += 1;
            }
            Flow::Continue
        });
        let Err(RequestError::NotFinite { request, sequence, token, position, value: found, .. }) = result else {
            panic!("{parameter} {value}: {result:?}")
        };
        assert!(!found.is_finite());
        assert_eq!((sequence, position), (requests[request].sequence, requests[request].prompt.len() + token - 1));
        assert_eq!(seen[request], token, "{parameter} {value}");
        let message = result.unwrap_err().to_string();
        assert!(message.contains(&format!("response token {token} of sequence {sequence} ")), "{message}");
    }
}

#[test]
fn bad_requests_are_refused() {
    let (decoder, policy) = tiny("tiny_llama");
    let (context, full) = (decoder.config().max_position_embeddings, decoder.n_blocks());
    let run = |request: Request, policy: Option<&Policy<Cpu>>| {
        Engine::new(&decoder, policy, Limits::default()).run(&[request], &mut |_| Flow::Continue)
    };
    let refused = |request: Request| run(request, Some(&policy)).unwrap_err();
    let ask = || request(0, ExitPolicy::Sampled { offset: 0.0.into() });
    let with_exits = |exits: Exits| Request { exits, ..ask() };
    let with_answer = |offset: f32, marker: &[u32]| {
        let answer = AnswerOffset { offset, marker: marker.to_vec() };
        let offset = ExitOffset { think: 0.0, answer: Some(answer) };
        with_exits(ExitPolicy::Sampled { offset }.into())
    };
    let with_prefix = |tokens: &[u32], depths: &[usize]| {
        let prefix = Prefix { tokens: tokens.to_vec(), depths: depths.to_vec() };
        Request { prefix, ..request(0, ExitPolicy::Off) }
    };
    let sampling = |temperature, top_p| Request { sampling: Sampling { temperature, top_p, top_k: 0 }, ..ask() };
    for unknown in [
        Request { prompt: vec![9999], ..ask() },
        Request { forced: Forced::Start(vec![9999]), ..ask() },
        with_answer(1.0, &[9999]),
        with_prefix(&[9999], &[full]),
    ] {
        assert!(matches!(refused(unknown), RequestError::UnknownToken { id: 9999, .. }));
    }
    for setting in [
        sampling(f32::NAN, 1.0),
        sampling(1.0, 0.0),
        with_exits(ExitPolicy::Sampled { offset: f32::INFINITY.into() }.into()),
        with_answer(f32::NAN, &[1]),
    ] {
        assert!(matches!(refused(setting), RequestError::Setting { .. }));
    }
    for long in [Request { prompt: vec![0; context], ..ask() }, with_prefix(&vec![1; context], &vec![full; context])] {
        assert!(matches!(refused(long), RequestError::PromptTooLong { .. }));
    }
    assert_eq!(refused(Request { prompt: Vec::new(), ..ask() }), RequestError::EmptyPrompt);
    assert_eq!(refused(with_answer(1.0, &[])), RequestError::EmptyAnswerMarker);
    assert_eq!(run(ask(), None), Err(RequestError::NoHeads));
    let depth = |depth| RequestError::Depth { depth, n_blocks: full };
    assert_eq!(refused(with_exits(ExitPolicy::Fixed { depth: 99 }.into())), depth(99));
    assert_eq!(run(with_exits(Exits::recorded(vec![1, 0])), None), Err(depth(0)));
    assert_eq!(run(with_exits(Exits::recorded(vec![1, full])), None), Ok(()));
    for policy in [ExitPolicy::Recorded, ExitPolicy::RandomMatched, ExitPolicy::Oracle { kl_factor: 1.0 }] {
        assert_eq!(refused(with_exits(policy.clone().into())), RequestError::NoDecider(policy.name()));
    }
    for depths in [&[full, 1][..], &[full, 1, 2]] {
        assert_eq!(with_prefix(&[3, 4], depths).validate(&decoder, true), Ok(()));
    }
    assert_eq!(refused(with_prefix(&[3, 4], &[full])), RequestError::PrefixDepths { tokens: 2, depths: 1 });
    assert_eq!(refused(with_prefix(&[], &[full])), RequestError::PrefixDepths { tokens: 0, depths: 1 });
    assert_eq!(refused(with_prefix(&[3], &[1])), RequestError::PrefixStart { depth: 1, n_blocks: full });
    assert_eq!(refused(with_prefix(&[3, 4], &[full, 0])), depth(0));
}

/// A response that reaches the end of the context stops there.
#[test]
fn the_context_ends_a_response() {
    let (decoder, policy) = tiny("tiny_llama");
    let context = decoder.config().max_position_embeddings;
    let mut long = request(0, ExitPolicy::Sampled { offset: 3.0.into() });
    long.prompt = (0..context as u32 - 3).map(|i| i % 97).collect();
    let (tokens, reasons) = run(&decoder, &policy, &[long], Limits::default());
    // Positions context-4 .. context-1 emit a token each.
    assert_eq!(tokens[0].len(), 4);
    assert_eq!(reasons[0], FinishReason::Length);
}

/// A run that begins with the recorded beginning of another goes on as the other did, to the bit: from a prefix whose next
/// depth is recorded, and from one where it is drawn again with the same random numbers.
#[test]
fn a_prefix_goes_on_as_its_record_did() {
    for name in ["tiny_llama", "tiny_qwen2", "tiny_llama_rope3", "tiny_qwen2_tied"] {
        let (decoder, policy) = tiny(name);
        let requests = sampled(4, 0.3);
        let (recorded, reasons) = run(&decoder, &policy, &requests, Limits::default());
        for n in [1, 2, 9, 19] {
            for n_depths in [n, n + 1] {
                let goes_on = requests.iter().zip(&recorded).map(|(request, tokens)| {
                    let mut prefix = Prefix::of(&ids(tokens), &depths(tokens), n);
                    prefix.depths.truncate(n_depths);
                    Request { prefix, max_new_tokens: 20 - n, ..request.clone() }
                });
                let goes_on: Vec<Request> = goes_on.collect();
                let (tokens, ended) = run(&decoder, &policy, &goes_on, Limits { max_sequences: 3, max_prompt_rows: 7 });
                assert_eq!(ended, reasons);
                for (tokens, recorded) in tokens.iter().zip(&recorded) {
                    let mut rest = recorded[n..].to_vec();
                    if n_depths > n {
                        // A recorded depth decides nothing.
                        rest[0].exits.clear();
                    }
                    assert_eq!(*tokens, rest, "{name}: {n} tokens, {n_depths} depths");
                }
            }
        }
    }
}

/// Bulk replay against the teacher-forced pass: the log-probability of every token that follows a prefix. The same text at full
/// depth is another state.
#[test]
fn a_prefix_has_parity_and_full_depth_differs() {
    let (decoder, policy) = tiny("tiny_llama");
    let requests = sampled(8, 1.0);
    let (recorded, _) = run(&decoder, &policy, &requests, Limits::default());
    let mut largest_change = 0.0f32;
    for (request, tokens) in requests.iter().zip(&recorded) {
        let (ids, depths) = (ids(tokens), depths(tokens));
        let replayed = replay(&decoder, &policy, &request.prompt, &ids, &depths, &1.0.into(), 1.0).unwrap();
        let after = |prefix: Prefix| Request {
            forced: Forced::Whole(ids[prefix.tokens.len()..].to_vec()),
            exits: Exits::recorded(depths.clone()),
            prefix,
            ..request.clone()
        };
        let lengths: Vec<usize> = (1..ids.len()).collect();
        let mut requests: Vec<Request> = lengths.iter().map(|n| after(Prefix::of(&ids, &depths, *n))).collect();
        let full = |n: &usize| after(Prefix::at_full_depth(&ids, *n, decoder.n_blocks()));
        requests.extend(lengths.iter().map(full));
        let (tokens, _) = run(&decoder, &policy, &requests, Limits::default());
        let (bulk, full) = tokens.split_at(lengths.len());
        for (bulk, full) in bulk.iter().zip(full) {
            for token in bulk {
                let difference = token.log_probability - replayed[token.index].log_probability;
                assert!(difference.abs() < 1e-3, "{difference} at {}", token.index);
                assert_eq!(token.depth, depths[token.index]);
            }
            largest_change = largest_change.max((full[0].log_probability - bulk[0].log_probability).abs());
        }
    }
    assert!(
        largest_change > 0.1,
        "{largest_change}: full depth must be another state, or recording depths is pointless"
    );
}

/// No prefix, and recorded ones that differ in a depth, in the last depth, and in a token.
fn prefixes(n_blocks: usize) -> [Prefix; 5] {
    let prefix = |tokens: &[u32], depths: &[usize]| Prefix { tokens: tokens.to_vec(), depths: depths.to_vec() };
    [
        Prefix::default(),
        prefix(&[9, 4, 30], &[n_blocks, 2, 1, 3]),
        prefix(&[9, 4, 30], &[n_blocks, 2, 1]),
        prefix(&[9, 4, 30], &[n_blocks, 1, 1]),
        prefix(&[9, 5, 30], &[n_blocks, 2, 1]),
    ]
}

/// Stops with the teacher's target hazard of a step's own lens KLs.
#[derive(Debug)]
struct Oracle {
    candidates: Vec<usize>,
    kl_factor: f64,
}

impl ExitDecider for Oracle {
    fn depths(&self) -> &[usize] {
        &self.candidates
    }

    fn in_advance(&self, _: StepKey) -> Option<usize> {
        None
    }

    fn in_hindsight(&self, step: StepKey, lens_kl: &[f32]) -> Option<usize> {
        assert_eq!(lens_kl.len(), self.candidates.len());
        let stops = |(head, kl): (u32, f32)| step.uniform(head) < target_hazard(kl.into(), self.kl_factor);
        (0..).zip(lens_kl.iter().copied()).zip(&self.candidates).find(|(seen, _)| stops(*seen)).map(|(_, depth)| *depth)
    }
}

/// Steps by the oracle are those that stop where their record says: nothing of the blocks beyond is left. Small factors stop at
/// the first candidate, large ones where the lens says the same as full depth, if anywhere.
#[test]
fn the_oracle_goes_back_to_its_depths() {
    let (decoder, policy) = tiny("tiny_llama");
    let oracle = |kl_factor: f64, i: u64| {
        request(i, Exits::Decider(Arc::new(Oracle { candidates: vec![1, 2, 4, 5], kl_factor })))
    };
    let mut means = Vec::new();
    for kl_factor in [1e-6, 0.3, 1.0, 1e6] {
        let requests: Vec<Request> = (0..6).map(|i| oracle(kl_factor, i)).collect();
        let (tokens, _) = run(&decoder, &policy, &requests, Limits::default());
        let (few, _) = run(&decoder, &policy, &requests, Limits { max_sequences: 2, max_prompt_rows: 3 });
        assert_eq!(tokens, few);
        for (request, tokens) in requests.iter().zip(&tokens) {
            let recorded = Request { exits: Exits::recorded(depths(tokens)), ..request.clone() };
            let (again, _) = run(&decoder, &policy, &[recorded], Limits::default());
            assert_eq!((ids(&again[0]), depths(&again[0])), (ids(tokens), depths(tokens)));
            assert!(again[0].iter().zip(tokens).all(|(a, b)| a.log_probability == b.log_probability));
        }
        let later: Vec<usize> = tokens.iter().flat_map(|tokens| depths(&tokens[1..])).collect();
        means.push(later.iter().sum::<usize>() as f64 / later.len() as f64);
    }
    assert_eq!(means[0], 1.0);
    assert!(means.is_sorted() && means[3] > means[1], "{means:?}");
}

/// Equal beginnings of prompts and prefixes run once. Requests are made so that a copy of any other state would show: exits on and off,
/// other seeds, other temperatures and forced starts in one group.
fn group_member(prompt: u32, member: u64, exits: ExitPolicy) -> Request {
    Request {
        prompt: (0..18 + prompt % 3).map(|i| (i * 13 + prompt / 2) % 53).collect(),
        max_new_tokens: 1 + (member as usize * 5) % 9,
        sampling: Sampling { temperature: 0.5 + 0.25 * (member % 3) as f32, ..Sampling::default() },
        forced: if member % 4 == 3 { Forced::Start(vec![7, 8]) } else { Forced::None },
        prefix: prefixes(5)[member as usize % 5].clone(),
        sequence: member,
        ..request(0, exits)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Results of requests that share beginnings are the bits of each request alone, whatever the mix and the limits.
    #[test]
    fn shared_beginnings_change_nothing(
        mix in prop::collection::vec((0u32..4, 0usize..3), 1..14), max_sequences in 1usize..9, max_prompt_rows in 1usize..24,
    ) {
        let (decoder, policy) = tiny("tiny_qwen2");
        let exits = [ExitPolicy::Off, ExitPolicy::Sampled { offset: 0.4.into() }, ExitPolicy::Fixed { depth: 2 }];
        let requests: Vec<Request> = (0..).zip(&mix).map(|(i, (p, e))| group_member(*p, i, exits[*e].clone())).collect();
        let (together, reasons) = run(&decoder, &policy, &requests, Limits { max_sequences, max_prompt_rows });
        for (i, request) in requests.iter().enumerate() {
            let (alone, reason) = run(&decoder, &policy, std::slice::from_ref(request), Limits::default());
            prop_assert_eq!(&alone[0], &together[i]);
            prop_assert_eq!(reason[0], reasons[i]);
        }
    }

    /// Any pattern of depths replays the same both ways.
    #[test]
    fn any_depths_have_parity(depths in prop::collection::vec(1usize..=6, 1..12), seed in 0u32..50) {
        let (decoder, policy) = tiny("tiny_llama");
        let mut depths = depths;
        depths[0] = 6;
        let prompt: Vec<u32> = (0..=seed % 7).map(|i| (i * 5 + seed) % 131).collect();
        let tokens: Vec<u32> = (0..depths.len() as u32).map(|i| (i * 31 + seed) % 131).collect();
        let report = verify(&decoder, &policy, &prompt, &tokens, &depths, &(-0.5).into(), 0.8).unwrap();
        prop_assert!(disparity(&report) < 1e-4, "{report:?}");
    }
}
