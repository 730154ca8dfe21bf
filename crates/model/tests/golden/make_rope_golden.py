"""Writes rope/frequencies.json: configurations and the rotary frequencies that transformers computes for them.

Run with Python packages torch 2.15 and transformers 5.23: python make_rope_golden.py
"""

import json
from pathlib import Path

from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

SHAPE = {
    "model_type": "llama",
    "vocab_size": 100,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
CASES = {
    "default, SmolLM2": (64, 8192, {"rope_theta": 100000.0}),
    "default, no theta": (64, 2048, {}),
    "default, transformers 5": (128, 8192, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "linear, old spelling": (64, 16384, {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}}),
    "linear, transformers 5": (64, 16384, {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 50000.0}}),
    "dynamic": (64, 4096, {"rope_theta": 10000.0, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
    "llama3, Llama 3.2": (64, 131072, {"rope_theta": 500000.0, "rope_scaling": LLAMA3}),
    "llama3, Llama 3.1": (128, 131072, {"rope_parameters": {**LLAMA3, "factor": 8.0, "rope_theta": 500000.0}}),
    "yarn, Qwen": (
        128,
        131072,
        {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
    ),
    "yarn, all settings": (
        64,
        65536,
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 16.0,
                "original_max_position_embeddings": 4096,
                "beta_fast": 24.0,
                "beta_slow": 2.0,
                "mscale": 0.7,
                "mscale_all_dim": 0.3,
                "truncate": False,
            }
        },
    ),
    "yarn, attention factor": (
        96,
        65536,
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 150000.0,
                "factor": 32.0,
                "original_max_position_embeddings": 4096,
                "attention_factor": 1.25,
            }
        },
    ),
}


def main():
    cases = []
    for name, (head_dim, positions, rope) in CASES.items():
        config = {
            **SHAPE,
            "hidden_size": 2 * head_dim,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": positions,
            **rope,
        }
        parsed = LlamaConfig(**json.loads(json.dumps(config)))
        kind = parsed.rope_parameters["rope_type"]
        if kind == "default":
            frequencies, scaling = LlamaRotaryEmbedding.compute_default_rope_parameters(parsed)
        else:
            frequencies, scaling = ROPE_INIT_FUNCTIONS[kind](parsed)
        cases.append(
            {
                "name": name,
                "config": config,
                "head_dim": head_dim,
                "frequencies": [float(value) for value in frequencies],
                "attention_scaling": float(scaling),
            }
        )
    path = Path(__file__).parent / "rope" / "frequencies.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
