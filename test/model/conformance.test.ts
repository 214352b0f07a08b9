/**
 * Both architectures against the official PyTorch code (`../shared/fixtures`): logits, losses, gradients, hidden states,
 * keys and values, chunked prefill and greedy decoding.
 */
import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../src/checkpoint/safetensors.js';
import {
  createConfig,
  createModel,
  valueAndGradients,
  type LanguageModel,
  type ModelConfig,
} from '../../src/model/index.js';
import { FROM_START } from '../../src/model/base-model.js';
import { LayerCache, LayerState, type Memory, type ModelCache } from '../../src/model/cache.js';
import type { Layer } from '../../src/model/layers/layer.js';
import { inOrder, type KeysAndValues, type KeyValuePages } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { sharedTest } from '../shared.js';

const test = suite('model: official fixtures');
test.before(usePlainBackend);

/** The official dataclass fields, as params.json has them. */
interface Params {
  dim: number;
  n_layers: number;
  hidden_dim: number;
  n_self_heads?: number;
  n_attn_heads?: number;
  n_attn_kv_heads?: number;
  n_heads?: number;
  n_kv_heads?: number;
  head_dim?: number;
  vocab_size: number;
  rope_theta: number;
  norm_eps: number;
  sliding_window: number | null;
}

function configOf(params: Params): ModelConfig {
  return createConfig({
    architecture: params.n_attn_heads === undefined ? 'transformer' : 'yoco',
    dim: params.dim,
    layers: params.n_layers,
    hiddenDim: params.hidden_dim,
    heads: params.n_attn_heads ?? params.n_heads,
    kvHeads: params.n_attn_kv_heads ?? params.n_kv_heads,
    ...(params.n_self_heads !== undefined && { selfHeads: params.n_self_heads }),
    ...(params.head_dim !== undefined && { headDim: params.head_dim }),
    vocabSize: params.vocab_size,
    ropeTheta: params.rope_theta,
    normEps: params.norm_eps,
    slidingWindow: params.sliding_window,
  });
}

class Case {
  readonly golden: SafetensorsFile;
  readonly model: LanguageModel;
  readonly tokens: tf.Tensor2D;

  constructor(directory: string) {
    const params = JSON.parse(readFileSync(`${directory}/params.json`, 'utf8')) as Params;
    this.golden = SafetensorsFile.open(`${directory}/golden.safetensors`);
    this.model = createModel(configOf(params), { weights: 'zeros' });
    const weights = SafetensorsFile.open(`${directory}/model.safetensors`);
    assert.equal([...weights.names()].sort(), [...this.model.parameters.keys()].sort(), 'official names');
    for (const name of weights.names()) this.model.load(name, weights.read(name) as Float32Array);
    weights.close();
    this.tokens = this.tensor('tokens', 'int32') as tf.Tensor2D;
  }

  values(name: string): Float32Array {
    return this.golden.read(name) as Float32Array;
  }

  tensor(name: string, dtype: 'float32' | 'int32' = 'float32'): tf.Tensor {
    return tf.tensor(this.values(name), [...this.golden.info(name).shape], dtype);
  }

  check(found: tf.Tensor, name: string, tolerance: number): void {
    assert.equal(found.shape, [...this.golden.info(name).shape], `shape of ${name}`);
    const difference = largestDifference(found.dataSync(), this.values(name));
    assert.ok(difference <= tolerance, `${name}: off by ${difference}`);
  }

  dispose(): void {
    this.golden.close();
    this.model.dispose();
    this.tokens.dispose();
  }
}

function memoriesOf(cache: ModelCache): readonly Memory[] {
  return cache instanceof LayerCache ? cache.memories : [];
}

function largestDifference(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs((found[i] as number) - (expected[i] as number));
    worst = Math.max(worst, Number.isNaN(difference) ? Infinity : difference);
  }
  return worst;
}

function checkLogits(fixture: Case): void {
  tf.tidy(() => {
    const all = fixture.model.forward(fixture.tokens);
    const logits = fixture.golden.has('logits_positions')
      ? tf.gather(all, fixture.tensor('logits_positions', 'int32'), 1)
      : all;
    fixture.check(logits, 'logits', 1e-4);
  });
}

/** Loss and gradients of the mean over the T - 1 next tokens. */
function checkGradients(fixture: Case): void {
  const { tokens, model, golden } = fixture;
  const [batch, time] = tokens.shape;
  tf.tidy(() => {
    const input = tf.slice(tokens, [0, 0], [batch, time - 1]);
    const targets = tf.slice(tokens, [0, 1], [batch, time - 1]);
    const { value, gradients } = valueAndGradients(model, () => {
      const losses = model.loss(input, targets);
      fixture.check(losses, 'loss_per_token', 1e-4);
      return tf.mean(losses);
    });
    fixture.check(tf.reshape(value, [1]), 'loss', 1e-5);
    const norms = fixture.values('grad_l2');
    const names = JSON.parse(golden.metadata.get('grad_l2_names') ?? '[]') as string[];
    assert.is(names.length, gradients.size);
    for (const [i, name] of names.entries()) {
      const norm = tf.norm(gradients.get(name) as tf.Tensor).dataSync()[0] as number;
      const expected = norms[i] as number;
      assert.ok(Math.abs(norm - expected) <= 1e-3 * expected, `|grad ${name}|: ${norm} against ${expected}`);
    }
    for (const name of golden.names().filter((name) => name.startsWith('grad.'))) {
      const found = gradients.get(name.slice('grad.'.length)) as tf.Tensor;
      const expected = fixture.tensor(name);
      const error = tf.norm(tf.sub(found, expected)).dataSync()[0] as number;
      const scale = tf.norm(expected).dataSync()[0] as number;
      assert.ok(error <= 1e-4 * scale, `${name}: relative error ${error / scale}`);
    }
  });
}

/** Prefill in the chunks of the schedule, then greedy decoding, as the official generate() does it. */
function checkSchedule(fixture: Case, schedule: string): void {
  const { tokens, model } = fixture;
  const [batch, time] = tokens.shape;
  const cache = model.createCache({ batch, maxTokens: time + 8 });
  tf.tidy(() => {
    let start = 0;
    for (const length of fixture.values(`inc.${schedule}.chunks`)) {
      model.extend(tf.slice(tokens, [0, start], [batch, length]), cache, { logits: 'none' });
      start += length;
    }
    assert.is(start, time - 1);
    assert.is(cache.length, time - 1);
    checkStates(fixture, schedule, cache);
    const logits: tf.Tensor[] = [];
    const ids: tf.Tensor[] = [];
    let next = tf.reshape<tf.Rank.R1>(tf.slice(tokens, [0, time - 1], [batch, 1]), [batch]);
    for (let step = 0; step < 8; step++) {
      const scores = model.decode(next, cache);
      next = tf.argMax(scores, 1);
      logits.push(scores);
      ids.push(next);
    }
    fixture.check(tf.stack(ids, 1), `inc.${schedule}.decode_tokens`, 0);
    fixture.check(tf.stack(logits, 1), `inc.${schedule}.decode_logits`, 1e-4);
  });
  cache.dispose();
}

/** The states that the official code has after the prefill, where the fixture holds them. */
function checkStates(fixture: Case, schedule: string, cache: ModelCache): void {
  const memories = memoriesOf(cache);
  const { golden, model } = fixture;
  const yoco = model.config.architecture === 'yoco';
  if (yoco) {
    checkPages(fixture, 'key_global', 'key', memories[0] as KeyValuePages);
    checkPages(fixture, 'value_global', 'value', memories[0] as KeyValuePages);
  }
  const pattern = new RegExp(`^inc\\.${schedule}\\.state\\.(\\d+)\\.(.*)$`);
  for (const name of golden.names()) {
    const [, layer, kind] = pattern.exec(name) ?? [];
    if (layer === undefined || kind === undefined) continue;
    const memory = memories[Number(layer) + (yoco ? 1 : 0)];
    if (memory instanceof LayerState) checkState(fixture, name, kind, memory, cache.length);
    else checkPages(fixture, name, kind === 'cache_k' ? 'key' : 'value', memory as KeyValuePages);
  }
}

/** @param length of the sequences so far */
function checkState(fixture: Case, name: string, kind: string, memory: LayerState, length: number): void {
  if (kind === 'last_hidden_state') {
    fixture.check(memory.get()[0] as tf.Tensor, name, 1e-4);
    return;
  }
  const ring = memory.get() as unknown as KeysAndValues;
  const [keys, values] = inOrder(ring, length, fixture.model.config.slidingWindow as number);
  const expected = fixture.tensor(name);
  const found = kind === 'prev_key' ? keys : values;
  assert.equal(found.shape, expected.shape);
  assert.ok(largestDifference(found.dataSync(), expected.dataSync()) <= 1e-4, name);
}

/** The positions that the pages hold are the first ones of the golden tensor. */
function checkPages(fixture: Case, name: string, part: 'key' | 'value', pages: KeyValuePages): void {
  const joined = tf.transpose(
    tf.concat(
      pages.pages.map((page) => page[part]),
      2,
    ),
    [0, 2, 1, 3],
  );
  const [batch, , heads, width] = joined.shape;
  const extent = [batch, pages.length, heads, width];
  const found = tf.slice(joined, [0, 0, 0, 0], extent);
  const expected = tf.slice(fixture.tensor(name), [0, 0, 0, 0], extent);
  const difference = largestDifference(found.dataSync(), expected.dataSync());
  assert.ok(difference <= 1e-4, `${name}: off by ${difference}`);
}

/** What the models keep to themselves, for the hidden states that the fixtures have. */
interface Insides {
  hidden(tokens: tf.Tensor2D, positions: null, recompute: boolean): tf.Tensor;
  embed(tokens: tf.Tensor2D): tf.Tensor3D;
  readonly selfDecoder?: Layer<null>[];
  readonly layers?: Layer<null>[];
}

function checkHidden(fixture: Case): void {
  const insides = fixture.model as unknown as Insides;
  const through = (layers: Layer<null>[]): tf.Tensor3D =>
    layers.reduce((x, layer) => layer.forward(x, FROM_START, null), insides.embed(fixture.tokens));
  // Of the long case only the keys and values are compared, which follow from its hidden states.
  if (fixture.tokens.shape[1] > 256) return;
  tf.tidy(() => {
    if (insides.selfDecoder) fixture.check(through(insides.selfDecoder), 'hidden_self', 1e-4);
    if (insides.layers) fixture.check(through(insides.layers.slice(0, 1)), 'hidden_layer0', 1e-4);
    const last = insides.layers ? 'hidden_last' : 'hidden_cross';
    fixture.check(insides.hidden(fixture.tokens, null, false), last, 1e-4);
  });
}

const SCHEDULES: Record<string, string[]> = {
  'yoco-gret-tiny': ['single', 'uneven'],
  'yoco-gret-long': ['chunk256', 'uneven'],
  'yoco-swa-tiny': ['chunk16', 'single', 'uneven'],
  'transformer-tiny': ['single', 'uneven'],
};

for (const [name, schedules] of Object.entries(SCHEDULES)) {
  const title = `${name}: logits, loss, gradients, states, greedy decoding`;
  sharedTest(test, `fixtures/${name}`, title, (directory) => {
    const before = tf.memory().numTensors;
    const fixture = new Case(directory);
    checkLogits(fixture);
    checkGradients(fixture);
    checkHidden(fixture);
    for (const schedule of schedules) checkSchedule(fixture, schedule);
    fixture.dispose();
    assert.is(tf.memory().numTensors, before, 'tensors left behind');
  });
}

test.run();
