/**
 * One case of the official PyTorch code (`../shared/fixtures/NAME`) and everything that it says of a model: logits, losses,
 * gradients, hidden states, keys and values, chunked prefill and greedy decoding.
 */
import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { SafetensorsFile } from '../../src/checkpoint/safetensors.js';
import {
  createConfig,
  createModel,
  valueAndGradients,
  type LanguageModel,
  type ModelConfig,
} from '../../src/model/index.js';
import { FROM_START, type Rows } from '../../src/model/layers/heads.js';
import type { Readout } from '../../src/model/layers/readout.js';
import { WindowRing } from '../../src/model/state/constant.js';
import type { Memory } from '../../src/model/state/memory.js';
import { PagedMemory } from '../../src/model/state/pages.js';
import { type ModelCache, StateCache } from '../../src/model/state/state-cache.js';
import { inOrder, type KeysAndValues } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';

/** What is compared: how far off it may be depends on it. */
export type Kind = 'logits' | 'losses' | 'loss' | 'gradient' | 'decay gradient' | 'gradient norm' | 'decay gradient norm' | 'hidden' | 'state'; // prettier-ignore

/** How exactly an engine must agree. */
export interface Accuracy {
  /** Throws where the values are further off than they may be. */
  check(found: ArrayLike<number>, expected: ArrayLike<number>, kind: Kind, name: string): void;
  /** Official lead of the best word over the second, in units of the logits, from which greedy decoding must find it. */
  readonly lead: number;
}

/** The prefill schedules of every case that the fixtures have states and tokens of. */
export const SCHEDULES: Readonly<Record<string, readonly string[]>> = {
  'yoco-gret-tiny': ['single', 'uneven'],
  'yoco-gret-long': ['chunk256', 'uneven'],
  'yoco-swa-tiny': ['chunk16', 'single', 'uneven'],
  'transformer-tiny': ['single', 'uneven'],
};

/** Holds the current engine to the case in `directory`. */
export function checkCase(directory: string, schedules: readonly string[], accuracy: Accuracy): void {
  const before = tf.memory().numTensors;
  const fixture = new Case(directory, accuracy);
  checkLogits(fixture);
  checkGradients(fixture);
  checkHidden(fixture);
  for (const schedule of schedules) checkSchedule(fixture, schedule);
  fixture.dispose();
  assert.is(tf.memory().numTensors, before, 'tensors left behind');
}

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

  constructor(
    directory: string,
    readonly accuracy: Accuracy,
  ) {
    const params = JSON.parse(readFileSync(`${directory}/params.json`, 'utf8')) as Params;
    this.golden = SafetensorsFile.open(`${directory}/golden.safetensors`);
    this.model = createModel(configOf(params), { weights: 'zeros' });
    const weights = SafetensorsFile.open(`${directory}/model.safetensors`);
    assert.equal([...weights.names()].sort(), [...this.model.parameters.keys()].sort(), 'official names');
    for (const name of weights.names()) this.model.load(name, weights.read(name) as Float32Array);
    weights.close();
    this.tokens = this.integers('tokens') as tf.Tensor2D;
  }

  values(name: string): Float32Array {
    return this.golden.read(name) as Float32Array;
  }

  integers(name: string): tf.Tensor {
    return tf.tensor(this.values(name), [...this.golden.info(name).shape], 'int32');
  }

  check(found: tf.Tensor, name: string, kind: Kind): void {
    assert.equal(found.shape, [...this.golden.info(name).shape], `shape of ${name}`);
    this.accuracy.check(found.dataSync(), this.values(name), kind, name);
  }

  dispose(): void {
    this.golden.close();
    this.model.dispose();
    this.tokens.dispose();
  }
}

function memoriesOf(cache: ModelCache): readonly Memory[] {
  return cache instanceof StateCache ? cache.memories : [];
}

function checkLogits(fixture: Case): void {
  tf.tidy(() => {
    const all = fixture.model.forward(fixture.tokens);
    const logits = fixture.golden.has('logits_positions')
      ? tf.gather(all, fixture.integers('logits_positions'), 1)
      : all;
    fixture.check(logits, 'logits', 'logits');
  });
}

/** Gradients of what makes the decays are small sums of large terms. */
const gradientKind = (name: string): 'gradient' | 'decay gradient' =>
  name.includes('gt_proj') ? 'decay gradient' : 'gradient';

/** Loss and gradients of the mean over the T - 1 next tokens. */
function checkGradients(fixture: Case): void {
  const { tokens, model, golden, accuracy } = fixture;
  const [batch, time] = tokens.shape;
  tf.tidy(() => {
    const input = tf.slice(tokens, [0, 0], [batch, time - 1]);
    const targets = tf.slice(tokens, [0, 1], [batch, time - 1]);
    const { value, gradients } = valueAndGradients(model, () => {
      const losses = model.loss(input, targets);
      fixture.check(losses, 'loss_per_token', 'losses');
      return tf.mean(losses);
    });
    fixture.check(tf.reshape(value, [1]), 'loss', 'loss');
    const norms = fixture.values('grad_l2');
    const names = JSON.parse(golden.metadata.get('grad_l2_names') ?? '[]') as string[];
    assert.is(names.length, gradients.size);
    for (const [i, name] of names.entries()) {
      const norm = Math.hypot(...(gradients.get(name) as tf.Tensor).dataSync());
      accuracy.check([norm], [norms[i] as number], `${gradientKind(name)} norm`, `|grad ${name}|`);
    }
    for (const name of golden.names().filter((name) => name.startsWith('grad.'))) {
      fixture.check(gradients.get(name.slice('grad.'.length)) as tf.Tensor, name, gradientKind(name));
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
    // Every step continues the official tokens, so that a choice between equals does not end the comparison.
    const ids = fixture.integers(`inc.${schedule}.decode_tokens`);
    const steps = tf.unstack(ids, 1) as tf.Tensor1D[];
    const first = tf.reshape<tf.Rank.R1>(tf.slice(tokens, [0, time - 1], [batch, 1]), [batch]);
    const logits = tf.stack(
      [first, ...steps.slice(0, -1)].map((token) => model.decode(token, cache)),
      1,
    );
    const name = `inc.${schedule}.decode_logits`;
    checkChoices(fixture, logits, name, ids.dataSync());
    fixture.check(logits, name, 'logits');
  });
  cache.dispose();
}

/** The best words of the rows are the official ones, wherever these lead by enough. */
function checkChoices(fixture: Case, logits: tf.Tensor, name: string, official: ArrayLike<number>): void {
  const found = tf.argMax(logits, -1).dataSync();
  const expected = fixture.values(name);
  const width = logits.shape.at(-1) ?? 1;
  for (let i = 0; i < found.length; i++) {
    const row = expected
      .subarray(i * width, (i + 1) * width)
      .slice()
      .sort();
    const lead = (row.at(-1) ?? 0) - (row.at(-2) ?? 0);
    if (lead >= fixture.accuracy.lead) assert.is(found[i], official[i], `${name}: choice ${i}`);
  }
}

/** The states that the official code has after the prefill, where the fixture holds them. */
function checkStates(fixture: Case, schedule: string, cache: ModelCache): void {
  const memories = memoriesOf(cache);
  const { golden, model } = fixture;
  if (model.config.architecture === 'yoco') {
    const pages = memories.find(({ grows }) => grows) as PagedMemory;
    checkPages(fixture, 'key_global', 'key', pages, cache.length);
    checkPages(fixture, 'value_global', 'value', pages, cache.length);
  }
  const pattern = new RegExp(`^inc\\.${schedule}\\.state\\.(\\d+)\\.(.*)$`);
  for (const name of golden.names()) {
    const [, layer, kind] = pattern.exec(name) ?? [];
    if (layer === undefined || kind === undefined) continue;
    const memory = memories[Number(layer)] as Memory;
    if (memory instanceof PagedMemory) {
      checkPages(fixture, name, kind === 'cache_k' ? 'key' : 'value', memory, cache.length);
    } else checkState(fixture, name, kind, memory, cache.length);
  }
}

/** @param length of the sequences so far */
function checkState(fixture: Case, name: string, kind: string, memory: Memory, length: number): void {
  if (kind === 'last_hidden_state') {
    fixture.check(memory.written()[0] as tf.Tensor, name, 'state');
    return;
  }
  assert.instance(memory, WindowRing);
  const ring = memory.written() as unknown as KeysAndValues;
  const [keys, values] = inOrder(ring, length, fixture.model.config.slidingWindow as number);
  fixture.check(kind === 'prev_key' ? keys : values, name, 'state');
}

/** The positions that the pages hold are the first ones of the golden tensor. */
function checkPages(
  fixture: Case,
  name: string,
  part: 'key' | 'value',
  pages: PagedMemory,
  length: number,
): void {
  const joined = tf.transpose(
    tf.concat(
      pages.pages.map((page) => page[part]),
      2,
    ),
    [0, 2, 1, 3],
  );
  const [batch, , heads, width] = joined.shape;
  const found = tf.slice(joined, [0, 0, 0, 0], [batch, length, heads, width]).dataSync();
  const golden = fixture.values(name);
  const stride = golden.length / batch;
  const size = length * heads * width;
  for (let b = 0; b < batch; b++) {
    const expected = golden.subarray(b * stride, b * stride + size);
    fixture.accuracy.check(found.subarray(b * size, (b + 1) * size), expected, 'state', name);
  }
}

/** What the stack of a model keeps to itself, for the hidden states that the fixtures have. */
interface Insides {
  readonly parts: { readonly exit: number; present(): readonly Memory[]; readouts(): readonly Readout[] };
  hidden(tokens: tf.Tensor2D, positions: null, recompute: boolean): tf.Tensor;
  embed(tokens: tf.Tensor2D): tf.Tensor3D;
  through(x: tf.Tensor3D, from: number, to: number, pass: object): tf.Tensor3D;
}

function checkHidden(fixture: Case): void {
  const { stack: insides } = fixture.model as unknown as { stack: Insides };
  const { config } = fixture.model;
  const rows: Rows = FROM_START;
  const through = (count: number): tf.Tensor3D => {
    const { parts } = insides;
    const pass = { rows, memories: parts.present(), readouts: parts.readouts(), recompute: false };
    return insides.through(insides.embed(fixture.tokens), 0, count, pass);
  };
  // Of the long case only the keys and values are compared, which follow from its hidden states.
  if (fixture.tokens.shape[1] > 256) return;
  tf.tidy(() => {
    const isYoco = config.architecture === 'yoco';
    if (isYoco) fixture.check(through(config.selfLayers), 'hidden_self', 'hidden');
    else fixture.check(through(1), 'hidden_layer0', 'hidden');
    const last = isYoco ? 'hidden_cross' : 'hidden_last';
    fixture.check(insides.hidden(fixture.tokens, null, false), last, 'hidden');
  });
}
