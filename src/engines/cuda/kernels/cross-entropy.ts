import type { TensorInfo } from '../../../tf.js';
import type { StorageType } from '../../engine.js';
import type { CudaBackend } from '../backend.js';
import { type KernelArgument, int32, int64, pointer } from '../launch.js';
import { TILES } from '../tiles.js';
import { matmul } from './matmul.js';
import { registerFusedOp } from './register.js';

const file = 'cross_entropy';
const THREADS = 512;
/** Bytes to which operands of products are aligned. */
const ALIGNMENT = 256;
/**
 * Bytes of logits that exist at once in the fused product. The weight's gradient, 300 MB of float32 for 100,000 words of width
 * 768, is read and written once a block: few blocks.
 */
const BLOCK_BYTES = 2 ** 30;

/**
 * Up to this many words, logits are float32 in training too: 16 bits would save little and cost a small model, whose logits are
 * large and many of whose gradients come from one output, some percent of each probability.
 */
const NARROW_VOCABULARY = 4096;

/** Rows of logits per block, a multiple of 128 so that the products stay aligned. */
export function rowsPerBlock(rows: number, vocabulary: number, bytes = 4): number {
  const fitting = Math.floor(BLOCK_BYTES / (bytes * vocabulary) / 128) * 128;
  return Math.min(rows, Math.max(128, fitting));
}

/** Logits of a row up to which a warp takes it alone, and logits of which a thread of a block takes as many at a time. */
const NARROW_ROW = 1024;
const { AHEAD, PACKS } = TILES.cross_entropy;

/** How the losses of rows of `vocabulary` logits are laid over threads. */
export function lossLaunch(
  rows: number,
  vocabulary: number,
): { suffix: string; blocks: number; threads: number } {
  if (vocabulary <= NARROW_ROW) return { suffix: '_narrow', blocks: Math.ceil(rows / 8), threads: 256 };
  const wanted = Math.ceil(vocabulary / AHEAD / 32) * 32;
  return { suffix: '', blocks: rows, threads: Math.min(THREADS, wanted) };
}

/** @param addresses of rows of logits in `storage`, targets, and the losses and logSumExp to write */
function launchLosses(
  backend: CudaBackend,
  addresses: readonly [logits: number, targets: number, losses: number, logSumExp: number],
  [rows, vocabulary]: readonly [rows: number, vocabulary: number],
  storage: StorageType,
): void {
  const { suffix, blocks, threads } = lossLaunch(rows, vocabulary);
  const name = `cross_entropy${storage === backend.storage ? '' : '_raw'}${suffix}`;
  const args = [...addresses.map(pointer), int64(rows), int64(vocabulary)];
  backend.launch({ file, name }, [blocks], threads, args);
}

function crossEntropy(backend: CudaBackend, logits: TensorInfo, targets: TensorInfo): TensorInfo[] {
  const [rows = 0, vocabulary = 1] = logits.shape;
  const outs = [0, 1].map(() => backend.output([rows], 'float32', 'float32'));
  const [losses = 0, logSumExp = 0] = outs.map((out) => backend.pointer(out, 'float32'));
  const addresses = [backend.pointer(logits), backend.pointer(targets), losses, logSumExp] as const;
  launchLosses(backend, addresses, [rows, vocabulary], backend.storage);
  return outs;
}

function crossEntropyGrad(
  backend: CudaBackend,
  dy: TensorInfo,
  logits: TensorInfo,
  targets: TensorInfo,
  logSumExp: TensorInfo,
): TensorInfo {
  const [rows = 0, vocabulary = 1] = logits.shape;
  const out = backend.output(logits.shape);
  const args = [
    pointer(backend.pointer(logits)),
    pointer(backend.pointer(targets)),
    pointer(backend.pointer(logSumExp, 'float32')),
    pointer(backend.pointer(dy, 'float32')),
    pointer(backend.pointer(out)),
    int64(vocabulary),
  ];
  backend.launch({ file, name: 'cross_entropy_grad' }, [rows], THREADS, args);
  return out;
}

interface Operands {
  x: TensorInfo;
  weight: TensorInfo;
  targets: TensorInfo;
}

/** Calls `use` for each block of rows with its logits in `storage`. */
function forEachBlock(
  backend: CudaBackend,
  { x, weight }: Operands,
  storage: StorageType,
  use: (logits: number, first: number, rows: number) => void,
): void {
  const [total = 0, width = 1] = x.shape;
  const vocabulary = weight.shape[0] ?? 1;
  const logitBytes = backend.elementBytes('float32', storage);
  const step = rowsPerBlock(total, vocabulary, logitBytes);
  const rowBytes = width * backend.elementBytes('float32');
  backend.scratch(step * vocabulary * logitBytes, (logits) => {
    for (let first = 0; first < total; first += step) {
      const rows = Math.min(step, total - first);
      const from = backend.pointer(x) + first * rowBytes;
      const sizes = [rows, vocabulary, width] as const;
      matmul(backend, sizes, from, backend.pointer(weight), logits, { transposeB: true }, storage);
      use(logits, first, rows);
    }
  });
}

function linearCrossEntropy(backend: CudaBackend, operands: Operands): TensorInfo[] {
  const rows = operands.x.shape[0] ?? 0;
  const vocabulary = operands.weight.shape[0] ?? 1;
  const outs = [0, 1].map(() => backend.output([rows], 'float32', 'float32'));
  const [loss = 0, logSumExp = 0] = outs.map((out) => backend.pointer(out, 'float32'));
  const targets = backend.pointer(operands.targets);
  forEachBlock(backend, operands, 'float32', (logits, first, count) => {
    const addresses = [logits, targets + 4 * first, loss + 4 * first, logSumExp + 4 * first] as const;
    launchLosses(backend, addresses, [count, vocabulary], 'float32');
  });
  return outs;
}

/** What the gradients of a block's logits are formed from: addresses of float32 rows. */
interface RowFactors {
  logSumExp: number;
  dy: number;
}

/** In what the logits of a training step are stored. */
function logitStorage(backend: CudaBackend, weight: TensorInfo): StorageType {
  return (weight.shape[0] ?? 1) > NARROW_VOCABULARY ? backend.storage : 'float32';
}

function launchRawGradient(
  backend: CudaBackend,
  addresses: readonly KernelArgument[],
  [rows, vocabulary]: readonly [rows: number, vocabulary: number],
): void {
  const packs = vocabulary % 4 === 0 ? vocabulary / 4 : vocabulary;
  const blocks = Math.ceil((rows * packs) / (PACKS * 256));
  const args = [...addresses, int64(rows), int32(vocabulary)];
  backend.launch({ file, name: 'cross_entropy_grad_raw' }, [blocks], 256, args);
}

/**
 * dx and dWeight. Logits are computed block by block, shown to `before`, and followed by their gradient, in place where they are
 * in storage; dWeight is summed over the blocks in float32.
 */
function gradients(
  backend: CudaBackend,
  operands: Operands,
  { logSumExp, dy }: RowFactors,
  before: (logits: number, first: number, rows: number) => void,
): TensorInfo[] {
  const { x, weight } = operands;
  const width = x.shape[1] ?? 1;
  const vocabulary = weight.shape[0] ?? 1;
  const [dx, dWeight] = [backend.output(x.shape), backend.output(weight.shape)];
  const bytes = backend.elementBytes('float32');
  const targets = backend.pointer(operands.targets);
  const storage = logitStorage(backend, weight);
  const isRaw = storage !== backend.storage;
  const apart = isRaw ? rowsPerBlock(x.shape[0] ?? 0, vocabulary) * vocabulary * bytes : 0;
  const sumBytes = Math.ceil((vocabulary * width * 4) / ALIGNMENT) * ALIGNMENT;
  backend.scratch(sumBytes + apart, (sums) => {
    forEachBlock(backend, operands, storage, (logits, first, rows) => {
      before(logits, first, rows);
      const dLogits = isRaw ? sums + sumBytes : logits;
      const inputs = [logits, targets + 4 * first, logSumExp + 4 * first, dy + 4 * first, dLogits];
      const addresses = inputs.map(pointer);
      if (isRaw) launchRawGradient(backend, addresses, [rows, vocabulary]);
      else {
        const args = [...addresses, int64(vocabulary)];
        backend.launch({ file, name: 'cross_entropy_grad' }, [rows], THREADS, args);
      }
      const offset = first * width * bytes;
      const from = backend.pointer(weight);
      matmul(backend, [rows, width, vocabulary], dLogits, from, backend.pointer(dx) + offset);
      const options = { transposeA: true, add: first === 0 ? undefined : sums };
      const sizes = [vocabulary, width, rows] as const;
      matmul(backend, sizes, dLogits, backend.pointer(x) + offset, sums, options, 'float32');
    });
    backend.cast('raw_float32', sums, backend.pointer(dWeight), vocabulary * width);
  });
  return [dx, dWeight];
}

function linearCrossEntropyGrad(
  backend: CudaBackend,
  operands: Operands,
  dy: TensorInfo,
  logSumExp: TensorInfo,
): TensorInfo[] {
  const rows = { logSumExp: backend.pointer(logSumExp, 'float32'), dy: backend.pointer(dy, 'float32') };
  return gradients(backend, operands, rows, () => undefined);
}

/** Losses and gradients from the same logits. */
function weightedCrossEntropy(backend: CudaBackend, operands: Operands, weights: TensorInfo): TensorInfo[] {
  const rows = operands.x.shape[0] ?? 0;
  const vocabulary = operands.weight.shape[0] ?? 1;
  const out = backend.output([rows], 'float32', 'float32');
  const losses = backend.pointer(out, 'float32');
  const targets = backend.pointer(operands.targets);
  const dy = backend.pointer(weights, 'float32');
  const storage = logitStorage(backend, operands.weight);
  return backend.scratch(rows * 4, (logSumExp) => {
    const lose = (logits: number, first: number, count: number): void => {
      const addresses = [logits, targets + 4 * first, losses + 4 * first, logSumExp + 4 * first] as const;
      launchLosses(backend, addresses, [count, vocabulary], storage);
    };
    return [out, ...gradients(backend, operands, { logSumExp, dy }, lose)];
  });
}

export function registerCrossEntropy(): void {
  registerFusedOp('CrossEntropy', ({ logits, targets }, _attrs, backend) =>
    crossEntropy(backend, logits, targets),
  );
  registerFusedOp('CrossEntropyGrad', ({ dy, logits, targets, logSumExp }, _attrs, backend) =>
    crossEntropyGrad(backend, dy, logits, targets, logSumExp),
  );
  registerFusedOp('LinearCrossEntropy', (inputs, _attrs, backend) => linearCrossEntropy(backend, inputs));
  registerFusedOp('LinearCrossEntropyGrad', ({ dy, logSumExp, ...operands }, _attrs, backend) =>
    linearCrossEntropyGrad(backend, operands, dy, logSumExp),
  );
  registerFusedOp('WeightedCrossEntropy', ({ weights, ...operands }, _attrs, backend) =>
    weightedCrossEntropy(backend, operands, weights),
  );
}
