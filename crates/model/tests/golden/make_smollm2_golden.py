"""Reference outputs of SmolLM2-135M-Instruct, computed by `transformers` in float32 from the GGUF file.

    python make_smollm2_golden.py MODEL.gguf [OUT.json]        (default: smollm2.json beside this file)

All quantised weights are dequantised to float32 and all arithmetic is float32 (`sha256` in the output identifies the
file). The text is tokenised by the tokenizer that the file carries, without special tokens added. Output:

    sha256, n_blocks, hidden_size, vocab_size, rms_norm_eps, rope_theta, depths
    sequences[]:
        text, token_ids [T]
        argmax [T]                  index of the largest logit after each position
        top_ids, top_logits [T][20] the 20 largest logits, largest first
        logit_mean, logit_std [T]   over the vocabulary; population standard deviation
        lens_kl {depth: [T]}        KL(p_L || p_d) in nats; p_d through the final norm and the unembedding

Numbers are rounded to six decimals.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

DEPTHS = [5, 10, 15, 20, 25]
TOP = 20
TEXTS = [
    "The capital of France is Paris. Water boils at 100 degrees, and two plus two makes four.",
    "<|im_start|>user\nWhat is 12 * 7?<|im_end|>\n<|im_start|>assistant\n12 * 7 = 84.<|im_end|>",
]


def rounded(tensor):
    return [[round(v, 6) for v in row] for row in tensor.tolist()] if tensor.dim() == 2 else rounded(tensor[None])[0]


@torch.no_grad()
def describe(model, tokenizer, text):
    token_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    output = model(torch.tensor([token_ids]), output_hidden_states=True)
    logits = output.logits[0]
    final = logits.log_softmax(-1)
    lens_kl = {}
    for d in DEPTHS:
        early = model.lm_head(model.model.norm(output.hidden_states[d][0])).log_softmax(-1)
        lens_kl[str(d)] = rounded((final.exp() * (final - early)).sum(-1))
    top = logits.topk(TOP, dim=-1)
    return {
        "text": text,
        "token_ids": token_ids,
        "argmax": logits.argmax(-1).tolist(),
        "top_ids": top.indices.tolist(),
        "top_logits": rounded(top.values),
        "logit_mean": rounded(logits.double().mean(-1)),
        "logit_std": rounded(logits.double().std(-1, unbiased=False)),
        "lens_kl": lens_kl,
    }


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    disable_progress_bar()
    path = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("smollm2.json")
    source = dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(**source)
    config = model.config
    golden = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "n_blocks": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_parameters["rope_theta"],
        "depths": DEPTHS,
        "sequences": [describe(model, tokenizer, text) for text in TEXTS],
    }
    temporary = out.with_suffix(".tmp")
    temporary.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    os.replace(temporary, out)
    for sequence in golden["sequences"]:
        print(len(sequence["token_ids"]), repr(tokenizer.decode(sequence["argmax"])))
        print({d: round(sum(v) / len(v), 2) for d, v in sequence["lens_kl"].items()})


if __name__ == "__main__":
    main()
