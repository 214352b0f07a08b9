"""YOCO models of flash-linear-attention on a CPU, in float32: their kernels run in Triton's interpreter.

  generate.py FILE           writes the parameters and logits of small models, as reference.json beside this file has them
  generate.py save DIR       saves these models by save_pretrained: DIR/0 and so on
  generate.py logits DIR...  prints the logits of checkpoints, a list for each

Needs: pip install torch==2.13.0 triton==3.9.0 flash-linear-attention==0.6.0 transformers==5.24.0
"""
import gc
import json
import math
import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ['TRITON_INTERPRET'] = '1'

import torch
from fla.layers import attn
from fla.models.yoco import YOCOConfig, YOCOForCausalLM
from fla.ops.attn.naive import naive_parallel_attn
from triton.runtime.autotuner import Autotuner

torch.set_num_threads(1)
# Choosing among configurations of a kernel takes a GPU's clock.
for item in gc.get_objects():
    if isinstance(item, Autotuner):
        item.configs = item.configs[:1]


def window_attention(q, k, v, causal, window_size):
    """fla's window attention calls flash-attn, which a CPU cannot have: fla's own naive form in its place."""
    return naive_parallel_attn(q, k, v, window_size=window_size[0] + 1, causal=causal)[0]


attn.flash_attn_func = window_attention

SHAPE = dict(hidden_size=24, num_self_decoder_layers=1, num_hidden_layers=2, intermediate_size=40, vocab_size=31, norm_eps=1e-5)
RETENTION = dict(type='gated_retention', num_heads=2)
YOCO = dict(rope_inv_freq='yoco', rope_theta=10000.0)
MODELS = {
    'gated retention': dict(
        self_decoder_attn=dict(**RETENTION, **YOCO), cross_decoder_attn=dict(num_heads=4, num_kv_heads=2, **YOCO)),
    'gated retention, frequencies of fla, tied': dict(
        num_self_decoder_layers=2, num_hidden_layers=3, tie_word_embeddings=True,
        self_decoder_attn=dict(**RETENTION), cross_decoder_attn=dict(num_heads=2)),
    'gated deltanet, frequencies of fla': dict(
        self_decoder_attn=dict(num_heads=2, head_dim=8, expand_v=1.5, conv_size=3), cross_decoder_attn=dict(num_heads=4, num_kv_heads=1)),
    'window': dict(
        self_decoder_attn=dict(type='swa', num_heads=2, window_size=5), cross_decoder_attn=dict(num_heads=2)),
}
# From 65 positions on fla takes chunkwise kernels, which the interpreter does not run.
TIME = 48
EVERY = 11


def wave(seed, shape, scale, shift):
    """Numbers that the test forms again."""
    values = [shift + scale * math.sin(12.9898 * seed + 78.233 * math.sin(0.618 * i + seed)) for i in range(math.prod(shape))]
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def tokens(vocabulary):
    return torch.tensor([[(i * i * 7 + 3 * i) % vocabulary for i in range(TIME)]])


def build(name):
    model = YOCOForCausalLM(YOCOConfig(**{**SHAPE, **MODELS[name]}))
    for seed, (parameter, tensor) in enumerate(model.named_parameters()):
        is_norm = parameter.endswith('norm.weight')
        with torch.no_grad():
            tensor.copy_(wave(seed, tensor.shape, 0.3 if is_norm else 0.5, 1.0 if is_norm else 0.0))
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(tokens(model.config.vocab_size), use_cache=False).logits.flatten().tolist()


def described(name):
    model = build(name)
    shapes = {parameter: list(tensor.shape) for parameter, tensor in model.named_parameters()}
    values = [float(f'{x:.7g}') for x in logits(model)[::EVERY]]
    return dict(name=name, config=model.config.to_dict(), shapes=shapes, every=EVERY, logits=values)


def loaded(directory):
    return YOCOForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


command, *rest = sys.argv[1:]
if command == 'save':
    for index, name in enumerate(MODELS):
        build(name).save_pretrained(f'{rest[0]}/{index}')
elif command == 'logits':
    print(json.dumps([logits(loaded(directory)) for directory in rest]))
else:
    packages = ('torch', 'triton', 'flash-linear-attention', 'fla-core', 'transformers')
    versions = {name: version(name) for name in packages}
    result = dict(versions=versions, time=TIME, models=[described(name) for name in MODELS])
    Path(command).write_text(json.dumps(result, separators=(',', ':')) + '\n')
