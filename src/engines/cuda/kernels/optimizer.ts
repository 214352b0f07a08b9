import { adamWRule } from '../../../ops/adamw/rule.js';
import { type AdamWAttributes } from '../../../ops/kernels.js';
import type { TensorInfo } from '../../../tf.js';
import type { CudaBackend } from '../backend.js';
import { type KernelArgument, float32, int32, pointer } from '../launch.js';
import { RULE, TENSOR } from '../structs.js';
import { TILES } from '../tiles.js';
import { sizeOf } from '../walk.js';
import { registerFusedOp } from './register.js';

const file = 'optimizer';
const { PIECE, THREADS } = TILES.optimizer;

/** What a kernel is to know of a tensor; addresses it has no use for are 0. */
export interface TableEntry {
  /** Address of the float32 parameter, and of the one in storage. */
  readonly parameter: number;
  readonly stored: number;
  readonly gradient: number;
  /** Addresses of the moments. */
  readonly first: number;
  readonly second: number;
  readonly size: number;
  /** Whether the gradient is float32. */
  readonly isWide: boolean;
  readonly weightDecay: number;
}

/** The table as the kernels read it, and the pieces of all its tensors. */
export function tensorTable(entries: readonly TableEntry[]): { bytes: Uint8Array; pieces: number } {
  let pieces = 0;
  const rows = entries.map(({ isWide, weightDecay, ...entry }) => {
    const piece = pieces;
    pieces += Math.ceil(entry.size / PIECE);
    return { ...entry, piece, isWide: isWide ? 1 : 0, decay: weightDecay, unused: 0 };
  });
  return { bytes: TENSOR.table(rows), pieces };
}

/** A gradient is read as it is kept: what kernels summed in float32 need not be rounded first. */
function gradientOf(backend: CudaBackend, gradient: TensorInfo): { address: number; isWide: boolean } {
  const storage = backend.storageFor(gradient);
  return { address: backend.pointer(gradient, storage), isWide: storage === 'float32' };
}

type Rule = readonly [number, number, number, number, number, number];

interface AdamWTensors {
  parameter: TensorInfo;
  gradient: TensorInfo;
  firstMoment: TensorInfo;
  secondMoment: TensorInfo;
  weightDecay: number;
}

/** Moments and a master copy of the parameter are float32; the 16-bit parameter is rounded from the master. */
function adamWEntry(backend: CudaBackend, tensors: AdamWTensors): TableEntry {
  const { parameter, firstMoment, secondMoment, weightDecay } = tensors;
  const stored = backend.pointer(parameter);
  const { address, isWide } = gradientOf(backend, tensors.gradient);
  const master = backend.writable(parameter, 'float32', true);
  const [first, second] = [firstMoment, secondMoment].map((moment) =>
    backend.writable(moment, 'float32'),
  ) as [number, number];
  const size = sizeOf(parameter.shape);
  return { parameter: master, stored, gradient: address, first, second, size, isWide, weightDecay };
}

function adamW(
  backend: CudaBackend,
  tensors: readonly AdamWTensors[],
  scale: TensorInfo | undefined,
  attrs: Omit<AdamWAttributes, 'weightDecay'>,
  moving?: TensorInfo,
): TensorInfo[] {
  const { bytes, pieces } = tensorTable(tensors.map((entry) => adamWEntry(backend, entry)));
  const constant = scale === undefined ? 1 : backend.constant(scale);
  const [beta1, beta2, epsilon, rate, correction, decayedRate] = adamWRule(attrs) as unknown as Rule;
  const rule = RULE.argument({ beta1, beta2, epsilon, rate, correction, decayedRate });
  backend.uploaded(bytes, (table) => {
    const args: KernelArgument[] = [
      pointer(table),
      int32(tensors.length),
      pointer(scale === undefined || constant !== null ? 0 : backend.pointer(scale, 'float32')),
      float32(constant ?? 1),
      pointer(moving === undefined ? 0 : backend.pointer(moving, 'float32')),
      rule,
    ];
    backend.launch({ file, name: 'adamw' }, [pieces], THREADS, args);
  });
  return [];
}

/** Of a tensor that is only measured. */
const NOTHING = { parameter: 0, stored: 0, first: 0, second: 0, weightDecay: 0 };

/** Two passes in a fixed order, so that the same gradients give the same norm; nothing is read back. */
function clipScale(backend: CudaBackend, gradients: readonly TensorInfo[], clip: number): TensorInfo[] {
  const [norm, scale] = [0, 1].map(() => backend.output([], 'float32', 'float32')) as [
    TensorInfo,
    TensorInfo,
  ];
  const { bytes, pieces } = tensorTable(
    gradients.map((gradient) => {
      const { address, isWide } = gradientOf(backend, gradient);
      const size = sizeOf(gradient.shape);
      return { ...NOTHING, gradient: address, size, isWide };
    }),
  );
  const results = [norm, scale].map((info) => pointer(backend.pointer(info, 'float32')));
  backend.uploaded(bytes, (table) => {
    backend.scratch(pieces * 4, (sums) => {
      const first = [pointer(table), int32(gradients.length), pointer(sums)];
      backend.launch({ file, name: 'square_sums' }, [pieces], THREADS, first);
      const second = [pointer(sums), int32(pieces), float32(clip), ...results];
      backend.launch({ file, name: 'clip_scale' }, [1], 1024, second);
    });
  });
  return [norm, scale];
}

/** The tensors of a kernel whose inputs are numbered. */
function numbered(inputs: Readonly<Record<string, TensorInfo>>, name: string, count: number): TensorInfo[] {
  return Array.from({ length: count }, (_, index) => inputs[`${name}${index}`] as TensorInfo);
}

export function registerOptimizer(): void {
  registerFusedOp('AdamW', ({ scale, ...tensors }, attrs, backend) =>
    adamW(backend, [{ ...tensors, weightDecay: attrs.weightDecay }], scale, attrs),
  );
  registerFusedOp('AdamWAll', (inputs, attrs, backend) => {
    const of = (name: string): TensorInfo[] => numbered(inputs, name, attrs.weightDecays.length);
    const [gradients, first, second] = [of('gradient'), of('firstMoment'), of('secondMoment')];
    const tensors = of('parameter').map((parameter, i) => ({
      parameter,
      gradient: gradients[i] as TensorInfo,
      firstMoment: first[i] as TensorInfo,
      secondMoment: second[i] as TensorInfo,
      weightDecay: attrs.weightDecays[i] ?? 0,
    }));
    return adamW(backend, tensors, inputs.scale, attrs, inputs.rule);
  });
  registerFusedOp('ClipScale', (inputs, { count, clip }, backend) =>
    clipScale(backend, numbered(inputs, 'x', count), clip),
  );
}
