/** The gradient of attention: dQ by blocks of queries, dK and dV by blocks of keys, in the general way or on Hopper. */
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { type KernelArgument, int32, pointer } from '../launch.js';
import { HOPPER_GRAD_PROBLEM } from '../structs.js';
import { TILES, shortStep } from '../tiles.js';
import { TensorMaps, denseRows } from '../tensor-map.js';
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
/** A producer warpgroup and two of consumers. */
const HOPPER_THREADS = 384;

export interface GradientInputs {
  dy: TensorInfo;
  q: TensorInfo;
  k: TensorInfo;
  v: TensorInfo;
  out: TensorInfo;
  logSumExp: TensorInfo;
}

/** Addresses of what both kernels read beside the rows (logSumExp, δ) and of what they write. */
interface Places {
  logSumExp: number;
  delta: number;
  dq: number;
  dk: number;
  dv: number;
}

function general(backend: CudaBackend, { q, k, v, dy }: GradientInputs, problem: Problem, to: Places): void {
  const { batch, queries, keys, heads, kvHeads, width } = problem;
  const head = headWidth(width);
  withPositions(backend, problem, (shape) => {
    const common = [
      ...[q, k, v, dy].map((info) => rows(backend, info)),
      pointer(to.logSumExp),
      pointer(to.delta),
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
}

/** The tensor map of [B,T,H,width] rows. */
function mapOf(backend: CudaBackend, info: TensorInfo): KernelArgument {
  const source = denseRows(backend.pointer(info), info.shape);
  return { kind: 'bytes', value: TensorMaps.of(backend).encode(source, HOPPER.TILE), alignment: 64 };
}

function hopperProblem({ queries, keys, heads, kvHeads, window, scale }: Problem): KernelArgument {
  return HOPPER_GRAD_PROBLEM.argument({ tq: queries, tk: keys, heads, kvHeads, window, scale });
}

function hopper(backend: CudaBackend, { q, k, v, dy }: GradientInputs, problem: Problem, to: Places): void {
  const { batch, queries, keys, heads, kvHeads, width } = problem;
  const common = [
    ...[q, k, v, dy].map((info) => mapOf(backend, info)),
    pointer(to.logSumExp),
    pointer(to.delta),
  ];
  // The rows held and the ring of tiles, of two tensors each, and room to align them to 1 KiB.
  const shared = 2 * (HOPPER.ROWS + HOPPER.STAGES * HOPPER.TILE) * width * 2 + 1024;
  const kernel = (name: string) => ({ file: 'attention_hopper_grad', name, head: width });
  const byQuery = Math.ceil(queries / HOPPER.ROWS) * heads * batch;
  const ofQuery = [...common, pointer(to.dq), hopperProblem(problem)];
  backend.launch(kernel('attention_hopper_grad_query'), [byQuery], HOPPER_THREADS, ofQuery, shared);
  const byKey = Math.ceil(keys / HOPPER.ROWS) * kvHeads * batch;
  const ofKey = [...common, pointer(to.dk), pointer(to.dv), hopperProblem(problem)];
  backend.launch(kernel('attention_hopper_grad_key'), [byKey], HOPPER_THREADS, ofKey, shared);
}

/** dQ, dK and dV. */
export function attentionGradient(
  backend: CudaBackend,
  inputs: GradientInputs,
  problem: Problem,
): TensorInfo[] {
  const { dy, q, k, v, out, logSumExp } = inputs;
  const { batch, queries, heads, width } = problem;
  const grads = [q, k, v].map((info) => backend.output(info.shape));
  const [dq = 0, dk = 0, dv = 0] = grads.map((info) => backend.pointer(info));
  const count = batch * queries * heads;
  const isHopper = backend.device.driver.architecture === 'sm_90a';
  const run = attentionRoute(problem, ONE_PAGE, isHopper) === 'hopper' ? hopper : general;
  backend.scratch(count * 4, (delta) => {
    const args = [dy, out].map((info) => pointer(backend.pointer(info)));
    const sizes = [batch, queries, heads, width].map(int32);
    const head = headWidth(width);
    const kernel = { file: 'attention_delta', name: 'attention_delta', head, early: true };
    const ofWarp = TILES.attention_delta.ROWS * (32 / (head / 8));
    const warps = batch * heads * Math.ceil(queries / ofWarp);
    backend.launch(kernel, [Math.ceil(warps / 8)], 256, [...args, pointer(delta), ...sizes]);
    const places = { logSumExp: backend.pointer(logSumExp, 'float32'), delta, dq, dk, dv };
    run(backend, inputs, problem, places);
  });
  return grads;
}
