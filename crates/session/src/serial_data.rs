//! The built-in serial tasks as examples to pretrain a tiny reasoner on.

use aloud_base::random::{Domain, KeyedRandom};
use aloud_tasks::item::Split;
use aloud_tasks::serial::verify::ResponseStyle;
use aloud_tasks::serial::{END, SERIAL_VOCABULARY, SerialSource, Symbol};
use aloud_text::tokenizer::word_level_files;
use aloud_train::pretrain::pretraining::{PretrainExample, PretrainSource};
use aloud_train::pretrain::recipe::TraceStyle;

/// Examples of serial tasks, thinking aloud and answering at once.
#[derive(Debug)]
pub struct SerialExamples {
    /// Which items: of these sources in turn.
    pub sources: Vec<SerialSource>,
    /// Seed of items and styles.
    pub seed: u64,
    /// Share of the examples that think aloud.
    pub think_share: f64,
    /// What these have for a trace.
    pub trace: TraceStyle,
}

/// The token of a symbol: its place in the vocabulary.
pub fn symbol_id(symbol: Symbol) -> u32 {
    SERIAL_VOCABULARY.iter().position(|known| *known == symbol).map_or(0, |place| place as u32)
}

impl PretrainSource for SerialExamples {
    fn example(&self, index: u64, level: usize) -> Result<PretrainExample, String> {
        let source = &self.sources[(index % self.sources.len() as u64) as usize];
        let source = SerialSource { steps: level..=level, ..source.clone() };
        let item = source.generate(self.seed, index, Split::Train).map_err(|error| error.to_string())?;
        let thinks =
            KeyedRandom::new(self.seed, Domain::PRETRAIN_STYLE, [index, 0]).uniform_at(0, 0) < self.think_share;
        let response = match (thinks, self.trace) {
            (false, _) => item.response(ResponseStyle::Direct),
            (true, TraceStyle::Solve) => item.response(ResponseStyle::Think),
            (true, TraceStyle::Justify) => {
                // Any number of steps, so that the answer stands after each of them.
                let share = KeyedRandom::new(self.seed, Domain::PRETRAIN_STYLE, [index, 1]).uniform_at(0, 0);
                item.justified_response((share * (level + 1) as f64) as usize)
            }
        };
        let mut token_ids: Vec<u32> = item.question.iter().map(|symbol| symbol_id(symbol)).collect();
        let prompt_len = token_ids.len();
        token_ids.extend(response.into_iter().chain([END]).map(symbol_id));
        Ok(PretrainExample { token_ids, prompt_len })
    }

    fn vocab_size(&self) -> usize {
        SERIAL_VOCABULARY.len()
    }

    fn end_token(&self) -> u32 {
        symbol_id(END)
    }

    fn companion_files(&self) -> Vec<(String, Vec<u8>)> {
        word_level_files(&SERIAL_VOCABULARY, END)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::task_text::Symbols;

    #[test]
    fn a_trace_is_what_its_style_says() {
        let text = |trace: TraceStyle, think_share: f64, index: u64| {
            let examples = SerialExamples { sources: vec![SerialSource::ALL], seed: 1, think_share, trace };
            let example = examples.example(index, 2).unwrap();
            Symbols::of(&SerialSource::ALL).unwrap().text(&example.token_ids[example.prompt_len..])
        };
        let mut n_steps = std::collections::BTreeSet::new();
        for index in 0..40 {
            let direct = text(TraceStyle::Justify, 0.0, index);
            assert_eq!(direct, text(TraceStyle::Solve, 0.0, index));
            let answer = direct.strip_prefix("<a> ").unwrap();
            let solved = text(TraceStyle::Solve, 1.0, index);
            let mut steps: Vec<&str> =
                solved.trim_start_matches("<t> ").split(" <a> ").next().unwrap().split(" ; ").collect();
            steps.push(answer);
            steps.reverse();
            let justified = text(TraceStyle::Justify, 1.0, index);
            let written = justified.split(" ; ").count() - 1;
            assert_eq!(justified, format!("<t> {} {direct}", steps[..=written].join(" ; ")));
            n_steps.insert(written);
        }
        assert_eq!(n_steps, [0, 1, 2].into());
    }
}
