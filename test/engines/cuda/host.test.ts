/** The parts of the CUDA engine that need no GPU: arguments, index arithmetic, keys, choice of kernels. */
import fc from 'fast-check';
import { readdirSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Device, foldedGrid, kernelLauncher } from '../../../src/engines/cuda/device.js';
import { matmulKey } from '../../../src/engines/cuda/cublas.js';
import {
  attentionRoute,
  headWidth,
  mostSplits,
  splitBytes,
  splitsOf,
} from '../../../src/engines/cuda/kernels/attention-problem.js';
import { rowsPerBlock } from '../../../src/engines/cuda/kernels/cross-entropy.js';
import { rowLaunch } from '../../../src/engines/cuda/row-launch.js';
import { reductionBlock, sliceLength } from '../../../src/engines/cuda/kernels/reduce.js';
import { widthBlocks } from '../../../src/engines/cuda/kernels/retention.js';
import {
  argumentBlock,
  float32,
  int32,
  int64,
  packArguments,
  pointer,
} from '../../../src/engines/cuda/launch.js';
import { libraryCandidates, openLibrary } from '../../../src/engines/cuda/libraries.js';
import { startOn } from '../../../src/engines/cuda/index.js';
import { cacheKey, type CompileRequest, compileOptions } from '../../../src/engines/cuda/nvrtc.js';
import { kernelSource } from '../../../src/engines/cuda/sources.js';
import { cacheFolder } from '../../../src/files/cache.js';
import { Struct } from '../../../src/engines/cuda/structs.js';
import { broadcastWalk, copyWalk, mergeAxes, sizeOf, stridesOf } from '../../../src/engines/cuda/walk.js';
import { RunError } from '../../../src/errors.js';
import * as tf from '../../../src/tf.js';
import { standIn } from './stand-in.js';

/** An array of three. */
const PAIR = new Struct({ numbers: ['int32', 3] });

const test = suite('cuda engine without a GPU');

test('arguments lie where their pointers say, structs aligned', () => {
  const block = argumentBlock(() => 2n ** 40n);
  const large = {
    kind: 'bytes',
    value: Uint8Array.from({ length: 128 }, (_, i) => i),
    alignment: 64,
  } as const;
  packArguments(block, [
    pointer(0x7f12_3456_7800),
    int32(-5),
    float32(1.5),
    large,
    int64(-(2 ** 33)),
    PAIR.argument({ numbers: [1, -2] }),
  ]);
  const at = (index: number): number => Number((block.pointers[index] ?? 0n) - block.address);
  assert.is(block.view.getBigUint64(at(0), true), 0x7f12_3456_7800n);
  assert.is(block.view.getInt32(at(1), true), -5);
  assert.is(block.view.getFloat32(at(2), true), 1.5);
  assert.is(at(3) % 64, 0);
  assert.equal(block.bytes.slice(at(3), at(3) + 128), large.value);
  assert.is(block.view.getBigInt64(at(4), true), -(2n ** 33n));
  assert.equal(
    [0, 4, 8].map((offset) => block.view.getInt32(at(5) + offset, true)),
    [1, -2, 0],
  );
  packArguments(block, [int32(7), int32(8), int32(9), int32(10)]);
  assert.is(block.view.getInt32(at(3), true), 10, 'a slot that held a struct before');
});

/** Walks as a kernel does. */
function walkCopy(source: readonly number[], destination: number[], walk: ReturnType<typeof copyWalk>): void {
  const factor = walk.unit;
  const total = sizeOf(walk.shape);
  for (let i = 0; i < total; i++) {
    let [rest, from, to] = [i, walk.offsets[0], walk.offsets[1]];
    for (let axis = walk.shape.length - 1; axis >= 0; axis--) {
      const at = rest % (walk.shape[axis] ?? 1);
      rest = Math.floor(rest / (walk.shape[axis] ?? 1));
      from += at * (walk.strides[0]?.[axis] ?? 0);
      to += at * (walk.strides[1]?.[axis] ?? 0);
    }
    for (let j = 0; j < factor; j++) destination[to * factor + j] = source[from * factor + j] ?? NaN;
  }
}

test('strided copies transpose any shape, whatever the unit', () => {
  const shapes = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(shapes, fc.nat(), (shape, seed) => {
      const order = shape.map((_, axis) => axis).sort((a, b) => ((a * 7 + seed) % 5) - ((b * 7 + seed) % 5));
      const strides = stridesOf(shape);
      const out = order.map((axis) => shape[axis] ?? 1);
      const source = Array.from({ length: sizeOf(shape) }, (_, i) => i);
      const found: number[] = [];
      walkCopy(source, found, copyWalk(out, order.map((axis) => strides[axis] ?? 0), stridesOf(out), 1)); // prettier-ignore
      const expected = source.map((_, i) => {
        let [rest, from] = [i, 0];
        for (let axis = out.length - 1; axis >= 0; axis--) {
          from += (rest % (out[axis] ?? 1)) * (strides[order[axis] ?? 0] ?? 0);
          rest = Math.floor(rest / (out[axis] ?? 1));
        }
        return from;
      });
      assert.equal(found, expected);
    }),
  );
});

test('axes merge where all operands walk them as one', () => {
  assert.equal(mergeAxes({ shape: [2, 3, 4], strides: [[12, 4, 1]] }), { shape: [24], strides: [[1]] });
  assert.equal(broadcastWalk([2, 3], [2, 3], [2, 3]).shape, []);
  assert.equal(broadcastWalk([5, 2, 3], [3], [5, 2, 3]), { shape: [10, 3], strides: [[3, 1], [0, 1]] }); // prettier-ignore
  assert.is(copyWalk([4, 8], [8, 1], [16, 1], 2).unit, 16);
  assert.is(copyWalk([4, 8], [8, 1], [16, 1], 2, 4).unit, 8);
  assert.is(copyWalk([4, 7], [7, 1], [16, 1], 2).unit, 2);
});

test('reductions know which axes are one block', () => {
  assert.equal(reductionBlock([2, 3, 4], [2]), [6, 4, 1]);
  assert.equal(reductionBlock([2, 3, 4], [0, 1]), [1, 6, 4]);
  assert.is(reductionBlock([2, 3, 4], [0, 2]), null);
  assert.equal(reductionBlock([2, 1, 4], [0, 2]), [1, 8, 1]);
  const slice = sliceLength(1, 77_000_001, 132) ?? 0;
  assert.is(slice % 8, 0);
  assert.ok(Math.ceil(77_000_001 / slice) >= 3 * 132, 'one long row occupies the device');
  assert.is(sliceLength(1, 1000, 132), null);
  assert.is(sliceLength(32768, 100_288, 132), null);
});

test('compiled kernels are keyed by content, options and compiler', () => {
  const headers = { 'h.cuh': 'h', 'i.cuh': 'i' };
  const request = { name: 'a.cu', source: 'x', headers, architecture: 'sm_90a', defines: { B: 2, A: 1 } };
  assert.equal(compileOptions(request), ['--gpu-architecture=sm_90a', '--std=c++17', '-DA=1', '-DB=2']);
  const key = cacheKey(request, 'NVRTC 13.0');
  assert.is(
    cacheKey(
      { ...request, name: 'b.cu', headers: { 'i.cuh': 'i', 'h.cuh': 'h' }, defines: { A: 1, B: 2 } },
      'NVRTC 13.0',
    ),
    key,
  );
  const others = [
    { source: 'y' },
    { architecture: 'sm_80' },
    { defines: { A: 2, B: 2 } },
    { headers: { ...headers, 'i.cuh': 'j' } },
    { headers: { 'h.cuh': 'h' } },
  ];
  for (const change of others) assert.is.not(cacheKey({ ...request, ...change }, 'NVRTC 13.0'), key);
  assert.is.not(cacheKey(request, 'NVRTC 12.4'), key);
  assert.is(cacheFolder('cuda', { YOCO_CACHE: '/c' }), '/c/cuda');
});

test('libraries: named folders first, then the loader; what is missing is said', () => {
  const present = new Set(['/opt/x/lib/libq.so.12', '/opt/y/libq.so.13']);
  const paths = libraryCandidates('libq', [13, 12], ['/opt/x/lib', '/opt/y'], (path) => present.has(path));
  assert.equal(paths, ['/opt/x/lib/libq.so.12', '/opt/y/libq.so.13', 'libq.so.13', 'libq.so.12']);
  assert.throws(
    () => openLibrary('libnosuchthing', [3], 'it is needed here'),
    (error: unknown) =>
      error instanceof RunError && /needs libnosuchthing\.so\.3 \(it is needed here\)/.test(error.message),
  );
});

test('kernels are chosen by shape', () => {
  const decode = {
    batch: 1,
    queries: 1,
    keys: 2 ** 20,
    heads: 24,
    kvHeads: 8,
    width: 128,
    window: 0,
    scale: 1,
    offset: 2 ** 20 - 1,
    positions: null,
    rotation: null,
  };
  const prefill = { ...decode, queries: 8192, offset: 2 ** 20 - 8192 };
  assert.is(attentionRoute(decode, 4096, true), 'split');
  assert.is(attentionRoute(prefill, 4096, true), 'hopper');
  const seesAll = { ...decode, queries: 2, offset: 2 ** 20 };
  assert.is(attentionRoute(seesAll, 4096, true), 'hopper', 'the split kernel takes the last queries only');
  assert.is(attentionRoute(prefill, 4096, false), 'general');
  assert.is(attentionRoute(prefill, 16, true), 'general');
  assert.is(attentionRoute({ ...prefill, width: 96 }, 4096, true), 'general');
  assert.is(attentionRoute({ ...decode, positions: new Int32Array(1) }, 4096, true), 'general');
  const most = mostSplits(decode, { multiprocessors: 132, sharedBytes: 233472 }, splitBytes(128));
  assert.is(most, 49, 'three blocks a multiprocessor, none more');
  assert.is(splitsOf(decode.keys, most), most);
  assert.is(splitsOf(300, most), 2, 'at least 256 keys a split');
  assert.is(
    mostSplits({ ...decode, batch: 4096 }, { multiprocessors: 132, sharedBytes: 233472 }, splitBytes(128)),
    1,
  );
  assert.is(headWidth(40), 64);
  assert.equal(rowLaunch(10, 128, 8), {
    variant: '_small',
    blocks: 1,
    threads: 256,
    extent: 16,
    lanes: 4,
  });
  assert.equal(rowLaunch(10, 3072, 8), {
    variant: '',
    blocks: 10,
    threads: 384,
    extent: 384,
    lanes: 0,
  });
  assert.is(rowLaunch(100, 3072, 8).threads, 96, 'many rows fill the device');
  assert.is(rowLaunch(64, 768, 8).variant, '');
  assert.equal(rowLaunch(65, 768, 8), {
    variant: '_small',
    blocks: 9,
    threads: 256,
    extent: 96,
    lanes: 32,
  });
  assert.is(rowLaunch(100, 16, 8).lanes, 2);
  assert.is(rowLaunch(1, 16384, 8).threads, 1024);
  assert.is(rowLaunch(10, 100, 8).variant, '_any');
  assert.equal(widthBlocks(200), [{ offset: 0, width: 128 }, { offset: 128, width: 72 }]); // prettier-ignore
  assert.is(rowsPerBlock(32768, 100288) % 128, 0);
  assert.is(rowsPerBlock(50, 100288), 50);
  const product = {
    m: 1,
    n: 2,
    k: 3,
    transposeA: false,
    transposeB: true,
    batch: 1,
    strideA: 0,
    strideB: 0,
    strideD: 0,
    type: 'bfloat16',
    outputType: 'bfloat16',
  } as const;
  assert.is(
    matmulKey(product),
    matmulKey({ ...product, strideA: 9 }),
    'strides of a single product do not matter',
  );
  assert.is.not(matmulKey(product), matmulKey({ ...product, transposeA: true }));
  const pair = { ...product, batch: 2, strideA: 3, strideB: 600, strideD: 512 };
  assert.is(matmulKey(pair), matmulKey({ ...pair, strideB: 60_000 }), 'matrices may be anywhere');
  for (const stride of [0, 600]) {
    assert.is.not(
      matmulKey(pair),
      matmulKey({ ...pair, strideA: stride }),
      'the same, side by side, or apart',
    );
  }
});

test('a grid with too many blocks in y or z is launched in x, and its source compiled for that', () => {
  const launched: number[][] = [];
  const compiled: unknown[] = [];
  const driver = {
    architecture: 'sm_90a',
    loadModule: () => compiled.length,
    getFunction: (module: number) => module,
    launch: (kernel: number, ...grid: number[]) => launched.push([kernel, ...grid.slice(0, 3)]),
  } as unknown as Device['driver'];
  const compiler = {
    description: 'none',
    compile: ({ defines: { FOLD_X, FOLD_Y } }: CompileRequest) => {
      compiled.push([FOLD_X, FOLD_Y]);
      return new Uint8Array();
    },
  };
  const launch = kernelLauncher({ driver, compiler, storage: 'bfloat16', recording: null });
  const kernel = { file: 'reduce', name: 'columns_Sum_float32' } as const;
  for (const grid of [
    [2, 65535],
    [2, 65536],
    [2, 70000],
    [3, 65536],
    [2, 8, 65536],
    [2, 8, 1],
  ] as const) {
    launch(kernel, grid, 32, []);
  }
  assert.equal(launched, [
    [1, 2, 65535, 1],
    [2, 131072, 1, 1],
    [2, 140000, 1, 1],
    [3, 196608, 1, 1],
    [4, 1048576, 1, 1],
    [1, 2, 8, 1],
  ]);
  assert.equal(compiled, [[undefined, undefined], [2, undefined], [3, undefined], [2, 8]]); // prettier-ignore
  assert.throws(() => foldedGrid([2 ** 16, 2 ** 16]), /4294967296 blocks, more than a GPU takes/);
});

test('every source sees the grid that was meant', () => {
  for (const file of readdirSync(new URL('../../../src/engines/cuda/sources/', import.meta.url))) {
    if (!file.endsWith('.cu')) continue;
    assert.ok('common.cuh' in kernelSource(file.slice(0, -3)).headers, file);
  }
});

test('sums over the middle of more blocks than a grid has in y', async () => {
  const on = standIn();
  await startOn(on.device);
  tf.tidy(() => tf.sum(tf.fill([65536, 3, 40], 1), 1));
  assert.equal(on.launches.at(-1)?.grid, [2, 65536]);
  await tf.setBackend('cpu');
});

test('a kernel is permitted the shared memory of its largest launch, however little it is', () => {
  const permitted: [kernel: number, bytes: number][] = [];
  const driver = {
    architecture: 'sm_90a',
    loadModule: () => 1,
    getFunction: () => 7,
    allowSharedMemory: (kernel: number, bytes: number) => permitted.push([kernel, bytes]),
    launch: () => undefined,
  } as unknown as Device['driver'];
  const compiler = { description: 'none', compile: () => new Uint8Array() };
  const launch = kernelLauncher({ driver, compiler, storage: 'bfloat16', recording: null });
  const kernel = { file: 'delta_chunk', name: 'delta_solve', head: 64 } as const;
  for (const shared of [0, 35072, 35072, 1024, 55296]) launch(kernel, [1], 128, [], shared);
  assert.equal(permitted, [
    [7, 35072],
    [7, 55296],
  ]);
});

test.run();
