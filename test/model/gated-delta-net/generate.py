"""Writes reference.json beside this file: the gated delta rule of flash-linear-attention and of transformers, and the
whole layer of transformers (Qwen3-Next), in float32 on a CPU, with gradients.

Needs torch, transformers and fla-core: pip install torch==2.13.0 transformers==4.57.1 fla-core==0.6.0 einops==0.8.2
"""
import importlib.util
import json
import math
import sys
from importlib.metadata import distribution, version
from pathlib import Path

import torch
from transformers.models.qwen3_next import modeling_qwen3_next as qwen
from transformers.models.qwen3_next.configuration_qwen3_next import Qwen3NextConfig

torch.set_num_threads(1)


def naive():
    """fla's naive form by its file: its package imports Triton, which a CPU has no use for."""
    path = distribution('fla-core').locate_file('fla/ops/gated_delta_rule/naive.py')
    spec = importlib.util.spec_from_file_location('naive', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wave(seed, *shape, scale=1.0, shift=0.0):
    """Numbers that the test forms again."""
    count = math.prod(shape)
    values = [shift + scale * math.sin(12.9898 * seed + 78.233 * math.sin(0.618 * i + seed)) for i in range(count)]
    return torch.tensor(values, dtype=torch.float32).reshape(shape).requires_grad_()


def numbers(tensor):
    return [float(f'{x:.7g}') for x in tensor.detach().flatten().tolist()]


def gradients(outputs, inputs):
    """Of the sum of outputs times waves."""
    total = sum((y * wave(100 + i, *y.shape).detach()).sum() for i, y in enumerate(outputs))
    return torch.autograd.grad(total, inputs)


def rule(name, function, time, heads, key, value):
    """One case; q and k are normalised inside."""
    q, k = wave(1, 1, time, heads, key), wave(2, 1, time, heads, key)
    v, state = wave(3, 1, time, heads, value), wave(6, 1, heads, key, value)
    g, beta = wave(4, 1, time, heads, scale=0.4, shift=-0.5), wave(5, 1, time, heads, scale=0.5, shift=0.5)
    inputs = [q, k, v, g, beta, state]
    outputs = function(*inputs)
    found = [*outputs, *gradients(outputs, inputs)]
    names = ['output', 'state', 'dq', 'dk', 'dv', 'dLogDecay', 'dBeta', 'dState']
    sizes = dict(time=time, heads=heads, key=key, value=value)
    # Positions are many: every fifth value tells as much.
    return dict(name=name, **sizes, every=5, values={n: numbers(x.flatten()[::5]) for n, x in zip(names, found)})


def rules():
    fla = naive()
    unit = lambda x: x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)
    yield rule('flash-linear-attention, naive_recurrent_gated_delta_rule',
               lambda q, k, v, g, beta, state: fla.naive_recurrent_gated_delta_rule(
                   unit(q), unit(k), v, beta, g, initial_state=state, output_final_state=True), 9, 2, 4, 3)
    yield rule('flash-linear-attention, naive_chunk_gated_delta_rule',
               lambda q, k, v, g, beta, state: fla.naive_chunk_gated_delta_rule(
                   unit(q), unit(k), v, g, beta, initial_state=state, output_final_state=True), 70, 1, 4, 3)
    for function in (qwen.torch_recurrent_gated_delta_rule, qwen.torch_chunk_gated_delta_rule):
        yield rule(f'transformers, {function.__name__}',
                   lambda q, k, v, g, beta, state: function(
                       q, k, v, g=g, beta=beta, initial_state=state, output_final_state=True,
                       use_qk_l2norm_in_kernel=True), 70, 1, 3, 4)


def layer():
    """The whole layer, with our names of its weights."""
    time, dim, heads, key, value, taps = 11, 12, 2, 4, 6, 4
    config = Qwen3NextConfig(hidden_size=dim, linear_num_value_heads=heads, linear_num_key_heads=heads,
                             linear_key_head_dim=key, linear_value_head_dim=value, linear_conv_kernel_dim=taps,
                             rms_norm_eps=1e-5, hidden_act='silu')
    shapes = dict(q_proj=(heads * key, dim), k_proj=(heads * key, dim), v_proj=(heads * value, dim),
                  g_proj=(heads * value, dim), a_proj=(heads, dim), b_proj=(heads, dim), A_log=(heads,), dt_bias=(heads,),
                  q_conv1d=(heads * key, 1, taps), k_conv1d=(heads * key, 1, taps), v_conv1d=(heads * value, 1, taps),
                  o_norm=(value,), out_proj=(dim, heads * value))
    weights = {name: wave(10 + i, *shape, scale=0.5) for i, (name, shape) in enumerate(shapes.items())}
    by_head = lambda name, width: weights[name].reshape(heads, width, dim)
    parts = [by_head('q_proj', key), by_head('k_proj', key), by_head('v_proj', value), by_head('g_proj', value)]
    given = {
        'in_proj_qkvz.weight': torch.cat(parts, 1).reshape(-1, dim),
        'in_proj_ba.weight': torch.cat([by_head('b_proj', 1), by_head('a_proj', 1)], 1).reshape(-1, dim),
        'conv1d.weight': torch.cat([weights['q_conv1d'], weights['k_conv1d'], weights['v_conv1d']]),
        'A_log': weights['A_log'], 'dt_bias': weights['dt_bias'], 'norm.weight': weights['o_norm'],
        'out_proj.weight': weights['out_proj'],
    }
    x = wave(9, 1, time, dim)
    module = qwen.Qwen3NextGatedDeltaNet(config, 0)
    y = torch.func.functional_call(module, given, (x,))
    names = ['x', *weights]
    found = gradients([y], [x, *weights.values()])
    sizes = dict(time=time, dim=dim, heads=heads, key=key, value=value, taps=taps)
    return dict(**sizes, shapes=shapes, output=numbers(y),
                every=3, gradients={name: numbers(d.flatten()[::3]) for name, d in zip(names, found)})


versions = {name: version(name) for name in ('torch', 'transformers', 'fla-core')}
versions['python'] = '.'.join(map(str, sys.version_info[:2]))
result = dict(versions=versions, rules=list(rules()), layer=layer())
to = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / 'reference.json'
to.write_text(json.dumps(result, separators=(',', ':')) + '\n')
