import { availableParallelism } from 'node:os';
import { type CacheType, cacheDefaults, CACHE_TYPES } from '../ops/attention/cache-type.js';
import { type ComputeType, weightDefaults } from '../ops/linear/compute-type.js';
import { reportRefusals } from '../ops/recording.js';
import { RunError, UsageError, YocoError } from '../errors.js';
import {
  type Engine,
  type EngineName,
  type EngineOptions,
  SlowEngineError,
  type StorageType,
  weightTypeOf,
} from './engine.js';

/** Options of the start functions; an engine that would only emulate a GPU refuses under `hardwareOnly`. */
type StartOptions = EngineOptions & { readonly hardwareOnly?: boolean };
type Start = (options: StartOptions) => Promise<Engine>;

/** How each engine is loaded, the best first; only the one that is used is ever imported. */
const STARTERS: Readonly<Record<EngineName, () => Promise<Start>>> = {
  cuda: async () => (await import('./cuda/index.js')).startCuda,
  tensorflow: async () => (await import('./tensorflow/index.js')).startTensorflow,
  webgpu: async () => (await import('./webgpu/index.js')).startWebgpu,
  cpu: async () => (await import('./cpu/index.js')).startCpu,
};

/** What is told of a start, in lines. */
export interface StartReports {
  /** Which engine was taken. */
  readonly note?: (line: string) => void;
  /** Why those before it could not start. */
  readonly detail?: (line: string) => void;
}

const ignore = (): void => undefined;

/**
 * Starts an engine and makes it current. `auto` takes the best that starts, and says which one and why those before it
 * did not.
 * @throws RunError if an engine asked for by name cannot start, the message says what to install; UsageError if no engine
 *   can do what was asked for
 */
export async function startEngine(
  name: EngineName | 'auto',
  options: EngineOptions = {},
  { note = ignore, detail = ignore }: StartReports = {},
): Promise<Engine> {
  reportRefusals((reason) => {
    note(`steps are computed, not replayed: ${reason}`);
  });
  const possible = withinCores(options, note);
  const engine = await (name === 'auto'
    ? startBest(possible, note, detail)
    : (await STARTERS[name]())(possible));
  engine.cacheType = cacheDefaults.type = cacheTypeOf(engine, options.cacheType);
  engine.compute = weightDefaults.compute = computeOf(engine, options.compute);
  weightDefaults.stored = weightTypeOf(engine);
  return engine;
}

/** Types in which an engine can keep keys and values, beside its own storage. */
function compressedTypes({ name, storage }: Engine): readonly CacheType[] {
  if (name === 'cpu') return CACHE_TYPES.filter((type) => type !== storage);
  return name === 'cuda' && storage === 'bfloat16' ? ['float8', 'int8', 'int4'] : [];
}

/** @throws UsageError for a type that the engine does not have */
function cacheTypeOf(engine: Engine, asked: CacheType | undefined): CacheType | null {
  if (asked === undefined || asked === engine.storage) return null;
  const possible = compressedTypes(engine);
  if (possible.includes(asked)) return asked;
  const others = possible.length > 0 ? ` or ${possible.join(', ')}` : '';
  throw new UsageError(
    `the ${engine.name} engine with ${engine.storage} keeps keys and values (--kv-dtype) in ${engine.storage}${others}, not in ${asked}; ` +
      'the others are for engine cpu, and float8, int8 and int4 for engine cuda with bfloat16',
  );
}

/** @throws UsageError where the engine does not compute in it */
export function computeOf(
  { name, storage, float8 = false }: Engine,
  asked: ComputeType | undefined,
): ComputeType | null {
  if (asked === undefined) return null;
  if (float8) return asked;
  throw new UsageError(
    `the ${name} engine with ${storage} cannot compute in ${asked} (--compute) here: ` +
      'engine cuda on a GPU of compute capability 9.0 with cuBLASLt 12.9 or newer can, and engine cpu',
  );
}

/** More threads than cores only wait for each other. */
function withinCores(options: EngineOptions, note: (line: string) => void): EngineOptions {
  const cores = availableParallelism();
  if (options.threads === undefined || options.threads <= cores) return options;
  note(`${options.threads} threads were asked for; this machine has ${cores} cores, so ${cores} are used`);
  return { ...options, threads: cores };
}

/** The parsed `engineFlags` of a command. */
export interface EngineFlags {
  readonly engine: EngineName | 'auto';
  readonly threads?: number;
  readonly dtype?: StorageType;
  readonly 'kv-dtype'?: CacheType;
  readonly compute?: ComputeType;
  /** Which GPU of the machine, where a launcher has started a process for each. */
  readonly device?: number;
}

/** Starts the engine that a command's flags name. */
export function startChosenEngine(
  { engine, threads, dtype, device, 'kv-dtype': cacheType, compute }: EngineFlags,
  reports: StartReports,
): Promise<Engine> {
  return startEngine(engine, { threads, storage: dtype, cacheType, compute, device }, reports);
}

/** What came of starting an engine. */
export interface EngineProbe {
  readonly name: EngineName;
  /** Null where it does not start, or computes wrongly. */
  readonly description: string | null;
  readonly device: string | null;
  /** Why it does not start, and what to install; of one that starts, why `auto` does not take it. */
  readonly problem: string | null;
}

/** Whether `auto` may take an engine: it works, and is not one of those that are slow here. */
export function isAutomatic({ description, problem }: EngineProbe): boolean {
  return description !== null && problem === null;
}

/**
 * Starts every engine, the best first, and lets each multiply two matrices. The last that starts stays current.
 * @param isRight whether the current engine computes
 */
export async function probeEngines(isRight = multiplies): Promise<EngineProbe[]> {
  const probes: EngineProbe[] = [];
  for (const name of Object.keys(STARTERS) as EngineName[]) {
    try {
      const { engine, slow } = await startEvenSlow(name);
      const { description, device } = engine;
      const works = await isRight();
      const problem = works ? slow : 'it starts, but a product of two matrices is wrong';
      probes.push({ name, description: works ? description : null, device, problem });
    } catch (error) {
      if (!(error instanceof YocoError)) throw error;
      probes.push({ name, description: null, device: null, problem: error.message });
    }
  }
  return probes;
}

/** Starts an engine as its name does, and says why `auto` would not. */
async function startEvenSlow(name: EngineName): Promise<{ engine: Engine; slow: string | null }> {
  const start = await STARTERS[name]();
  try {
    return { engine: await start({ hardwareOnly: true }), slow: null };
  } catch (error) {
    if (!(error instanceof SlowEngineError)) throw error;
    return { engine: await start({}), slow: error.message };
  }
}

/** [[1, 2], [3, 4]] squared. */
async function multiplies(): Promise<boolean> {
  const tf = await import('../tf.js');
  const product = tf.tidy(() => {
    const matrix = tf.tensor2d([1, 2, 3, 4], [2, 2]);
    return tf.matMul(matrix, matrix);
  });
  const values = [...(await product.data())];
  product.dispose();
  return values.join() === '7,10,15,22';
}

async function startBest(
  options: EngineOptions,
  note: (line: string) => void,
  detail: (line: string) => void,
): Promise<Engine> {
  const refusals: YocoError[] = [];
  for (const load of Object.values(STARTERS)) {
    try {
      const engine = await (await load())({ ...options, hardwareOnly: true });
      note(`engine: ${engine.name} (${engine.description})`);
      for (const { message } of refusals) detail(`  ${message}`);
      return engine;
    } catch (error) {
      if (!(error instanceof YocoError)) throw error;
      refusals.push(error);
    }
  }
  const text = `No engine starts: ${refusals.map(({ message }) => message).join('; ')}`;
  // The last, cpu, needs nothing of the machine: what it refuses is what it was asked for.
  throw refusals.at(-1) instanceof UsageError ? new UsageError(text) : new RunError(text);
}
