/**
 * Mutated files, thousands a second: every one is read or refused in one line. `npm run robustness -- fuzz [SECONDS] [SEED]`.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { convertCheckpoint } from '../../src/checkpoint/convert.js';
import { GgufFile } from '../../src/checkpoint/gguf/file.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { parseHeader } from '../../src/checkpoint/safetensors-header.js';
import { SafetensorsFile } from '../../src/checkpoint/safetensors.js';
import { TorchArchive } from '../../src/checkpoint/torch-archive.js';
import { torchRules } from '../../src/checkpoint/torch-objects.js';
import { unpickle } from '../../src/checkpoint/pickle.js';
import type { TensorSource } from '../../src/checkpoint/tensor-source.js';
import { YocoError } from '../../src/errors.js';
import { lockDirectory } from '../../src/files/lock.js';
import { Random } from '../../src/random.js';
import { Snapshots } from '../../src/training/snapshots.js';
import { makeCheckpoint, SMALL } from '../checkpoint/checkpoints.js';
import { oneTensor } from '../checkpoint/torch-pickles.js';

export interface FuzzResult {
  readonly inputs: number;
  /** What was thrown that is no error in one line, and for which target and mutation. */
  readonly failures: readonly string[];
}

interface Target {
  readonly name: string;
  readonly seed: Buffer;
  /** No file is written for it: it gets more inputs. */
  readonly inMemory?: boolean;
  read(bytes: Buffer): void;
}

/** Inputs in memory for each in a file, which takes far longer. */
const IN_MEMORY = 100;

const HEADER = JSON.stringify({
  __metadata__: { format: 'pt' },
  w: { dtype: 'F32', shape: [2, 2], data_offsets: [0, 16] },
  b: { dtype: 'BF16', shape: [4], data_offsets: [16, 24] },
});

function readAll(source: TensorSource): void {
  try {
    for (const name of source.names()) source.read(name);
  } finally {
    source.close();
  }
}

/** Files of every kind that is read back, and what reads them. */
async function targets(directory: string): Promise<Target[]> {
  const at = (name: string): string => join(directory, name);
  await makeCheckpoint(at('yoco'), SMALL.retention ?? {});
  await makeCheckpoint(at('plain'), SMALL.scaled ?? {});
  await convertCheckpoint(at('yoco'), at('official'), { to: 'official' });
  await convertCheckpoint(at('yoco'), at('sharded'), { to: 'yoco', maxShardBytes: 8000 });
  await convertCheckpoint(at('plain'), at('hf'), { to: 'huggingface' });
  await convertCheckpoint(at('plain'), at('meta'), { to: 'meta' });
  await convertCheckpoint(at('plain'), at('gguf'), { to: 'gguf' });
  const file = (name: string, read: (path: string) => void): Target => ({
    name,
    seed: readFileSync(at(name)),
    read: (bytes) => {
      writeFileSync(at(name), bytes);
      read(at(name));
    },
  });
  const checkpoint = (name: string): Target =>
    file(name, () => {
      openCheckpoint(at(name.slice(0, name.indexOf('/')))).tensors.close();
    });
  const snapshot = at('run/checkpoints/step-00000001');
  await makeCheckpoint(snapshot, SMALL.retention ?? {});
  writeFileSync(
    join(snapshot, 'training.json'),
    JSON.stringify({ step: 1, tokens: 2, task: [], settings: { a: 1 } }),
  );
  writeFileSync(at('fuzz.lock'), JSON.stringify({ pid: 1, host: 'elsewhere', began: '1' }));
  const rules = torchRules('a pickle');
  return [
    {
      name: 'pickle',
      inMemory: true,
      seed: oneTensor(),
      read: (bytes) => void unpickle('a pickle', bytes, rules),
    },
    {
      name: 'header',
      inMemory: true,
      seed: Buffer.from(HEADER),
      read: (bytes) => void parseHeader('a header', bytes, 24),
    },
    file('yoco/model.safetensors', (path) => {
      readAll(SafetensorsFile.open(path));
    }),
    file('gguf/model.gguf', (path) => {
      readAll(GgufFile.open(path));
    }),
    checkpoint('gguf/model.gguf'),
    file('official/checkpoint.pth', (path) => {
      readAll(TorchArchive.open(path));
    }),
    ...['yoco/config.json', 'hf/config.json', 'official/params.json', 'meta/params.json'].map(checkpoint),
    checkpoint('sharded/model.safetensors.index.json'),
    file('run/checkpoints/step-00000001/training.json', () => {
      const snapshots = new Snapshots(at('run'), { a: 1 });
      for (const step of snapshots.list()) snapshots.progress(step);
    }),
    file('fuzz.lock', () => {
      lockDirectory(directory, 'fuzz', { doing: 'fuzzing' })();
    }),
  ];
}

const HOSTILE = [
  ...[
    'null',
    '7',
    '[]',
    '{}',
    '"x"',
    '1e999',
    '-1',
    '1000000000',
    '9007199254740993',
    '""',
    '"../x"',
    'true',
  ],
];

/** One to eight changes: bits, bytes, pieces cut out, doubled or moved, and values of JSON that are not expected. */
function mutate(seed: Buffer, random: Random): Buffer {
  let bytes: Buffer = Buffer.from(seed);
  for (let change = random.below(8); change >= 0 && bytes.length > 0; change--) {
    const at = random.below(bytes.length);
    const length = 1 + random.below(Math.min(64, bytes.length));
    const kind = random.below(6);
    if (kind === 0) bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    else if (kind === 1) bytes[at] = random.below(256);
    else if (kind === 2) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    else if (kind === 3) bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
    else if (kind === 4) bytes = Buffer.from(bytes.subarray(0, at));
    else bytes = replaceValue(bytes, random);
  }
  return bytes;
}

/** Puts another value in place of a number, text or list of JSON. */
function replaceValue(bytes: Buffer, random: Random): Buffer {
  const text = bytes.toString('latin1');
  const values = [...text.slice(0, 4096).matchAll(/(?<=[:[,] ?)("[^"]*"|-?[\d.]+|\[[^\]]*\]|null)/g)];
  const value = values[random.below(Math.max(1, values.length))];
  if (value === undefined) return bytes;
  const other = HOSTILE[random.below(HOSTILE.length)] ?? '';
  return Buffer.from(
    text.slice(0, value.index) + other + text.slice(value.index + value[0].length),
    'latin1',
  );
}

/** What is wrong with an error: null for one line for a person. */
function complaint(error: unknown): string | null {
  if (!(error instanceof YocoError))
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  if (error.message.includes('\n')) return `more than one line: ${error.message}`;
  return error.message.length > 2000 ? `a line of ${error.message.length} characters` : null;
}

export async function fuzz(options: { milliseconds: number; seed: number }): Promise<FuzzResult> {
  const directory = mkdtempSync(join(tmpdir(), 'yoco-fuzz-'));
  const random = new Random(`fuzz ${options.seed}`);
  const failures: string[] = [];
  let inputs = 0;
  try {
    const all = await targets(directory);
    const end = performance.now() + options.milliseconds;
    while (performance.now() < end && failures.length < 20) {
      for (const target of all.flatMap((one) =>
        Array<Target>(one.inMemory === true ? IN_MEMORY : 1).fill(one),
      )) {
        inputs += 1;
        try {
          target.read(mutate(target.seed, random));
        } catch (error) {
          const problem = complaint(error);
          if (problem !== null) failures.push(`input ${inputs}, ${target.name}: ${problem}`);
        }
      }
      // What a mutation has broken must not hide the next from its reader.
      for (const { name, seed, inMemory } of all)
        if (inMemory !== true) writeFileSync(join(directory, name), seed);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return { inputs, failures };
}
