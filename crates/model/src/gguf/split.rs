//! Models split over several GGUF files, as llama.cpp's `gguf-split` writes them: `NAME-00001-of-00003.gguf`, ..., the
//! metadata in the first, the tensors spread over all.

use std::path::{Path, PathBuf};

use super::{GgufFile, GgufTensor};
use crate::error::ModelError;

/// Number of a part, from 0.
const NUMBER: &str = "split.no";
/// Number of parts.
const COUNT: &str = "split.count";
/// Number of tensors in all parts together.
const N_TENSORS: &str = "split.tensors.count";

/// The name of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartName {
    directory: PathBuf,
    prefix: String,
    /// From 1.
    pub(crate) number: u64,
    count: u64,
}

impl PartName {
    /// Reads the name of a file; `None` if it is not that of a part.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let five_digits = |text: &str| (text.len() == 5).then(|| text.parse::<u64>().ok()).flatten();
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        Some(Self { directory, prefix: prefix.to_owned(), number: five_digits(number)?, count: five_digits(count)? })
    }

    /// The path of part `number`, from 1.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{}-{number:05}-of-{:05}.gguf", self.prefix, self.count))
    }
}

impl GgufFile {
    /// The whole model that this file is a part of: the parts are read from beside it. A file that is not split is returned
    /// as it is.
    pub(super) fn with_all_parts(self) -> Result<Self, ModelError> {
        let Some((number, count)) = self.part()?.filter(|(_, count)| *count > 1) else { return Ok(self) };
        let error = |problem: String| {
            ModelError::damaged(&self.path, format!("it is part {number} of {count} of a split model, and {problem}"))
        };
        let Some(name) = PartName::of(&self.path).filter(|name| (name.number, name.count) == (number, count)) else {
            let expected = format!("-{number:05}-of-{count:05}.gguf");
            return Err(error(format!("its name does not end in `{expected}`, by which the other parts are found")));
        };
        let missing = (1..=count).map(|part| name.path(part)).find(|path| !path.exists());
        if let Some(path) = missing {
            let file = path.file_name().unwrap_or_default().display();
            return Err(error(format!("`{file}` is not beside it; fetch all parts into one directory")));
        }
        let mut whole = Self { path: self.path.clone(), ..Self::open_part(&name.path(1))? };
        whole.files.clear();
        whole.tensors.clear();
        for number in 1..=count {
            let part = Self::open_part(&name.path(number))?;
            if part.part()? != Some((number, count)) {
                let problem = format!("expected part {number} of {count}, as its name says");
                return Err(ModelError::key(&part.path, NUMBER, problem));
            }
            for (name, tensor) in part.tensors {
                let tensor = GgufTensor { file: whole.files.len(), ..tensor };
                if whole.tensors.insert(name.clone(), tensor).is_some() {
                    return Err(ModelError::tensor(&part.path, &name, "an earlier part has it too"));
                }
            }
            whole.files.push(part.path);
        }
        match whole.u64(N_TENSORS)? {
            Some(expected) if expected != whole.tensors.len() as u64 => {
                let problem =
                    format!("expected the number of tensors in all parts, {}, found {expected}", whole.tensors.len());
                Err(ModelError::key(&whole.files[0], N_TENSORS, problem))
            }
            _ => Ok(whole),
        }
    }

    /// Number (from 1) and count of the parts, if the file is one.
    fn part(&self) -> Result<Option<(u64, u64)>, ModelError> {
        let (Some(number), Some(count)) = (self.u64(NUMBER)?, self.u64(COUNT)?) else { return Ok(None) };
        Ok(Some((number.saturating_add(1), count)))
    }
}
