import { availableParallelism } from 'node:os';
import { reportRefusals } from '../ops/recording.js';
import { RunError, YocoError } from '../errors.js';
import type { Engine, EngineName, EngineOptions, StorageType } from './engine.js';

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
 * @throws RunError if an engine asked for by name cannot start; the message says what to install
 */
export async function startEngine(
  name: EngineName | 'auto',
  options: EngineOptions = {},
  { note = ignore, detail = ignore }: StartReports = {},
): Promise<Engine> {
  reportRefusals((reason) => {
    note(`decoding steps are computed, not replayed: ${reason}`);
  });
  const possible = withinCores(options, note);
  return name === 'auto' ? startBest(possible, note, detail) : (await STARTERS[name]())(possible);
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
  /** Which GPU of the machine, where a launcher has started a process for each. */
  readonly device?: number;
}

/** Starts the engine that a command's flags name. */
export function startChosenEngine(
  { engine, threads, dtype, device }: EngineFlags,
  reports: StartReports,
): Promise<Engine> {
  return startEngine(engine, { threads, storage: dtype, device }, reports);
}

async function startBest(
  options: EngineOptions,
  note: (line: string) => void,
  detail: (line: string) => void,
): Promise<Engine> {
  const refusals: string[] = [];
  for (const load of Object.values(STARTERS)) {
    try {
      const engine = await (await load())({ ...options, hardwareOnly: true });
      note(`engine: ${engine.name} (${engine.description})`);
      for (const line of refusals) detail(`  ${line}`);
      return engine;
    } catch (error) {
      if (!(error instanceof YocoError)) throw error;
      refusals.push(error.message);
    }
  }
  throw new RunError(`No engine starts: ${refusals.join('; ')}`);
}
