/** Measures every cell of a plan that is not known yet, one model after the other. */
import { modelLabel, modelSettings, type ModelChoice } from './models.js';
import { YocoError } from '../errors.js';
import type { Engine } from '../engines/engine.js';
import { costs } from '../model/costs.js';
import type { LanguageModel } from '../model/language-model.js';
import type { Json } from '../results/canonical.js';
import type { Row } from '../results/schema.js';
import type { ResultWriter } from '../results/writer.js';
import { ELEMENT_BYTES, requireMemory } from './memory-budget.js';

/** A model of the sweep and the keys of its cells, in order. */
export interface SweepPart {
  choice: ModelChoice;
  keys: readonly Row[];
  /** Makes the model; default: the checkpoint's weights, or any when there is none. */
  open?: () => Promise<LanguageModel>;
}

export interface LoadedModel {
  choice: ModelChoice;
  model: LanguageModel;
  /** Bytes that tensors held before there was the model. */
  foreignBytes: number;
  /** Bytes the model's tensors hold. */
  weightBytes: number;
}

export interface SweepOptions {
  parts: readonly SweepPart[];
  engine: Engine;
  seed: number;
  writer: ResultWriter;
  /** The result and timing columns of a cell. */
  measure: (loaded: LoadedModel, key: Row) => Promise<Row>;
  /** Called after each cell, measured or known. */
  onCell?: (choice: ModelChoice, key: Row) => void;
}

/** The plan for `ResultWriter.open`. */
export const planOf = (parts: readonly SweepPart[]): Row[] => parts.flatMap(({ keys }) => keys);

/** What determines the cells of each model, found by key. */
export function settingsByKey(parts: readonly SweepPart[], seed: number, common: Json): (key: Row) => Json {
  const models = new Map(
    parts.flatMap(({ choice, keys }) => {
      const settings = { model: modelSettings(choice, seed), common };
      return keys.map((key): [string, Json] => [identify(key), settings]);
    }),
  );
  return (row) => models.get(identify(row)) ?? null;
}

const identify = ({ model, architecture, self_decoder: selfDecoder }: Row): string =>
  JSON.stringify([model, architecture, selfDecoder]);

/** Weights drawn from the seed (a million draws repeated: what they are does not matter here), or the checkpoint's. */
async function openModel({ config, checkpoint }: ModelChoice, seed: number): Promise<LanguageModel> {
  if (checkpoint) return (await import('../checkpoint/load.js')).modelOf(checkpoint);
  const { createModel } = await import('../model/create.js');
  return createModel(config, { seed, weights: 'repeated' });
}

/** Makes the model when the first unknown cell asks for it. */
class LazyModel {
  private loaded: LoadedModel | undefined;

  constructor(
    private readonly part: SweepPart,
    private readonly options: SweepOptions,
  ) {}

  async get(): Promise<LoadedModel> {
    if (this.loaded) return this.loaded;
    const { choice, open } = this.part;
    const { engine, seed } = this.options;
    const bytes = costs(choice.config).weightBytes(ELEMENT_BYTES[engine.storage]);
    requireMemory(engine, bytes, `the weights of ${modelLabel(choice)}`);
    const foreignBytes = engine.memory().liveBytes;
    const model = await (open?.() ?? openModel(choice, seed));
    const weightBytes = engine.memory().liveBytes - foreignBytes;
    return (this.loaded = { choice, model, foreignBytes, weightBytes });
  }

  dispose(): void {
    this.loaded?.model.dispose();
  }
}

/** Runs the sweep. A cell that fails is a row that says why, and the sweep goes on. */
export async function sweepModels(options: SweepOptions): Promise<void> {
  const { parts, writer, measure, onCell } = options;
  for (const part of parts) {
    const { choice, keys } = part;
    const model = new LazyModel(part, options);
    try {
      for (const key of keys) {
        if (!writer.has(key)) await attempt(writer, key, async () => measure(await model.get(), key));
        onCell?.(choice, key);
      }
    } finally {
      model.dispose();
    }
  }
}

async function attempt(writer: ResultWriter, key: Row, work: () => Promise<Row>): Promise<void> {
  try {
    writer.append({ ...key, ...(await work()) });
  } catch (error) {
    if (!(error instanceof YocoError)) throw error;
    writer.fail(key, error);
  }
}
