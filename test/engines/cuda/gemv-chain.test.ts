/** Which products of a recorded step become one launch, and what it is told, on a device that computes nothing. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type ChainedNorm, type ChainedGemv, GemvChain } from '../../../src/engines/cuda/gemv-chain.js';
import { cudaRecorder } from '../../../src/engines/cuda/recorder.js';
import { registerRecorder } from '../../../src/ops/index.js';
import { CUDA, cudaBackend } from './gpu.js';
import { type Launch, standIn } from './stand-in.js';
import { CONFIGS, decode, NAMES, prompted, started } from './stand-in-models.js';

const test = suite('chained products');
const CHAINED = /^(rms_norm.*|gemv.*)$/;
const CHAIN = /^gemv_chain/;

/** `Stage` of gemv_chain.cu, without its empty members. */
interface Stage {
  x: number;
  normed: number;
  residual: number;
  weights: number[];
  outs: number[];
  widths: number[];
  inner: number;
  members: number;
  swiglu: boolean;
}

function stagesOf({ args: [table, , count] }: Launch): Stage[] {
  if (table?.kind !== 'bytes' || count?.kind !== 'int32') throw new Error('no chain');
  const bytes = table.value;
  const size = bytes.length / 8;
  return Array.from({ length: count.value }, (_, i) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset + i * size, size);
    const address = (at: number): number => Number(view.getBigUint64(8 * at, true));
    const number = (at: number): number => view.getInt32(8 * 21 + 4 * at, true);
    const eight = Array.from({ length: 8 }, (_, i) => i);
    return {
      x: address(0),
      normed: address(3),
      residual: address(4),
      weights: eight.map((i) => address(5 + i)).filter(Boolean),
      outs: eight.map((i) => address(13 + i)).filter(Boolean),
      widths: eight.map(number).filter(Boolean),
      inner: number(8),
      members: number(9),
      swiglu: number(10) === 1,
    };
  });
}

/** What the second step records. */
async function recorded(name: keyof typeof CONFIGS, chained: boolean): Promise<Launch[]> {
  const { on, model } = await started(CONFIGS[name]);
  registerRecorder(CUDA, cudaRecorder(cudaBackend(), { chained }));
  const cache = prompted(model, 64);
  for (let step = 0; step < 2; step++) decode(model, cache);
  const [[, launches = []] = []] = on.graphs;
  cache.dispose();
  model.dispose();
  return launches;
}

for (const name of NAMES) {
  test(`${name}: products and norms that follow each other are one launch, in their places`, async () => {
    const plain = (await recorded(name, false)).map((launch) => launch.name);
    const expected = plain
      .map((kernel) => (CHAINED.test(kernel) ? 'gemv_chain_one' : kernel))
      .filter((kernel, i, all) => kernel !== 'gemv_chain_one' || all[i - 1] !== kernel);
    const launches = await recorded(name, true);
    assert.equal(
      launches.map((launch) => launch.name),
      expected,
    );
    const chains = launches.filter((launch) => CHAIN.test(launch.name));
    assert.ok(chains.every(({ early, grid }) => early === 'gemv_chain' && grid[0] === 132));
    const stages = chains.flatMap(stagesOf);
    assert.is(stages.length, plain.filter((kernel) => kernel.startsWith('gemv')).length);
    assert.is(
      stages.filter(({ normed }) => normed > 0).length,
      plain.filter((kernel) => kernel.startsWith('rms_norm')).length,
    );
  });
}

test('stages read what those before them wrote', async () => {
  const chains = (await recorded('transformer', true))
    .filter((launch) => CHAIN.test(launch.name))
    .map(stagesOf);
  const [first, layer, last] = chains as [Stage[], Stage[], Stage[]];
  assert.equal(
    first.map(({ widths }) => widths),
    [[64, 64, 64]],
  );
  for (const [chain, widths] of [
    [layer, [64, 64, 64]],
    [last, [61]],
  ] as const) {
    const [out, gated, down, next] = chain as [Stage, Stage, Stage, Stage];
    assert.equal(
      chain.map((stage) => stage.widths),
      [[64], [48], [64], widths],
    );
    assert.equal(
      chain.map(({ inner }) => inner),
      [64, 64, 48, 64],
    );
    assert.equal(
      chain.map(({ members }) => members),
      [1, 1, 1, widths.length],
    );
    assert.equal(
      chain.map(({ swiglu }) => swiglu),
      [false, true, false, false],
    );
    assert.is(gated.weights.length, 2);
    assert.is(gated.x, out.outs[0]);
    assert.is(down.x, gated.outs[0]);
    assert.is(down.residual, out.outs[0]);
    assert.is(next.x, down.outs[0]);
    assert.equal(
      chain.map(({ normed }) => normed > 0),
      [false, true, false, true],
    );
    assert.not.equal(out.residual, 0);
  }
});

const PRODUCT: ChainedGemv = {
  x: 1000, rows: 1, inner: 64, weights: [1], outs: [5000], widths: [32], residual: 0, swiglu: false,
}; // prettier-ignore
const NORM: ChainedNorm = { x: 3000, scale: 2, gate: 0, y: 1000, bytes: 128, packs: 8, lanes: 2, eps: 1e-5 };

/** Names of what is launched, with the numbers of stages of chains. */
function launched(work: (chain: GemvChain, norm: (norm: ChainedNorm) => void) => void): string[] {
  const on = standIn();
  const chain = new GemvChain(on.device, 8);
  work(chain, (norm) => {
    chain.addNorm(norm, () => {
      on.device.launch({ file: 'norm', name: 'norm' }, [1], 32, []);
    });
  });
  chain.flush();
  return on.launches.map((launch) =>
    CHAIN.test(launch.name) ? `chain of ${stagesOf(launch).length}` : launch.name,
  );
}

test('a norm is launched by itself where no product of what it gives follows', () => {
  assert.equal(launched((_, norm) => { norm(NORM); }), ['norm']); // prettier-ignore
  const twice = launched((chain, norm) => {
    norm(NORM);
    norm({ ...NORM, y: 2000 });
    chain.add({ ...PRODUCT, x: 2000 });
  });
  assert.equal(twice, ['norm', 'chain of 1']);
  const another = launched((chain, norm) => {
    chain.add(PRODUCT);
    norm(NORM);
    chain.add({ ...PRODUCT, x: 7000 });
  });
  assert.equal(another, ['chain of 1', 'norm', 'chain of 1']);
});

test('a norm stays in front of a product that writes over what is normed', () => {
  for (const from of [{ x: 5000 }, { x: 4900 }, { gate: 5060 }]) {
    const names = launched((chain, norm) => {
      norm({ ...NORM, ...from });
      chain.add(PRODUCT);
    });
    assert.equal(names, ['norm', 'chain of 1']);
  }
  const beside = launched((chain, norm) => {
    norm({ ...NORM, x: 5064, gate: 4872 });
    chain.add(PRODUCT);
  });
  assert.equal(beside, ['chain of 1']);
});

test('what does not fit is refused or begins another launch', () => {
  const many = launched((chain) => {
    for (let i = 0; i < 9; i++) assert.ok(chain.add(PRODUCT));
    assert.ok(chain.add({ ...PRODUCT, rows: 2 }));
  });
  assert.equal(many, ['chain of 8', 'chain of 1', 'chain of 1']);
  const wide = launched((chain, norm) => {
    chain.add(PRODUCT);
    norm(NORM);
    assert.not(chain.add({ ...PRODUCT, inner: 2 ** 15 }));
  });
  assert.equal(wide, ['chain of 1', 'norm']);
});

for (const [what, driver] of [
  ['room for the rings', { sharedBytes: 102400 }],
  ["Hopper's copies", { architecture: 'sm_80' }],
] as const) {
  test(`GPUs without ${what} launch products one by one`, async () => {
    const { on, model } = await started(CONFIGS.transformer);
    Object.assign(on.device.driver, driver);
    registerRecorder(CUDA, cudaRecorder(cudaBackend()));
    const cache = prompted(model, 64);
    for (let step = 0; step < 2; step++) decode(model, cache);
    const names = (on.graphs.get(1) ?? []).map((launch) => launch.name);
    assert.ok(names.includes('gemv'));
    assert.not(names.some((kernel) => CHAIN.test(kernel)));
    cache.dispose();
    model.dispose();
  });
}

test.run();
