/** The gradient of attention: dQ by blocks of queries, dK and dV by blocks of keys, in the general way or on Hopper. */
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { type KernelArgument, int32, int64, pointer } from '../launch.js';
import { HOPPER_GRAD_PROBLEM } from '../structs.js';
import { TILES, shortStep } from '../tiles.js';
import { TensorMaps, denseRows } from '../tensor-map.js';
import { GROUP_ROWS, schedule, sharedBytes, threadsOf } from './attention-hopper.js';
import {
  ONE_PAGE,
  type Problem,
  attentionRoute,
  headWidth,
  rows,
  tileBytes,
  withPositions,
} from './attention-problem.js';

const { ROWS, THREADS } = TILES.attention;
const HOPPER = TILES.attention_hopper_grad;
const KEY_CONSUMERS = 2;
/** Of every query of a tile: `Sums` of attention_hopper_grad.cu. */
const SUMS_BYTES = 8;
const SUMS_THREADS = 256;

export interface GradientInputs {
  dy: TensorInfo;
  q: TensorInfo;
  k: TensorInfo;
  v: TensorInfo;
  out: TensorInfo;
  logSumExp: TensorInfo;
}

/** Addresses of what both kernels write. */
interface Places {
  dq: number;
  dk: number;
  dv: number;
}

function general(backend: CudaBackend, inputs: GradientInputs, problem: Problem, to: Places): void {
  const { batch, queries, keys, heads, kvHeads, width } = problem;
  const { q, k, v, dy, out } = inputs;
  const head = headWidth(width);
  const count = batch * queries * heads;
  const logSumExp = backend.pointer(inputs.logSumExp, 'float32');
  backend.scratch(count * 4, (delta) => {
    const args = [dy, out].map((info) => pointer(backend.pointer(info)));
    const sizes = [batch, queries, heads, width].map(int32);
    const ofDelta = { file: 'attention_delta', name: 'attention_delta', head, early: true };
    const ofWarp = TILES.attention_delta.ROWS * (32 / (head / 8));
    const warps = batch * heads * Math.ceil(queries / ofWarp);
    backend.launch(ofDelta, [Math.ceil(warps / 8)], 256, [...args, pointer(delta), ...sizes]);
    withPositions(backend, problem, (shape) => {
      const common = [
        ...[q, k, v, dy].map((info) => rows(backend, info)),
        pointer(logSumExp),
        pointer(delta),
      ];
      const shared = tileBytes(head, 2 * ROWS + 2 * shortStep(head));
      const byQuery = [Math.ceil(queries / ROWS), heads, batch] as const;
      const byKey = [Math.ceil(keys / ROWS), kvHeads, batch] as const;
      const kernel = (name: string) => ({ file: 'attention', name, head });
      const ofQuery = [...common, pointer(to.dq), shape];
      backend.launch(kernel('attention_grad_query'), byQuery, THREADS, ofQuery, shared);
      const ofKey = [...common, pointer(to.dk), pointer(to.dv), shape];
      backend.launch(kernel('attention_grad_key'), byKey, THREADS, ofKey, shared);
    });
  });
}

/** The tensor map of [B,T,H,width] rows. */
function mapOf(backend: CudaBackend, info: TensorInfo): KernelArgument {
  const source = denseRows(backend.pointer(info), info.shape);
  return { kind: 'bytes', value: TensorMaps.of(backend).encode(source, HOPPER.TILE), alignment: 64 };
}

function hopper(backend: CudaBackend, inputs: GradientInputs, problem: Problem, to: Places): void {
  const { batch, queries, keys, heads, kvHeads, width, window, scale } = problem;
  const { q, k, v, dy, out } = inputs;
  const head = width === 64 ? 64 : 128;
  const [stages, queryConsumers] = [HOPPER[`STAGES_${head}`], HOPPER[`QUERY_CONSUMERS_${head}`]];
  const kernel = (name: string) => ({ file: 'attention_hopper_grad', name, head: width });
  const maps = [q, k, v, dy].map((info) => mapOf(backend, info));
  const offset = keys - queries;
  const ring = 2 * stages * HOPPER.TILE;
  const tiles = batch * heads * Math.ceil(queries / HOPPER.TILE);
  /** A kernel over blocks of rows of heads, which needs `span` positions from a row on. */
  const launch = (
    name: string,
    [total, ofHeads, consumers]: readonly [number, number, number],
    span: (first: number) => number,
    args: readonly KernelArgument[],
  ): void => {
    const blockRows = GROUP_ROWS * consumers;
    const { paired, grid } = schedule(backend, total, blockRows, ofHeads * batch, span);
    const shape = { tq: queries, tk: keys, heads, kvHeads, window, batch, paired, scale };
    const shared = sharedBytes(width, 2 * blockRows, ring);
    backend.launch(
      kernel(name), [grid], threadsOf(consumers), [...maps, ...args, HOPPER_GRAD_PROBLEM.argument(shape)], shared,
    ); // prettier-ignore
  };
  backend.scratch(tiles * HOPPER.TILE * SUMS_BYTES, (sums) => {
    const padded = tiles * HOPPER.TILE;
    const rowsOf = [dy, out].map((info) => pointer(backend.pointer(info)));
    const logSumExp = pointer(backend.pointer(inputs.logSumExp, 'float32'));
    const sizes = [int32(queries), int32(heads), int64(padded)];
    const blocks = Math.ceil((padded * width) / 8 / SUMS_THREADS);
    const ofSums = [...rowsOf, logSumExp, pointer(sums), ...sizes];
    backend.launch(kernel('attention_hopper_sums'), [blocks], SUMS_THREADS, ofSums);
    launch(
      'attention_hopper_grad_query',
      [queries, heads, queryConsumers],
      (first) => Math.min(keys, offset + first + GROUP_ROWS * queryConsumers) - (window > 0 ? Math.max(0, offset + first - window + 1) : 0),
      [pointer(sums), pointer(to.dq)],
    ); // prettier-ignore
    launch(
      'attention_hopper_grad_key',
      [keys, kvHeads, KEY_CONSUMERS],
      (first) => (window > 0 ? Math.min(queries, first + GROUP_ROWS * KEY_CONSUMERS + window - 1 - offset) : queries) - Math.max(0, first - offset),
      [pointer(sums), pointer(to.dk), pointer(to.dv)],
    ); // prettier-ignore
  });
}

/** dQ, dK and dV. */
export function attentionGradient(
  backend: CudaBackend,
  inputs: GradientInputs,
  problem: Problem,
): TensorInfo[] {
  const { q, k, v } = inputs;
  const grads = [q, k, v].map((info) => backend.output(info.shape));
  const [dq = 0, dk = 0, dv = 0] = grads.map((info) => backend.pointer(info));
  const isHopper = backend.device.driver.architecture === 'sm_90a';
  const run = attentionRoute(problem, ONE_PAGE, isHopper) === 'hopper' ? hopper : general;
  run(backend, inputs, problem, { dq, dk, dv });
  return grads;
}
