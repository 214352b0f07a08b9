import { type DataType, type TensorInfo, backend_util } from '../../../tf.js';
import { type CudaBackend, THREADS } from '../backend.js';
import { float32, int32, int64, pointer, type KernelArgument } from '../launch.js';
import { BROADCAST } from '../structs.js';
import { broadcastWalk, sizeOf } from '../walk.js';
import { type CudaKernel, input, register, registerAll } from './register.js';

const file = 'elementwise';
/** Elements of 16 bytes: what one thread handles at a time. */
const WIDE = 4;

/** One float32 operation on every element; `a` and `b` are its parameters. */
export function unary(backend: CudaBackend, name: string, x: TensorInfo, a = 0, b = 0): TensorInfo {
  const storage = backend.storageFor(x);
  const out = backend.output(x.shape, x.dtype, storage);
  const size = sizeOf(x.shape);
  const kernel = x.dtype === 'int32' ? `unary_int_${name}` : `unary_${name}`;
  const args = [
    pointer(backend.pointer(x, storage)),
    pointer(backend.pointer(out, storage)),
    int64(size),
    float32(a),
    float32(b),
  ];
  backend.launch({ file, name: kernel, storage }, backend.blocks(size, WIDE), THREADS, args);
  return out;
}

const UNARY = [
  'Abs', 'Ceil', 'Cos', 'Elu', 'Erf', 'Exp', 'Expm1', 'Floor', 'Log', 'Log1p', 'Neg', 'Reciprocal', 'Relu', 'Round',
  'Rsqrt', 'Sigmoid', 'Sign', 'Sin', 'Softplus', 'Sqrt', 'Square', 'Tanh',
] as const; // prettier-ignore
const UNARY_ON_INTEGERS = new Set(['Abs', 'Neg', 'Square']);

/** A binary operation whose operand `a` (or `b`) is one known number: the unary kernel and its parameter. */
function withConstant(
  name: string,
  a: number | null,
  b: number | null,
): [kernel: string, parameter: number] | null {
  if (b !== null) {
    switch (name) {
      case 'Add': return ['AddScalar', b];
      case 'Sub': return ['AddScalar', -b];
      case 'Multiply': return ['MultiplyScalar', b];
      case 'RealDiv': return ['MultiplyScalar', 1 / b];
      case 'Maximum': return ['MaximumScalar', b];
      case 'Minimum': return ['MinimumScalar', b];
      default: return null;
    }
  } // prettier-ignore
  if (a === null) return null;
  switch (name) {
    case 'Add': return ['AddScalar', a];
    case 'Sub': return ['SubtractFrom', a];
    case 'Multiply': return ['MultiplyScalar', a];
    case 'RealDiv': return ['DivideInto', a];
    case 'Maximum': return ['MaximumScalar', a];
    case 'Minimum': return ['MinimumScalar', a];
    default: return null;
  } // prettier-ignore
}

/** One operation on two tensors with broadcasting. */
export function binary(
  backend: CudaBackend,
  name: string,
  a: TensorInfo,
  b: TensorInfo,
  dtype: DataType = a.dtype,
): TensorInfo {
  const shape = backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
  if (a.dtype === 'float32' && dtype === 'float32') {
    const constantA = sizeOf(b.shape) === sizeOf(shape) ? backend.constant(a) : null;
    const constantB = sizeOf(a.shape) === sizeOf(shape) ? backend.constant(b) : null;
    const constant = withConstant(name, constantA, constantB);
    if (constant !== null) {
      const out = unary(backend, constant[0], constantB === null ? b : a, constant[1]);
      out.shape = shape;
      return out;
    }
  }
  const storage = backend.storageFor(a, b);
  const out = backend.output(shape, dtype, storage);
  const size = sizeOf(shape);
  const walk = broadcastWalk(a.shape, b.shape, shape);
  const [stridesA = [], stridesB = []] = walk.strides;
  const args: KernelArgument[] = [
    pointer(backend.pointer(a, storage)),
    pointer(backend.pointer(b, storage)),
    pointer(backend.pointer(out, storage)),
    int64(size),
    int32(walk.shape.length),
    BROADCAST.argument({ shape: walk.shape, a: stridesA, b: stridesB }),
  ];
  backend.launch({ file, name: `binary_${name}_${a.dtype}`, storage }, backend.blocks(size), THREADS, args);
  return out;
}

const ARITHMETIC = ['Add', 'Sub', 'Multiply', 'Maximum', 'Minimum', 'SquaredDifference', 'RealDiv', 'Pow', 'Mod', 'Atan2', 'Prelu', 'FloorDiv'] as const; // prettier-ignore
const COMPARISONS = ['Equal', 'NotEqual', 'Greater', 'GreaterEqual', 'Less', 'LessEqual', 'LogicalAnd', 'LogicalOr'] as const; // prettier-ignore
/** Which operations have which operand types; others go through the host. */
const FLOAT_ONLY = new Set(['RealDiv', 'Pow', 'Atan2', 'Prelu']);
const INTEGER_ONLY = new Set(['FloorDiv']);

export function cast(backend: CudaBackend, x: TensorInfo, dtype: DataType): TensorInfo {
  if (x.dtype === dtype) return backend.alias(x, x.shape);
  const out = backend.output(x.shape, dtype);
  backend.cast(`${x.dtype}_${dtype}`, backend.pointer(x), backend.pointer(out), sizeOf(x.shape));
  return out;
}

/** A tensor of `start, start + step, …`; step 0 fills. */
export function fill(
  backend: CudaBackend,
  shape: readonly number[],
  dtype: DataType,
  start: number,
  step = 0,
): TensorInfo {
  const out = backend.output(shape, dtype);
  const size = sizeOf(shape);
  const args = [pointer(backend.pointer(out)), int64(size), float32(start), float32(step)];
  backend.launch({ file, name: `fill_${dtype}` }, backend.blocks(size), THREADS, args);
  return out;
}

const select: CudaKernel = (inputs, _attrs, backend) => {
  const [condition, a, b] = [input(inputs, 'condition'), input(inputs, 't'), input(inputs, 'e')];
  const storage = backend.storageFor(a, b);
  const out = backend.output(a.shape, a.dtype, storage);
  const size = sizeOf(a.shape);
  const inner = Math.max(1, size / Math.max(1, sizeOf(condition.shape)));
  const addresses = [condition, a, b, out].map((info) => pointer(backend.pointer(info, storage)));
  const args = [...addresses, int64(size), int64(inner)];
  backend.launch({ file, name: `select_${a.dtype}`, storage }, backend.blocks(size), THREADS, args);
  return out;
};

const addN: CudaKernel = (inputs, _attrs, backend) => {
  const terms = Object.values(inputs);
  const [first, ...rest] = terms;
  if (first === undefined) throw new Error('AddN of nothing');
  let sum = backend.alias(first, first.shape);
  for (const term of rest) {
    const next = binary(backend, 'Add', sum, term);
    backend.release(sum);
    sum = next;
  }
  return sum;
};

export interface Fallback {
  (name: string): CudaKernel;
}

/** Registers the element-wise kernels; types they do not cover go to `fallback`. */
export function registerElementwise(fallback: Fallback): void {
  for (const name of UNARY) {
    const other = fallback(name);
    register(name, (inputs, attrs, backend) => {
      const x = input(inputs, 'x');
      const covered = x.dtype === 'float32' || (x.dtype === 'int32' && UNARY_ON_INTEGERS.has(name));
      return covered ? unary(backend, name, x) : other(inputs, attrs, backend);
    });
  }
  for (const name of ARITHMETIC) {
    const other = fallback(name);
    register(name, (inputs, attrs, backend) => {
      const a = input(inputs, name === 'Prelu' ? 'x' : 'a');
      const b = input(inputs, name === 'Prelu' ? 'alpha' : 'b');
      const covered =
        a.dtype === 'float32' ? !INTEGER_ONLY.has(name) : a.dtype === 'int32' && !FLOAT_ONLY.has(name);
      return covered && a.dtype === b.dtype ? binary(backend, name, a, b) : other(inputs, attrs, backend);
    });
  }
  for (const name of COMPARISONS) {
    register(name, (inputs, _attrs, backend) =>
      binary(backend, name, input(inputs, 'a'), input(inputs, 'b'), 'bool'),
    );
  }
  registerAll({
    AddN: addN,
    Cast: (inputs, attrs, backend) => cast(backend, input(inputs, 'x'), attrs.dtype as DataType),
    ClipByValue: (inputs, attrs, backend) =>
      unary(
        backend,
        'ClipByValue',
        input(inputs, 'x'),
        attrs.clipValueMin as number,
        attrs.clipValueMax as number,
      ),
    LeakyRelu: (inputs, attrs, backend) =>
      unary(backend, 'LeakyRelu', input(inputs, 'x'), attrs.alpha as number),
    LogicalNot: (inputs, _attrs, backend) => {
      const x = input(inputs, 'x');
      const out = backend.output(x.shape, 'bool');
      const size = sizeOf(x.shape);
      const args = [pointer(backend.pointer(x)), pointer(backend.pointer(out)), int64(size)];
      backend.launch({ file, name: 'unary_LogicalNot' }, backend.blocks(size), THREADS, args);
      return out;
    },
    Step: (inputs, attrs, backend) => unary(backend, 'Step', input(inputs, 'x'), attrs.alpha as number),
    Select: select,
    Fill: (_inputs, attrs, backend) => {
      const dtype = (attrs.dtype as DataType | undefined) ?? 'float32';
      return fill(backend, attrs.shape as number[], dtype, Number(attrs.value));
    },
    ZerosLike: (inputs, _attrs, backend) =>
      fill(backend, input(inputs, 'x').shape, input(inputs, 'x').dtype, 0),
    OnesLike: (inputs, _attrs, backend) =>
      fill(backend, input(inputs, 'x').shape, input(inputs, 'x').dtype, 1),
  });
}
