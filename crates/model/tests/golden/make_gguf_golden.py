"""Writes the files in gguf/: one GGUF file with every supported number format and its dequantised values, and tiny
models of each architecture as GGUF and as Hugging Face directories.

Run with Python packages gguf 0.19 and safetensors: python make_gguf_golden.py
"""

import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Value
from safetensors.numpy import save_file

HERE = Path(__file__).parent / "gguf"
RANDOM = np.random.default_rng(20260321)

# Bits of f16 numbers that a scale may have: zeros, subnormals, the smallest and largest normals, ordinary numbers.
SCALES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00, 0xBC00, 0x2E66, 0xA123, 0x1234]


def floats(bits, special):
    """Random finite bit patterns of a 16- or 32-bit float format, the special ones first."""
    return np.concatenate([np.array(special, dtype=bits.dtype), bits])


def write_formats():
    """formats.gguf: one tensor per number format; formats.safetensors: the same, dequantised by the gguf package."""
    writer = gguf.GGUFWriter(HERE / "formats.gguf", "none")
    expected = {}

    def add(name, data, kind):
        writer.add_tensor(name, data, raw_dtype=kind)
        expected[name] = np.ascontiguousarray(gguf.dequantize(data, kind).astype(np.float32))

    rows, blocks = 7, 2  # 14 blocks: one for each scale
    for kind, parts in ((Type.Q8_0, 1), (Type.Q4_0, 1), (Type.Q4_1, 2)):
        block_bytes = gguf.GGML_QUANT_SIZES[kind][1]
        data = RANDOM.integers(0, 256, (rows * blocks, block_bytes), dtype=np.uint8)
        data[:, 0:2] = np.array(SCALES, dtype="<u2").view(np.uint8).reshape(-1, 2)
        if parts == 2:  # the minimum: the same scales in another order
            data[:, 2:4] = np.array(SCALES[5:] + SCALES[:5], dtype="<u2").view(np.uint8).reshape(-1, 2)
        add(kind.name.lower(), data.reshape(rows, blocks * block_bytes), kind)

    f16 = floats(RANDOM.integers(0, 0x7C00, 50, dtype=np.uint16) | (RANDOM.integers(0, 2, 50, dtype=np.uint16) << 15), SCALES)
    add("f16", f16.view(np.float16).reshape(8, 8), Type.F16)
    special = [0x0000, 0x8000, 0x0001, 0x8001, 0x0080, 0x7F7F, 0xFF7F, 0x3F80]
    bf16 = floats(RANDOM.integers(0, 0x7F80, 56, dtype=np.uint16), special)
    add("bf16", bf16.view(np.uint8).reshape(8, 16), Type.BF16)
    special = [0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x3F800000]
    f32 = floats(RANDOM.integers(0, 0x7F800000, 56, dtype=np.uint32), special)
    add("f32", f32.view(np.float32).reshape(8, 8), Type.F32)

    add_q6_k = RANDOM.integers(0, 256, (1, gguf.GGML_QUANT_SIZES[Type.Q6_K][1]), dtype=np.uint8)
    writer.add_tensor("q6_k", add_q6_k, raw_dtype=Type.Q6_K)

    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60000)
    writer.add_int16("test.i16", -30000)
    writer.add_uint32("test.u32", 4_000_000_000)
    writer.add_int32("test.i32", -2_000_000_000)
    writer.add_uint64("test.u64", 2**63 + 1)
    writer.add_int64("test.i64", -(2**62))
    writer.add_float32("test.f32", 0.1)
    writer.add_float64("test.f64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "Grüße 🦀")
    writer.add_key_value("test.strings", ["a", "", "é"], Value.ARRAY, sub_type=Value.STRING)
    writer.add_key_value("test.i32s", [-1, 0, 7], Value.ARRAY, sub_type=Value.INT32)
    writer.add_key_value("test.f32s", [0.5, -0.25], Value.ARRAY, sub_type=Value.FLOAT32)
    writer.add_key_value("test.bools", [True, False], Value.ARRAY, sub_type=Value.BOOL)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, HERE / "formats.safetensors")


def interleave(rows, n_heads):
    """Reorders rows of queries or keys as ggml's converter does for the llama architecture."""
    head_dim = rows.shape[0] // n_heads
    return rows.reshape(n_heads, 2, head_dim // 2, -1).swapaxes(1, 2).reshape(rows.shape)


VOCAB, HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS = 12, 8, 16, 2, 2, 1
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def llama3_divisors(head_dim, theta):
    """What ggml's converter stores: the frequency without scaling divided by the frequency with it."""
    divisors = []
    for exponent in np.arange(0, head_dim, 2, dtype=np.float64) / head_dim:
        wavelength = 2 * np.pi * theta**exponent
        low, high, context = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"], 64
        if wavelength < context / high:
            divisors.append(1.0)
        elif wavelength > context / low:
            divisors.append(LLAMA3["factor"])
        else:
            smooth = (context / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / LLAMA3["factor"] + smooth))
    return np.array(divisors, dtype=np.float32)


def write_model(name, architecture, head_dim, qkv_bias=False, o_bias=False, query_key_norm=False, tied=True, llama3=False):
    """name.gguf and the directory name/ with the same random model."""
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    ggml = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if not tied:
        shapes["lm_head.weight"], ggml["lm_head.weight"] = (VOCAB, HIDDEN), "output.weight"
    for layer in range(LAYERS):

        def add(hf, gg, shape):
            shapes[f"model.layers.{layer}.{hf}"] = shape
            ggml[f"model.layers.{layer}.{hf}"] = f"blk.{layer}.{gg}"

        queries, keys = HEADS * head_dim, KV_HEADS * head_dim
        add("input_layernorm.weight", "attn_norm.weight", (HIDDEN,))
        add("post_attention_layernorm.weight", "ffn_norm.weight", (HIDDEN,))
        for hf, gg, out in (("q", "q", queries), ("k", "k", keys), ("v", "v", keys)):
            add(f"self_attn.{hf}_proj.weight", f"attn_{gg}.weight", (out, HIDDEN))
            if qkv_bias:
                add(f"self_attn.{hf}_proj.bias", f"attn_{gg}.bias", (out,))
        add("self_attn.o_proj.weight", "attn_output.weight", (HIDDEN, queries))
        if o_bias:
            add("self_attn.o_proj.bias", "attn_output.bias", (HIDDEN,))
        if query_key_norm:
            add("self_attn.q_norm.weight", "attn_q_norm.weight", (head_dim,))
            add("self_attn.k_norm.weight", "attn_k_norm.weight", (head_dim,))
        add("mlp.gate_proj.weight", "ffn_gate.weight", (INTERMEDIATE, HIDDEN))
        add("mlp.up_proj.weight", "ffn_up.weight", (INTERMEDIATE, HIDDEN))
        add("mlp.down_proj.weight", "ffn_down.weight", (HIDDEN, INTERMEDIATE))
    tensors = {key: RANDOM.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}

    directory = HERE / name
    directory.mkdir(exist_ok=True)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": architecture,
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "attention_bias": qkv_bias,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": LLAMA3 if llama3 else None,
        "tie_word_embeddings": tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    writer = gguf.GGUFWriter(HERE / f"{name}.gguf", architecture)
    writer.add_vocab_size(VOCAB)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_context_length(512)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(head_dim)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if llama3:
        writer.add_tensor("rope_freqs.weight", llama3_divisors(head_dim, 10000.0))
    for key, value in tensors.items():
        if architecture == "llama" and ".q_proj." in key:
            value = interleave(value, HEADS)
        if architecture == "llama" and ".k_proj." in key:
            value = interleave(value, KV_HEADS)
        writer.add_tensor(ggml[key], value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    write_formats()
    write_model("llama", "llama", head_dim=4, tied=False, llama3=True)
    write_model("llama_bias", "llama", head_dim=8, qkv_bias=True, o_bias=True)
    write_model("qwen2", "qwen2", head_dim=4, qkv_bias=True)
    write_model("qwen3", "qwen3", head_dim=6, query_key_norm=True)
