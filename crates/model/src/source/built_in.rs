//! Models whose files are part of this program: they need no network. The files are unpacked once into the cache, where
//! they are read like those of any other model directory.

use std::fs;
use std::path::Path;

use aloud_base::digest::Digest;
use aloud_base::durable_file;

use super::{FetchEvent, FetchSettings, ResolvedSource};
use crate::error::ModelError;

/// Name of the built-in model: a tiny language model that solves the serial tasks.
pub const TINY_REASONER: &str = "tiny-reasoner";

/// Its files, by name.
const FILES: [(&str, &[u8]); 5] = [
    ("README.md", include_bytes!("../../assets/tiny-reasoner/README.md")),
    ("config.json", include_bytes!("../../assets/tiny-reasoner/config.json")),
    ("model.safetensors", include_bytes!("../../assets/tiny-reasoner/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../assets/tiny-reasoner/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../assets/tiny-reasoner/tokenizer_config.json")),
];

/// Finds the model's files in the cache; those that are missing, or are not what this program carries, are written.
///
/// Each file is replaced as a whole, and always by the same bytes. So programs that unpack at the same time do not
/// disturb each other, and one that was interrupted leaves nothing that the next does not complete.
pub(super) fn resolve(
    settings: &FetchSettings,
    progress: &mut dyn FnMut(FetchEvent),
) -> Result<ResolvedSource, ModelError> {
    let directory = settings.cache.join("built-in").join(format!("{TINY_REASONER}-{}", short_sha256()));
    for (name, content) in FILES {
        let path = directory.join(name);
        match fs::read(&path) {
            Ok(found) if found == content => continue,
            Ok(_) => progress(FetchEvent::Damaged { path: path.clone() }),
            // Most often it is not there yet. What else may be wrong also prevents writing, which then says so.
            Err(_) => {}
        }
        write(&directory, &path, content).map_err(|error| {
            let problem = format!(
                "it comes with this program, but {} cannot be written: {error}; set ALOUD_CACHE to a directory that \
                 can be written to",
                path.display()
            );
            ModelError::named("cannot fetch", &TINY_REASONER, problem)
        })?;
    }
    Ok(ResolvedSource::Directory(directory))
}

fn write(directory: &Path, path: &Path, content: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    durable_file::write(path, content).map_err(|error| error.source)
}

/// The beginning of the SHA-256 of all files, so that programs which carry other files use another folder.
fn short_sha256() -> String {
    const DIGITS: usize = 16;
    let mut hash = Digest::new();
    for (name, content) in FILES {
        hash.add(format!("{name} {}\n", content.len()));
        hash.add(content);
    }
    let mut digits = hash.digits();
    digits.truncate(DIGITS);
    digits
}
