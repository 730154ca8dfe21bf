//! The language models that stories are searched with or told by, as arguments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aloud_openai::budget::BudgetLimits;
use aloud_openai::client::ChatSettings;
use clap::Args;

use crate::arguments::endpoint::{ChatTextModel, chat_settings};
use aloud_session::error::SessionError;

/// Models behind OpenAI-compatible endpoints. Without them stories are made by this program alone.
#[derive(Args, Debug)]
#[command(next_help_heading = "Language models")]
pub(super) struct StoryModelArgs {
    /// Search for stories that a model at this endpoint gets wrong, for instance http://localhost:8080/v1
    #[arg(long, value_name = "URL", requires = "search_model")]
    search_url: Option<String>,
    /// That model, by the endpoint's name for it
    #[arg(long, value_name = "NAME", requires = "search_url")]
    search_model: Option<String>,
    /// Name of the environment variable that holds the key of that endpoint [default: no key is sent]
    #[arg(long, value_name = "VARIABLE", requires = "search_url")]
    search_key_env: Option<String>,
    /// Order of the questions that the model is asked: 1 or 2
    #[arg(long, value_name = "ORDER", requires = "search_url", default_value_t = 1)]
    search_order: usize,
    /// Have a model at this endpoint tell the stories in prose; what loses or adds a fact is rejected
    #[arg(long, value_name = "URL", requires = "infill_model")]
    infill_url: Option<String>,
    /// That model, by the endpoint's name for it
    #[arg(long, value_name = "NAME", requires = "infill_url")]
    infill_model: Option<String>,
    /// Name of the environment variable that holds the key of that endpoint [default: no key is sent]
    #[arg(long, value_name = "VARIABLE", requires = "infill_url")]
    infill_key_env: Option<String>,
    /// Folder of cached replies [default: FILE.replies beside the output]
    #[arg(long, value_name = "FOLDER")]
    replies: Option<PathBuf>,
    /// Send nothing: take every reply from the cache, and fail where one is missing
    #[arg(long)]
    offline: bool,
    /// Most requests to send to each endpoint, further tries included
    #[arg(long, value_name = "N")]
    max_calls: Option<u64>,
    /// Requests at a time
    #[arg(long, value_name = "N", default_value = "4")]
    concurrency: usize,
}

/// Models that are ready to be asked.
#[derive(Debug)]
pub(super) struct StoryModels {
    /// Whom stories are to be hard for.
    pub(super) reader: Option<Arc<ChatTextModel>>,
    /// Who tells them in prose.
    pub(super) writer: Option<Arc<ChatTextModel>>,
}

impl StoryModelArgs {
    /// The models that were named. `out` is the file of the stories.
    pub(super) fn open(&self, out: &Path) -> Result<StoryModels, SessionError> {
        let model = |flag, url: &Option<String>, model: &Option<String>, key: &Option<String>| match (url, model) {
            (Some(url), Some(model)) => {
                let settings = ChatSettings {
                    concurrency: self.concurrency,
                    limits: BudgetLimits { max_calls: self.max_calls, ..BudgetLimits::default() },
                    ..chat_settings(flag, url, key.as_deref(), self.cache(out)?, self.offline)?
                };
                ChatTextModel::open(settings, model).map(|model| Some(Arc::new(model)))
            }
            _ => Ok(None),
        };
        Ok(StoryModels {
            reader: model("search", &self.search_url, &self.search_model, &self.search_key_env)?,
            writer: model("infill", &self.infill_url, &self.infill_model, &self.infill_key_env)?,
        })
    }

    fn cache(&self, out: &Path) -> Result<PathBuf, SessionError> {
        match &self.replies {
            Some(folder) => Ok(folder.clone()),
            None if out == Path::new("-") => Err(SessionError::usage(
                "stdout has no place beside it for the replies of a model: name a folder with --replies",
            )),
            None => Ok(PathBuf::from(format!("{}.replies", out.display()))),
        }
    }

    /// Order of the questions of the search.
    pub(super) fn search_order(&self) -> usize {
        self.search_order
    }

    /// What stories depend on; the same words whether replies are cached or asked for.
    pub(super) fn description(&self) -> String {
        let Self { search_url, search_model, search_order, infill_url, infill_model, .. } = self;
        format!("search {search_url:?} {search_model:?} {search_order}, infill {infill_url:?} {infill_model:?}")
    }
}
