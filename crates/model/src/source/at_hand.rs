//! What of a machine models can be had with: those that are in caches, and the clients that fetch others.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::FetchSettings;

impl FetchSettings {
    /// Names of the models that need no fetching, sorted.
    pub fn cached_models(&self) -> Vec<String> {
        let entries = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        let mut models: Vec<String> =
            entries(&self.cache.join("pypi")).into_iter().map(|package| format!("pypi:{package}")).collect();
        models.extend(entries(&self.hub_cache).iter().filter_map(|name| {
            let (organisation, repository) = name.strip_prefix("models--")?.split_once("--")?;
            Some(format!("hf:{organisation}/{repository}"))
        }));
        models.sort();
        models
    }

    /// What fetches wheels, if something does. For uv this asks uv alone: its pip would first have to be downloaded.
    pub fn installer_found(&self) -> Option<String> {
        first_that_runs(&self.pip, &["--version"])
            .or_else(|| first_that_runs(&self.uv, &["--version"]).map(|uv| format!("{uv} tool run pip")))
    }

    /// What fetches from the Hugging Face hub, if something does.
    pub fn hub_client_found(&self) -> Option<String> {
        const HAS_LIBRARY: &str = "import sys, importlib.util as u; sys.exit(u.find_spec('huggingface_hub') is None)";
        first_that_runs(&self.python, &["-c", HAS_LIBRARY])
            .map(|python| format!("{python} with huggingface_hub"))
            .or_else(|| first_that_runs(&self.hub_client, &["--help"]))
    }
}

/// The first of the command lines that runs with these arguments.
fn first_that_runs(commands: &[Vec<String>], arguments: &[&str]) -> Option<String> {
    let runs = |command: &&Vec<String>| {
        let Some((program, first)) = command.split_first() else { return false };
        let mut command = Command::new(program);
        command.args(first).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    commands.iter().find(runs).map(|command| command.join(" "))
}
