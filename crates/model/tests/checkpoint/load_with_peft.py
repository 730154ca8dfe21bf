"""Shows that PEFT loads the checkpoint in tiny/ and computes what merging it by hand does; writes peft.json, from_peft/.

Run in this folder with PyTorch 2.15, transformers 5.23, PEFT 0.21, safetensors: python load_with_peft.py
"""

import json
import pathlib
import shutil

import peft
import torch
import transformers
from safetensors.torch import load_file

torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.3,
)
base = transformers.LlamaForCausalLM(config).eval()
start = {name: value.clone() for name, value in base.state_dict().items()}
tokens = torch.randint(0, 32, (1, 11))
with torch.no_grad():
    base_logits = base(tokens).logits
    model = peft.PeftModel.from_pretrained(base, "tiny").eval()
    peft_logits = model(tokens).logits

described = json.load(open("tiny/adapter_config.json"))
scale = described["lora_alpha"] / described["r"]
factors = load_file("tiny/adapter_model.safetensors")
n_adapted_layers = 0
for name in [name for name in factors if name.endswith(".lora_A.weight")]:
    target = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight") + ".weight"
    start[target] += scale * factors[name.replace("lora_A", "lora_B")] @ factors[name]
    n_adapted_layers += 1
merged = transformers.LlamaForCausalLM(config).eval()
merged.load_state_dict(start)
with torch.no_grad():
    merged_logits = merged(tokens).logits

loaded = {
    name.replace(".default", ""): value for name, value in model.state_dict().items() if "lora_" in name
}
assert loaded.keys() == factors.keys(), loaded.keys() ^ factors.keys()
assert all(torch.equal(loaded[name], factors[name]) for name in factors)
record = dict(
    versions=dict(torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__),
    n_adapted_layers=n_adapted_layers,
    scale=scale,
    adapter_changes_logits_by=(peft_logits - base_logits).abs().max().item(),
    largest_logit=merged_logits.abs().max().item(),
    largest_difference_to_merged_by_hand=(peft_logits - merged_logits).abs().max().item(),
)
json.dump(record, open("peft.json", "w"), indent=1)
print(json.dumps(record, indent=1))

settings = peft.LoraConfig(
    r=2,
    lora_alpha=8,
    target_modules=["q_proj", "down_proj"],
    layers_to_transform=[0, 2],
    task_type="CAUSAL_LM",
)
own = peft.get_peft_model(transformers.LlamaForCausalLM(config), settings)
with torch.no_grad():
    for name, value in own.named_parameters():
        if "lora_" in name:
            block = int(name.split("layers.")[1].split(".")[0])
            value.fill_(block + 0.5 if "lora_A" in name else -block - 0.25)
shutil.rmtree("from_peft", ignore_errors=True)
own.save_pretrained("from_peft")
pathlib.Path("from_peft/README.md").unlink(missing_ok=True)
