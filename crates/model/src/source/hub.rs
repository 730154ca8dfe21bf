//! Repositories of the Hugging Face hub, in the hub's own cache directory.

use std::path::{Path, PathBuf};

use super::{FetchEvent, FetchSettings, ModelSource, ResolvedSource, client};
use crate::error::ModelError;
use crate::safetensors_files::Index;

/// Matches what a model needs: `.json`, `.jinja` and `.safetensors`. One pattern, because the client's versions disagree on
/// how several are given.
const NEEDED_FILES: &str = "*.[js][sai]*";
/// Calls the library that both clients are made of; its arguments have been stable where the clients' have not.
const DOWNLOAD: &str = "import sys; from huggingface_hub import snapshot_download; \
                        snapshot_download(sys.argv[1], revision=sys.argv[2], allow_patterns=[sys.argv[3]])";

/// Finds the repository in the cache, or has a client fetch it there.
pub(super) fn resolve(
    source: &ModelSource,
    repository: &str,
    revision: &str,
    settings: &FetchSettings,
    progress: &mut dyn FnMut(FetchEvent),
) -> Result<ResolvedSource, ModelError> {
    if let Some(directory) = find(&settings.hub_cache, repository, revision) {
        return Ok(ResolvedSource::Directory(directory));
    }
    let cache = settings.hub_cache.to_string_lossy();
    let variables = [("HF_HUB_CACHE", cache.as_ref())];
    let with_python = settings
        .python
        .iter()
        .map(|command| (command.as_slice(), vec!["-c", DOWNLOAD, repository, revision, NEEDED_FILES]));
    let with_client = settings.hub_client.iter().map(|command| {
        (command.as_slice(), vec!["download", repository, "--revision", revision, "--include", NEEDED_FILES])
    });
    let problem = match client::run_first(with_python.chain(with_client), &variables, progress) {
        Err(failure) => failure.message,
        Ok(client) => match find(&settings.hub_cache, repository, revision) {
            Some(directory) => return Ok(ResolvedSource::Directory(directory)),
            None => format!(
                "`{client}` left no `config.json` with safetensors; for a repository of GGUF files fetch one file by hand"
            ),
        },
    };
    let problem = format!(
        "{problem}. Install the client with `pip install huggingface_hub`, or fetch the model elsewhere and give the path of \
         its directory"
    );
    Err(ModelError::named("cannot fetch", source, problem))
}

/// The snapshot of this revision, if all files that a model needs are there.
fn find(hub_cache: &Path, repository: &str, revision: &str) -> Option<PathBuf> {
    let folder = hub_cache.join(format!("models--{}", repository.replace('/', "--")));
    let commit = match std::fs::read_to_string(folder.join("refs").join(revision)) {
        Ok(commit) => commit.trim().to_owned(),
        Err(_) => revision.to_owned(),
    };
    if !super::is_name(&commit, "") {
        return None;
    }
    let snapshot = folder.join("snapshots").join(commit);
    (snapshot.join("config.json").exists() && has_safetensors(&snapshot)).then_some(snapshot)
}

/// Whether the directory has `model.safetensors`, or an index and every shard that it lists.
fn has_safetensors(directory: &Path) -> bool {
    if directory.join("model.safetensors").exists() {
        return true;
    }
    let Ok(text) = std::fs::read_to_string(directory.join("model.safetensors.index.json")) else { return false };
    // A damaged index is reported when the model is loaded.
    let Ok(Index { weight_map }) = serde_json::from_str(&text) else { return true };
    weight_map.values().all(|shard| directory.join(shard).exists())
}
