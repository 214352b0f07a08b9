/** NCCL itself: its functions by FFI, which throw where they fail. */
import koffi from 'koffi';
import type { Reduction } from '../../distributed/communicator.js';
import type { Ranks } from '../../distributed/ranks.js';
import { RunError } from '../../errors.js';
import type { StorageType } from '../engine.js';
import { openLibrary, type NativeArgument } from './libraries.js';

/** Values of nccl.h. */
export const TYPES: Readonly<Record<StorageType | 'int32', number>> = {
  int32: 2,
  float16: 6,
  float32: 7,
  bfloat16: 9,
};
export const REDUCTIONS: Readonly<Record<Reduction, number>> = { sum: 0, max: 2 };
export const ID_BYTES = 128;

const P = 'void *';
const A = 'uint64';
const N = 'size_t';
const I = 'int';

/** Functions and their arguments; A is an address or a handle. */
const FUNCTIONS = {
  ncclGetVersion: [P],
  ncclGetUniqueId: [P],
  ncclAllReduce: [A, A, N, I, I, A, A],
  ncclReduceScatter: [A, A, N, I, I, A, A],
  ncclAllGather: [A, A, N, I, A, A],
  ncclBroadcast: [A, A, N, I, I, A, A],
  ncclSend: [A, N, I, I, A, A],
  ncclRecv: [A, N, I, I, A, A],
  ncclGroupStart: [],
  ncclGroupEnd: [],
  ncclCommSplit: [A, I, I, P, P],
  ncclCommAbort: [A],
  ncclCommDestroy: [A],
} as const;

type Call = (...args: readonly NativeArgument[]) => void;
/** The library, or what stands in for it. */
export interface Nccl {
  readonly call: Readonly<Record<keyof typeof FUNCTIONS, Call>>;
  join(id: Uint8Array, ranks: Ranks): number;
  readonly version: string;
}

/** Libraries in use: koffi closes one that is collected, though NCCL's own threads still run in it. */
const open: unknown[] = [];

/** @throws RunError where it is missing */
export function loadNccl(): Nccl {
  const library = openLibrary('libnccl', [2], 'for several GPUs');
  const same = koffi.load(library.path);
  open.push(library, same);
  const message = same.func('const char *ncclGetErrorString(int)') as (code: number) => string;
  const check = (code: number, name: string): void => {
    if (code !== 0) throw new RunError(`NCCL: ${message(code)} in ${name}; NCCL_DEBUG=WARN says more`);
  };
  const calls = Object.entries(FUNCTIONS).map(([name, types]): [string, Call] => {
    const native = library.bind(name, types);
    return [
      name,
      (...args) => {
        check(native(...args), name);
      },
    ];
  });
  const call = Object.fromEntries(calls) as Nccl['call'];
  // Passed by value: 128 bytes on the stack.
  const identifier = koffi.struct({ internal: koffi.array('uint8', ID_BYTES) });
  const initialise = same.func('ncclCommInitRank', 'int', ['void *', 'int', identifier, 'int']) as (
    out: BigUint64Array,
    size: number,
    id: { internal: Uint8Array },
    rank: number,
  ) => number;
  const version = new Int32Array(1);
  call.ncclGetVersion(version);
  return {
    call,
    version: versionText(version[0] ?? 0),
    join(id, { size, rank }) {
      const out = new BigUint64Array(1);
      check(initialise(out, size, { internal: id }, rank), 'ncclCommInitRank');
      return Number(out[0]);
    },
  };
}

/** The version of NCCL, or why there is none. */
export function ncclVersion(): { version: string } | { problem: string } {
  try {
    return { version: loadNccl().version };
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
}

/** 22809 is 2.28.9. */
function versionText(code: number): string {
  return `${Math.floor(code / 10000)}.${Math.floor((code % 10000) / 100)}.${code % 100}`;
}
