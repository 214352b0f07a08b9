import { RunError } from '../../errors.js';
import { type NativeLibrary, openLibrary } from './libraries.js';

/** cudaDataType of a matrix. */
const CUDA_TYPE = { float32: 0, float16: 2, bfloat16: 14, float8: 28 } as const;
export type MatrixType = keyof typeof CUDA_TYPE;

/**
 * Row-major `D[m,n] = alpha · op(A)·op(B) + beta · C`, batched with strides in elements.
 * `A` is [m,k] (or [k,m] when transposed), `B` is [k,n] (or [n,k]); `C` and `D` share the layout of `D`.
 *
 * Of float8 (e4m3) `A` is as it is, `B` transposed, there is one product, n and k are multiples of 16, and each row of either operand
 * goes with a factor. Sums are kept to fewer bits than float32 has (fast accumulation).
 */
export interface MatmulProblem {
  m: number;
  n: number;
  k: number;
  transposeA: boolean;
  transposeB: boolean;
  type: MatrixType;
  outputType: MatrixType;
  batch: number;
  strideA: number;
  strideB: number;
  strideD: number;
  /** Elements from one row of `D` to the next, for writing into a slice of a wider matrix; `n` when absent. */
  rowD?: number;
}

interface Plan {
  description: bigint;
  layouts: [bigint, bigint, bigint];
  /** Those that the layouts have now. */
  strides: [number, number, number];
  /** Where the factors of rows are, of float8. */
  factors: readonly [number, number] | undefined;
  algorithms: Uint8Array[];
  chosen: Uint8Array;
  tuned: boolean;
}

export interface Pointers {
  a: number;
  b: number;
  d: number;
  /** Added matrix; `beta` is 1 when given and 0 otherwise. */
  c?: number;
  /** Float32 factors of the rows of `A` and of `B`, of float8. */
  factors?: readonly [number, number];
}

const COMPUTE_FLOAT32 = 68;
const DESCRIPTION = {
  transposeA: 3,
  transposeB: 4,
  scalesA: 17,
  scalesB: 18,
  fastAccumulation: 25,
  scaleModeA: 31,
  scaleModeB: 32,
} as const;
/** Scales are vectors: one for each row of the first operand and each column of the second. */
const OUTER_VECTOR = 3;
/** The first cuBLASLt that has them, as `cublasLtGetVersion` says it. */
const OUTER_VECTOR_SINCE = 120900;
const LAYOUT = { batch: 5, stride: 6 } as const;
const PREFERENCE_WORKSPACE = 1;
const RESULT_BYTES = 96;
const ALGORITHM_BYTES = 64;
const CANDIDATES = 6;
export const WORKSPACE_BYTES = 32 * 2 ** 20;
/** Problems with at least this many operations are worth timing the candidates once. */
const TUNE_FLOPS = 2e10;

const P = 'void *';
const U64 = 'uint64';

/** Key of a plan: everything but the addresses, and how far apart the matrices of a batch are. */
export function matmulKey(product: MatmulProblem): string {
  const {
    m,
    n,
    k,
    transposeA,
    transposeB,
    type,
    outputType,
    batch,
    strideA,
    strideB,
    strideD,
    rowD = n,
  } = product;
  const kinds = `${transposeA ? 't' : 'n'}${transposeB ? 't' : 'n'} ${type} ${outputType}`;
  const single = `${m} ${n} ${k} ${rowD} ${kinds}`;
  if (batch === 1) return single;
  const matrices = [[strideA, m * k], [strideB, k * n], [strideD, m * n]] as const; // prettier-ignore
  return [single, batch, ...matrices.map(([stride, size]) => spacing(stride, size))].join(' ');
}

/** Matrices apart may be anywhere: their addresses differ from layer to layer. */
function spacing(stride: number, size: number): string {
  if (stride === 0) return 'same';
  return stride === size ? 'packed' : 'apart';
}

/** Matmul by cuBLASLt, one plan per shape; big shapes pick the fastest of the library's candidates. */
export class CublasMatmul {
  private readonly plans = new Map<string, Plan>();
  private readonly handle: bigint;
  private readonly calls: ReturnType<typeof bindCalls>;
  private readonly alpha = new Float32Array([1]);
  private readonly zero = new Float32Array([0]);
  private readonly one = new Float32Array([1]);

  constructor(
    private readonly stream: number,
    private readonly workspace: number,
    /** Milliseconds that `run` takes on the device. */
    private readonly time: (run: () => void) => number,
  ) {
    const library = openLibrary('libcublasLt', [13, 12], 'the CUDA 12 or 13 matrix library');
    this.calls = bindCalls(library);
    const cell = new BigUint64Array(1);
    this.check(this.calls.create(cell), 'cublasLtCreate');
    this.handle = cell[0] ?? 0n;
  }

  /** Whether the library has products of float8 with a factor for each row, which only Hopper computes. */
  get hasFloat8(): boolean {
    return this.calls.version() >= OUTER_VECTOR_SINCE;
  }

  run(product: MatmulProblem, pointers: Pointers): void {
    const key = matmulKey(product);
    let plan = this.plans.get(key);
    if (plan === undefined) {
      plan = this.plan(product, pointers);
      this.plans.set(key, plan);
    }
    this.setStrides(plan, product);
    this.setFactors(plan, pointers);
    // An in-place accumulation cannot be repeated, so such a call leaves the tuning to a later one.
    if (!plan.tuned && pointers.c !== pointers.d) this.tune(plan, pointers);
    this.launch(plan, plan.chosen, pointers);
  }

  private tune(plan: Plan, pointers: Pointers): void {
    plan.tuned = true;
    let best = Infinity;
    for (const algorithm of plan.algorithms) {
      const run = (): void => {
        this.launch(plan, algorithm, pointers);
      };
      run();
      const milliseconds = this.time(run);
      if (milliseconds >= best) continue;
      best = milliseconds;
      plan.chosen = algorithm;
    }
  }

  private launch(plan: Plan, algorithm: Uint8Array, { a, b, c, d }: Pointers): void {
    const [layoutA, layoutB, layoutD] = plan.layouts;
    const beta = c === undefined ? this.zero : this.one;
    const code = this.calls.matmul(
      this.handle, plan.description, this.alpha,
      b, layoutB, a, layoutA, beta, c ?? d, layoutD, d, layoutD,
      algorithm, this.workspace, WORKSPACE_BYTES, this.stream,
    ); // prettier-ignore
    this.check(code, 'cublasLtMatmul');
  }

  /** cuBLASLt is column-major: row-major D = A·B is column-major Dᵀ = Bᵀ·Aᵀ, so the operands trade places. */
  private plan(product: MatmulProblem, { factors }: Pointers): Plan {
    const { m, n, k, transposeA, transposeB, type, outputType, batch } = product;
    const description = this.make((cell) =>
      this.calls.createDescription(cell, COMPUTE_FLOAT32, CUDA_TYPE.float32),
    );
    this.setDescription(description, DESCRIPTION.transposeA, Int32Array.of(transposeB ? 1 : 0));
    this.setDescription(description, DESCRIPTION.transposeB, Int32Array.of(transposeA ? 1 : 0));
    if (factors !== undefined) this.describeFloat8(description, factors);
    const layoutA = this.layout(type, transposeA ? [m, k] : [k, m], batch, product.strideA);
    const layoutB = this.layout(type, transposeB ? [k, n] : [n, k], batch, product.strideB);
    const layoutD = this.layout(outputType, [n, m], batch, product.strideD, product.rowD);
    const algorithms = this.candidates(description, layoutA, layoutB, layoutD, product);
    const chosen = algorithms[0] as Uint8Array;
    const tuned = algorithms.length === 1 || 2 * m * n * k * batch < TUNE_FLOPS;
    return {
      ...{ description, algorithms, chosen, tuned },
      layouts: [layoutA, layoutB, layoutD],
      strides: [product.strideA, product.strideB, product.strideD],
      factors,
    };
  }

  private describeFloat8(description: bigint, factors: readonly [number, number]): void {
    const mode = Int32Array.of(OUTER_VECTOR);
    this.setDescription(description, DESCRIPTION.fastAccumulation, Int8Array.of(1));
    this.setDescription(description, DESCRIPTION.scaleModeA, mode);
    this.setDescription(description, DESCRIPTION.scaleModeB, mode);
    this.describeFactors(description, factors);
  }

  /** The operands trade places: see `plan`. */
  private describeFactors(description: bigint, [a, b]: readonly [number, number]): void {
    this.setDescription(description, DESCRIPTION.scalesA, BigUint64Array.of(BigInt(b)));
    this.setDescription(description, DESCRIPTION.scalesB, BigUint64Array.of(BigInt(a)));
  }

  private setFactors(plan: Plan, { factors }: Pointers): void {
    if (factors === undefined || factors.join() === plan.factors?.join()) return;
    this.describeFactors(plan.description, factors);
    plan.factors = factors;
  }

  private setStrides(plan: Plan, { batch, strideA, strideB, strideD }: MatmulProblem): void {
    if (batch === 1) return;
    [strideA, strideB, strideD].forEach((stride, i) => {
      if (plan.strides[i] === stride) return;
      this.setStride(plan.layouts[i] as bigint, stride);
      plan.strides[i] = stride;
    });
  }

  private setStride(layout: bigint, stride: number): void {
    const bytes = new BigInt64Array([BigInt(stride)]);
    this.check(this.calls.setLayout(layout, LAYOUT.stride, bytes, 8), 'cublasLt layout');
  }

  private candidates(
    description: bigint,
    layoutA: bigint,
    layoutB: bigint,
    layoutD: bigint,
    product: MatmulProblem,
  ): Uint8Array[] {
    const preference = this.make((cell) => this.calls.createPreference(cell));
    const workspace = new BigUint64Array([BigInt(WORKSPACE_BYTES)]);
    this.check(
      this.calls.setPreference(preference, PREFERENCE_WORKSPACE, workspace, 8),
      'cublasLt preference',
    );
    const results = new Uint8Array(RESULT_BYTES * CANDIDATES);
    const found = new Int32Array(1);
    const code = this.calls.heuristic(
      this.handle, description, layoutB, layoutA, layoutD, layoutD, preference, CANDIDATES, results, found,
    ); // prettier-ignore
    this.calls.destroyPreference(preference);
    if (code !== 0 || (found[0] ?? 0) === 0) {
      throw new RunError(`cuBLASLt has no algorithm for the matmul ${matmulKey(product)} (status ${code})`);
    }
    return Array.from({ length: found[0] ?? 0 }, (_, index) =>
      results.slice(index * RESULT_BYTES, index * RESULT_BYTES + ALGORITHM_BYTES),
    );
  }

  private layout(
    type: MatrixType,
    [rows, columns]: [number, number],
    batch: number,
    stride: number,
    leading = rows,
  ): bigint {
    const layout = this.make((cell) =>
      this.calls.createLayout(cell, CUDA_TYPE[type], rows, columns, leading),
    );
    if (batch > 1) {
      this.check(this.calls.setLayout(layout, LAYOUT.batch, new Int32Array([batch]), 4), 'cublasLt layout');
      this.setStride(layout, stride);
    }
    return layout;
  }

  private setDescription(description: bigint, attribute: number, value: ArrayBufferView): void {
    const code = this.calls.setDescription(description, attribute, value, value.byteLength);
    this.check(code, 'cublasLtMatmulDescSetAttribute');
  }

  private make(create: (cell: BigUint64Array) => number): bigint {
    const cell = new BigUint64Array(1);
    this.check(create(cell), 'cublasLt create');
    return cell[0] ?? 0n;
  }

  private check(code: number, what: string): void {
    if (code !== 0) throw new RunError(`cuBLASLt error ${code} in ${what}`);
  }
}

function bindCalls(library: NativeLibrary) {
  return {
    version: library.bind('cublasLtGetVersion', []),
    create: library.bind('cublasLtCreate', [P]),
    createDescription: library.bind('cublasLtMatmulDescCreate', [P, 'int', 'int']),
    setDescription: library.bind('cublasLtMatmulDescSetAttribute', [U64, 'int', P, U64]),
    createLayout: library.bind('cublasLtMatrixLayoutCreate', [P, 'int', U64, U64, 'int64']),
    setLayout: library.bind('cublasLtMatrixLayoutSetAttribute', [U64, 'int', P, U64]),
    createPreference: library.bind('cublasLtMatmulPreferenceCreate', [P]),
    setPreference: library.bind('cublasLtMatmulPreferenceSetAttribute', [U64, 'int', P, U64]),
    destroyPreference: library.bind('cublasLtMatmulPreferenceDestroy', [U64]),
    heuristic: library.bind('cublasLtMatmulAlgoGetHeuristic', [
      U64, U64, U64, U64, U64, U64, U64, 'int', P, P,
    ]), // prettier-ignore
    matmul: library.bind('cublasLtMatmul', [
      U64, U64, P, U64, U64, U64, U64, P, U64, U64, U64, U64, P, U64, U64, U64,
    ]), // prettier-ignore
  };
}
