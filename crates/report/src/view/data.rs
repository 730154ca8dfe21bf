//! What the page's script needs to show a token's details, packed small: numbers of a response in parallel lists, texts once.

use std::collections::HashMap;

use serde::Serialize;

use aloud_measure::record::{ExitRecord, ResponseRecord};

/// Hazards are whole numbers of this part.
const HAZARD_UNITS: f64 = 10_000.0;

#[derive(Serialize)]
pub(super) struct PageData<'a> {
    blocks: usize,
    candidates: &'a [usize],
    /// Texts of readout tokens.
    texts: Vec<&'a str>,
    responses: Vec<ResponseData>,
}

#[derive(Default, Serialize)]
struct ResponseData {
    /// Token ids.
    ids: Vec<u32>,
    /// Log-probabilities in nats, to 3 decimals.
    log: Vec<Option<f64>>,
    /// Hazards in units of 1 / 10 000, a list a token: one value for each candidate reached, `null` where none was recorded.
    hazard: Vec<Vec<Option<u32>>>,
    /// Readout tokens as positions in `texts`, shaped like `hazard`; empty if the response has none.
    lens: Vec<Vec<Option<usize>>>,
    /// KL in nats to 3 decimals, shaped like `hazard`; empty if the response has none.
    kl: Vec<Vec<Option<f64>>>,
}

pub(super) fn page_data<'a>(records: &'a [ResponseRecord], blocks: usize, candidates: &'a [usize]) -> PageData<'a> {
    let mut texts = Vec::new();
    let mut places = HashMap::new();
    let responses = records
        .iter()
        .map(|record| {
            let mut data = ResponseData::default();
            for token in &record.tokens {
                data.ids.push(token.token_id);
                data.log.push(token.log_probability.map(thousandths));
                let at = |depth: &usize| token.exits.iter().find(|exit| exit.depth == *depth);
                // Up to the last candidate with a record; nothing at all where nothing was recorded.
                let last = token.exits.last().map_or(0, |exit| exit.depth);
                let reached = || candidates.iter().take_while(|depth| **depth <= last).map(at);
                let hazard = |exit: &ExitRecord| (f64::from(exit.hazard) * HAZARD_UNITS).round() as u32;
                data.hazard.push(reached().map(|exit| exit.map(hazard)).collect());
                let lens = reached().map(|exit| {
                    let text = exit?.lens_token.as_deref()?;
                    Some(*places.entry(text).or_insert_with(|| {
                        texts.push(text);
                        texts.len() - 1
                    }))
                });
                data.lens.push(lens.collect());
                data.kl.push(reached().map(|exit| exit?.lens_kl.map(thousandths)).collect());
            }
            if data.lens.iter().flatten().all(Option::is_none) {
                data.lens.clear();
            }
            if data.kl.iter().flatten().all(Option::is_none) {
                data.kl.clear();
            }
            data
        })
        .collect();
    PageData { blocks, candidates, texts, responses }
}

fn thousandths(value: f32) -> f64 {
    (f64::from(value) * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use aloud_measure::test_runs::record;

    #[test]
    fn lists_are_packed_and_texts_stand_once() {
        let mut response = record(6, &[2, 4], &[6, 4, 2]);
        response.tokens[0].exits.clear();
        response.tokens[1].exits.remove(0);
        response.tokens[1].exits[0].lens_token = Some("a".to_owned());
        response.tokens[2].exits[0].lens_token = Some("a".to_owned());
        response.tokens[2].log_probability = None;
        let json = serde_json::to_string(&page_data(&[response], 6, &[2, 4])).unwrap();
        assert_eq!(
            json,
            "{\"blocks\":6,\"candidates\":[2,4],\"texts\":[\"a\"],\"responses\":[{\"ids\":[7,7,7],\
             \"log\":[-0.5,-0.5,null],\"hazard\":[[],[null,2500],[2500]],\"lens\":[[],[null,0],[0]],\"kl\":[]}]}"
        );
    }
}
