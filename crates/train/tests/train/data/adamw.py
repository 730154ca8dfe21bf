"""Writes adamw.json: parameters after steps of torch.optim.AdamW and norms of torch.nn.utils.clip_grad_norm_.

Run with PyTorch 2.15 (CPU, float32): python adamw.py > adamw.json
"""

import json

import torch

torch.manual_seed(0)
cases = []
for settings in [
    dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0),
    dict(lr=3e-2, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1),
]:
    parameter = torch.nn.Parameter(torch.randn(6))
    optimizer = torch.optim.AdamW([parameter], foreach=False, **settings)
    steps = []
    start = parameter.tolist()
    for i in range(12):
        gradient = torch.randn(6) * 10.0 ** (i % 3 - 1)
        if i == 5:
            gradient.zero_()
        parameter.grad = gradient.clone()
        norm = torch.nn.utils.clip_grad_norm_([parameter], 2.0).item()
        clipped = parameter.grad.tolist()
        optimizer.step()
        steps.append(dict(gradient=gradient.tolist(), norm=norm, clipped=clipped, parameter=parameter.tolist()))
    cases.append(dict(settings=settings, max_norm=2.0, start=start, steps=steps))
print(json.dumps(dict(torch=torch.__version__, cases=cases)))
