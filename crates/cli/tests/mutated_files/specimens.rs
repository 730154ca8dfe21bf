//! Valid files of every format that the program reads, and their readers.

use std::fs;
use std::path::{Path, PathBuf};

use aloud_kernels::cpu::Cpu;
use aloud_measure::evaluation_run::EvaluationRun;
use aloud_measure::record::read_records;
use aloud_model::checkpoint::Checkpoint;
use aloud_model::decoder::{Decoder, PackedBatch};
use aloud_model::gguf::GgufFile;
use aloud_model::load::load;
use aloud_model::source::ResolvedSource;
use aloud_report::view::{ViewOptions, render_page};
use aloud_tasks::gsm8k::read_gsm8k;
use aloud_tasks::item::{Message, Split};
use aloud_tasks::prompt_file::{read_csv, read_jsonl};
use aloud_text::text_codec::TextCodec;
use aloud_train::pretrain::recipe::PretrainRecipe;
use aloud_train::settings::resolve;
use aloud_train::stage1::recipe::DistillRecipe;
use aloud_train::stage1::traces::TraceReader;
use aloud_train::stage2::recipe::ReinforceRecipe;
use serde_json::json;

use crate::fixtures::{Folder, aloud, golden, golden_student, text, write_traces};
use crate::gguf_writer::Content;
use crate::mutation::Kind;

/// A valid file that is changed, and what reads it.
pub(crate) struct Specimen {
    pub(crate) name: String,
    /// What the reader is given: the file, or a directory that holds it.
    pub(crate) path: PathBuf,
    pub(crate) file: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: Kind,
    /// Whether it was read, and not refused.
    pub(crate) read: fn(&Path) -> bool,
}

/// Writes the files.
pub(crate) fn write(folder: &Path) {
    let directory = |name: &str| {
        let path = folder.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let copy = |from: PathBuf, files: &[&str], to: &Path| {
        for file in files {
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
    };
    for name in ["llama", "qwen2", "qwen3"] {
        let to = directory(&format!("models/{name}"));
        copy(golden("gguf").join(name), &["config.json", "model.safetensors"], &to);
        fs::write(to.join("generation_config.json"), r#"{"eos_token_id": [1, 2]}"#).unwrap();
    }
    let index = "model.safetensors.index.json";
    let shards = [1, 2, 3].map(|shard| format!("model-0000{shard}-of-00003.safetensors"));
    let files: Vec<&str> = shards.iter().map(String::as_str).chain(["config.json", index]).collect();
    copy(golden("tiny_qwen2_tied"), &files, &directory("models/sharded"));

    let gguf = directory("gguf");
    copy(golden("gguf"), &["llama.gguf", "qwen2.gguf", "formats.gguf"], &gguf);
    fs::write(gguf.join("vocabulary.gguf"), Content::with_vocabulary(&golden("gguf/llama.gguf")).to_bytes()).unwrap();
    let parts = directory("split");
    for (part, content) in Content::read(&golden("gguf/qwen3.gguf")).split(2).iter().enumerate() {
        fs::write(parts.join(format!("m-0000{}-of-00002.gguf", part + 1)), content.to_bytes()).unwrap();
    }

    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../text/tests/golden/chat_templates");
    let model = Folder::new();
    let model = PathBuf::from(model.model_with_tokenizer()).join("..").join("model");
    let byte_level = directory("tokenizers/byte_level");
    copy(model, &["tokenizer.json", "tokenizer_config.json"], &byte_level);
    fs::copy(templates.join("qwen3.jinja"), byte_level.join("chat_template.jinja")).unwrap();
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/assets/tiny-reasoner");
    copy(assets, &["tokenizer.json", "tokenizer_config.json"], &directory("tokenizers/words"));

    let base = golden("tiny_llama");
    golden_student("tiny_llama", text(&base)).save(&folder.join("checkpoint"), None).unwrap();
    write_traces(&folder.join("traces"), "m", [2, 4], 3);
    write_prompts(&directory("prompts"));
    write_evaluation(folder);
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    copy(recipes, &["distill-tiny.toml", "reinforce-tiny.toml", "tiny-reasoner.toml"], &directory("recipes"));
}

fn write_prompts(directory: &Path) {
    let jsonl = [
        json!({"id": "a", "prompt": "What is 2 + 2?", "answer": "4"}),
        json!({"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "What is 1?"}]}),
        json!({"id": "c", "question": "And 3?", "answer": "3"}),
    ];
    let lines =
        |rows: &[serde_json::Value]| rows.iter().fold(String::new(), |text, row| text + &row.to_string() + "\n");
    fs::write(directory.join("prompts.jsonl"), lines(&jsonl)).unwrap();
    fs::write(directory.join("prompts.csv"), "id,prompt,answer\na,\"What, is it?\",4\nb,Why?,5\n").unwrap();
    let gsm8k = json!({"question": "How many?", "answer": "2 + 2 = <<2+2=4>>4\n#### 4"});
    fs::write(directory.join("gsm8k.jsonl"), lines(&[gsm8k.clone(), gsm8k])).unwrap();
}

/// Records of responses, and an evaluation run, as the program writes them.
fn write_evaluation(folder: &Path) {
    let home = Folder::new();
    let model = home.model_with_tokenizer();
    let records = folder.join("records.jsonl");
    let generate =
        ["generate", "--model", &model, "--prompt", "2 + 2", "--max-new-tokens", "4", "--out", text(&records)];
    aloud(&generate).ok();
    let run = folder.join("run");
    let evaluate = ["eval", "tiny-reasoner", "--output", text(&run), "--task", "chain", "--tier", "toy", "--n", "2"];
    let evaluate = [&evaluate[..], &["--max-new-tokens", "6", "--threads", "1"]].concat();
    home.run(&evaluate).ok();
}

/// Every file below `directory` whose kind is known, for a reader of the directory.
fn files_of(directory: &Path, read: fn(&Path) -> bool) -> Vec<Specimen> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.is_file());
    files.sort();
    assert!(!files.is_empty(), "{}", directory.display());
    let specimen = |file: PathBuf| {
        let kind = match file.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Kind::Json,
            Some("jsonl") => Kind::JsonLines,
            Some("safetensors") => Kind::Safetensors,
            _ => Kind::Bytes,
        };
        let name = file.components().rev().take(3).map(|part| part.as_os_str().to_string_lossy().into_owned());
        let name = name.collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("/");
        Specimen { name, path: directory.to_owned(), bytes: fs::read(&file).unwrap(), file, kind, read }
    };
    files.into_iter().map(specimen).collect()
}

/// The same, for a reader of the file itself.
fn single_files(directory: &Path, read: fn(&Path) -> bool) -> Vec<Specimen> {
    let alone = |specimen: Specimen| Specimen { path: specimen.file.clone(), ..specimen };
    files_of(directory, read).into_iter().map(alone).collect()
}

/// All specimens, from the files that [`write`] has written.
pub(crate) fn all(folder: &Path) -> Vec<Specimen> {
    let runs = fs::read_dir(folder.join("run")).unwrap().map(|entry| entry.unwrap().path());
    let runs = runs.filter(|path| path.is_dir() && path.join("manifest.json").exists());
    let mut all: Vec<Specimen> = ["llama", "qwen2", "qwen3", "sharded"]
        .iter()
        .flat_map(|name| files_of(&folder.join("models").join(name), read_model_directory))
        .chain(single_files(&folder.join("gguf"), read_gguf))
        .chain(single_files(&folder.join("split"), read_gguf))
        .chain(files_of(&folder.join("tokenizers/byte_level"), read_text_codec))
        .chain(files_of(&folder.join("tokenizers/words"), read_text_codec))
        .chain(files_of(&folder.join("checkpoint"), |path| Checkpoint::load(path, None).is_ok()))
        .chain(files_of(&folder.join("traces"), read_traces))
        .chain(single_files(&folder.join("prompts"), read_prompts))
        .chain(single_files(&folder.join("recipes"), read_recipe))
        .chain(runs.flat_map(|run| files_of(&run, |path| EvaluationRun::open(path).is_ok())))
        .collect();
    let records = folder.join("records.jsonl");
    all.push(Specimen {
        name: "records.jsonl".to_owned(),
        path: records.clone(),
        bytes: fs::read(&records).unwrap(),
        file: records,
        kind: Kind::JsonLines,
        read: |path| read_records(path).is_ok_and(|records| render_page(&records, &ViewOptions::default()).is_ok()),
    });
    // A lock file and the like have no content.
    all.retain(|specimen| !specimen.bytes.is_empty());
    for specimen in &all {
        assert!((specimen.read)(&specimen.path), "{} is not read as it is", specimen.name);
    }
    all
}

fn read_model_directory(path: &Path) -> bool {
    runs(&ResolvedSource::Directory(path.to_owned()))
}

/// Loads a model and runs a few tokens.
fn runs(source: &ResolvedSource) -> bool {
    let Ok(model) = load(source) else { return false };
    let decoder = Decoder::new(&Cpu::new(1), &model.config, &model.weights);
    let mut batch = PackedBatch::new();
    if batch.push(&[0, 1, 2], model.config.vocab_size, model.config.max_position_embeddings).is_ok() {
        let depths = [decoder.n_blocks(); 3];
        decoder.final_norm(&decoder.forward(None, &batch, &depths, &[], false).residual);
    }
    true
}

fn read_gguf(path: &Path) -> bool {
    let is_read = GgufFile::open(path).is_ok();
    let source = ResolvedSource::Gguf(path.to_owned());
    runs(&source);
    uses_text_codec(&source);
    is_read
}

fn read_text_codec(path: &Path) -> bool {
    uses_text_codec(&ResolvedSource::Directory(path.to_owned()))
}

/// Loads tokenizer and template, and uses both.
fn uses_text_codec(source: &ResolvedSource) -> bool {
    let Ok(codec) = TextCodec::load(source) else { return false };
    let ids = codec.tokenizer.encode("chain 12 + 3 = <a> déjà\n", true).unwrap_or_default();
    let _ = codec.tokenizer.decode(&ids, true);
    let mut stream = codec.tokenizer.stream_decoder(true);
    for id in ids.into_iter().chain([0, u32::MAX]) {
        let _ = stream.push(id);
        codec.tokenizer.token_text(id);
    }
    let _ = codec.encode_chat(&[Message::system("be brief"), Message::user("2 + 2?"), Message::assistant("4")]);
    true
}

fn read_traces(path: &Path) -> bool {
    let Ok(reader) = TraceReader::open(path) else { return false };
    for index in 0..reader.len() {
        let _ = (reader.read(index), reader.read_lens_kl(index));
    }
    true
}

fn read_prompts(path: &Path) -> bool {
    let items = match path.file_name().and_then(|name| name.to_str()) {
        Some("prompts.csv") => read_csv(path),
        Some("gsm8k.jsonl") => read_gsm8k(path, Split::Test),
        _ => read_jsonl(path),
    };
    let Ok(items) = items else { return false };
    for item in &items {
        item.gold();
        item.prompt(Some("Think."));
    }
    true
}

fn read_recipe(path: &Path) -> bool {
    match path.file_name().and_then(|name| name.to_str()) {
        Some("distill-tiny.toml") => resolve::<DistillRecipe>(Some(path), &[]).is_ok(),
        Some("reinforce-tiny.toml") => resolve::<ReinforceRecipe>(Some(path), &[]).is_ok(),
        _ => resolve::<PretrainRecipe>(Some(path), &[]).is_ok(),
    }
}
