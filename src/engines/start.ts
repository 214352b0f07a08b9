import { RunError } from '../errors.js';
import type { Engine, EngineName, EngineOptions } from './engine.js';

type Start = (options: EngineOptions) => Promise<Engine>;

/** How each engine is loaded, the best first; only the one that is used is ever imported. */
const STARTERS: Readonly<Record<EngineName, () => Promise<Start>>> = {
  cuda: () => Promise.reject(new RunError('cuda: not built yet')),
  tensorflow: () => Promise.reject(new RunError('tensorflow: not built yet')),
  webgpu: () => Promise.reject(new RunError('webgpu: not built yet')),
  cpu: async () => (await import('./cpu/index.js')).startCpu,
};

/**
 * Starts an engine and makes it current. `auto` takes the best that starts, and says on stderr which one and why
 * those before it did not.
 * @throws RunError if an engine asked for by name cannot start; the message says what to install
 */
export async function startEngine(name: EngineName | 'auto', options: EngineOptions = {}): Promise<Engine> {
  return name === 'auto' ? startBest(options) : (await STARTERS[name]())(options);
}

async function startBest(options: EngineOptions): Promise<Engine> {
  const refusals: string[] = [];
  for (const load of Object.values(STARTERS)) {
    try {
      const engine = await (await load())(options);
      const others = refusals.length > 0 ? `; not ${refusals.join('; not ')}` : '';
      process.stderr.write(`engine: ${engine.name} (${engine.description})${others}\n`);
      return engine;
    } catch (error) {
      if (!(error instanceof RunError)) throw error;
      refusals.push(error.message);
    }
  }
  throw new RunError(`No engine starts: ${refusals.join('; ')}`);
}
