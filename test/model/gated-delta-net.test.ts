/**
 * The gated delta rule and the layer around it against public PyTorch code, whose numbers are in `gated-delta-net/`: values and
 * gradients within 1e-4. `generate.py` there makes them again where its packages are.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createConfig } from '../../src/model/index.js';
import { conventionsOf } from '../../src/model/conventions.js';
import { FROM_START } from '../../src/model/layers/heads.js';
import { Readout } from '../../src/model/layers/readout.js';
import { mixer } from '../../src/model/mixers/index.js';
import { gatedDeltaRule, rmsNorm } from '../../src/ops/index.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { skipBecause } from '../skip.js';

interface Rule {
  name: string;
  time: number;
  heads: number;
  key: number;
  value: number;
  /** Which values are kept: every so many-th. */
  every: number;
  values: Record<string, number[]>;
}

interface Layer {
  time: number;
  dim: number;
  heads: number;
  key: number;
  value: number;
  taps: number;
  shapes: Record<string, number[]>;
  every: number;
  output: number[];
  gradients: Record<string, number[]>;
}

interface Reference {
  versions: Record<string, string>;
  rules: Rule[];
  layer: Layer;
}

const folder = fileURLToPath(new URL('gated-delta-net/', import.meta.url));
const read = (file: string): Reference => JSON.parse(readFileSync(file, 'utf8')) as Reference;
const expected = read(join(folder, 'reference.json'));
const TOLERANCE = 1e-4;

/** As in generate.py. */
function wave(seed: number, shape: readonly number[], scale = 1, shift = 0): tf.Tensor {
  const values = Float32Array.from(
    { length: tf.util.sizeFromShape([...shape]) },
    (_, i) => shift + scale * Math.sin(12.9898 * seed + 78.233 * Math.sin(0.618 * i + seed)),
  );
  return tf.tensor(values, [...shape]);
}

/** Values, and the gradients of the sum of outputs times waves. */
function valuesAndGradients(compute: (...x: tf.Tensor[]) => tf.Tensor[], inputs: tf.Tensor[]): tf.Tensor[] {
  const total = (...x: tf.Tensor[]): tf.Scalar =>
    tf.addN(compute(...x).map((y, i) => tf.sum(tf.mul(y, wave(100 + i, y.shape))))) as tf.Scalar;
  return [...compute(...inputs), ...tf.grads(total)(inputs)];
}

function compare(name: string, tensor: tf.Tensor | undefined, every: number, wanted: number[] | undefined) {
  const found = tensor?.dataSync().filter((_, i) => i % every === 0) ?? new Float32Array();
  assert.is(found.length, wanted?.length, name);
  const scale = Math.max(1, ...(wanted ?? []).map(Math.abs));
  wanted?.forEach((value, i) => {
    const error = Math.abs((found[i] ?? NaN) - value);
    assert.ok(error <= TOLERANCE * scale, `${name}, ${i}: ${found[i]} for ${value}`);
  });
}

const test = suite('model: Gated DeltaNet against PyTorch');
test.before(usePlainBackend);

const NAMES = ['output', 'state', 'dq', 'dk', 'dv', 'dLogDecay', 'dBeta', 'dState'];

for (const form of ['chunkwise', 'recurrent'] as const) {
  for (const { name, time, heads, key, value, every, values } of expected.rules) {
    test(`${form} form: ${name}`, () => {
      tf.tidy(() => {
        const inputs = [
          wave(1, [1, time, heads, key]),
          wave(2, [1, time, heads, key]),
          wave(3, [1, time, heads, value]),
          wave(4, [1, time, heads], 0.4, -0.5),
          wave(5, [1, time, heads], 0.5, 0.5),
          wave(6, [1, heads, key, value]),
        ];
        const scales = { queryScale: 1 / key, keyScale: key ** -0.5 };
        const compute = (...[q, k, v, decay, beta, state]: tf.Tensor[]): tf.Tensor[] => {
          const unit = (x: tf.Tensor | undefined) => rmsNorm(x as tf.Tensor4D, null, 1e-6 / key);
          const options = { ...scales, form, state: state as tf.Tensor4D };
          const [g, b] = [decay as tf.Tensor3D, beta as tf.Tensor3D];
          const result = gatedDeltaRule(unit(q), unit(k), v as tf.Tensor4D, g, b, options);
          return [result.output, result.state];
        };
        valuesAndGradients(compute, inputs).forEach((found, i) => {
          const what = NAMES[i] as string;
          compare(`${name}, ${what}`, found, every, values[what]);
        });
      });
    });
  }
}

test('the layer of transformers, with the gradients of its weights', () => {
  const { time, dim, heads, key, value, taps, shapes, every, output, gradients } = expected.layer;
  const config = createConfig({
    architecture: 'gated-deltanet', dim, layers: 1, hiddenDim: 8, heads: 2, vocabSize: 8, selfHeads: heads, deltaKeyDim: key,
    deltaValueDim: value, convKernel: taps,
  }); // prettier-ignore
  const definition = mixer('gated-delta-net');
  const specs = definition.parameters(config, 0);
  assert.equal(Object.fromEntries(specs.map(({ name, shape }) => [name, shape])), shapes);
  const names = Object.keys(shapes);
  const variables = names.map((name, i) => tf.variable(wave(10 + i, shapes[name] as number[], 0.5)));
  const weight = (name: string): tf.Variable => variables[names.indexOf(name)] as tf.Variable;
  const layer = definition.build(config, weight, conventionsOf(config));
  const x = wave(9, [1, time, dim]) as tf.Tensor3D;
  const mix = (x: tf.Tensor): tf.Tensor => {
    const memory = definition.present?.(config, false);
    if (!memory) throw new Error('it remembers');
    return layer.mix(
      x as tf.Tensor3D,
      tf.zerosLike(x) as tf.Tensor3D,
      FROM_START,
      memory,
      new Readout(false),
    );
  };
  tf.tidy(() => {
    compare('output', mix(x), 1, output);
    const loss = (): tf.Scalar => tf.sum(tf.mul(mix(x), wave(100, x.shape)));
    const { grads } = tf.variableGrads(loss, variables);
    names.forEach((name) => {
      compare(`gradient of ${name}`, grads[weight(name).name], every, gradients[name]);
    });
    const dx = tf.grad((x) => tf.sum(tf.mul(mix(x), wave(100, x.shape))))(x);
    compare('gradient of x', dx, every, gradients.x);
  });
});

const python = process.env.YOCO_PYTHON ?? 'python3';
const packages =
  'import torch, transformers.models.qwen3_next; from importlib.metadata import version; version("fla-core")';
const hasPackages = spawnSync(python, ['-c', packages]).status === 0;
const title = 'the committed numbers are those that the packages give';
if (!hasPackages) skipBecause(`${python} lacks torch, transformers or fla-core`, test, title);
else {
  test(title, () => {
    const directory = mkdtempSync(join(tmpdir(), 'yoco-delta-'));
    try {
      const file = join(directory, 'reference.json');
      execFileSync(python, [join(folder, 'generate.py'), file], { stdio: 'ignore' });
      const again = read(file);
      const pairs = [...expected.rules.map(({ values }, i) => [values, again.rules[i]?.values] as const)];
      for (const [wanted, found] of [...pairs, [expected.layer.gradients, again.layer.gradients] as const])
        for (const [name, values] of Object.entries(wanted))
          compare(name, tf.tensor1d(found?.[name] ?? []), 1, values);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
}

test.run();
