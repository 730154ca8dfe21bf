//! SHA-256, as bytes and as hexadecimal digits.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// A file whose digest was asked for could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct ReadError {
    /// `open` or `read`.
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// A SHA-256 (FIPS 180-4) of what is added to it, one piece after the other.
#[derive(Clone, Debug, Default)]
pub struct Digest(Sha256);

impl Digest {
    /// The digest of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes. Nothing marks where one piece ends and the next begins.
    pub fn add(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes);
    }

    /// The 32 bytes.
    pub fn bytes(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    /// The 64 lower-case hexadecimal digits.
    pub fn digits(self) -> String {
        hexadecimal(&self.bytes())
    }
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    let mut digest = Digest::new();
    digest.add(bytes);
    digest.bytes()
}

/// SHA-256 of `bytes` as 64 lower-case hexadecimal digits.
pub fn sha256_digits(bytes: impl AsRef<[u8]>) -> String {
    hexadecimal(&sha256(bytes))
}

/// SHA-256 of the file at `path` as 64 lower-case hexadecimal digits.
///
/// # Errors
/// If it cannot be opened or read.
pub fn sha256_digits_of_file(path: &Path) -> Result<String, ReadError> {
    let error = |action| move |source| ReadError { action, path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(error("open"))?;
    let mut digest = Digest::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(error("read"))? {
            0 => return Ok(digest.digits()),
            count => digest.add(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Of "abc": FIPS 180-2, appendix B.1.
    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn known_digest() {
        assert_eq!(sha256_digits("abc"), OF_ABC);
        let mut digest = Digest::new();
        digest.add("a");
        digest.add([b'b', b'c']);
        assert_eq!(digest.digits(), OF_ABC);
    }

    #[test]
    fn files_have_the_digest_of_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256_digits_of_file(&path).unwrap(), OF_ABC);
        // More than the file is read in at a time.
        let long = vec![7_u8; (1 << 20) + 5];
        std::fs::write(&path, &long).unwrap();
        assert_eq!(sha256_digits_of_file(&path).unwrap(), sha256_digits(&long));
        let error = sha256_digits_of_file(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.starts_with("cannot open "), "{error}");
    }
}
