//! Tests of the stories: scenarios, properties over random stories, an independent tracker, texts and search.
#![expect(clippy::unwrap_used, reason = "tests")]

mod models;
mod oracle;
mod properties;
mod random_stories;
mod scenarios;
mod search;
mod settings;
mod texts;
