//! `aloud generate` and `aloud chat` on a tiny model with a tokenizer made here.

use serde_json::{Value, json};

use crate::fixtures::{aloud, aloud_with_input, golden, json_lines, llama, student, text};

/// Four prompts, more than run at once.
const PROMPTS: [&str; 8] = ["-p", "one?", "-p", "Say two.", "-p", "3", "-p", "four or five"];

fn generate(arguments: &[&str]) -> Vec<Value> {
    json_lines(&aloud(&[&["generate", "--json", "--max-new-tokens", "24"], arguments].concat()).ok())
}

fn depths(record: &Value) -> Vec<u64> {
    record["tokens"].as_array().unwrap().iter().map(|token| token["depth"].as_u64().unwrap()).collect()
}

#[test]
fn results_do_not_depend_on_the_batch() {
    let (_folder, model, checkpoint) = student();
    let run = |batch: &str| {
        let fixed = ["generate", "--model", &model, "--checkpoint", &checkpoint, "--json", "--samples", "2"];
        aloud(&[&fixed, &PROMPTS[..], &["--max-new-tokens", "24", "--batch", batch]].concat()).ok()
    };
    let one = run("1");
    let records = json_lines(&one);
    assert_eq!(records.len(), 8);
    let ids: Vec<&str> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert_eq!(ids[..3], ["prompt-0#0", "prompt-0#1", "prompt-1#0"]);
    for batch in ["3", "16"] {
        assert!(run(batch) == one, "batch {batch}");
    }
    // Otherwise this test says nothing: samples differ, and exits happen and do not happen.
    assert_ne!(records[0]["response"], records[1]["response"]);
    let all: Vec<u64> = records.iter().flat_map(depths).collect();
    assert!(all.contains(&6) && all.iter().any(|depth| *depth < 6), "{all:?}");
}

#[test]
fn records_say_how_they_were_made() {
    let (folder, model, checkpoint) = student();
    let out = folder.path("records.jsonl");
    let records =
        generate(&["--model", &model, "--checkpoint", &checkpoint, "-p", "one?", "--out", &out, "--seed", "5"]);
    let record = &records[0];
    assert_eq!(json_lines(&std::fs::read_to_string(&out).unwrap()), records);
    assert_eq!(record["prompt"], "<|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\n");
    let settings = &record["settings"];
    assert_eq!(settings["temperature"].to_string(), "0.7");
    assert_eq!((settings["exits"].as_str(), settings["seed"].as_u64()), (Some("sampled"), Some(5)));
    assert_eq!(settings["checkpoint"], checkpoint);
    assert_eq!(settings["prompt_token_ids"][0], 1);
    assert_eq!(depths(record)[0], 6, "the first token is pinned to full depth");
    let tokens = record["tokens"].as_array().unwrap();
    assert!(tokens[0]["exits"].as_array().unwrap().is_empty());
    for token in &tokens[1..] {
        let last = token["exits"].as_array().unwrap().last().unwrap();
        assert!(last["depth"].as_u64() <= token["depth"].as_u64() && last["hazard"].as_f64().unwrap() < 1.0);
    }
}

#[test]
fn the_offset_moves_exits_and_off_stops_them() {
    let (_folder, model, checkpoint) = student();
    let run = |arguments: &[&str]| {
        let records = generate(&[&["--model", &model, "--checkpoint", &checkpoint, "-p", "one?"], arguments].concat());
        (depths(&records[0])[1..].to_vec(), records[0]["candidates"].clone())
    };
    let (early, candidates) = run(&["--exit-offset", "60"]);
    assert!(early.iter().all(|depth| *depth == candidates[0].as_u64().unwrap()), "{early:?}");
    for full in [&["--exit-offset", "-60"][..], &["--exits", "off"]] {
        assert!(run(full).0.iter().all(|depth| *depth == 6), "{full:?}");
    }
    let (fixed, candidates) = run(&["--depth", "1"]);
    assert!(fixed.iter().all(|depth| *depth == 1) && candidates.as_array().unwrap().contains(&1.into()));
    // A fixed depth needs no checkpoint.
    let record = &generate(&["--model", &model, "-p", "one?", "--depth", "4"])[0];
    assert!(depths(record)[1..].iter().all(|depth| *depth == 4));
    assert_eq!(record["candidates"].to_string(), "[4,5]");
}

/// The answer has its own offset, from its marker on; the record says both, and `verify` reads them.
#[test]
fn the_answer_has_its_own_offset() {
    let (folder, model, checkpoint) = student();
    let base = ["--model", &model, "--checkpoint", &checkpoint, "-p", "one?"];
    let record = |arguments: &[&str]| generate(&[&base[..], arguments].concat()).remove(0);
    // The first token of one character, but for token 0, begins the answer.
    let plain = record(&["--exit-offset", "-60"]);
    let texts = plain["tokens"].as_array().unwrap()[1..].iter().map(|token| token["text"].as_str().unwrap());
    let marker = texts.into_iter().find(|text| text.len() == 1).unwrap().to_owned();
    let begins = |record: &Value| {
        1 + record["tokens"].as_array().unwrap().iter().position(|token| token["text"] == marker.as_str()).unwrap()
    };
    let begin = begins(&plain);
    let arguments = ["--exit-offset", "think=-60,answer=60", "--answer-marker", &marker];
    let spans = record(&arguments);
    let first = spans["candidates"][0].as_u64().unwrap();
    assert_eq!(begins(&spans), begin);
    assert!(depths(&spans)[..begin].iter().all(|depth| *depth == 6), "{spans}");
    assert!(depths(&spans).len() > begin && depths(&spans)[begin..].iter().all(|depth| *depth == first), "{spans}");
    let setting = &spans["settings"]["exit_offset"];
    assert_eq!((setting["think"].as_f64(), setting["answer"].as_f64()), (Some(-60.0), Some(60.0)));
    assert_eq!(setting["answer_marker"][0], plain["tokens"][begin - 1]["token_id"]);
    let records = folder.path("records.jsonl");
    generate(&[&base[..], &arguments, &["--out", &records]].concat());
    assert_eq!(aloud(&["verify", "-c", &checkpoint, "--records", &records, "--json"]).json()["passed"], true);

    let wrong = [
        (&["--exit-offset", "think=1"][..], "expected both"),
        (&["--exit-offset", "think=1,answer=x"], "finite"),
        (&["--exit-offset", "think=1,answer=2,rest=3"], "each once"),
        (&["--exit-offset", "think=1,answer=2"], "--answer-marker"),
        (&["--exit-offset", "think=1,answer=2", "--answer-marker", ""], "empty"),
        (&["--exit-offset", "1", "--answer-marker", "a"], "no effect"),
        (&["--answer-marker", "a"], "--exit-offset"),
    ];
    for (arguments, expected) in wrong {
        let run = aloud(&[&["generate"], &base[..], arguments].concat());
        assert!(run.stderr.contains(expected), "{arguments:?}: {}", run.stderr);
        run.error(2);
    }
}

#[test]
fn responses_begin_with_a_forced_text() {
    let (folder, model, checkpoint) = student();
    let base = ["--model", &model, "--checkpoint", &checkpoint, "-p", "one?", "--samples", "3"];
    let records_file = folder.path("records.jsonl");
    let records = generate(&[&base[..], &["--force-start", "So: ", "--out", &records_file]].concat());
    for record in &records {
        let response = record["response"].as_str().unwrap();
        assert!(response.starts_with("So: "), "{response}");
        let ids: Vec<&Value> =
            record["tokens"].as_array().unwrap()[..4].iter().map(|token| &token["token_id"]).collect();
        let forced: Vec<&Value> = record["settings"]["forced_start_token_ids"].as_array().unwrap().iter().collect();
        assert_eq!(ids, forced);
        assert!(record["tokens"][1]["log_probability"].as_f64().unwrap() < 0.0);
        assert!(!record["tokens"][1]["exits"].as_array().unwrap().is_empty());
    }
    assert_ne!(records[0]["response"], records[1]["response"], "the rest is drawn");
    assert_eq!(aloud(&["verify", "-c", &checkpoint, "--records", &records_file, "--json"]).json()["passed"], true);
    // What would have been drawn anyway changes nothing. (A text may have other tokens than the one that was drawn.)
    let same_tokens = (0..20).filter(|seed| {
        let seed = seed.to_string();
        let base = [&base[..6], &["--seed", &seed]].concat();
        let free = generate(&base).swap_remove(0);
        let start = &free["tokens"][0];
        let forced =
            generate(&[&base[..], &["--force-start", start["text"].as_str().unwrap()]].concat()).swap_remove(0);
        let is_same = forced["settings"]["forced_start_token_ids"] == json!([start["token_id"]]);
        assert!(!is_same || forced["response"] == free["response"], "seed {seed}");
        is_same
    });
    assert!(same_tokens.count() > 0);
    let error = aloud(&[&["generate"], &base[..], &["--force-start", "So: ", "--max-new-tokens", "3"]].concat());
    error.fails(2, &["4 tokens"]);
}

#[test]
fn stop_texts_are_cut() {
    let (_folder, model) = llama();
    let base = ["--model", &model, "-p", "one?", "--temperature", "1"];
    let whole = generate(&base)[0]["response"].as_str().unwrap().to_owned();
    let characters: Vec<char> = whole.chars().collect();
    let stop: String = characters[6..10].iter().collect();
    let expected = &whole[..whole.find(&stop).unwrap()];
    let stopped = &generate(&[&base[..], &["--stop", "no such text", "--stop", &stop]].concat())[0];
    assert_eq!((stopped["response"].as_str().unwrap(), stopped["finish_reason"].as_str()), (expected, Some("stop")));
    // What is streamed is the same text.
    let arguments = [&["generate", "--max-new-tokens", "24", "--stop", &stop], &base[..]].concat();
    assert_eq!(aloud(&arguments).ok(), format!("{expected}\n"));
}

#[test]
fn a_lens_shows_every_candidate_that_was_reached() {
    let (_folder, model, checkpoint) = student();
    let with_heads = generate(&["--model", &model, "--checkpoint", &checkpoint, "-p", "one?", "--lens"]);
    let without = generate(&["--model", &model, "--checkpoint", &checkpoint, "-p", "one?"]);
    let candidates: Vec<u64> =
        with_heads[0]["candidates"].as_array().unwrap().iter().map(|depth| depth.as_u64().unwrap()).collect();
    let tokens = |records: &[Value]| records[0]["tokens"].as_array().unwrap().clone();
    for (seen, plain) in tokens(&with_heads).iter().zip(&tokens(&without)).skip(1) {
        assert_eq!(seen["token_id"], plain["token_id"]);
        let reached = candidates.iter().filter(|candidate| **candidate <= seen["depth"].as_u64().unwrap());
        let exits = seen["exits"].as_array().unwrap();
        assert_eq!(exits.len(), reached.count());
        for (exit, recorded) in exits.iter().zip(plain["exits"].as_array().unwrap()) {
            assert_eq!(exit["hazard"], recorded["hazard"]);
            let kl = exit["lens_kl"].as_f64().unwrap();
            assert_eq!(kl == 0.0, exit["depth"] == seen["depth"], "{exit}");
            assert!(exit["lens_token"].is_string());
        }
    }
    // Without heads the hazards are targets, and the record says so.
    let record = &generate(&["--model", &model, "-p", "one?", "--lens"])[0];
    assert_eq!(record["settings"]["hazards"], "targets, kl_factor 1");
    let exit = &record["tokens"][1]["exits"][0];
    let expected = 1.0 - (exit["lens_kl"].as_f64().unwrap() / 2.0).tanh();
    assert!((exit["hazard"].as_f64().unwrap() - expected).abs() < 1e-6);
}

#[test]
fn prompts_come_from_files_and_sources() {
    let (folder, model) = llama();
    let file = folder
        .file("prompts.jsonl", "{\"id\": \"a\", \"question\": \"One?\"}\n{\"id\": \"b\", \"question\": \"Two?\"}\n");
    for source in ["--prompts", "--data"] {
        let records = generate(&["--model", &model, source, &file, "--system", "Be brief."]);
        assert_eq!(records.len(), 2);
        assert!(
            records[0]["prompt"].as_str().unwrap().starts_with("<|im_start|>system\nBe brief.<|im_end|>"),
            "{}",
            records[0]
        );
    }
    let raw = &generate(&["--model", &model, "-p", "One", "--raw", "--instruction", "go"])[0];
    assert_eq!(raw["prompt"], "One\n\ngo");
    // Word problems do not fit into a context of 128 characters.
    aloud(&["generate", "-m", &model, "--data", "word-problems", "--n", "1"]).fails(1, &["128"]);
}

#[test]
fn several_responses_are_printed_with_headings() {
    let (_folder, model) = llama();
    let run = aloud(&[&["generate", "--model", &model, "--max-new-tokens", "4"], &PROMPTS[..]].concat());
    assert_eq!(run.stdout.matches("[prompt-").count(), 4, "{}", run.stdout);
    assert!(!run.stdout.contains('\x1b'), "no colours outside of terminals");
    assert!(
        run.stderr.contains("4 responses, ") && run.stderr.contains("average layer savings 0.0 %"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("tokens/s after the first token") && run.stderr.contains("with the prompts"));
    let quiet = aloud(&["generate", "--model", &model, "-p", "a", "--max-new-tokens", "4", "--quiet"]);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn wrong_settings_are_usage_errors() {
    let (_folder, model) = llama();
    let wrong: [&[&str]; 13] = [
        &[],
        &["-p", "a", "--exits", "on"],
        &["-p", "a", "--exit-offset", "1"],
        &["-p", "a", "--depth", "7"],
        &["-p", "a", "--depth", "0"],
        &["-p", "a", "--depth", "2", "--exits", "on"],
        &["-p", "a", "--temperature", "-1"],
        &["-p", "a", "--top-p", "0"],
        &["-p", "a", "--top-p", "1.5"],
        &["-p", "a", "--samples", "0"],
        &["-p", "a", "--data", "word-problems"],
        &["--data", "word-problems"],
        &["--data", "nothing"],
    ];
    for arguments in wrong {
        aloud(&[&["generate", "--model", &model], arguments].concat()).error(2);
    }
    aloud(&["generate", "--model", text(&golden("tiny_llama")), "-p", "a"]).fails(1, &["tokenizer"]);
}

#[test]
fn a_model_without_a_chat_template_says_what_to_do() {
    let (_folder, model) = llama();
    std::fs::remove_file(format!("{model}/tokenizer_config.json")).unwrap();
    aloud(&["generate", "--model", &model, "-p", "a"]).fails(2, &["--raw"]);
    aloud(&["generate", "--model", &model, "-p", "a", "--raw", "--max-new-tokens", "3"]).ok();
    aloud(&["chat", "--model", &model]).error(2);
}

#[test]
fn a_chat_reads_piped_lines() {
    let (_folder, model, checkpoint) = student();
    let fixed = ["chat", "--model", &model, "--checkpoint", &checkpoint, "--max-new-tokens", "5", "--temperature", "0"];
    let answer = |input: &str| aloud_with_input(&fixed, input);
    let once = answer("hi\n").ok();
    assert!(once.ends_with('\n'));
    // After a reset the same question, decided greedily at full depth, has the same answer.
    let again = answer("/exits off\nhi\n/reset\nhi\n/quit\nnot read\n").ok();
    let half = again.len() / 2;
    assert_eq!(again[..half], again[half..]);
    let run = answer("/offset 60\nhi\n/offset x\n/nothing\n");
    for said in ["exits on, offset 60", "/offset x: expected a finite number", "/reset forgets", "layer savings 6"] {
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    }
    // A message that does not fit is dropped; the conversation goes on.
    let run = answer(&format!("{}\nhi\n", "long ".repeat(40)));
    assert!(run.stderr.contains("the message is dropped") && run.code == 0, "{}", run.stderr);
    assert_eq!(run.stdout, once);
}

/// A template that uses a variable, as Qwen3's does, and prompt files as other trainers write them.
#[test]
fn template_arguments_and_conversations_reach_prompts_and_traces() {
    let (folder, model) = llama();
    let path = std::path::Path::new(&model).join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let template = config["chat_template"].as_str().unwrap();
    config["chat_template"] = format!("{template}{{% if enable_thinking is false %}}(no){{% endif %}}").into();
    std::fs::write(&path, config.to_string()).unwrap();

    let prompt = |arguments: &[&str]| {
        let fixed = ["--model", &model, "-p", "one?", "--exits", "off"];
        generate(&[&fixed, arguments].concat())[0]["prompt"].as_str().unwrap().to_owned()
    };
    let plain = "<|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(prompt(&[]), plain);
    assert_eq!(prompt(&["--template-arg", "enable_thinking=false"]), format!("{plain}(no)"));
    assert_eq!(prompt(&["--template-arg", "enable_thinking=true"]), plain);
    let refused =
        |arguments: &[&str]| aloud(&[&["generate", "--model", &model, "-p", "x"], arguments].concat()).error(2);
    let error = refused(&["--template-arg", "enable_thinkng=false"]);
    assert!(error.contains("`enable_thinkng` is not used by the template; it uses: enable_thinking"), "{error}");
    let error = refused(&["--raw", "--template-arg", "enable_thinking=false"]);
    assert!(error.contains("without a chat template"), "{error}");

    let responses = folder.file(
        "responses.json",
        r#"[{"messages": [{"role": "developer", "content": "Be brief."},
             {"role": "user", "content": [{"type": "text", "text": "one?"}]}, {"role": "assistant", "content": "yes"}]},
            {"prompt": [{"role": "user", "content": "two?"}], "completion": [{"role": "assistant", "content": "no"}]}]"#,
    );
    let traces = folder.path("traces");
    let trace = |arguments: &[&str]| {
        let fixed = ["trace", "--model", &model, "--responses", &responses, "--candidates", "2,4", "--output", &traces];
        aloud(&[&fixed, arguments].concat())
    };
    trace(&["--template-arg", "enable_thinking=false"]).ok();
    let rows = std::fs::read_to_string(std::path::Path::new(&traces).join("shard-00000.jsonl")).unwrap();
    for part in ["system\\nBe brief.", "user\\none?", "assistant\\n(no)", "\"yes\"", "user\\ntwo?", "\"no\""] {
        assert!(rows.contains(part), "{part}: {rows}");
    }
    // What was recorded with one template does not go on with another.
    trace(&[]).fails(1, &["template_arg.enable_thinking false"]);
}
