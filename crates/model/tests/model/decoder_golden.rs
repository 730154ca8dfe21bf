//! Logits of the decoder against `transformers`: tiny random models of every family
//! (`golden/make_decoder_golden.py`), and the real SmolLM2 (`golden/make_smollm2_golden.py`) where it is at hand.

use std::path::PathBuf;

use aloud_kernels::backend::{Memory, Readout, Unembedding};
use aloud_kernels::cpu::Cpu;
use aloud_model::decoder::{Decoder, PackedBatch};
use aloud_model::load::load;
use aloud_model::source::ResolvedSource;

use crate::{data, load_directory};

fn golden(name: &str) -> PathBuf {
    data("golden").join(name)
}

/// Logits of every row of a batch of sequences, at full depth.
fn logits(decoder: &Decoder<Cpu>, sequences: &[&[u32]]) -> Vec<Vec<f32>> {
    let cpu = decoder.backend();
    let config = decoder.config();
    let mut batch = PackedBatch::new();
    for sequence in sequences {
        batch.push(sequence, config.vocab_size, config.max_position_embeddings).unwrap();
    }
    let depths = vec![decoder.n_blocks(); batch.n_rows()];
    let hidden = decoder.final_norm(&decoder.forward(None, &batch, &depths, &[], false).residual);
    (0..batch.n_rows() as u32)
        .flat_map(|row| {
            let hidden = cpu.gather_rows(&hidden, &[row]);
            let logits = cpu.logits(Readout { hidden: &hidden, weight: decoder.unembedding() });
            (0..logits.n_rows()).map(move |row| logits.row(row).to_vec()).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn logits_of_tiny_models_equal_transformers() {
    for name in ["tiny_llama", "tiny_llama_rope3", "tiny_qwen2", "tiny_qwen2_tied"] {
        let model = load_directory(&golden(name)).unwrap();
        let decoder = Decoder::new(&Cpu::new(2), &model.config, &model.weights);
        let bytes = std::fs::read(golden(name).join("reference.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let words = |tensor: &str| -> Vec<[u8; 4]> { file.tensor(tensor).unwrap().data().as_chunks::<4>().0.to_vec() };
        let tokens: Vec<u32> = words("token_ids").into_iter().map(u32::from_le_bytes).collect();
        let lengths: Vec<usize> = words("lengths").into_iter().map(|b| u32::from_le_bytes(b) as usize).collect();
        let expected: Vec<f32> = words("logits").into_iter().map(f32::from_le_bytes).collect();
        let sequences = [&tokens[..lengths[0]], &tokens[lengths[0]..]];
        let actual: Vec<f32> = logits(&decoder, &sequences).concat();
        assert_eq!(actual.len(), expected.len());
        let worst = actual.iter().zip(&expected).map(|(a, e)| (a - e).abs()).fold(0.0f32, f32::max);
        assert!(worst < 1e-4, "{name}: off by {worst}");
    }
}

/// The real model: set ALOUD_TEST_MODEL to the path of SmolLM2-135M-Instruct.Q4_1.gguf.
#[test]
fn logits_of_smollm2_equal_transformers() {
    let Ok(path) = std::env::var("ALOUD_TEST_MODEL") else {
        eprintln!("skipped: ALOUD_TEST_MODEL does not name the SmolLM2 GGUF file");
        return;
    };
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(golden("smollm2.json")).unwrap()).unwrap();
    let model = load(&ResolvedSource::Gguf(path.into())).unwrap();
    let cpu = Cpu::with_all_processors();
    let decoder = Decoder::new(&cpu, &model.config, &model.weights);
    let depths: Vec<usize> =
        golden["depths"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    for sequence in golden["sequences"].as_array().unwrap() {
        let integers = |value: &serde_json::Value| -> Vec<u32> {
            value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
        };
        let tokens = integers(&sequence["token_ids"]);
        let rows = logits(&decoder, &[&tokens]);
        for (position, row) in rows.iter().enumerate() {
            let ids = integers(&sequence["top_ids"][position]);
            for (id, expected) in ids.iter().zip(sequence["top_logits"][position].as_array().unwrap()) {
                let difference = (f64::from(row[*id as usize]) - expected.as_f64().unwrap()).abs();
                assert!(difference < 2e-3, "position {position}, token {id}: off by {difference}");
            }
            let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / row.len() as f64;
            assert!((mean - sequence["logit_mean"][position].as_f64().unwrap()).abs() < 2e-3, "mean at {position}");
        }
        // Lens KLs, nats.
        let mut batch = PackedBatch::new();
        batch.push(&tokens, model.config.vocab_size, model.config.max_position_embeddings).unwrap();
        let full = vec![decoder.n_blocks(); tokens.len()];
        let forward = decoder.forward(None, &batch, &full, &depths, false);
        let hidden = decoder.final_norm(&forward.residual);
        let lenses: Vec<_> = forward.at_candidates.iter().map(|x| decoder.final_norm(x)).collect();
        let readout = Readout { hidden: &hidden, weight: decoder.unembedding() };
        let readings = cpu.lens_kl(readout, &lenses.iter().collect::<Vec<_>>(), &tokens, false);
        for (c, depth) in depths.iter().enumerate() {
            for (position, reading) in readings.iter().enumerate() {
                let expected = sequence["lens_kl"][depth.to_string()][position].as_f64().unwrap();
                let difference = (f64::from(reading.lenses[c].kl) - expected).abs();
                assert!(difference < 5e-3 * expected.max(1.0), "depth {depth}, position {position}: {difference}");
            }
        }
    }
}
