//! The trace store: round trips, resume, and errors for everything that is damaged, foreign or contradictory.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::{fs, path::Path, sync::LazyLock};

use aloud_model::checkpoint::{BaseIdentity, lineage::ItemKey};
use aloud_train::traces::{
    FORMAT_VERSION, FinishReason, HiddenDType, ItemSource, Trace, TraceError, TraceHeader, TraceReader, TraceWriter,
};
use proptest::prelude::*;
use serde_json::json;

fn header(hidden_dtype: HiddenDType) -> TraceHeader {
    TraceHeader {
        format_version: FORMAT_VERSION,
        base_model: BaseIdentity { source: "pypi:tiny".to_owned(), sha256: "ab12".to_owned() },
        candidates: vec![2, 4],
        n_blocks: 6,
        hidden_size: 3,
        hidden_dtype,
        settings: json!({"temperature": 0.7, "sampling": {"seed": 1, "max_new_tokens": 64}}),
        items: Some(ItemSource {
            source: "gsm8k.jsonl".to_owned(),
            split: "all".to_owned(),
            seed: 0,
            sha256: Some("ef56".to_owned()),
        }),
    }
}

fn trace(number: usize, prompt_len: usize, response_len: usize) -> Trace {
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

fn write_store(directory: &Path, n_traces: usize, traces_per_shard: usize) -> Vec<Trace> {
    let writer = TraceWriter::create_or_resume(directory, header(HiddenDType::F32)).unwrap();
    let mut writer = writer.with_traces_per_shard(traces_per_shard);
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
        let writer = TraceWriter::create_or_resume(folder.path(), header(HiddenDType::F32)).unwrap();
        let mut writer = writer.with_traces_per_shard(traces_per_shard);
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

    let mut writer = TraceWriter::create_or_resume(folder.path(), header(HiddenDType::F32)).unwrap();
    assert_eq!(writer.n_completed(), 4);
    assert!(writer.contains("gsm8k/3") && !writer.contains("gsm8k/4") && writer.completed_ids().len() == 4);
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
    let mut writer = TraceWriter::create_or_resume(folder.path(), header(HiddenDType::F32)).unwrap();
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
    let mut writer = TraceWriter::create_or_resume(folder.path(), header(HiddenDType::F32)).unwrap();
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
fn a_damaged_kl_names_its_trace_and_token() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = TraceWriter::create_or_resume(folder.path(), header(HiddenDType::F32)).unwrap();
    for trace in [trace(1, 2, 2), trace(0, 2, 3)] {
        writer.append(trace).unwrap();
    }
    writer.finish().unwrap();
    // Lens KLs are the only tensor that holds these positive numbers: of trace 0, response tokens 1 and 2.
    let shard = folder.path().join("shard-00000.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let kls: Vec<u8> = [2.75_f32, 2.625, 2.5, 2.375].iter().flat_map(|kl| kl.to_le_bytes()).collect();
    let places: Vec<usize> = (0..bytes.len() - 16).filter(|at| bytes[*at..*at + 16] == kls).collect();
    assert_eq!(places.len(), 1);
    bytes[places[0] + 8..places[0] + 12].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&shard, bytes).unwrap();

    let reader = TraceReader::open(folder.path()).unwrap();
    assert!(reader.read(0).is_ok() && reader.read_lens_kl(0).is_ok());
    for error in [reader.read(1).unwrap_err().to_string(), reader.read_lens_kl(1).unwrap_err().to_string()] {
        assert!(
            error.contains("tensor `lens_kl`, trace `gsm8k/0`, response token 2: expected a finite value"),
            "{error}"
        );
    }
}

#[test]
fn there_is_one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let writer = TraceWriter::create_or_resume(folder.path(), header(HiddenDType::F32)).unwrap();
    let error = TraceWriter::create_or_resume(folder.path(), header(HiddenDType::F32)).unwrap_err().to_string();
    assert!(error.contains(&format!("a lock held by process {}", std::process::id())), "{error}");
    drop(writer);
    // A lock file that a process left behind, dead since, is no lock.
    fs::write(folder.path().join("writer.lock"), "4194304999\n").unwrap();
    TraceWriter::create_or_resume(folder.path(), header(HiddenDType::F32)).unwrap();
}

#[test]
fn a_directory_with_other_things_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "irreplaceable").unwrap();
    let error = TraceWriter::create_or_resume(folder.path(), header(HiddenDType::F32)).unwrap_err().to_string();
    assert!(error.contains("an empty directory to create a trace store in, found `thesis.tex`"), "{error}");
    assert!(TraceReader::open(folder.path()).unwrap_err().to_string().contains("traces.json"));
}

/// Changes a file of a good store with `edit`, and gives the error of opening it and reading every trace.
fn error_after(file: &str, edit: impl Fn(String) -> String) -> String {
    let folder = tempfile::tempdir().unwrap();
    write_store(folder.path(), 3, 2);
    let path = folder.path().join(file);
    fs::write(&path, edit(fs::read_to_string(&path).unwrap())).unwrap();
    let error = read_everything(folder.path()).unwrap_err().to_string();
    assert!(error.contains(file), "{error}");
    error
}

fn read_everything(directory: &Path) -> Result<Vec<Trace>, TraceError> {
    let reader = TraceReader::open(directory)?;
    (0..reader.len()).map(|index| reader.read(index)).collect()
}

#[test]
fn errors_name_file_field_and_expectation() {
    let error = |from: &'static str, to: &'static str| {
        error_after("traces.json", move |text| {
            assert!(text.contains(from), "{text}");
            text.replace(from, to)
        })
    };
    assert!(error("\"format_version\": 1", "\"format_version\": 2").contains("format_version: expected 1, found 2"));
    assert!(error("\"n_blocks\": 6", "\"n_blocks\": 4").contains("candidates: expected strictly increasing depths"));
    assert!(error("\"hidden_size\"", "\"hidden_width\"").contains("unknown field `hidden_width`"));
    assert!(error("\"hidden_size\": 3", "\"hidden_size\": 0").contains("hidden_size: expected at least 1, found 0"));

    let error = |from: &'static str, to: &'static str| {
        error_after("shard-00000.jsonl", move |text| {
            assert!(text.contains(from), "{text}");
            text.replace(from, to)
        })
    };
    assert!(error("\"index\":1", "\"index\":2").contains("line 2, index: expected 1, found 2"));
    assert!(error("\"row_offset\":1", "\"row_offset\":0").contains("line 2, row_offset: expected 1, found 0"));
    assert!(error("gsm8k/1", "gsm8k/0").contains("line 2, id: expected an id that no other trace has, found gsm8k/0"));
    assert!(error("\"response_len\":2", "\"response_len\":0").contains("line 2, response_len: expected at least 1"));
    assert!(error("\"stop\"", "\"tired\"").contains("line 1, JSON: expected a trace record, found unknown variant"));

    // The first shard has 1 + 2 response tokens and 1 + 2 prompt tokens.
    let folder = tempfile::tempdir().unwrap();
    write_store(folder.path(), 3, 2);
    let path = folder.path().join("shard-00000.jsonl");
    let text = fs::read_to_string(&path).unwrap().replace("\"prompt_len\":2", "\"prompt_len\":3");
    fs::write(&path, text).unwrap();
    let error = read_everything(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("shard-00000.safetensors`, tensor `token_ids`: expected U32 of shape [7], found"),
        "{error}"
    );

    fs::remove_file(&path).unwrap();
    let error = read_everything(folder.path()).unwrap_err().to_string();
    assert!(error.contains("shards: expected shards 0 to 1, one `.jsonl` file each, found 1 files"), "{error}");
}

#[test]
fn a_shard_of_another_store_is_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_store(folder.path(), 3, 2);
    let wider = TraceHeader { hidden_size: 6, ..header(HiddenDType::F32) };
    let mut writer = TraceWriter::create_or_resume(other.path(), wider).unwrap().with_traces_per_shard(2);
    for number in 0..2 {
        let trace = trace(number, 1 + number % 3, 1 + number % 4);
        let final_hidden = [trace.final_hidden.clone(), trace.final_hidden.clone()].concat();
        writer.append(Trace { final_hidden, ..trace }).unwrap();
    }
    drop(writer);
    let shard = "shard-00000.safetensors";
    fs::copy(other.path().join(shard), folder.path().join(shard)).unwrap();
    let error = read_everything(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("tensor `final_hidden`: expected F32 of shape [3, 3], found F32 of shape [3, 6]"),
        "{error}"
    );
}

const FILES: [&str; 5] =
    ["traces.json", "shard-00000.jsonl", "shard-00000.safetensors", "shard-00001.jsonl", "shard-00001.safetensors"];

/// Copies a good store, made once: writing one for every case would wait for the disk most of the time.
fn copy_good_store(to: &Path) -> &'static [Trace] {
    static GOOD: LazyLock<(tempfile::TempDir, Vec<Trace>)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let traces = write_store(folder.path(), 3, 2);
        (folder, traces)
    });
    for file in FILES {
        fs::copy(GOOD.0.path().join(file), to.join(file)).unwrap();
    }
    &GOOD.1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_files_give_errors_or_traces_of_the_right_shape(
        file in 0..FILES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let traces = copy_good_store(folder.path());
        let path = folder.path().join(FILES[file]);
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, &bytes).unwrap();
        match read_everything(folder.path()) {
            Err(error) => prop_assert!(!error.to_string().is_empty()),
            Ok(read) => for (read, trace) in read.iter().zip(traces) {
                prop_assert_eq!(read.token_ids.len(), trace.token_ids.len());
                prop_assert!(read.final_hidden.iter().chain(&read.lens_kl).all(|value| value.is_finite()));
            },
        }
    }

    #[test]
    fn safetensors_cut_anywhere_are_noticed(cut in any::<prop::sample::Index>()) {
        let folder = tempfile::tempdir().unwrap();
        copy_good_store(folder.path());
        let path = folder.path().join("shard-00000.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..cut.index(bytes.len())]).unwrap();
        prop_assert!(read_everything(folder.path()).is_err());
    }
}
