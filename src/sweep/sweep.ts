/** Measures every cell of a plan that is not known yet, one model after the other. */
import { SOLO, type Communicator } from '../distributed/communicator.js';
import type { Engine } from '../engines/engine.js';
import { costs } from '../model/costs.js';
import type { LanguageModel } from '../model/language-model.js';
import { runCell } from './cell.js';
import { ELEMENT_BYTES, requireMemory } from './memory-budget.js';
import { modelLabel, type ModelChoice } from './model-key.js';

/** A model of the sweep and the keys of its cells, in order. */
export interface SweepPart<Key> {
  readonly choice: ModelChoice;
  readonly keys: readonly Key[];
  /** Makes the model; default: the checkpoint's weights, or any when there is none. */
  readonly open?: () => Promise<LanguageModel>;
}

export interface OpenModel {
  readonly choice: ModelChoice;
  readonly model: LanguageModel;
  /** Bytes that tensors held before there was the model. */
  readonly foreignBytes: number;
  /** Bytes the model's tensors hold. */
  readonly weightBytes: number;
}

/** Where a sweep keeps its cells: `CellTable`, or a writer of rows. */
export interface CellStore<Key, Figures> {
  has(key: Key): boolean;
  append(cell: Key & Figures): void;
  fail(key: Key, error: unknown): void;
}

/** How far a sweep is: reported when a cell begins, while it is measured, and when it is done. */
export interface SweepProgress<Key> {
  readonly choice: ModelChoice;
  /** The cell at work. */
  readonly key: Key;
  /** Of `total`, in the units of the sweep (tokens, as a rule); cells of an earlier run do not count. */
  readonly done: number;
  readonly total: number;
}

export interface SweepOptions<Key, Figures> {
  readonly parts: readonly SweepPart<Key>[];
  readonly engine: Engine;
  readonly seed: number;
  readonly table: CellStore<Key, Figures>;
  /** Units of work in a cell: the tokens it is going to consume. */
  readonly unitsOf: (key: Key) => number;
  /**
   * The figures of a cell.
   * @param onUnits to be called with the units of the cell done so far
   */
  readonly measure: (open: OpenModel, key: Key, onUnits: (done: number) => void) => Promise<Figures>;
  /** Measures cells of one model together instead; default: each alone. */
  readonly together?: Together<Key, Figures>;
  readonly onProgress?: (progress: SweepProgress<Key>) => void;
  /**
   * The ranks over which models divide sequences, all of which measure the same cells: a cell that fails ends the sweep, since the
   * others wait in it. Default: none.
   */
  readonly communicator?: Communicator;
}

/** Cells that are measured together. */
export interface Together<Key, Figures> {
  /** Divides the cells of a model that are not known, in their order. */
  readonly groups: (choice: ModelChoice, keys: readonly Key[]) => readonly (readonly Key[])[];
  /**
   * The figures of each cell of a group, or why it has none.
   * @param onUnits to be called with the units of the group done so far
   */
  readonly measure: (
    open: OpenModel,
    keys: readonly Key[],
    onUnits: (done: number) => void,
  ) => Promise<PromiseSettledResult<Figures>[]>;
}

/** All keys of a plan, in order. */
export const planOf = <Key>(parts: readonly SweepPart<Key>[]): Key[] => parts.flatMap(({ keys }) => keys);

/** Weights drawn from the seed (a million draws repeated: what they are does not matter here), or the checkpoint's. */
async function openModel(
  { config, checkpoint }: ModelChoice,
  seed: number,
  ranks: Communicator,
): Promise<LanguageModel> {
  if (checkpoint) return (await import('../checkpoint/load.js')).modelOf(checkpoint, ranks);
  const { createModel } = await import('../model/create.js');
  return createModel(config, { seed, weights: 'repeated', ranks });
}

/** Makes the model when the first unknown cell asks for it. */
class LazyModel<Key> {
  private opened: OpenModel | undefined;

  constructor(
    private readonly part: SweepPart<Key>,
    private readonly engine: Engine,
    private readonly seed: number,
    private readonly ranks: Communicator,
  ) {}

  async get(): Promise<OpenModel> {
    if (this.opened) return this.opened;
    const { choice, open } = this.part;
    const bytes = costs(choice.config).weightBytes(ELEMENT_BYTES[this.engine.storage]);
    requireMemory(this.engine, bytes, `the weights of ${modelLabel(choice)}`);
    const foreignBytes = this.engine.memory().liveBytes;
    const model = await runCell(this.engine, () => open?.() ?? openModel(choice, this.seed, this.ranks));
    const weightBytes = this.engine.memory().liveBytes - foreignBytes;
    return (this.opened = { choice, model, foreignBytes, weightBytes });
  }

  dispose(): void {
    this.opened?.model.dispose();
  }
}

/**
 * Runs the sweep. A cell that fails is noted with its reason and leaves nothing on the engine (`runCell`), and the sweep continues
 * with the next.
 */
export async function sweepModels<Key, Figures>(options: SweepOptions<Key, Figures>): Promise<void> {
  const { parts, table, unitsOf, onProgress, communicator = SOLO } = options;
  const unitsOfAll = (keys: readonly Key[]): number => keys.reduce((sum, key) => sum + unitsOf(key), 0);
  const total = unitsOfAll(planOf(parts).filter((key) => !table.has(key)));
  let done = 0;
  for (const part of parts) {
    const { choice } = part;
    const model = new LazyModel(part, options.engine, options.seed, communicator);
    try {
      for (const keys of groupsOf(options, part)) {
        const [key] = keys;
        if (key === undefined) continue;
        const report = (units: number): void => {
          onProgress?.({ choice, key, done: done + units, total });
        };
        report(0);
        const figures = await measureGroup(options, model, keys, report);
        for (const [i, key] of keys.entries()) note(options, key, figures[i]);
        done += unitsOfAll(keys);
        report(0);
      }
    } finally {
      model.dispose();
    }
  }
}

function groupsOf<Key, Figures>(
  { table, together }: SweepOptions<Key, Figures>,
  { choice, keys }: SweepPart<Key>,
): readonly (readonly Key[])[] {
  const unknown = keys.filter((key) => !table.has(key));
  return together ? together.groups(choice, unknown) : unknown.map((key) => [key]);
}

async function measureGroup<Key, Figures>(
  { engine, measure, together }: SweepOptions<Key, Figures>,
  model: LazyModel<Key>,
  keys: readonly Key[],
  report: (done: number) => void,
): Promise<PromiseSettledResult<Figures>[]> {
  try {
    const open = await model.get();
    const all = (): Promise<PromiseSettledResult<Figures>[]> =>
      together
        ? together.measure(open, keys, report)
        : Promise.allSettled(keys.map((key) => measure(open, key, report)));
    return await runCell(engine, all, (results) => results.some(({ status }) => status === 'rejected'));
  } catch (reason) {
    return keys.map(() => ({ status: 'rejected', reason }));
  }
}

/** What goes wrong with the work is a row; what goes wrong with the writing ends the sweep. */
function note<Key, Figures>(
  { table, communicator = SOLO }: SweepOptions<Key, Figures>,
  key: Key,
  result: PromiseSettledResult<Figures> | undefined,
): void {
  if (result?.status === 'fulfilled') table.append({ ...key, ...result.value });
  else if (communicator.size > 1) throw result?.reason;
  else table.fail(key, result?.reason);
}
