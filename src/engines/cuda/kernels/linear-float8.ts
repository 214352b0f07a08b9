/**
 * Linear layers whose weights are kept in float8, on Hopper: cuBLASLt for many rows, an own kernel for the few rows of decoding. The rows
 * of x are rounded by a launch before, once for all products of the same x.
 */
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import type { Device } from '../device.js';
import { int32, pointer } from '../launch.js';
import { FLOAT8_GROUP } from '../structs.js';
import { TILES } from '../tiles.js';
import { sizeOf } from '../walk.js';
import { SINGLE } from './matmul.js';
import { numbered, registerFusedOp } from './register.js';

const file = 'gemv_float8';
const { GEMV_WEIGHTS, MOST_ROWS, THREADS } = TILES[file];
/** Columns of y that a block has. */
const OUTPUTS = 8;

/** Whether the GPU and its cuBLASLt multiply float8 with a factor for each row. */
export function hasFloat8({ driver, matmuls }: Device): boolean {
  return driver.architecture === 'sm_90a' && matmuls.hasFloat8;
}

interface Problem {
  readonly rows: number;
  readonly inner: number;
  /** Of the result, but for its width. */
  readonly lead: readonly number[];
}

function problemOf(x: TensorInfo): Problem {
  const inner = x.shape.at(-1) ?? 1;
  return { rows: sizeOf(x.shape) / Math.max(1, inner), inner, lead: x.shape.slice(0, -1) };
}

const outputOf = (backend: CudaBackend, { lead }: Problem, weight: TensorInfo): TensorInfo =>
  backend.output([...lead, weight.shape[0] ?? 1]);

/** Products of x with each weight. @param residual added to that with the first one, which is then the only one */
function products(
  backend: CudaBackend,
  x: TensorInfo,
  weights: readonly TensorInfo[],
  residual?: TensorInfo,
): TensorInfo[] {
  const problem = problemOf(x);
  if (problem.rows <= MOST_ROWS && weights.length <= GEMV_WEIGHTS)
    return fewRows(backend, x, problem, weights, residual);
  return weights.map((weight) => manyRows(backend, x, problem, weight, residual));
}

function manyRows(
  backend: CudaBackend,
  x: TensorInfo,
  problem: Problem,
  weight: TensorInfo,
  residual: TensorInfo | undefined,
): TensorInfo {
  const out = outputOf(backend, problem, weight);
  const { rows, inner } = problem;
  const [left, right] = [backend.inFloat8(x), backend.inFloat8(weight)];
  const shape = { m: rows, n: weight.shape[0] ?? 1, k: inner, transposeA: false, transposeB: true };
  backend.matmul(
    { ...shape, type: 'float8', outputType: backend.storage, ...SINGLE },
    {
      a: left.codes,
      b: right.codes,
      factors: [left.factors, right.factors],
      d: backend.pointer(out),
      ...(residual && { c: backend.pointer(residual) }),
    },
  );
  return out;
}

function fewRows(
  backend: CudaBackend,
  x: TensorInfo,
  problem: Problem,
  weights: readonly TensorInfo[],
  residual: TensorInfo | undefined,
): TensorInfo[] {
  const outs = weights.map((weight) => outputOf(backend, problem, weight));
  if (problem.rows === 0) return outs;
  const widths = weights.map(({ shape }) => shape[0] ?? 1);
  const rows = backend.inFloat8(x);
  const of = weights.map((weight) => backend.inFloat8(weight));
  const args = [
    ...[rows.codes, rows.factors].map(pointer),
    FLOAT8_GROUP.argument({
      codes: of.map(({ codes }) => codes),
      factors: of.map(({ factors }) => factors),
      outs: outs.map((out) => backend.pointer(out)),
      widths,
    }),
    pointer(residual === undefined ? 0 : backend.pointer(residual)),
    ...[problem.rows, problem.inner].map(int32),
  ];
  const blocks = widths.reduce((sum, width) => sum + width, 0) / OUTPUTS;
  backend.launch({ file, name: 'gemv_float8', early: true }, [blocks], THREADS, args);
  return outs;
}

/** silu(x activatedᵀ) * (x gateᵀ), the rows of which are rounded to float8. */
function linearSwiglu(
  backend: CudaBackend,
  x: TensorInfo,
  activated: TensorInfo,
  gate: TensorInfo,
): TensorInfo {
  const problem = problemOf(x);
  if (problem.rows <= MOST_ROWS) return fewRowsGated(backend, x, problem, activated, gate);
  const factors = [activated, gate].map((weight) => manyRows(backend, x, problem, weight, undefined));
  const [a, b] = factors.map((factor) => backend.pointer(factor)) as [number, number];
  const out = backend.outputFloat8([...problem.lead, activated.shape[0] ?? 1], (rows) => {
    rows.roundGated(a, b);
  });
  for (const factor of factors) backend.release(factor);
  return out;
}

function fewRowsGated(
  backend: CudaBackend,
  x: TensorInfo,
  problem: Problem,
  activated: TensorInfo,
  gate: TensorInfo,
): TensorInfo {
  const out = outputOf(backend, problem, activated);
  if (problem.rows === 0) return out;
  const width = activated.shape[0] ?? 1;
  const addresses = [x, activated, gate].flatMap((info) => {
    const { codes, factors } = backend.inFloat8(info);
    return [codes, factors];
  });
  const args = [
    ...[...addresses, backend.pointer(out)].map(pointer),
    ...[problem.rows, problem.inner, width].map(int32),
  ];
  backend.launch({ file, name: 'gemv_float8_swiglu', early: true }, [width / OUTPUTS], THREADS, args);
  backend.keepFloat8(out);
  return out;
}

/** For engines of which {@link hasFloat8} holds. */
export function registerLinearFloat8(): void {
  registerFusedOp('KeepFloat8', ({ weight }, _attrs, backend) => {
    backend.keepFloat8(weight);
    return [];
  });
  registerFusedOp('LinearFloat8', ({ x, weight, residual }, _attrs, backend) =>
    products(backend, x, [weight], residual),
  );
  registerFusedOp('LinearGroupFloat8', (inputs, { count }, backend) =>
    products(backend, inputs.x as TensorInfo, numbered(inputs, 'weight', count)),
  );
  registerFusedOp('LinearSwiGluFloat8', ({ x, activated, gate }, _attrs, backend) =>
    linearSwiglu(backend, x, activated, gate),
  );
}
