/**
 * Damages the files of a table at random and opens it again: whatever a file holds, it is read, or refused with one line that
 * names the file.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeFailure } from '../../src/cli/failure.js';
import { YocoError } from '../../src/errors.js';
import { Random } from '../../src/random.js';
import { compareResults, readBaseline } from '../../src/results/compare.js';
import { collectProvenance } from '../../src/results/provenance.js';
import type { Row, Schema } from '../../src/results/schema.js';
import { ResultWriter } from '../../src/results/writer.js';

const schema: Schema = {
  name: 'sweep',
  columns: [
    { name: 'model', kind: 'key', description: '' },
    { name: 'context', kind: 'key', description: '' },
    { name: 'loss', kind: 'result', description: '', digits: 3 },
    { name: 'seconds', kind: 'timing', description: '', better: 'lower' },
  ],
};
const rows = (model: string): Row[] =>
  [1, 2, 3].map((context) => ({ model, context, loss: 1 / 7, seconds: 2 }));
const FILES = ['sweep.csv', 'sweep.timings.csv', 'sweep.cells.jsonl', 'sweep.run.json'];
const VALUES = [
  'null',
  '[]',
  '{}',
  '7',
  '-1e999',
  '"x"',
  'true',
  '\0',
  '\ufeff',
  '"',
  ',',
  '\n',
  '\r\n',
  '__proto__',
  '{"a":',
];

export interface MutationCounts {
  readonly read: number;
  readonly refused: number;
  /** What was neither: the file, its text and the error. */
  readonly faults: string[];
}

/** One random change of a text: bytes flipped, cut, repeated or replaced by odd values. */
function mutate(text: string, random: Random): string {
  const at = random.below(text.length + 1);
  const length = random.below(Math.min(40, text.length) + 1);
  const value = VALUES[random.below(VALUES.length)] ?? '';
  const kinds = [
    () => text.slice(0, at),
    () => text.slice(0, at) + text.slice(at + length),
    () => text.slice(0, at) + value + text.slice(at + length),
    () => text.slice(0, at) + text.slice(at, at + length).repeat(3) + text.slice(at + length),
    () => text.replace(/[^,:[\]{}\n]+/g, (token) => (random.below(12) === 0 ? value : token)),
    () => value,
  ];
  return kinds[random.below(kinds.length)]?.() ?? text;
}

/** Opens the damaged table as a run of other keys and as a baseline of `--check`. */
function use(directory: string): void {
  const provenance = collectedOnce();
  const plan = rows('b');
  const writer = ResultWriter.open(directory, schema, { provenance, settings: null, plan });
  try {
    for (const row of plan) if (!writer.has(row)) writer.append(row);
  } finally {
    writer.close();
  }
  const baseline = readBaseline(schema, join(directory, 'sweep.csv'));
  compareResults(schema, rows('a'), baseline, 0);
}

let collected: ReturnType<typeof collectProvenance> | undefined;
const collectedOnce = (): ReturnType<typeof collectProvenance> =>
  (collected ??= collectProvenance({ command: ['sweep'], flags: {} }));

export function tryMutations(count: number, seed: number): MutationCounts {
  const random = new Random(seed);
  const directory = mkdtempSync(join(tmpdir(), 'yoco-mutations-'));
  const at = (name: string): string => join(directory, name);
  let [read, refused] = [0, 0];
  const faults: string[] = [];
  try {
    const plan = rows('a');
    const writer = ResultWriter.open(directory, schema, {
      provenance: collectedOnce(),
      settings: null,
      plan,
    });
    for (const row of plan) writer.append(row);
    writer.close();
    const originals = new Map(FILES.map((name) => [name, readFileSync(at(name), 'utf8')]));
    for (let done = 0; done < count; done++) {
      rmSync(directory, { recursive: true, force: true });
      mkdirSync(directory);
      for (const [name, text] of originals) writeFileSync(at(name), text);
      const name = FILES[random.below(FILES.length)] ?? '';
      const text = mutate(originals.get(name) ?? '', random);
      writeFileSync(at(name), text);
      try {
        use(directory);
        read += 1;
      } catch (error) {
        const { message } = describeFailure(error, []);
        if (error instanceof YocoError && !message.includes('\n')) refused += 1;
        else faults.push(`${name}: ${JSON.stringify(text)}: ${message}`);
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return { read, refused, faults };
}
