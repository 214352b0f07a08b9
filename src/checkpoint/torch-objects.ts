/** The objects a torch checkpoint's pickle may build: storages and tensors as descriptions, no data. */
import { RunError } from '../errors.js';
import { areSizes, elementCount } from './data-type.js';
import type { DataType } from './data-type.js';
import { isGlobal, Opaque, PickleDict } from './pickle-values.js';
import type { PickleGlobal, PickleObject, PickleRules, PickleValue } from './pickle-values.js';

export class TorchStorage implements PickleObject {
  readonly object = 'storage';
  constructor(
    readonly dtype: DataType,
    /** The archive entry `data/KEY` holds the elements. */
    readonly key: string,
    readonly elements: number,
  ) {}
}

export class TorchTensor implements PickleObject {
  readonly object = 'tensor';
  constructor(
    readonly storage: TorchStorage,
    /** In elements of the storage, like the strides. */
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}

const STORAGE_TYPES: ReadonlyMap<string, DataType> = new Map([
  ['torch.DoubleStorage', 'F64'],
  ['torch.FloatStorage', 'F32'],
  ['torch.HalfStorage', 'F16'],
  ['torch.BFloat16Storage', 'BF16'],
  ['torch.LongStorage', 'I64'],
  ['torch.IntStorage', 'I32'],
  ['torch.ShortStorage', 'I16'],
  ['torch.CharStorage', 'I8'],
  ['torch.ByteStorage', 'U8'],
  ['torch.BoolStorage', 'BOOL'],
]);

/** What torch calls the storage of a type, for those types it has. */
export function storageClass(dtype: DataType): string | undefined {
  for (const [name, type] of STORAGE_TYPES) if (type === dtype) return name.slice('torch.'.length);
  return undefined;
}

function sizes(value: PickleValue | undefined): number[] | undefined {
  return Array.isArray(value) && areSizes(value) ? [...value] : undefined;
}

/** Elements of the storage that the tensor reaches from its offset on: 1 + Σ (size - 1) · stride, 0 where empty. */
export function span(shape: readonly number[], strides: readonly number[]): number {
  if (shape.includes(0)) return 0;
  return shape.reduce((reach, size, axis) => reach + (size - 1) * (strides[axis] ?? 0), 1);
}

/** Rules under which torch's pickles are read: state dicts, tensors, parameters, sizes; nothing else. */
export function torchRules(path: string): PickleRules {
  const damaged = (problem: string): RunError => new RunError(`${path}: damaged checkpoint: ${problem}`);

  /** `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)` */
  const rebuildTensor = (args: readonly PickleValue[]): TorchTensor | Opaque => {
    const [storage, offset] = args;
    const [shape, strides] = [sizes(args[2]), sizes(args[3])];
    const start = sizes([offset ?? null])?.[0];
    if (storage instanceof Opaque) return storage;
    if (!(storage instanceof TorchStorage)) throw damaged('a tensor without a storage');
    if (shape === undefined || strides?.length !== shape.length || start === undefined) {
      throw damaged('a tensor whose shape, strides or offset are no sizes');
    }
    const reach = span(shape, strides);
    if (!(start + reach <= storage.elements)) {
      throw damaged(
        `a tensor [${shape.join(', ')}] reaches beyond its storage of ${storage.elements} elements`,
      );
    }
    if ((elementCount(shape) ?? Infinity) > Math.max(reach, 0)) {
      throw new RunError(
        `${path}: refused: a tensor [${shape.join(', ')}] repeats the ${reach} elements it stores`,
      );
    }
    return new TorchTensor(storage, start, shape, strides);
  };

  /** `_rebuild_parameter(tensor, requires_grad, hooks)` */
  const rebuildParameter = ([tensor]: readonly PickleValue[]): TorchTensor | Opaque => {
    if (tensor instanceof Opaque) return tensor;
    if (!(tensor instanceof TorchTensor)) throw damaged('a parameter without a tensor');
    return tensor;
  };

  const globals: PickleGlobal[] = [
    {
      global: 'collections.OrderedDict',
      call: ([items]) => {
        const dict = new PickleDict();
        for (const item of Array.isArray(items) ? items : []) {
          if (!Array.isArray(item) || typeof item[0] !== 'string' || item[1] === undefined) {
            throw damaged('a dict whose items are no pairs');
          }
          dict.set(item[0], item[1]);
        }
        return dict;
      },
    },
    { global: 'torch._utils._rebuild_tensor_v2', call: rebuildTensor },
    { global: 'torch._utils._rebuild_parameter', call: rebuildParameter },
    { global: 'torch.Size', call: ([size]) => sizes(size) ?? [] },
    ...[...STORAGE_TYPES.keys()].map((global) => ({ global })),
  ];

  /** The id is `('storage', class, key, location, elements)`. */
  const persistent = (id: PickleValue): TorchStorage | Opaque => {
    const [kind, type, key, , count] = Array.isArray(id) ? id : [];
    if (kind === 'storage' && type instanceof Opaque) return type;
    const dtype = isGlobal(type) ? STORAGE_TYPES.get(type.global) : undefined;
    const elements = sizes([count ?? null])?.[0];
    if (kind !== 'storage' || typeof key !== 'string' || dtype === undefined || elements === undefined) {
      throw damaged('a persistent id that is not a storage');
    }
    return new TorchStorage(dtype, key, elements);
  };

  return { globals: new Map(globals.map((value) => [value.global, value])), persistent };
}
