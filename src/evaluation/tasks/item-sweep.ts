/**
 * Several models answer the same items, one row per item: what MMLU and the other tasks have in common. A run that
 * was interrupted goes on at the first group of items that is not wholly known.
 */
import type { LanguageModel } from '../../model/language-model.js';
import type { Json } from '../../results/canonical.js';
import { keyText } from '../../results/cells.js';
import type { Row, Schema } from '../../results/schema.js';
import { ResultWriter } from '../../results/writer.js';
import type { Candidate } from '../candidates.js';
import { engineIdentity, type Session } from '../session.js';

/** A subject or a task. */
export interface ItemUnit {
  readonly name: string;
}

export interface SweepTarget extends Session {
  /** Tokens of a prompt at most; undefined: what each model was trained on, where that is known. */
  readonly maxContext?: number;
  readonly directory: string;
  /** Keep the items that an earlier run has answered. */
  readonly resume: boolean;
  /** Called for every item that is answered or known. */
  readonly onItem: (candidate: Candidate, unit: string) => void;
}

export interface ItemSweep<Unit extends ItemUnit> extends SweepTarget {
  readonly schema: Schema;
  readonly units: readonly Unit[];
  /** What determines the results of a unit beside the model and the limit of its prompts. */
  readonly settings: (unit: Unit) => Json;
  readonly itemsOf: (unit: Unit) => readonly { readonly index: number }[];
  readonly keyOf: (model: Row, unit: Unit, index: number) => Row;
  /** Result cells in the order of the items; groups of items that are all known may be left out. */
  readonly score: (
    model: LanguageModel,
    candidate: Candidate,
    unit: Unit,
    scoring: { limit: number; isKnown: (index: number) => boolean },
  ) => AsyncIterable<{ index: number; cells: Row }>;
}

/** Rows of each unit's items, by the unit's name. */
export type RowsByUnit = ReadonlyMap<string, readonly Row[]>;

/** Opens the table of items; `answers` fills it. */
export function openItems<Unit extends ItemUnit>(sweep: ItemSweep<Unit>): ResultWriter {
  const plan: Row[] = [];
  const settings = new Map<string, Json>();
  for (const candidate of sweep.candidates) {
    for (const unit of sweep.units) {
      const limit = limitOf(sweep, candidate) ?? null;
      const engine = engineIdentity(sweep.engine);
      const shared = { model: candidate.settings, engine, limit, unit: sweep.settings(unit) };
      for (const key of keysOf(sweep, candidate, unit)) {
        plan.push(key);
        settings.set(keyText(sweep.schema, key), shared);
      }
    }
  }
  return ResultWriter.open(sweep.directory, sweep.schema, {
    settings: (row) => settings.get(keyText(sweep.schema, row)) ?? null,
    provenance: sweep.provenance,
    resume: sweep.resume,
    plan,
  });
}

/** The rows of one model after another. */
export async function* answers<Unit extends ItemUnit>(
  sweep: ItemSweep<Unit>,
  table: ResultWriter,
): AsyncGenerator<{ candidate: Candidate; rows: RowsByUnit }> {
  for (const candidate of sweep.candidates) {
    await answerAll(sweep, candidate, table);
    const rows = sweep.units.map((unit) => {
      const known = keysOf(sweep, candidate, unit).map((key) => table.get(key));
      return [unit.name, known.filter((row) => row !== undefined)] as const;
    });
    yield { candidate, rows: new Map(rows) };
  }
}

const limitOf = ({ maxContext }: SweepTarget, { trainedContext }: Candidate): number | undefined =>
  maxContext ?? trainedContext ?? undefined;

const keysOf = <Unit extends ItemUnit>(sweep: ItemSweep<Unit>, { key }: Candidate, unit: Unit): Row[] =>
  sweep.itemsOf(unit).map(({ index }) => sweep.keyOf(key, unit, index));

async function answerAll<Unit extends ItemUnit>(
  sweep: ItemSweep<Unit>,
  candidate: Candidate,
  table: ResultWriter,
): Promise<void> {
  let model: LanguageModel | null = null;
  try {
    for (const unit of sweep.units) {
      const items = sweep.itemsOf(unit);
      const known = new Set(
        items
          .filter(({ index }) => table.has(sweep.keyOf(candidate.key, unit, index)))
          .map(({ index }) => index),
      );
      for (let count = 0; count < known.size; count++) sweep.onItem(candidate, unit.name);
      if (known.size === items.length) continue;
      model ??= await candidate.open();
      const scoring = {
        limit: limitOf(sweep, candidate) ?? Infinity,
        isKnown: (index: number) => known.has(index),
      };
      for await (const { index, cells } of sweep.score(model, candidate, unit, scoring)) {
        if (known.has(index)) continue;
        table.append({ ...sweep.keyOf(candidate.key, unit, index), ...cells });
        sweep.onItem(candidate, unit.name);
      }
    }
  } finally {
    model?.dispose();
  }
}
