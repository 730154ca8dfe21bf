"""Reference outputs for the decoder's tests, computed by `transformers`, `peft` and PyTorch autograd.

    python make_decoder_golden.py [OUT_DIR]        (default: the folder of this file)

Writes four tiny random checkpoints, each with reference files beside it. Everything stored is computed in float64
(`transformers` computes RMSNorm in float32 whatever the dtype: replaced here; only the cosine and sine tables of rope
stay float32) and rounded once to float32. Seeds are fixed: the files depend on the versions of the three libraries
only. Letters: R rows (all sequences of the file packed one after the other), H hidden size, V vocabulary size,
L blocks, C candidates, r LoRA rank. KL values, losses and log-probabilities are in nats.

    tiny_llama        L 6, H 32, 4 heads, 2 key/value heads, tied; config.json and one file, f32.      + student
    tiny_llama_rope3  L 3, H 48, 4 heads of 12, llama3 rope scaling, untied, f32; config.json in the key names of
                      published checkpoints (`rope_theta`, `rope_scaling`, `torch_dtype`), the others in those of
                      transformers 5 (`rope_parameters`, `dtype`).
    tiny_qwen2        L 5, H 48, 6 heads, 2 key/value heads, q/k/v bias, untied, f32.                   + student
    tiny_qwen2_tied   L 3, H 32, 2 heads of 16, 1 key/value head, tied, bf16, sharded with an index file.

reference.safetensors, each sequence run alone at full depth:

    token_ids             i32 [R]
    lengths               i32 [2]     rows of each sequence
    logits                f32 [R, V]

student.safetensors. A sequence has P prompt and T response tokens; rows P-1 .. P+T-2 emit the response ("response
rows"). Rows before P, and the last row, which emits nothing, run at full depth. A candidate d is reached by a row of
depth >= d. LoRA: r 4, alpha 8, on all seven projections of every block; exit heads read x / sqrt(mean(x^2) + eps),
eps = `rms_norm_eps`. Exit weight 0.7; temperature 1, offset 0.

    token_ids, depths     i32 [R]
    lengths, prompt_lens  i32 [2]
    candidates            i32 [C]
    layers.{i}.{path}.lora_a / .lora_b   f32 [r, in] / [out, r]; path as `self_attn.q_proj`, `mlp.down_proj`
    head.{d}.weight, head.{d}.bias       f32 [H], [1]
    final_hidden          f32 [R, H]  student, after the final norm
    teacher_final_hidden  f32 [R, H]
    exit_logits.{d}       f32 [R]     0 where d is not reached; present on prompt rows too, where no loss reads it
    teacher_lens_kl       f32 [R, C]  KL(p_L || p_d) of the teacher, on every row
    token_kl_reverse      f32 [R]     KL(student || teacher), 0 outside the response rows
    token_kl_forward      f32 [R]     KL(teacher || student), likewise
    log_joint             f32 [R]     log pi(depth) (absent for row P-1) + log p(next token), 0 outside response rows
    loss_reverse, loss_forward  f32 [1]  mean token KL + 0.7 * (sum of -log pi over rows P .. P+T-2) / response tokens
    grad_reverse.{name}   gradient of loss_reverse, for every LoRA factor, head weight and head bias by the names above
    grad_forward.{name}   gradient of loss_forward
    grad_detached.{name}  gradient of loss_reverse where heads read a detached residual
    grad_full.{name}      gradient of loss_reverse for base weights by their Hugging Face names, with a teacher that
                          is a frozen copy; a tied unembedding is folded into `model.embed_tokens.weight`. So that the
                          files stay small, of the blocks only 0, 2, 5 (tiny_llama) and 0, 2, 4 (tiny_qwen2) are kept.
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.utils.logging import disable_progress_bar

LENGTHS = [17, 9]
PROMPT_LENS = [5, 4]
EXIT_WEIGHT = 0.7
LORA_RANK, LORA_ALPHA = 4, 8
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rms_norm(self, x):
    """RMSNorm in the dtype of its input."""
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


@contextmanager
def float64_arithmetic():
    """Inside, a float64 model computes in float64 everywhere."""
    with (
        patch.object(LlamaRMSNorm, "forward", rms_norm),
        patch.object(Qwen2RMSNorm, "forward", rms_norm),
        sdpa_kernel(SDPBackend.MATH),
    ):
        yield


# --- Checkpoints ------------------------------------------------------------------------------------------------


def randomise(model, generator):
    """Weights large enough that logits differ well, gains around 1, biases away from 0."""

    def normal(shape, std):
        return torch.randn(shape, generator=generator) * std

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(1 + normal(parameter.shape, 0.2))
            elif name.endswith("bias"):
                parameter.copy_(normal(parameter.shape, 0.3))
            elif "embed_tokens" in name or "lm_head" in name:
                parameter.copy_(normal(parameter.shape, 0.25))
            else:
                parameter.copy_(normal(parameter.shape, 0.15))


def write_checkpoint(folder, model, seed, dtype=torch.float32, **save_arguments):
    randomise(model, torch.Generator().manual_seed(seed))
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    model.to(dtype).save_pretrained(folder, **save_arguments)
    (folder / "generation_config.json").unlink(missing_ok=True)


def use_published_keys(folder):
    """Rewrites config.json with the key names that published Llama 3 checkpoints have."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load(folder, dtype=torch.float64):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()


def random_token_ids(vocab_size, seed):
    return torch.randint(0, vocab_size, (sum(LENGTHS),), generator=torch.Generator().manual_seed(seed))


def save(path, tensors):
    rounded = {
        name: (t.detach().to(torch.float32) if t.is_floating_point() else t.to(torch.int32)).contiguous().clone()
        for name, t in tensors.items()
    }
    save_file(rounded, path)


@torch.no_grad()
def write_reference(folder, seed):
    model = load(folder)
    token_ids = random_token_ids(model.config.vocab_size, seed)
    with float64_arithmetic():
        logits = [model(ids[None]).logits[0] for ids in token_ids.split(LENGTHS)]
    plain = [load(folder, torch.float32)(ids[None]).logits[0] for ids in token_ids.split(LENGTHS)]
    deviation = (torch.cat(logits) - torch.cat(plain)).abs().max().item()
    assert deviation < 2e-4, deviation
    print(f"{folder.name}: logit std {torch.cat(logits).std():.2f}, unpatched f32 transformers differ {deviation:.1e}")
    save(
        folder / "reference.safetensors",
        {"token_ids": token_ids, "lengths": torch.tensor(LENGTHS), "logits": torch.cat(logits)},
    )


# --- Student ----------------------------------------------------------------------------------------------------


def add_lora(model, generator):
    """Injects PEFT adapters with random factors. Returns them by their names in the file."""
    targets = LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, lora_dropout=0.0, target_modules=PROJECTIONS)
    model = inject_adapter_in_model(targets, model).to(torch.float64).eval()
    factors = {}
    for name, parameter in model.named_parameters():
        if ".lora_" not in name:
            continue
        short = name.removeprefix("model.").replace(".lora_A.default.weight", ".lora_a")
        short = short.replace(".lora_B.default.weight", ".lora_b")
        values = torch.randn(parameter.shape, generator=generator) * 0.15
        parameter.data.copy_(values)
        factors[short] = parameter
    assert len(factors) == 2 * len(PROJECTIONS) * model.config.num_hidden_layers
    return factors


def random_heads(candidates, hidden_size, generator):
    heads = {}
    for d in candidates:
        heads[f"head.{d}.weight"] = (torch.randn(hidden_size, generator=generator) * 0.15).double().requires_grad_()
        heads[f"head.{d}.bias"] = (torch.randn(1, generator=generator) - 0.5).double().requires_grad_()
    return heads


def random_depths(candidates, n_blocks, generator):
    """Depths of all rows: every candidate and full depth in turn over the rows that may exit, then shuffled."""
    depths = []
    for length, prompt_len in zip(LENGTHS, PROMPT_LENS):
        n_free = length - 1 - prompt_len
        choices = [*candidates, n_blocks]
        free = [choices[i % len(choices)] for i in torch.randperm(n_free, generator=generator).tolist()]
        depths += [n_blocks] * prompt_len + free + [n_blocks]
    return torch.tensor(depths)


def masked_forward(model, token_ids, depths):
    """The frozen-residual forward of one sequence. Returns the residuals after 0..L blocks, each [rows, H].

    A row of depth d stops changing after d blocks; later blocks still read its keys and values, computed from the
    frozen residual by their own input norm and projections.
    """
    x = model.model.embed_tokens(token_ids[None])
    rope = model.model.rotary_emb(x, position_ids=torch.arange(len(token_ids))[None])
    residuals = [x[0]]
    for index, block in enumerate(model.model.layers):
        attention, _ = block.self_attn(block.input_layernorm(x), position_embeddings=rope, attention_mask=None)
        middle = x + attention
        full = middle + block.mlp(block.post_attention_layernorm(middle))
        x = torch.where((depths > index)[None, :, None], full, x)
        residuals.append(x[0])
    return residuals


def exit_logits(heads, candidates, residuals, eps, detach):
    """z_d = w_d . rms(x_d) + b_d on every row: [rows] for each candidate d."""
    logits = {}
    for d in candidates:
        x = residuals[d].detach() if detach else residuals[d]
        normalised = x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps)
        logits[d] = normalised @ heads[f"head.{d}.weight"] + heads[f"head.{d}.bias"]
    return logits


def log_exit_probability(logits, depths):
    """log pi(depth) of each row by stick-breaking over the candidates that the row reached."""
    total = torch.zeros(len(depths), dtype=torch.float64)
    for d, z in logits.items():
        total = total + torch.where(depths == d, logsigmoid(z), torch.where(depths > d, logsigmoid(-z), 0.0))
    return total


def kl(log_p, log_q):
    """KL(p || q) over the last axis."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def log_probabilities(model, hidden):
    return model.lm_head(hidden).log_softmax(-1)


@torch.no_grad()
def teacher_outputs(teacher, token_ids, candidates):
    """Final hidden states [R, H] and lens KLs [R, C] of the model without adapters at full depth."""
    full_depth = len(teacher.model.layers)
    hidden, lens = [], []
    for ids in token_ids.split(LENGTHS):
        residuals = masked_forward(teacher, ids, torch.full((len(ids),), full_depth))
        hidden.append(teacher.model.norm(residuals[-1]))
        final = log_probabilities(teacher, hidden[-1])
        early = [log_probabilities(teacher, teacher.model.norm(residuals[d])) for d in candidates]
        lens.append(torch.stack([kl(final, log_p) for log_p in early], dim=-1))
    return torch.cat(hidden), torch.cat(lens)


def student_outputs(model, heads, teacher_log_p, token_ids, depths, candidates, detach_heads=False):
    """All outputs of the student in the names of the file; losses and hidden states carry their graph."""
    n_response = sum(length - prompt_len for length, prompt_len in zip(LENGTHS, PROMPT_LENS))
    parts = {name: [] for name in ["final_hidden", "token_kl_reverse", "token_kl_forward", "log_joint"]}
    parts |= {f"exit_logits.{d}": [] for d in candidates}
    log_pi_sum = 0.0
    split = [tensor.split(LENGTHS) for tensor in (token_ids, depths, teacher_log_p)]
    for ids, row_depths, teacher_rows, prompt_len in zip(*split, PROMPT_LENS):
        residuals = masked_forward(model, ids, row_depths)
        hidden = model.model.norm(residuals[-1])
        log_p = log_probabilities(model, hidden)
        row = torch.arange(len(ids))
        is_response = (row >= prompt_len - 1) & (row < len(ids) - 1)
        may_exit = (row >= prompt_len) & (row < len(ids) - 1)
        z = exit_logits(heads, candidates, residuals, model.config.rms_norm_eps, detach_heads)
        log_pi = torch.where(may_exit, log_exit_probability(z, row_depths), 0.0)
        log_p_next = log_p.gather(-1, ids.roll(-1)[:, None])[:, 0]
        parts["final_hidden"].append(hidden)
        parts["token_kl_reverse"].append(torch.where(is_response, kl(log_p, teacher_rows), 0.0))
        parts["token_kl_forward"].append(torch.where(is_response, kl(teacher_rows, log_p), 0.0))
        parts["log_joint"].append(torch.where(is_response, log_pi + log_p_next, 0.0))
        for d in candidates:
            parts[f"exit_logits.{d}"].append(torch.where(row_depths >= d, z[d], 0.0))
        log_pi_sum = log_pi_sum + log_pi.sum()
    outputs = {name: torch.cat(values) for name, values in parts.items()}
    for direction in ["reverse", "forward"]:
        token_term = outputs[f"token_kl_{direction}"].sum() / n_response
        outputs[f"loss_{direction}"] = (token_term - EXIT_WEIGHT * log_pi_sum / n_response)[None]
    return outputs


def gradients(loss, parameters):
    return dict(zip(parameters, torch.autograd.grad(loss.sum(), parameters.values(), retain_graph=True)))


def write_student(folder, seed, candidates, full_gradient_blocks):
    generator = torch.Generator().manual_seed(seed)
    teacher, model = load(folder), load(folder)
    n_blocks, hidden_size = model.config.num_hidden_layers, model.config.hidden_size
    token_ids = random_token_ids(model.config.vocab_size, seed)
    depths = random_depths(candidates, n_blocks, generator)
    factors = add_lora(model, generator)
    heads = random_heads(candidates, hidden_size, generator)
    model.requires_grad_(True)
    base = {n.replace(".base_layer", ""): p for n, p in model.named_parameters() if ".lora_" not in n}
    assert set(base) == {name for name, _ in teacher.named_parameters()}

    with float64_arithmetic():
        check_masked_forward(teacher, model, factors, token_ids, candidates)
        teacher_hidden, lens_kl = teacher_outputs(teacher, token_ids, candidates)
        with torch.no_grad():
            teacher_log_p = log_probabilities(teacher, teacher_hidden)

        def run(**settings):
            return student_outputs(model, heads, teacher_log_p, token_ids, depths, candidates, **settings)

        outputs = run()
        trained = factors | heads
        grads = {
            "reverse": gradients(outputs["loss_reverse"], trained),
            "forward": gradients(outputs["loss_forward"], trained),
            "detached": gradients(run(detach_heads=True)["loss_reverse"], trained),
            "full": gradients(outputs["loss_reverse"], base),
        }
        check_gradients(run, outputs, trained | base, grads["reverse"] | grads["full"], generator)

    kept = tuple(f"model.layers.{i}." for i in full_gradient_blocks)
    grads["full"] = {n: g for n, g in grads["full"].items() if ".layers." not in n or n.startswith(kept)}
    tensors = {
        "token_ids": token_ids,
        "depths": depths,
        "lengths": torch.tensor(LENGTHS),
        "prompt_lens": torch.tensor(PROMPT_LENS),
        "candidates": torch.tensor(candidates),
        "teacher_final_hidden": teacher_hidden,
        "teacher_lens_kl": lens_kl,
    }
    tensors |= trained | outputs
    tensors |= {f"grad_{kind}.{name}": g for kind, by_name in grads.items() for name, g in by_name.items()}
    save(folder / "student.safetensors", tensors)
    reverse, forward = outputs["loss_reverse"].item(), outputs["loss_forward"].item()
    print(f"{folder.name}: depths {depths.tolist()}, loss reverse {reverse:.4f}, forward {forward:.4f}")
    print(f"{folder.name}: teacher lens KL by candidate {[round(v, 2) for v in lens_kl.mean(0).tolist()]}")


# --- Checks of this reference -----------------------------------------------------------------------------------


@torch.no_grad()
def check_masked_forward(teacher, student, factors, token_ids, candidates):
    """The masked forward against plain transformers, with LoRA B = 0 and at full depth or with one early exit."""
    saved = {name: factor.clone() for name, factor in factors.items()}
    for name, factor in factors.items():
        if name.endswith("lora_b"):
            factor.zero_()
    n_blocks = len(teacher.model.layers)
    for ids, prompt_len in zip(token_ids.split(LENGTHS), PROMPT_LENS):
        plain = teacher(ids[None], output_hidden_states=True)
        for exit_depth in [*candidates, n_blocks]:
            depths = torch.full((len(ids),), n_blocks)
            depths[prompt_len] = exit_depth
            hidden = student.model.norm(masked_forward(student, ids, depths)[-1])
            logits = student.lm_head(hidden)
            unchanged = len(ids) if exit_depth == n_blocks else prompt_len
            torch.testing.assert_close(logits[:unchanged], plain.logits[0, :unchanged], rtol=0, atol=1e-12)
            if exit_depth < n_blocks:
                expected = teacher.model.norm(plain.hidden_states[exit_depth][0, prompt_len])
                torch.testing.assert_close(hidden[prompt_len], expected, rtol=0, atol=1e-12)
                # The last block reads x_(L-1) of every row, so that only earlier exits are felt by later rows.
                later = (logits[prompt_len + 1 :] - plain.logits[0, prompt_len + 1 :]).abs().max()
                assert later < 1e-12 if exit_depth == n_blocks - 1 else later > 1e-3
    for name, factor in factors.items():
        factor.copy_(saved[name])


@torch.no_grad()
def check_gradients(run, outputs, parameters, gradient, generator):
    """Gradients against the central difference of the loss, parameter by parameter, along random directions."""
    step = 1e-5
    for name, parameter in parameters.items():
        direction = torch.randn(parameter.shape, generator=generator).double()
        values = parameter.clone()
        parameter.copy_(values + step * direction)
        above = run()["loss_reverse"].item()
        parameter.copy_(values - step * direction)
        below = run()["loss_reverse"].item()
        parameter.copy_(values)
        expected = (above - below) / (2 * step)
        actual = (gradient[name] * direction).sum().item()
        assert abs(actual - expected) < 1e-6 * max(1.0, abs(expected)), (name, actual, expected)
    assert torch.equal(run()["loss_reverse"], outputs["loss_reverse"])


def main():
    disable_progress_bar()
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent

    llama = dict(num_attention_heads=4, bos_token_id=1, eos_token_id=2, rms_norm_eps=1e-5)
    folder = out / "tiny_llama"
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    config = LlamaConfig(
        vocab_size=131, hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_key_value_heads=2,
        max_position_embeddings=128, tie_word_embeddings=True, rope_parameters=rope, **llama,
    )  # fmt: skip
    write_checkpoint(folder, LlamaForCausalLM(config), seed=11)
    write_reference(folder, seed=12)
    write_student(folder, seed=13, candidates=[2, 4], full_gradient_blocks=[0, 2, 5])

    folder = out / "tiny_llama_rope3"
    rope = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
    }  # fmt: skip
    config = LlamaConfig(
        vocab_size=53, hidden_size=48, intermediate_size=24, num_hidden_layers=3, num_key_value_heads=4,
        max_position_embeddings=512, tie_word_embeddings=False, rope_parameters=rope, **llama,
    )  # fmt: skip
    write_checkpoint(folder, LlamaForCausalLM(config), seed=21)
    use_published_keys(folder)
    write_reference(folder, seed=22)

    qwen2 = dict(bos_token_id=None, eos_token_id=0, rms_norm_eps=1e-6, max_position_embeddings=128)
    folder = out / "tiny_qwen2"
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    config = Qwen2Config(
        vocab_size=97, hidden_size=48, intermediate_size=24, num_hidden_layers=5, num_attention_heads=6,
        num_key_value_heads=2, tie_word_embeddings=False, rope_parameters=rope, **qwen2,
    )  # fmt: skip
    write_checkpoint(folder, Qwen2ForCausalLM(config), seed=31)
    write_reference(folder, seed=32)
    write_student(folder, seed=33, candidates=[1, 3, 4], full_gradient_blocks=[0, 2, 4])

    folder = out / "tiny_qwen2_tied"
    config = Qwen2Config(
        vocab_size=83, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, rope_parameters=rope, **qwen2,
    )  # fmt: skip
    write_checkpoint(folder, Qwen2ForCausalLM(config), seed=41, dtype=torch.bfloat16, max_shard_size="25KB")
    write_reference(folder, seed=42)


if __name__ == "__main__":
    main()
