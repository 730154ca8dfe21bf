//! A directory that one program writes to: one writer at a time, and nothing in it that is not its own.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use aloud_model::checkpoint::files::FileError;

const LOCK: &str = "writer.lock";

/// Exclusive right to write to a directory, held until dropped.
///
/// The lock is the operating system's, on the file `writer.lock`, so a process that died leaves none behind: the file
/// may stay, with the number of the last process that wrote, for the error message of the next one.
#[derive(Debug)]
pub(crate) struct WriterLock {
    _file: File,
}

impl WriterLock {
    /// Takes the lock of `directory`, which must exist, unless another process, or another value of this one, holds it.
    pub(crate) fn acquire(directory: &Path) -> Result<Self, FileError> {
        let path = directory.join(LOCK);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(FileError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // On some systems a locked file cannot be read: the message does without the number then.
                let _ = file.take(32).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "unknown" } else { holder.trim() };
                let found = format!("a lock held by process {holder}; wait for it or stop it");
                return Err(FileError::content(&path, "lock", "no other writer in this directory", found));
            }
            Err(TryLockError::Error(error)) => return Err(FileError::io("lock", &path)(error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(FileError::io("write", &path))?;
        Ok(Self { _file: file })
    }
}

/// Name of the first thing in an existing directory beside a lock and temporary files.
pub(crate) fn first_foreign_file(directory: &Path) -> Result<Option<String>, FileError> {
    for entry in fs::read_dir(directory).map_err(FileError::io("list", directory))? {
        let name = entry.map_err(FileError::io("list", directory))?.file_name();
        let name = name.to_string_lossy();
        if name != LOCK && !name.ends_with(".part") {
            return Ok(Some(name.into_owned()));
        }
    }
    Ok(None)
}
