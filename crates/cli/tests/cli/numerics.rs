//! What numbers results are computed with: `--activations`, `ALOUD_INSTRUCTIONS`, and the record of both.

use std::fs;
use std::path::Path;

use aloud_model::gguf::GgufValue;
use aloud_model::load::load;
use aloud_model::source::ResolvedSource;
use serde_json::{Value, json};

use crate::fixtures::{Folder, aloud, aloud_with_environment, golden, harmless_checkpoint, json_lines, llama};
use crate::gguf_writer::Content;
use crate::stage2::Stage1;

/// Blocks of the quantised model.
const BLOCKS: usize = 4;

/// A Q8_0 tensor of these lengths with small values that all differ.
fn q8_0(name: &str, shape: [usize; 2]) -> (String, Vec<usize>, u32, Vec<u8>) {
    const SCALE: u16 = 0x1800; // 2^-9 as f16
    let mut state = name.bytes().fold(1_u32, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
    let mut bytes = Vec::new();
    for _ in 0..shape[0] * shape[1] / 32 {
        bytes.extend(SCALE.to_le_bytes());
        bytes.extend((0..32).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        }));
    }
    (name.to_owned(), shape.to_vec(), 8, bytes)
}

/// A folder with a model whose matrices are quantised, and a checkpoint of it.
fn quantised() -> (Folder, String, String) {
    const WIDTH: usize = 32;
    const VOCABULARY: usize = 28;
    let folder = Folder::new();
    let mut content = Content::read(&golden("gguf/llama.gguf"));
    let width = WIDTH as u32;
    for (key, value) in [
        ("vocab_size", VOCABULARY as u32),
        ("embedding_length", width),
        ("feed_forward_length", width),
        ("block_count", BLOCKS as u32),
        ("attention.head_count", 1),
        ("attention.key_length", width),
        ("attention.value_length", width),
        ("rope.dimension_count", width),
    ] {
        content.metadata.insert(format!("llama.{key}"), GgufValue::U32(value));
    }
    let gain = |name: String| (name, vec![WIDTH], 0, [1_f32.to_le_bytes(); WIDTH].concat());
    content.tensors = vec![
        q8_0("token_embd.weight", [VOCABULARY, WIDTH]),
        q8_0("output.weight", [VOCABULARY, WIDTH]),
        gain("output_norm.weight".to_owned()),
    ];
    for block in 0..BLOCKS {
        let name = |name: &str| format!("blk.{block}.{name}.weight");
        content.tensors.extend(["attn_norm", "ffn_norm"].map(|norm| gain(name(norm))));
        let matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
        content.tensors.extend(matrices.map(|matrix| q8_0(&name(matrix), [WIDTH, WIDTH])));
    }
    let model = folder.file("model.gguf", content.to_bytes());
    fs::write(&model, Content::with_vocabulary(Path::new(&model)).to_bytes()).unwrap();
    let checkpoint = folder.path("checkpoint");
    let loaded = load(&ResolvedSource::Gguf(model.clone().into())).unwrap();
    harmless_checkpoint(&model, &loaded).save(Path::new(&checkpoint), None).unwrap();
    (folder, model, checkpoint)
}

/// Records of responses, and where they are.
fn generate(folder: &Folder, name: &str, arguments: &[&str]) -> (String, Vec<Value>) {
    let out = folder.path(name);
    let fixed = ["generate", "-p", "abc", "-p", "cab", "--max-new-tokens", "12", "-q", "--out", &out];
    aloud(&[&fixed, arguments].concat()).ok();
    let records = json_lines(&fs::read_to_string(&out).unwrap());
    (out, records)
}

/// Writes values as JSON Lines.
fn write_lines(folder: &Folder, name: &str, lines: &[Value]) -> String {
    folder.file(name, lines.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n"))
}

/// Changes a JSON file.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// The instructions in use.
fn instructions() -> Value {
    aloud(&["doctor", "--json", "--threads", "1"]).json()["instructions"].clone()
}

#[test]
fn instructions_come_from_the_environment() {
    let doctor = |level: &str| aloud_with_environment(&["doctor", "--json"], &[("ALOUD_INSTRUCTIONS", level)]);
    assert_eq!(doctor("portable").json()["instructions"], "portable");
    for command in [&["doctor"][..], &["fetch", "tiny-reasoner"], &["generate"]] {
        let run = aloud_with_environment(command, &[("ALOUD_INSTRUCTIONS", "sse9")]);
        run.fails(2, &["ALOUD_INSTRUCTIONS=sse9", "give avx512, avx2 or portable"]);
    }
    let text = aloud_with_environment(&["doctor"], &[("ALOUD_INSTRUCTIONS", "portable")]).ok();
    if instructions() != "portable" {
        assert!(text.contains("in use (ALOUD_INSTRUCTIONS=portable); this machine has AVX"), "{text}");
    }
}

#[test]
fn answers_take_eight_bits_where_weights_are_quantised() {
    let (folder, model, checkpoint) = quantised();
    let (_, records) = generate(&folder, "a.jsonl", &["--model", &model]);
    let expected = json!({"weights": "Q8_0", "activations": "q8", "adapters": null, "merged": false, "device": "cpu",
                          "instructions": instructions()});
    assert!(records.iter().all(|record| record["numerics"] == expected), "{}", records[0]);
    let (_, adapted) = generate(&folder, "b.jsonl", &["-c", &checkpoint, "--activations", "f32"]);
    let numerics = &adapted[0]["numerics"];
    assert_eq!((&numerics["activations"], &numerics["adapters"]), (&json!("f32"), &json!("f32")));
    let log_probabilities = |record: &Value| -> Vec<Value> {
        record["tokens"].as_array().unwrap().iter().map(|token| token["log_probability"].clone()).collect()
    };
    let (_, plain) = generate(&folder, "c.jsonl", &["--model", &model, "--activations", "f32"]);
    assert_ne!(log_probabilities(&plain[0])[0], log_probabilities(&records[0])[0], "q8 rounds");

    // Weights that are not quantised have no products for it.
    let (_other, floats) = llama();
    let fixed = ["generate", "--model", &floats, "-p", "one?", "--max-new-tokens", "2", "--json"];
    assert_eq!(json_lines(&aloud(&fixed).ok())[0]["numerics"]["activations"], "f32");
    let refused = aloud(&[&fixed[..], &["--activations", "q8"]].concat());
    refused.fails(2, &["no weight matrix of", "is quantised (they are F32)", "leave --activations out"]);
    aloud(&[&fixed[..], &["--activations", "int4"]].concat()).fails(2, &["int4"]);
}

#[test]
fn the_dial_is_tuned_in_what_will_run() {
    let (_folder, _, checkpoint) = quantised();
    let dial = ["dial", "-c", &checkpoint, "-p", "abc", "--offsets", "0", "--max-new-tokens", "4"];
    let run = |arguments: &[&str]| aloud(&[&dial, arguments].concat());
    assert_eq!(run(&["--json"]).json()["numerics"]["activations"], "q8");
    assert_eq!(run(&["--json", "--activations", "f32"]).json()["numerics"]["activations"], "f32");
    assert!(run(&[]).ok().contains("measured with weights Q8_0, activations q8, adapters Q8_0+BF16, cpu"));
}

#[test]
fn records_are_verified_as_they_were_made() {
    let (folder, _, checkpoint) = quantised();
    let (q8_file, q8) = generate(&folder, "q8.jsonl", &["-c", &checkpoint]);
    let (f32_file, plain) = generate(&folder, "f32.jsonl", &["-c", &checkpoint, "--activations", "f32"]);
    let verify = |arguments: &[&str]| aloud(&[&["verify", "-c", &checkpoint, "--json"], arguments].concat());
    for (file, activations) in [(&q8_file, "q8"), (&f32_file, "f32")] {
        let report = verify(&["--records", file]).json();
        assert_eq!((&report["passed"], &report["numerics"]["activations"]), (&true.into(), &activations.into()));
        verify(&["--records", file, "--activations", activations]).ok();
    }
    let contradiction = verify(&["--records", &q8_file, "--activations", "f32"]);
    contradiction.fails(2, &["--activations f32", "made with q8 activations"]);
    assert_eq!(verify(&[]).json()["numerics"]["activations"], "f32");
    assert_eq!(verify(&["--activations", "q8"]).json()["numerics"]["activations"], "q8");

    let both = write_lines(&folder, "both.jsonl", &[&q8[..], &plain[..]].concat());
    verify(&["--records", &both]).fails(1, &["both.jsonl", "activations q8", "activations f32", "files of their own"]);
    let changed = |name: &str, change: fn(&mut Value)| {
        let mut records = q8.clone();
        records.iter_mut().for_each(change);
        write_lines(&folder, name, &records)
    };
    // Instructions that no machine has yet: with what there is, and a note.
    let elsewhere =
        verify(&["--records", &changed("x.jsonl", |record| record["numerics"]["instructions"] = "x1".into())]);
    assert!(elsewhere.stderr.contains("note: the records were made with instructions x1"), "{}", elsewhere.stderr);
    elsewhere.ok();
    let portable = changed("portable.jsonl", |record| record["numerics"]["instructions"] = "portable".into());
    assert_eq!(verify(&["--records", &portable]).json()["numerics"]["instructions"], "portable");
    let unknown = changed("unknown.jsonl", |record| record["numerics"]["activations"] = "q3".into());
    verify(&["--records", &unknown]).fails(1, &["made with q3 activations", "knows f32 and q8"]);

    // Records of earlier versions say nothing: f32, or what is asked for.
    let old = changed("old.jsonl", |record| drop(record.as_object_mut().unwrap().remove("numerics")));
    let report = verify(&["--records", &old, "--activations", "q8"]).json();
    assert_eq!((&report["passed"], &report["numerics"]["activations"]), (&true.into(), &"q8".into()));
    let report = verify(&["--records", &old, "--tolerance", "100"]).json();
    assert_eq!(report["numerics"]["activations"], "f32");
}

#[test]
fn an_evaluation_goes_on_with_its_own_numerics() {
    let folder = Folder::new();
    let output = folder.path("run");
    let fixed = ["eval", "tiny-reasoner", "--output", &output, "--task", "chain", "--tier", "toy", "--n", "4"];
    let evaluate = || folder.run(&[&fixed[..], &["--max-new-tokens", "8", "--json"]].concat());
    let numerics = evaluate().json()["numerics"].clone();
    assert_eq!((&numerics["weights"], &numerics["activations"]), (&json!("BF16"), &json!("f32")));
    let path = Path::new(&output).join("base/manifest.json");
    edit(&path, |manifest| assert_eq!(manifest["numerics"], numerics));

    edit(&path, |manifest| manifest["numerics"]["activations"] = "q8".into());
    evaluate()
        .fails(1, &["another `numerics.activations` (q8, now f32)", "give --activations q8, or choose another output"]);
    edit(&path, |manifest| {
        manifest["numerics"] = numerics.clone();
        manifest["numerics"]["instructions"] = "x1".into();
    });
    evaluate().fails(1, &["another `numerics.instructions` (x1, now ", "ALOUD_INSTRUCTIONS=x1"]);
    // An older run goes on, and what its rows were computed with stays unknown.
    edit(&path, |manifest| drop(manifest.as_object_mut().unwrap().remove("numerics")));
    evaluate().ok();
    edit(&path, |manifest| assert_eq!(manifest.get("numerics"), None));
}

#[test]
fn what_is_trained_on_is_f32() {
    let stage1 = Stage1::new();
    let store = stage1.path("store");
    let trace = |arguments: &[&str]| {
        let fixed = ["trace", "--model", "tiny-reasoner", "--data", "chain:steps=1", "--n", "2", "--output", &store];
        stage1.run(&[&fixed, arguments].concat())
    };
    trace(&["--activations", "q8"]).fails(2, &["'q8' for '--activations", "something is trained on the result"]);
    let reinforce = ["reinforce", "-c", "x", "--data", "chain", "--output", &store, "--activations", "q8"];
    stage1.run(&reinforce).fails(2, &["'q8' for '--activations", "something is trained on the result"]);
    for command in ["trace", "reinforce"] {
        assert!(!aloud(&[command, "--help"]).ok().contains("--activations"), "{command}");
    }

    trace(&[]).ok();
    let header = Path::new(&store).join("traces.json");
    edit(&header, |header| {
        assert_eq!(header["numerics"]["activations"], "f32");
        header["numerics"]["instructions"] = "x1".into();
    });
    trace(&[])
        .fails(1, &["another numerics.instructions: it has x1", "ALOUD_INSTRUCTIONS=x1", "choose another directory"]);
    edit(&header, |header| drop(header.as_object_mut().unwrap().remove("numerics")));
    trace(&[]).ok();
}

/// Records of earlier versions say nothing of numerics.
#[test]
fn old_records_are_shown() {
    let (folder, model, _) = quantised();
    let (_, mut records) = generate(&folder, "a.jsonl", &["--model", &model]);
    for record in &mut records {
        record.as_object_mut().unwrap().remove("numerics");
    }
    let (file, page) = (write_lines(&folder, "old.jsonl", &records), folder.path("page.html"));
    aloud(&["view", &file, "--out", &page]).ok();
    assert!(fs::read_to_string(&page).unwrap().contains("prompt-1"));
}
