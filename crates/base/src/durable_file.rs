//! Writes a file whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use aloud_measure::error::EvalError;

/// Writes `content` to `path` so that a reader sees the old file or the new one, never a part: into a temporary file in the
/// same folder, to the disk, then renamed.
///
/// # Errors
/// If the folder is not there or not writable, or the disk is full; the old file then stays as it was.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), EvalError> {
    let error = |source| EvalError::Write { path: path.to_path_buf(), source };
    let Some(name) = path.file_name() else {
        return Err(error(std::io::Error::other("the path does not name a file")));
    };
    let temporary = path.with_file_name(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
    let written = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(error)?;
    // A rename is durable once its folder is on disk; not every system lets a folder be opened for that.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn write_new(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomically(&path, b"first").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = write_atomically(&folder.path().join("none/a.txt"), b"").unwrap_err().to_string();
        assert!(error.starts_with("cannot write "), "{error}");
        // A folder cannot be replaced by a file; the temporary file must not stay.
        fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(write_atomically(&folder.path().join("folder"), b"").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
