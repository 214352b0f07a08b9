/**
 * Qwen 2 and 3 against transformers 5.24 (Qwen2ForCausalLM, Qwen3ForCausalLM). Element i of the parameter that is number k among
 * the sorted names is sin(0.37 i + k) / 2, and 1 more for norms.
 */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { writeJson } from '../../src/checkpoint/files.js';
import { loadModel } from '../../src/checkpoint/load.js';
import { writeSafetensors } from '../../src/checkpoint/safetensors.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { scratchDirectory } from './scratch.js';

const test = suite('checkpoint/qwen');
const at = scratchDirectory(test);
test.before(usePlainBackend);

const COMMON = {
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 16,
  rope_theta: 1e6,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: true,
};

function shapes(
  headDim: number,
  own: readonly (readonly [string, readonly number[]])[],
): Map<string, readonly number[]> {
  const [queries, keys] = [4 * headDim, 2 * headDim];
  const layer = [0, 1].flatMap((i) =>
    (
      [
        ['self_attn.q_proj.weight', [queries, 16]],
        ['self_attn.k_proj.weight', [keys, 16]],
        ['self_attn.v_proj.weight', [keys, 16]],
        ['self_attn.o_proj.weight', [16, queries]],
        ['mlp.gate_proj.weight', [24, 16]],
        ['mlp.up_proj.weight', [24, 16]],
        ['mlp.down_proj.weight', [16, 24]],
        ['input_layernorm.weight', [16]],
        ['post_attention_layernorm.weight', [16]],
        ...own,
      ] as const
    ).map(([name, shape]): [string, readonly number[]] => [`model.layers.${i}.${name}`, shape]),
  );
  return new Map([...layer, ['model.embed_tokens.weight', [16, 16]], ['model.norm.weight', [16]]]);
}

/** The first logits of the last of eleven tokens. */
async function logits(config: object, all: ReadonlyMap<string, readonly number[]>): Promise<number[]> {
  writeJson(at('config.json'), { ...COMMON, ...config });
  const entries = [...all.keys()].sort().map((name, k) => {
    const shape = all.get(name) ?? [];
    const count = shape.reduce((product, size) => product * size, 1);
    const more = name.endsWith('norm.weight') ? 1 : 0;
    const data = Float32Array.from({ length: count }, (_, i) => Math.sin(0.37 * i + k) * 0.5 + more);
    return { name, shape, dtype: 'F32', data } as const;
  });
  await writeSafetensors(at('model.safetensors'), entries);
  const { model } = loadModel(at());
  const tokens = tf.tensor2d([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]], undefined, 'int32');
  const scores = model.forward(tokens).dataSync<'float32'>();
  model.dispose();
  return [...scores.slice(-16, -8)];
}

function close(found: readonly number[], expected: readonly number[]): void {
  assert.ok(
    expected.every((value, i) => Math.abs((found[i] ?? NaN) - value) < 1e-4),
    `${found.join(', ')} are not ${expected.join(', ')}`,
  );
}

test('Qwen 2 gives the logits of transformers', async () => {
  const biases = [
    ['self_attn.q_proj.bias', [16]],
    ['self_attn.k_proj.bias', [8]],
    ['self_attn.v_proj.bias', [8]],
  ] as const;
  const found = await logits({ model_type: 'qwen2' }, shapes(4, biases));
  close(found, [-0.94686, -0.95062, -0.83036, -0.60177, -0.29467, 0.05087, 0.38977, 0.67782]);
});

test('Qwen 3 gives the logits of transformers', async () => {
  const norms = [
    ['self_attn.q_norm.weight', [8]],
    ['self_attn.k_norm.weight', [8]],
  ] as const;
  const found = await logits({ model_type: 'qwen3', head_dim: 8 }, shapes(8, norms));
  close(found, [1.4753, 1.24973, 0.86112, 0.36017, -0.18777, -0.71121, -1.14187, -1.42356]);
});

test.run();
