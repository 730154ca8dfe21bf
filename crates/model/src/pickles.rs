//! Weights in Python's pickle format, which is refused by name: reading one can run code.

use std::path::{Path, PathBuf};

const ENDINGS: [&str; 7] = ["bin", "ckpt", "pickle", "pkl", "pt", "pt2", "pth"];

/// Files of a training run that are not weights.
const OTHERS: [&str; 4] = ["optimizer", "rng_state", "scheduler", "training_args"];

/// Whether a file of this name is a pickle.
pub(crate) fn is_pickle(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// The first file of pickled weights in `folder`, by name.
pub(crate) fn first_in(folder: &Path) -> Option<PathBuf> {
    let is_weights = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        is_pickle(path) && path.is_file() && !OTHERS.iter().any(|other| name.starts_with(other))
    };
    let entries = std::fs::read_dir(folder).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_weights).min()
}

/// Why a pickle is not read, and how it becomes `target`, a safetensors file beside it.
pub(crate) fn advice(pickle: &Path, target: &str) -> String {
    let name = pickle.file_name().unwrap_or_default().display();
    format!(
        "`{}` is a pickle, which can run code when it is read: not supported; convert it where you trust it, in its folder: \
         python -c \"import torch, safetensors.torch as s; s.save_file({{k: v.contiguous().clone() for k, v in \
         torch.load('{name}', map_location='cpu', weights_only=True).items()}}, '{target}')\"",
        pickle.display()
    )
}
