//! The judge as arguments: where it is, who it is, and what it may cost.

use std::path::{Path, PathBuf};

use aloud_openai::budget::{BudgetLimits, Prices};
use aloud_openai::client::{ChatClient, ChatSettings};
use aloud_openai::retry::RetryPolicy;
use aloud_oversight::judge::JudgeSettings;
use aloud_session::error::SessionError;
use clap::Args;

use aloud_lab::evaluation::judging::Judge;

use crate::arguments::endpoint::chat_settings;

/// A language model that grades responses. Without it everything else still runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Judge")]
#[expect(clippy::struct_field_names, reason = "the names of the options")]
pub(crate) struct JudgeArgs {
    /// Base address of an OpenAI-compatible endpoint, for instance http://localhost:8080/v1
    #[arg(long, value_name = "URL", requires = "judge_model")]
    judge_url: Option<String>,
    /// The judge, by the endpoint's name for it
    #[arg(long, value_name = "NAME", requires = "judge_url")]
    judge_model: Option<String>,
    /// Name of the environment variable that holds the endpoint's key [default: no key is sent]
    #[arg(long, value_name = "VARIABLE", requires = "judge_url")]
    judge_key_env: Option<String>,
    /// Sends nothing: takes every reply from the cache, and fails where one is missing
    #[arg(long, requires = "judge_url")]
    judge_offline: bool,
    /// Most requests to send, further tries included
    #[arg(long, value_name = "N", requires = "judge_url")]
    judge_max_calls: Option<u64>,
    /// Most that all requests together may cost, in the currency of the prices
    #[arg(long, value_name = "COST", requires_all = ["judge_url", "judge_prices"])]
    judge_max_cost: Option<f64>,
    /// Price of a million tokens of requests, and of replies
    #[arg(long, value_name = "INPUT,OUTPUT", requires = "judge_url", value_parser = prices)]
    judge_prices: Option<Prices>,
    /// Tries of a request before it is given up
    #[arg(long, value_name = "N", default_value = "6", requires = "judge_url", value_parser = clap::value_parser!(u32).range(1..))]
    judge_tries: u32,
    /// Requests at a time
    #[arg(long, value_name = "N", default_value = "4", requires = "judge_url")]
    judge_concurrency: usize,
    /// Most tokens of a reply; judges that reason in secret need more
    #[arg(long, value_name = "N", default_value = "512", requires = "judge_url")]
    judge_max_tokens: u32,
    /// Folder of cached replies [default: judge/cache in the run's folder]
    #[arg(long, value_name = "FOLDER", requires = "judge_url")]
    judge_cache: Option<PathBuf>,
}

impl JudgeArgs {
    /// Whether a judge was named.
    pub(crate) fn is_named(&self) -> bool {
        self.judge_url.is_some()
    }

    /// The judge that was named, if one was. `run` is the folder of the run, `seed` that of the order of questions.
    pub(crate) fn open(&self, run: &Path, seed: u64) -> anyhow::Result<Option<Judge>> {
        let (Some(url), Some(model)) = (&self.judge_url, &self.judge_model) else { return Ok(None) };
        let cache = self.judge_cache.clone().unwrap_or_else(|| run.join("judge").join("cache"));
        let settings = ChatSettings {
            concurrency: self.judge_concurrency,
            limits: BudgetLimits {
                max_calls: self.judge_max_calls,
                max_cost: self.judge_max_cost,
                prices: self.judge_prices,
            },
            retry: RetryPolicy { max_tries: self.judge_tries, ..RetryPolicy::default() },
            seed,
            ..chat_settings("judge", url, self.judge_key_env.as_deref(), cache, self.judge_offline)?
        };
        let client = ChatClient::new(settings).map_err(SessionError::usage)?;
        let address = url.clone();
        let settings = JudgeSettings { max_tokens: self.judge_max_tokens, seed, ..JudgeSettings::new(model) };
        Ok(Some(Judge { client, settings, address }))
    }
}

/// For clap: `1.25,10`.
fn prices(text: &str) -> Result<Prices, String> {
    let number = |text: &str| text.trim().parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
    text.split_once(',')
        .and_then(|(input, output)| {
            Some(Prices { input_per_million: number(input)?, output_per_million: number(output)? })
        })
        .ok_or_else(|| format!("`{text}` is not two prices such as 1.25,10"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Command {
        #[command(flatten)]
        judge: JudgeArgs,
    }

    const URL: [&str; 5] = ["aloud", "--judge-url", "http://localhost:9/v1", "--judge-model", "m"];

    fn open(arguments: &[&str]) -> Result<Option<Judge>, String> {
        let command = Command::try_parse_from(arguments).map_err(|error| error.to_string())?;
        command.judge.open(Path::new("run"), 3).map_err(|error| error.to_string())
    }

    #[test]
    fn a_judge_is_optional_and_whole() {
        assert!(open(&["aloud"]).unwrap().is_none());
        assert!(Command::try_parse_from(URL).unwrap().judge.is_named());
        let judge = open(&URL).unwrap().unwrap();
        assert_eq!(
            (judge.settings.judge_model.as_str(), judge.settings.max_tokens, judge.settings.seed),
            ("m", 512, 3)
        );
        for (arguments, expected) in [
            (vec!["--judge-max-cost", "1"], "--judge-prices"),
            (vec!["--judge-prices", "1"], "not two prices"),
            (vec!["--judge-prices", "1,-2"], "not two prices"),
            (vec!["--judge-concurrency", "0"], "at least one try and one request at a time"),
            (vec!["--judge-key-env", "sk-secret"], "no environment variable of the given name"),
        ] {
            let error = open(&[URL.to_vec(), arguments].concat()).unwrap_err();
            assert!(error.contains(expected) && !error.contains("sk-secret"), "{error}");
        }
        assert!(open(&URL[..3]).unwrap_err().contains("--judge-model"));
        assert!(
            open(&["aloud", "--judge-url", "localhost", "--judge-model", "m"]).unwrap_err().contains("--judge-url: ")
        );
        assert!(open(&["aloud", "--judge-offline"]).unwrap_err().contains("--judge-url"));
        // Offline needs no key.
        assert!(open(&[&URL[..], &["--judge-offline", "--judge-key-env", "NONE"]].concat()).unwrap().is_some());
    }
}
