//! The trace store: round trips, resume, and errors for everything that is damaged, foreign or contradictory.

use std::fs;
use std::path::Path;

use aloud_model::checkpoint::{BaseIdentity, lineage::ItemKey};
use aloud_train::stage1::traces::{
    FORMAT_VERSION, FinishReason, HiddenDType, ItemSource, Trace, TraceError, TraceHeader, TraceReader, TraceWriter,
};
use serde_json::json;

pub(super) fn header(hidden_dtype: HiddenDType) -> TraceHeader {
    TraceHeader {
        format_version: FORMAT_VERSION,
        base_model: BaseIdentity { source: "pypi:tiny".to_owned(), sha256: "ab12".to_owned() },
        candidates: vec![2, 4],
        n_blocks: 6,
        hidden_size: 3,
        hidden_dtype,
        settings: json!({"temperature": 0.7, "sampling": {"seed": 1, "max_new_tokens": 64}}),
        numerics: None,
        items: Some(ItemSource {
            source: "gsm8k.jsonl".to_owned(),
            split: "all".to_owned(),
            seed: 0,
            sha256: Some("ef56".to_owned()),
        }),
    }
}

pub(super) fn trace(number: usize, prompt_len: usize, response_len: usize) -> Trace {
    let value = |i: usize| (number * 100 + i) as f32 * 0.125 - 3.0;
    Trace {
        index: 0,
        id: format!("gsm8k/{number}"),
        item: Some(ItemKey::of_question(&format!("What is {number} + 1?"))),
        prompt: format!("What is {number} + 1?\n"),
        response: "It is “one” more.".to_owned(),
        token_ids: (0..prompt_len + response_len).map(|i| (number * 1000 + i) as u32).collect(),
        prompt_len,
        final_hidden: (0..response_len * 3).map(value).collect(),
        lens_kl: (0..response_len * 2).map(|i| value(i).abs()).collect(),
        token_log_probabilities: (0..response_len).map(|i| -value(i).abs()).collect(),
        finish_reason: if number.is_multiple_of(2) { FinishReason::Stop } else { FinishReason::Length },
    }
}

/// Creates a store, or opens it to go on.
pub(super) fn open(directory: &Path) -> Result<TraceWriter, TraceError> {
    TraceWriter::create_or_resume(directory, header(HiddenDType::F32))
}

pub(super) fn write_store(directory: &Path, n_traces: usize, traces_per_shard: usize) -> Vec<Trace> {
    let mut writer = open(directory).unwrap().with_traces_per_shard(traces_per_shard);
    let traces: Vec<Trace> = (0..n_traces)
        .map(|number| {
            let trace = trace(number, 1 + number % 3, 1 + number % 4);
            let index = writer.append(trace.clone()).unwrap();
            Trace { index, ..trace }
        })
        .collect();
    writer.finish().unwrap();
    traces
}

#[test]
fn traces_come_back_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let traces = write_store(folder.path(), 7, 3);
    let reader = TraceReader::open(folder.path()).unwrap();
    assert_eq!((reader.len(), reader.n_shards(), reader.is_empty()), (7, 3, false));
    assert_eq!(reader.header(), &header(HiddenDType::F32));
    for trace in &traces {
        assert_eq!(&reader.read(trace.index).unwrap(), trace);
        assert_eq!(reader.read_lens_kl(trace.index).unwrap(), trace.lens_kl);
    }
    let error = reader.read(7).unwrap_err().to_string();
    assert!(error.starts_with("there is no trace 7: the store") && error.ends_with("has 7"), "{error}");
}

#[test]
fn the_digest_is_that_of_what_is_trained_on() {
    let digest = |change: fn(&mut Trace), n_traces: usize, traces_per_shard: usize| {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = open(folder.path()).unwrap().with_traces_per_shard(traces_per_shard);
        for number in 0..n_traces {
            let mut trace = trace(number, 1 + number % 3, 1 + number % 4);
            change(&mut trace);
            writer.append(trace).unwrap();
        }
        writer.finish().unwrap();
        TraceReader::open(folder.path()).unwrap().digest().unwrap()
    };
    let whole = digest(|_| {}, 5, 2);
    assert_eq!((whole.len(), &whole), (64, &digest(|_| {}, 5, 3)), "shards do not matter");
    assert_ne!(whole, digest(|_| {}, 6, 2), "an extended store");
    assert_ne!(whole, digest(|trace| trace.lens_kl[0] += 0.5, 5, 2));
    assert_ne!(whole, digest(|trace| trace.token_ids[0] += 1, 5, 2));
    assert_ne!(whole, digest(|trace| trace.id.push('x'), 5, 2));
}

#[test]
fn a_store_goes_on_with_the_same_content_only() {
    let folder = tempfile::tempdir().unwrap();
    write_store(folder.path(), 2, 2);
    let mut edited = header(HiddenDType::F32);
    edited.items.as_mut().unwrap().sha256 = Some("0123".to_owned());
    let error = TraceWriter::create_or_resume(folder.path(), edited.clone()).unwrap_err().to_string();
    assert!(error.contains("another items.sha256: it has \"ef56\", this run has \"0123\""), "{error}");

    // A store from before items were recorded is read; of a file, it does not go on.
    let path = folder.path().join("traces.json");
    let mut old: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    old.as_object_mut().unwrap().remove("items").unwrap();
    fs::write(&path, old.to_string()).unwrap();
    let records = folder.path().join("shard-00000.jsonl");
    let text = fs::read_to_string(&records).unwrap();
    let mut old_records = String::new();
    for line in text.lines() {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        record.as_object_mut().unwrap().remove("item").unwrap();
        old_records.push_str(&record.to_string());
        old_records.push('\n');
    }
    fs::write(&records, old_records).unwrap();
    let reader = TraceReader::open(folder.path()).unwrap();
    assert_eq!((&reader.header().items, reader.records()[0].item), (&None, None));
    let error = TraceWriter::create_or_resume(folder.path(), edited.clone()).unwrap_err().to_string();
    assert!(error.contains("another items.sha256: it has null"), "{error}");
    edited.items.as_mut().unwrap().sha256 = None;
    TraceWriter::create_or_resume(folder.path(), edited).unwrap();
}

#[test]
fn bf16_rounds_hidden_states_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = TraceWriter::create_or_resume(folder.path(), header(HiddenDType::Bf16)).unwrap();
    let mut given = trace(5, 2, 3);
    given.final_hidden = vec![1.000_1, -3.191_59, 65_536.3, 0.0, 1.0, 2.0, 1e-20, 5.0, 7.0];
    writer.append(given.clone()).unwrap();
    writer.finish().unwrap();
    let read = TraceReader::open(folder.path()).unwrap().read(0).unwrap();
    // Half a unit in the last of bf16's 8 significant bits.
    assert!(given.final_hidden.iter().zip(&read.final_hidden).all(|(x, y)| (x - y).abs() <= x.abs() / 256.0));
    assert_ne!(given.final_hidden, read.final_hidden);
    assert_eq!(given, Trace { final_hidden: given.final_hidden.clone(), ..read });
}

#[test]
fn an_interrupted_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    write_store(folder.path(), 4, 2);
    // As if the program had died between the two renames of shard 2.
    fs::write(folder.path().join("shard-00002.safetensors"), b"half written").unwrap();
    assert_eq!(TraceReader::open(folder.path()).unwrap().len(), 4);

    let mut writer = open(folder.path()).unwrap();
    assert_eq!(writer.n_completed(), 4);
    assert!(writer.contains("gsm8k/3") && !writer.contains("gsm8k/4"));
    let error = writer.append(trace(3, 1, 1)).unwrap_err().to_string();
    assert_eq!(error, "cannot store trace `gsm8k/3`: id must be an id that no other trace has, found gsm8k/3");
    assert_eq!(writer.append(trace(4, 1, 2)).unwrap(), 4);
    assert_eq!(writer.n_completed(), 4, "not on the disk yet");
    writer.flush().unwrap();
    assert_eq!(writer.n_completed(), 5);
    drop(writer);
    let reader = TraceReader::open(folder.path()).unwrap();
    assert_eq!(reader.read(4).unwrap(), Trace { index: 4, ..trace(4, 1, 2) });
}

#[test]
fn traces_that_were_never_flushed_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path()).unwrap();
    writer.append(trace(0, 1, 1)).unwrap();
    drop(writer);
    assert!(TraceReader::open(folder.path()).unwrap().is_empty());
}

#[test]
fn another_teacher_or_setting_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    write_store(folder.path(), 1, 1);
    let refused = |change: fn(&mut TraceHeader)| {
        let mut header = header(HiddenDType::F32);
        change(&mut header);
        TraceWriter::create_or_resume(folder.path(), header).unwrap_err()
    };
    let field = |change: fn(&mut TraceHeader)| match refused(change) {
        TraceError::OtherSettings { field, expected, found, .. } => (field, expected, found),
        error => panic!("{error}"),
    };
    let (name, expected, found) = field(|header| header.base_model.sha256 = "cd34".to_owned());
    assert_eq!(
        (name.as_str(), expected.as_str(), found.as_str()),
        ("base_model.sha256", "cd34 (`pypi:tiny`)", "ab12 (`pypi:tiny`)")
    );
    assert_eq!(field(|header| header.candidates = vec![2, 5]).0, "candidates");
    assert_eq!(field(|header| header.n_blocks = 7).0, "n_blocks");
    assert_eq!(field(|header| header.hidden_size = 4).0, "hidden_size");
    assert_eq!(field(|header| header.hidden_dtype = HiddenDType::Bf16).0, "hidden_dtype");
    let (name, expected, found) = field(|header| header.settings["sampling"]["seed"] = json!(2));
    assert_eq!((name.as_str(), expected.as_str(), found.as_str()), ("settings.sampling.seed", "2", "1"));
    assert_eq!(field(|header| header.settings["top_p"] = json!(0.9)).0, "settings.top_p");

    // The same weights from another place are the same teacher.
    let mut elsewhere = header(HiddenDType::F32);
    elsewhere.base_model.source = "/models/tiny".to_owned();
    assert_eq!(TraceWriter::create_or_resume(folder.path(), elsewhere).unwrap().n_completed(), 1);
}

#[test]
fn headers_and_traces_that_contradict_themselves_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for candidates in [vec![], vec![0], vec![6], vec![4, 2], vec![2, 2]] {
        let header = TraceHeader { candidates, ..header(HiddenDType::F32) };
        let error = TraceWriter::create_or_resume(folder.path(), header).unwrap_err().to_string();
        assert!(error.contains("candidates must be strictly increasing depths from 1 to 5"), "{error}");
    }
    let mut writer = open(folder.path()).unwrap();
    let mut refused = |change: fn(&mut Trace)| {
        let mut trace = trace(0, 2, 2);
        change(&mut trace);
        writer.append(trace).unwrap_err().to_string()
    };
    assert!(refused(|trace| trace.prompt_len = 0).contains("prompt_len must be at least 1"));
    assert!(refused(|trace| trace.prompt_len = 4).contains("number of response tokens must be at least 1"));
    assert!(refused(|trace| trace.final_hidden.truncate(5)).contains("final_hidden must be 2 rows of 3, found 5"));
    assert!(refused(|trace| trace.lens_kl.push(0.0)).contains("lens_kl must be 2 rows of 2, found 5 values"));
    let error = refused(|trace| trace.lens_kl[3] = f32::NAN);
    assert_eq!(error, "cannot store trace `gsm8k/0`: lens_kl of response token 1 must be finite, found NaN");
    assert!(refused(|trace| trace.token_log_probabilities[0] = f32::NEG_INFINITY).contains("finite, found -inf"));
}

#[test]
fn there_is_one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let writer = open(folder.path()).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("a lock held by process {}", std::process::id())), "{error}");
    drop(writer);
    // A lock file that a process left behind, dead since, is no lock.
    fs::write(folder.path().join("writer.lock"), "4194304999\n").unwrap();
    open(folder.path()).unwrap();
}

#[test]
fn a_directory_with_other_things_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "irreplaceable").unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("an empty directory to create a trace store in, found `thesis.tex`"), "{error}");
    assert!(TraceReader::open(folder.path()).unwrap_err().to_string().contains("traces.json"));
}

#[test]
fn traces_of_earlier_versions_are_read() {
    // Recorded by the version of 2026-11-27: `aloud trace --model tiny-reasoner --data chain:steps=2 --n 2 --max-new-tokens 24
    // --temperature 0 --candidates "every 4" --hidden bf16`; its digest is the one that its `distill` wrote down.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train/data/earlier_traces");
    let reader = TraceReader::open(&folder).unwrap();
    assert_eq!(reader.digest().unwrap(), "76310a2e6179b331d2f163b1e20e4bed0b7e43d00f58fdd673c3ad9bddf83ed7");
    let responses: Vec<String> = (0..reader.len()).map(|index| reader.read(index).unwrap().response).collect();
    assert_eq!(responses, ["<t> 0 + 3 = 3 ; 3 * 7 = 1 <a> 1", "<a> 2"]);
}
