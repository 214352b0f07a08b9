"""Numbers of public PyTorch code for Mamba-2 and the gated memory unit, as JSON on stdout: state-space.json beside this file.

Mamba-2 is transformers' (mamba2_chunk_scan and Mamba2Mixer on a CPU in float32). The gated memory unit is the formula of
microsoft/ArchScale, lit_gpt/gated_memory_unit.py, with its norm: RMSNormGated(memory, gate) with norm_before_gate=False.
All inputs follow from `wave`, which state-space.test.ts computes too.
"""
import json
import math

import torch
import transformers
from transformers.models.mamba2.configuration_mamba2 import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer, mamba2_chunk_scan

BATCH, TIME, DIM, HEADS, WIDTH, GROUPS, STATES, TAPS, CHUNK, EPS = 1, 7, 4, 4, 2, 2, 3, 4, 3, 1e-5
INNER, SHARED = HEADS * WIDTH, GROUPS * STATES


def wave(shape, phase, scale=1.0, shift=0.0):
    """scale * sin(phase + 1.7 i) + shift for the element number i."""
    size = math.prod(shape)
    values = [scale * math.sin(phase + 1.7 * i) + shift for i in range(size)]
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def numbers(tensor):
    return [float(f"{value:.7g}") for value in tensor.detach().flatten().tolist()]


def with_gradients(outputs, inputs):
    """The outputs, and the gradients of the sum of each output times a wave."""
    total = sum((y * wave(y.shape, 0.5 + i)).sum() for i, y in enumerate(outputs))
    gradients = torch.autograd.grad(total, list(inputs.values()))
    return {
        "outputs": [numbers(y) for y in outputs],
        "gradients": {name: numbers(g) for name, g in zip(inputs, gradients)},
    }


def scan():
    inputs = {
        "x": wave((BATCH, TIME, HEADS, WIDTH), 1),
        "dt": wave((BATCH, TIME, HEADS), 2, 2),
        "b": wave((BATCH, TIME, GROUPS, STATES), 3),
        "c": wave((BATCH, TIME, GROUPS, STATES), 4),
        "dtBias": wave((HEADS,), 5, 1, -1),
        "aLog": wave((HEADS,), 6),
        "skip": wave((HEADS,), 7),
        "state": wave((BATCH, HEADS, WIDTH, STATES), 8),
    }
    for tensor in inputs.values():
        tensor.requires_grad_()
    x, dt, b, c, bias, a_log, skip, state = inputs.values()
    outputs = mamba2_chunk_scan(
        x, dt, -torch.exp(a_log), b, c, CHUNK, D=skip, dt_bias=bias, initial_states=state, dt_softplus=True,
        return_final_states=True,
    )  # fmt: skip
    return with_gradients(outputs, inputs)


def layer():
    config = Mamba2Config(
        hidden_size=DIM, num_heads=HEADS, head_dim=WIDTH, state_size=STATES, n_groups=GROUPS, expand=INNER // DIM,
        conv_kernel=TAPS, chunk_size=CHUNK, layer_norm_epsilon=EPS, num_hidden_layers=1, use_bias=False, use_conv_bias=True,
    )  # fmt: skip
    mixer = Mamba2Mixer(config, layer_idx=0).eval()
    rows = {"z": INNER, "x": INNER, "b": SHARED, "c": SHARED, "dt": HEADS}
    projections = [wave((count, DIM), i, 0.7) for i, count in enumerate(rows.values())]
    taps = [wave((rows[name], 1, TAPS), 10 + i, 0.5) for i, name in enumerate("xbc")]
    biases = [wave((rows[name],), 20 + i, 0.3) for i, name in enumerate("xbc")]
    with torch.no_grad():
        mixer.in_proj.weight.copy_(torch.cat(projections))
        mixer.conv1d.weight.copy_(torch.cat(taps))
        mixer.conv1d.bias.copy_(torch.cat(biases))
        mixer.dt_bias.copy_(wave((HEADS,), 30))
        mixer.A_log.copy_(wave((HEADS,), 31))
        mixer.D.copy_(wave((HEADS,), 32))
        mixer.norm.weight.copy_(wave((INNER,), 33, 0.3, 1))
        mixer.out_proj.weight.copy_(wave((DIM, INNER), 34))
    x = wave((BATCH, TIME, DIM), 40).requires_grad_()
    parameters = {
        "in_proj": mixer.in_proj.weight, "conv1d": mixer.conv1d.weight, "conv1d_bias": mixer.conv1d.bias,
        "dt_bias": mixer.dt_bias, "a_log": mixer.A_log, "d": mixer.D, "norm": mixer.norm.weight,
        "out_proj": mixer.out_proj.weight,
    }  # fmt: skip
    return with_gradients([mixer(x)], {"x": x, **parameters})


def memory_unit():
    inputs = {
        "x": wave((BATCH, TIME, DIM), 1),
        "readout": wave((BATCH, TIME, INNER), 2, 3),
        "in_proj": wave((INNER, DIM), 3),
        "norm": wave((INNER,), 4, 0.3, 1),
        "out_proj": wave((DIM, INNER), 5),
    }
    for tensor in inputs.values():
        tensor.requires_grad_()
    x, readout, in_proj, norm, out_proj = inputs.values()
    gated = readout * torch.nn.functional.silu(x @ in_proj.T)
    normed = gated * torch.rsqrt(gated.pow(2).mean(-1, keepdim=True) + EPS) * norm
    return with_gradients([normed @ out_proj.T], inputs)


print(json.dumps({
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    "scan": scan(),
    "layer": layer(),
    "memoryUnit": memory_unit(),
}))  # fmt: skip
