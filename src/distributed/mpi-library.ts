/** The C API of Open MPI and MPICH, called through koffi. Their handles differ: addresses of symbols, and numbers. */
import { createRequire } from 'node:module';
import type koffiModule from 'koffi';
import type { LibraryHandle } from 'koffi';
import { RunError } from '../errors.js';
import type { Launcher } from './ranks.js';

const MEMORY = 'void *';

type Argument = number | bigint | ArrayBufferView | null;
type Call = (...args: readonly Argument[]) => void;
type Handle = number | bigint;

/** The functions used; H stands for the type of a handle. */
const FUNCTIONS = {
  MPI_Init_thread: [MEMORY, MEMORY, 'int', MEMORY],
  MPI_Comm_rank: ['H', MEMORY],
  MPI_Comm_size: ['H', MEMORY],
  MPI_Comm_split: ['H', 'int', 'int', MEMORY],
  MPI_Get_library_version: [MEMORY, MEMORY],
  MPI_Allreduce: [MEMORY, MEMORY, 'int', 'H', 'H', 'H'],
  MPI_Reduce_scatter_block: [MEMORY, MEMORY, 'int', 'H', 'H', 'H'],
  MPI_Allgather: [MEMORY, 'int', 'H', MEMORY, 'int', 'H', 'H'],
  MPI_Bcast: [MEMORY, 'int', 'H', 'int', 'H'],
  MPI_Sendrecv: [MEMORY, 'int', 'H', 'int', 'int', MEMORY, 'int', 'H', 'int', 'int', 'H', MEMORY],
  MPI_Barrier: ['H'],
  MPI_Abort: ['H', 'int'],
  MPI_Finalize: [],
} as const;

export interface Mpi {
  readonly call: Readonly<Record<keyof typeof FUNCTIONS, Call>>;
  readonly world: Handle;
  readonly types: Readonly<Record<'float32' | 'int32' | 'byte', Handle>>;
  readonly reductions: Readonly<Record<'sum' | 'max', Handle>>;
  /** Room for the handle of a communicator, and the handle in it. */
  newHandle(): { readonly room: BigUint64Array | Int32Array; value(): Handle };
  /** The rank that takes no part. */
  readonly nobody: number;
}

/** What tells implementations apart: file names, the type of a handle, and their values. */
interface Implementation {
  readonly name: string;
  readonly files: readonly string[];
  readonly handle: 'uint64' | 'int';
  readonly nobody: number;
  /** World, float, int, byte, sum, max. */
  readonly handles: readonly (string | number)[];
}

/** Values of MPICH from its mpi.h, the ABI that Intel MPI and Cray MPICH share. */
const IMPLEMENTATIONS: Readonly<Record<'open-mpi' | 'mpich', Implementation>> = {
  'open-mpi': {
    name: 'Open MPI',
    files: ['libmpi.so.40', 'libmpi.so'],
    handle: 'uint64',
    nobody: -2,
    handles: [
      'ompi_mpi_comm_world',
      'ompi_mpi_float',
      'ompi_mpi_int',
      'ompi_mpi_byte',
      'ompi_mpi_op_sum',
      'ompi_mpi_op_max',
    ],
  },
  mpich: {
    name: 'MPICH',
    files: ['libmpich.so.12', 'libmpi.so.12'],
    handle: 'int',
    nobody: -1,
    handles: [0x44000000, 0x4c00040a, 0x4c000405, 0x4c00010d, 0x58000003, 0x58000001],
  },
};

/** The implementation that a launcher belongs to; under others, whichever is there. */
function candidates(launcher: Launcher): readonly Implementation[] {
  const { mpich } = IMPLEMENTATIONS;
  if (launcher === 'open-mpi') return [IMPLEMENTATIONS['open-mpi']];
  return launcher === 'mpich' ? [mpich] : [IMPLEMENTATIONS['open-mpi'], mpich];
}

/** Libraries in use: koffi closes one that is collected. */
const open: LibraryHandle[] = [];

/** @throws RunError where no library of the launcher's implementation is found */
export function loadMpi(launcher: Launcher): Mpi {
  const koffi = createRequire(import.meta.url)('koffi') as typeof koffiModule;
  const reasons: string[] = [];
  for (const implementation of candidates(launcher)) {
    for (const file of implementation.files) {
      try {
        // Open MPI loads plugins that look for its symbols among the global ones.
        const library = koffi.load(file, { global: true });
        open.push(library);
        return bind(library, implementation);
      } catch (error) {
        reasons.push((error as Error).message);
      }
    }
  }
  const names = candidates(launcher).map(({ name, files }) => `${name} (${files[0] ?? ''})`);
  throw new RunError(
    `several CPU processes talk by MPI, but ${names.join(' or ')} is not on the library path: install it (Debian: openmpi-bin), or set LD_LIBRARY_PATH (${reasons.at(-1) ?? ''})`,
  );
}

/** What the library calls itself: `Open MPI v4.1.4`, `MPICH 4.0.2`. */
export function versionOf({ call }: Mpi): string {
  const text = new Uint8Array(8192);
  const length = new Int32Array(1);
  call.MPI_Get_library_version(text, length);
  const [version = ''] = Buffer.from(text.subarray(0, length[0]))
    .toString('latin1')
    .split(/[\n,\0]/);
  return version.replace(/\s+Version:\s+/, ' ');
}

/** The version of the library of MPI, or why there is none. */
export function mpiVersion(): { version: string } | { problem: string } {
  try {
    return { version: versionOf(loadMpi('slurm')) };
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
}

function bind(library: LibraryHandle, { handle, nobody, handles }: Implementation): Mpi {
  const [world, float32, int32, byte, sum, max] = handles.map((value) =>
    typeof value === 'number' ? value : (library.symbol(value) as bigint),
  ) as [Handle, Handle, Handle, Handle, Handle, Handle];
  const calls = Object.entries(FUNCTIONS).map(([name, types]): [string, Call] => {
    const native = library.func(
      name,
      'int',
      types.map((type) => (type === 'H' ? handle : type)),
    ) as (...args: readonly Argument[]) => number;
    return [
      name,
      (...args) => {
        const code = native(...args);
        if (code !== 0) throw new RunError(`MPI error ${code} in ${name}`);
      },
    ];
  });
  return {
    call: Object.fromEntries(calls) as Mpi['call'],
    world,
    newHandle() {
      const room = handle === 'int' ? new Int32Array(1) : new BigUint64Array(1);
      return { room, value: () => room[0] ?? 0 };
    },
    types: { float32, int32, byte },
    reductions: { sum, max },
    nobody,
  };
}
