import { RunError, YocoError } from '../errors.js';
import type { Engine, EngineName, EngineOptions } from './engine.js';

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

/**
 * Starts an engine and makes it current. `auto` takes the best that starts, and says on stderr which one and why those
 * before it did not.
 * @throws RunError if an engine asked for by name cannot start; the message says what to install
 */
export async function startEngine(name: EngineName | 'auto', options: EngineOptions = {}): Promise<Engine> {
  return name === 'auto' ? startBest(options) : (await STARTERS[name]())(options);
}

async function startBest(options: EngineOptions): Promise<Engine> {
  const refusals: string[] = [];
  for (const load of Object.values(STARTERS)) {
    try {
      const engine = await (await load())({ ...options, hardwareOnly: true });
      const lines = [
        `engine: ${engine.name} (${engine.description})`,
        ...refusals.map((line) => `  ${line}`),
      ];
      process.stderr.write(`${lines.join('\n')}\n`);
      return engine;
    } catch (error) {
      if (!(error instanceof YocoError)) throw error;
      refusals.push(error.message);
    }
  }
  throw new RunError(`No engine starts: ${refusals.join('; ')}`);
}
