/** Mamba-2 and the gated memory unit against public PyTorch code: `state-space.py` makes the numbers. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createConfig } from '../../src/model/index.js';
import { conventionsOf } from '../../src/model/conventions.js';
import { FROM_START } from '../../src/model/layers/heads.js';
import { NO_READOUT, Readout } from '../../src/model/layers/readout.js';
import { mixer as definitionOf, type MixerFields } from '../../src/model/mixers/index.js';
import type { Mixer, Shape, WeightOf } from '../../src/model/mixers/mixer.js';
import { PresentState } from '../../src/model/state/present.js';
import * as tf from '../../src/tf.js';
import { close } from '../ops/compare.js';
import { scan } from '../ops/kernels/state-space.cases.js';
import { usePlainBackend } from '../plain-backend.js';
import { skipBecause } from '../skip.js';

const test = suite('references: state space');
test.before(usePlainBackend);

interface Expected {
  readonly outputs: readonly number[][];
  readonly gradients: Readonly<Record<string, number[]>>;
}

type Numbers = Readonly<Record<'scan' | 'layer' | 'memoryUnit', Expected>>;

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const committed = JSON.parse(readFileSync(here('state-space.json'), 'utf8')) as Numbers;

const TOLERANCE = 1e-4;
const [TIME, DIM, HEADS, WIDTH, GROUPS, STATES, TAPS] = [7, 4, 4, 2, 2, 3, 4];
const [INNER, SHARED] = [HEADS * WIDTH, GROUPS * STATES];

/** As in the script. */
function wave(shape: number[], phase: number, scale = 1, shift = 0): tf.Tensor {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return tf.tensor(
    Float32Array.from({ length: size }, (_, i) => scale * Math.sin(phase + 1.7 * i) + shift),
    shape,
  );
}

/** Outputs of `f`, and the gradients of their sum times waves. */
function compare(
  expected: Expected,
  inputs: Readonly<Record<string, tf.Tensor>>,
  f: (...inputs: tf.Tensor[]) => tf.Tensor[],
  renamed: (gradients: Record<string, tf.Tensor>) => Record<string, tf.Tensor> = (gradients) => gradients,
): void {
  const tensors = Object.values(inputs);
  f(...tensors).forEach((y, i) => {
    close(y, expected.outputs[i] as number[], TOLERANCE, `output ${i}`);
  });
  const total = (...given: tf.Tensor[]): tf.Tensor =>
    tf.addN(f(...given).map((y, i) => tf.sum(tf.mul(y, wave(y.shape, 0.5 + i)))));
  const found = tf.grads(total)(tensors);
  const named = Object.fromEntries(Object.keys(inputs).map((name, i) => [name, found[i] as tf.Tensor]));
  const gradients = renamed(named);
  assert.equal(Object.keys(gradients).sort(), Object.keys(expected.gradients).sort());
  for (const [name, gradient] of Object.entries(gradients)) {
    close(gradient, expected.gradients[name] as number[], TOLERANCE, `gradient of ${name}`);
  }
}

/** States are [B, H, P, N] there and [B, H, N, P] here. */
const turned = (state: tf.Tensor): tf.Tensor => tf.transpose(state, [0, 1, 3, 2]);

test('the scan is that of transformers, from a state and with its gradients', () => {
  tf.tidy(() => {
    const inputs = {
      x: wave([1, TIME, HEADS, WIDTH], 1),
      dt: wave([1, TIME, HEADS], 2, 2),
      b: wave([1, TIME, GROUPS, STATES], 3),
      c: wave([1, TIME, GROUPS, STATES], 4),
      dtBias: wave([HEADS], 5, 1, -1),
      aLog: wave([HEADS], 6),
      skip: wave([HEADS], 7),
      state: wave([1, HEADS, WIDTH, STATES], 8),
    };
    compare(committed.scan, inputs, (...all) => {
      const [output, state] = scan(...all.slice(0, 7), turned(all[7] as tf.Tensor)) as [tf.Tensor, tf.Tensor];
      return [output, turned(state)];
    });
  });
});

const CONFIG = createConfig({
  layout: 'mamba-2 gated-memory',
  ...{ dim: DIM, hiddenDim: 8, heads: 2, vocabSize: 4 },
  ...{ stateDim: STATES, stateHeadDim: WIDTH, stateGroups: GROUPS, convKernel: TAPS },
});

/** A mixer whose parameters are plain tensors, so that gradients reach them. */
function build(name: 'mamba-2' | 'gated-memory', weights: Readonly<Record<string, tf.Tensor>>): Mixer {
  const config = CONFIG as Shape & MixerFields;
  const weight = ((part: string) => {
    const found = weights[part];
    assert.ok(found, part);
    return found;
  }) as unknown as WeightOf;
  return definitionOf(name).build(config, weight, conventionsOf(CONFIG));
}

test('a layer of Mamba-2 is that of transformers', () => {
  tf.tidy(() => {
    const rows = { z: INNER, x: INNER, b: SHARED, c: SHARED, dt: HEADS };
    const projections = Object.entries(rows).map(
      ([name, count], i) => [`${name}_proj`, wave([count, DIM], i, 0.7)] as const,
    );
    const convolutions = (['x', 'b', 'c'] as const).flatMap((name, i) => [
      [`${name}_conv1d`, wave([rows[name], 1, TAPS], 10 + i, 0.5)] as const,
      [`${name}_conv1d_bias`, wave([rows[name]], 20 + i, 0.3)] as const,
    ]);
    const inputs: Record<string, tf.Tensor> = {
      input: wave([1, TIME, DIM], 40),
      ...Object.fromEntries([...projections, ...convolutions]),
      dt_bias: wave([HEADS], 30),
      a_log: wave([HEADS], 31),
      d: wave([HEADS], 32),
      norm: wave([INNER], 33, 0.3, 1),
      out_proj: wave([DIM, INNER], 34),
    };
    const names = Object.keys(inputs);
    const layer = (...tensors: tf.Tensor[]): tf.Tensor[] => {
      const weights = Object.fromEntries(names.map((name, i) => [name, tensors[i] as tf.Tensor]));
      const x = tensors[0] as tf.Tensor3D;
      return [build('mamba-2', weights).mix(x, tf.zerosLike(x), FROM_START, new PresentState(), NO_READOUT)];
    };
    compare(committed.layer, inputs, layer, (gradients) => {
      const joined = (...parts: string[]): tf.Tensor =>
        tf.concat(parts.map((part) => gradients[part] as tf.Tensor));
      const of = (name: string): tf.Tensor => gradients[name] as tf.Tensor;
      return {
        x: of('input'),
        in_proj: joined(...Object.keys(rows).map((name) => `${name}_proj`)),
        conv1d: joined('x_conv1d', 'b_conv1d', 'c_conv1d'),
        conv1d_bias: joined('x_conv1d_bias', 'b_conv1d_bias', 'c_conv1d_bias'),
        ...Object.fromEntries(['dt_bias', 'a_log', 'd', 'norm', 'out_proj'].map((name) => [name, of(name)])),
      };
    });
  });
});

test('a gated memory unit is that of ArchScale', () => {
  tf.tidy(() => {
    const inputs = {
      x: wave([1, TIME, DIM], 1),
      readout: wave([1, TIME, INNER], 2, 3),
      in_proj: wave([INNER, DIM], 3),
      norm: wave([INNER], 4, 0.3, 1),
      out_proj: wave([DIM, INNER], 5),
    };
    compare(committed.memoryUnit, inputs, (x, readout, in_proj, norm, out_proj) => {
      const unit = build('gated-memory', { in_proj, norm, out_proj });
      const stream = x as tf.Tensor3D;
      const left = Readout.of(readout);
      return [unit.mix(stream, tf.zerosLike(stream), FROM_START, new PresentState(), left)];
    });
  });
});

const title = 'the committed numbers are those of the script';
const python = process.env.YOCO_PYTHON ?? 'python3';
const isReady =
  spawnSync(python, ['-c', 'import torch, transformers.models.mamba2'], { stdio: 'ignore' }).status === 0;
if (!isReady) {
  skipBecause('Python with PyTorch and transformers is absent (YOCO_PYTHON names it)', test, title);
} else {
  test(title, () => {
    const { stdout } = spawnSync(python, [here('state-space.py')], { encoding: 'utf8' });
    const made = JSON.parse(stdout) as Numbers;
    for (const part of ['scan', 'layer', 'memoryUnit'] as const) {
      const flat = ({ outputs, gradients }: Expected): number[] =>
        [outputs, Object.values(gradients)].flat(2);
      tf.tidy(() => {
        close(tf.tensor1d(flat(made[part])), flat(committed[part]), 1e-5, part);
      });
    }
  });
}

test.run();
