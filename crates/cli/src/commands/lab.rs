//! `aloud lab`: an experiment file, step by step. What is done already is not done again, because no command does it again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aloud_report::table::{Align, Table};
use aloud_session::host::Host;
use anyhow::Context as _;
use clap::{Args, Parser};
use serde::Deserialize;

use super::Command;
use crate::context::{Context, print};
use aloud_session::error::SessionError;

#[derive(Args, Debug)]
pub(crate) struct LabArgs {
    /// The experiment (TOML): its steps are commands of this program
    #[arg(value_name = "FILE.toml")]
    experiment: PathBuf,
    /// Folder of everything that the steps write; {output} in the file
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Another value for a variable of the file; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// Print the commands, and run nothing
    #[arg(long)]
    list: bool,
}

/// An experiment file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Experiment {
    /// What it asks, in a line.
    question: String,
    /// What stands for `{name}` in the steps.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// Commands, each as the words that follow `aloud`.
    steps: Vec<Vec<String>>,
    /// Figures of others, shown at the end.
    published: Option<Published>,
}

/// Figures that somebody else published.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    /// Whose, of what, and what sets them apart from these.
    source: String,
    columns: Vec<String>,
    rows: Vec<Vec<toml::Value>>,
}

/// A step as the command line that it is.
#[derive(Debug, Parser)]
#[command(name = "aloud", no_binary_name = true, disable_version_flag = true)]
struct Step {
    #[command(subcommand)]
    command: Command,
}

pub(crate) fn run(arguments: &LabArgs, context: &Context) -> anyhow::Result<()> {
    let path = arguments.experiment.display();
    let text = std::fs::read_to_string(&arguments.experiment).with_context(|| format!("cannot read {path}"))?;
    let mut experiment: Experiment =
        toml::from_str(&text).map_err(|error| SessionError::usage(format!("{path}: {}", error.message())))?;
    experiment.set(&arguments.variables)?;
    experiment.variables.insert("output".to_owned(), arguments.output.display().to_string());
    let steps = experiment.commands()?;
    if arguments.list {
        let lines: Vec<String> = steps.iter().map(|(words, _)| format!("aloud {}", words.join(" "))).collect();
        return Ok(print(&(lines.join("\n") + "\n"))?);
    }
    context.say(&experiment.question);
    let n = steps.len();
    for (number, (words, step)) in (1..).zip(steps) {
        context.say(&format!("step {number} of {n}: aloud {}", words.join(" ")));
        step.command.run(context).with_context(|| format!("step {number} (aloud {})", words.join(" ")))?;
    }
    Ok(print(&experiment.published.map_or_else(String::new, |published| published.to_string()))?)
}

impl Experiment {
    /// Gives variables other values.
    fn set(&mut self, variables: &[String]) -> Result<(), SessionError> {
        for variable in variables {
            let (name, value) = variable
                .split_once('=')
                .ok_or_else(|| SessionError::usage(format!("--set {variable}: expected NAME=VALUE")))?;
            let known = self.variables.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let old = self.variables.get_mut(name).ok_or_else(|| {
                SessionError::usage(format!("--set {name}: the file has no such variable; it has: {known}"))
            })?;
            value.clone_into(old);
        }
        Ok(())
    }

    /// The steps with their variables filled in, each checked before any is run.
    fn commands(&self) -> Result<Vec<(Vec<String>, Step)>, SessionError> {
        let fill = |word: &String| {
            let filled = self
                .variables
                .iter()
                .fold(word.clone(), |word, (name, value)| word.replace(&format!("{{{name}}}"), value));
            match filled.split_once('{').and_then(|(_, rest)| rest.split_once('}')) {
                Some((name, _)) => Err(SessionError::usage(format!("`{word}`: the file has no variable `{name}`"))),
                None => Ok(filled),
            }
        };
        let command = |(number, words): (usize, &Vec<String>)| {
            let words = words.iter().map(fill).collect::<Result<Vec<String>, _>>()?;
            let step = Step::try_parse_from(&words).map_err(|error| {
                let error = error.to_string();
                let problem = error.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
                SessionError::usage(format!("step {number} (aloud {}): {problem}", words.join(" ")))
            })?;
            Ok((words, step))
        };
        (1..).zip(&self.steps).map(command).collect()
    }
}

impl std::fmt::Display for Published {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new(self.columns.iter().map(|column| (column.as_str(), Align::Right)));
        for row in &self.rows {
            let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            table.row(row.iter().map(text));
        }
        writeln!(formatter, "\n{}\n\n{table}", self.source)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn experiment(text: &str) -> Experiment {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn variables_are_filled_in_and_steps_checked_before_any_is_run() {
        let mut file = experiment(
            "question = \"?\"\nsteps = [[\"data\", \"tom\", \"--n\", \"{n}\", \"--out\", \"{folder}/a.jsonl\"]]\n\
             [variables]\nn = \"3\"\nfolder = \"x\"\n",
        );
        file.set(&["n=5".to_owned()]).unwrap();
        assert_eq!(file.commands().unwrap()[0].0.join(" "), "data tom --n 5 --out x/a.jsonl");
        let error = file.set(&["m=1".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "--set m: the file has no such variable; it has: folder, n");
        file.variables.remove("n");
        assert_eq!(file.commands().unwrap_err().to_string(), "`{n}`: the file has no variable `n`");
        let wrong = experiment("question = \"?\"\nsteps = [[\"fetch\", \"tiny-reasoner\"], [\"evaluate\"]]\n");
        let error = wrong.commands().unwrap_err().to_string();
        assert!(error.starts_with("step 2 (aloud evaluate): unrecognized subcommand"), "{error}");
    }
}
