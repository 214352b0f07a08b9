/**
 * Which of several processes this one is. The launchers people have (torchrun, srun, mpirun, `yoco launch`) start the same
 * command once per device and tell each process its rank in the environment.
 */
import { UsageError } from '../errors.js';

export type Launcher = 'torchrun' | 'open-mpi' | 'mpich' | 'slurm';

export interface Ranks {
  readonly launcher: Launcher;
  /** From 0 to size - 1. */
  readonly rank: number;
  /** Processes of the run. */
  readonly size: number;
  /** Place among the processes of this machine: the device to take. */
  readonly localRank: number;
  /** Where rank 0 listens, when the launcher names it. */
  readonly master: { readonly host: string; readonly port: number } | null;
  /** What tells these ranks from those of other runs on the same machines, where the launcher names it. */
  readonly run?: string;
}

/** Environment variable that tells a rank to mark its lines on stderr itself. */
export const MARK_LINES = 'YOCO_MARK_LINES';

/** What asks the ranks of such a run to stop: mpirun passes it on, where SIGINT and SIGTERM make it kill them within a second. */
export const STOP_UNDER_MPIRUN = 'SIGUSR2';

/** What comes before a line of a rank. */
export const rankMark = (rank: number): string => `[rank ${rank}] `;

interface Convention {
  readonly launcher: Launcher;
  /** Variables of rank, size and place on the machine. */
  readonly names: readonly [rank: string, size: string, localRank: string];
  /** Has the size where it is given: the shell of an interactive Slurm job keeps the size of the job in the other one. */
  readonly stepSize?: string;
  /** A variable without which the others mean something else. */
  readonly marker?: string;
}

/**
 * The innermost launcher comes first: torchrun may run under srun, and mpirun within a Slurm job. The batch script of a Slurm
 * job has `SLURM_PROCID` as well; only a step that srun started has `SLURM_STEP_ID`.
 */
const CONVENTIONS: readonly Convention[] = [
  { launcher: 'torchrun', names: ['RANK', 'WORLD_SIZE', 'LOCAL_RANK'] },
  {
    launcher: 'open-mpi',
    names: ['OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'],
  },
  { launcher: 'mpich', names: ['PMI_RANK', 'PMI_SIZE', 'MPI_LOCALRANKID'] },
  {
    launcher: 'slurm',
    names: ['SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'],
    stepSize: 'SLURM_STEP_NUM_TASKS',
    marker: 'SLURM_STEP_ID',
  },
];

/** The port at which rank 0 listens when the launcher names none, torchrun's default. */
const DEFAULT_PORT = 29500;
/** Under Slurm every step has a port of its own from here on, below those that the system gives out. */
const [FIRST_STEP_PORT, STEP_PORTS] = [20000, 4000];

/**
 * The place of this process by its environment; null where no launcher started it, or only one process.
 * @throws UsageError for variables that contradict each other, and for one process by one launcher that another started many times
 */
export function ranksOf(environment: NodeJS.ProcessEnv): Ranks | null {
  const [convention, ...outer] = CONVENTIONS.filter(({ names, marker }) =>
    [names[0], names[1], ...(marker === undefined ? [] : [marker])].every((name) => given(environment, name)),
  );
  if (convention === undefined) return null;
  const [rankName, , localName] = convention.names;
  const [sizeName, size] = sizeBy(convention, environment);
  const rank = whole(environment, rankName);
  if (size < 1 || rank >= size) {
    throw new UsageError(
      `${rankName} is ${rank}, but ${sizeName} is ${size}: ranks count from 0 to size - 1`,
    );
  }
  if (size === 1) {
    for (const other of outer) {
      const [otherName, processes] = sizeBy(other, environment);
      if (processes === 1) continue;
      throw new UsageError(
        `${sizeName} is 1, but ${otherName} is ${processes}: each process would believe to be alone; unset ${sizeName}, or start one`,
      );
    }
    return null;
  }
  const localRank = given(environment, localName) ? whole(environment, localName) : rank;
  const { launcher } = convention;
  return {
    launcher,
    rank,
    size,
    localRank,
    master: masterOf(launcher, environment),
    run: runOf(launcher, environment),
  };
}

function sizeBy(
  { names, stepSize }: Convention,
  environment: NodeJS.ProcessEnv,
): [name: string, size: number] {
  const name = stepSize !== undefined && given(environment, stepSize) ? stepSize : names[1];
  return [name, whole(environment, name)];
}

function given(environment: NodeJS.ProcessEnv, name: string): boolean {
  const value = environment[name];
  return value !== undefined && value !== '';
}

function whole(environment: NodeJS.ProcessEnv, name: string): number {
  const text = environment[name] ?? '';
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new UsageError(`${name} must be a whole number, found '${text.slice(0, 80)}'`);
}

function masterOf(launcher: Launcher, environment: NodeJS.ProcessEnv): Ranks['master'] {
  const port = given(environment, 'MASTER_PORT')
    ? whole(environment, 'MASTER_PORT')
    : defaultPort(launcher, environment);
  // Ranks meet at the next one.
  if (port < 1 || port > 65534)
    throw new UsageError(`MASTER_PORT must be a port from 1 to 65534, found ${port}`);
  if (given(environment, 'MASTER_ADDR')) return { host: environment.MASTER_ADDR ?? '', port };
  const nodes = environment.SLURM_STEP_NODELIST ?? environment.SLURM_JOB_NODELIST;
  return nodes === undefined || nodes === '' ? null : { host: firstHost(nodes), port };
}

/** Two jobs may share a node, and two steps a job. */
function defaultPort(launcher: Launcher, environment: NodeJS.ProcessEnv): number {
  if (launcher !== 'slurm') return DEFAULT_PORT;
  const [job, step] = [slurmJob(environment), environment.SLURM_STEP_ID ?? ''];
  if (job === '') return DEFAULT_PORT;
  const number = Number(job) + Number(step);
  return Number.isSafeInteger(number) ? FIRST_STEP_PORT + 2 * (number % STEP_PORTS) : DEFAULT_PORT;
}

/** Only of the launcher in use: another one's variables may be there on one machine and not on the next. */
function runOf(launcher: Launcher, environment: NodeJS.ProcessEnv): string {
  if (launcher === 'torchrun') return environment.TORCHELASTIC_RUN_ID ?? '';
  return launcher === 'slurm' ? `${slurmJob(environment)}.${environment.SLURM_STEP_ID ?? ''}` : '';
}

/** The parts of a heterogeneous job have numbers of their own. */
const slurmJob = (environment: NodeJS.ProcessEnv): string =>
  environment.SLURM_HET_JOB_ID ?? environment.SLURM_JOB_ID ?? '';

/**
 * The first host of a Slurm list: `gpu[07-09,12],login1` begins with gpu07, `a1,b2` with a1, `rack[1-2]node[3-4]` with
 * rack1node3.
 */
export function firstHost(list: string): string {
  let depth = 0;
  let end = 0;
  for (; end < list.length; end++) {
    if (list[end] === '[') depth += 1;
    else if (list[end] === ']') depth -= 1;
    else if (list[end] === ',' && depth === 0) break;
  }
  return list.slice(0, end).replace(/\[([^\]]*)\]/g, (_, range: string) => /^[^,-]*/.exec(range)?.[0] ?? '');
}

/**
 * For commands whose ranks can only divide sequences.
 * @throws UsageError where not all ranks are to divide them, or there are none to do so
 */
export function requireDividing(ranks: Ranks | null, contextParallel = 1): void {
  const size = ranks?.size ?? 1;
  if (size === contextParallel) return;
  if (ranks === null) {
    throw new UsageError(
      `--context-parallel ${contextParallel} divides sequences over ${contextParallel} processes, and this one is alone: yoco launch --ranks ${contextParallel} -- COMMAND starts them`,
    );
  }
  throw new UsageError(
    `${ranks.launcher} started ${size} processes, which can only divide sequences here: give --context-parallel ${size}`,
  );
}
