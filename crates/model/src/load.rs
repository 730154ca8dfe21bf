//! Loading of a pretrained model: configuration, weights and identity.

use std::path::Path;

use aloud_base::digest::sha256_digits;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::gguf::GgufFile;
use crate::lora::{Lora, MisfitError};
use crate::source::ResolvedSource;
use crate::weights::{ModelWeights, StoredTensors};

/// What identifies a model's weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Where the model was loaded from: the path, unless the caller puts in the text that the user gave.
    pub source: String,
    /// SHA-256 over the Hugging Face names, number formats, shapes and stored bytes of all parameters. The same however the
    /// tensors are spread over files; different for another number format of the same values, and with a start adapter.
    pub sha256: String,
    /// Number of parameters; a tied unembedding counts once.
    pub parameters: usize,
}

/// A pretrained model in memory.
#[derive(Clone, Debug)]
pub struct PretrainedModel {
    /// Its shape.
    pub config: ModelConfig,
    /// Its parameters.
    pub weights: ModelWeights,
    /// What identifies them.
    pub identity: ModelIdentity,
}

impl PretrainedModel {
    /// The model with an adapter as a part of it, which has none yet: frozen, at full depth, in whatever
    /// is made of these weights. The identity becomes that of both together.
    ///
    /// # Errors
    /// If the adapter was made for a model of another shape.
    pub fn with_start_adapter(mut self, adapter: Lora) -> Result<Self, MisfitError> {
        adapter.check_fits(&self.config)?;
        let both = format!("base {}\nstart adapter {}\n", self.identity.sha256.to_ascii_lowercase(), adapter.sha256());
        self.identity.sha256 = sha256_digits(both);
        self.weights.start_adapter = Some(adapter);
        Ok(self)
    }
}

/// Reads the model at `location` into memory.
///
/// # Errors
/// If a file cannot be read, is damaged, or holds a model that is not supported; the message names file, key or tensor.
pub fn load(location: &ResolvedSource) -> Result<PretrainedModel, ModelError> {
    let (mut config, stored) = match location {
        ResolvedSource::Directory(directory) => (read_config(directory)?, StoredTensors::from_directory(directory)?),
        ResolvedSource::Gguf(path) => GgufFile::open(path)?.model()?,
    };
    let (weights, sha256) = ModelWeights::read(&config, &stored)?;
    config.tie_word_embeddings = weights.lm_head.is_none();
    let source = location.path().display().to_string();
    let identity = ModelIdentity { source, sha256, parameters: weights.parameter_count() };
    Ok(PretrainedModel { config, weights, identity })
}

fn read_config(directory: &Path) -> Result<ModelConfig, ModelError> {
    let path = directory.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(ModelError::io("read", &path))?;
    let mut config = ModelConfig::from_json(&text, &path)?;
    let generation = directory.join("generation_config.json");
    if generation.exists() {
        let text = std::fs::read_to_string(&generation).map_err(ModelError::io("read", &generation))?;
        config.apply_generation_config(&text, &generation)?;
    }
    Ok(config)
}
