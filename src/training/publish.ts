/** A checkpoint as others get it: its files, checked, and a card that says what it is and how it was made. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { CHECKPOINT_FILES } from '../checkpoint/checkpoint-files.js';
import { elementCount } from '../checkpoint/data-type.js';
import { openCheckpoint, type OpenCheckpoint } from '../checkpoint/open.js';
import { PIECE_BYTES } from '../checkpoint/tensor-source.js';
import { RunError } from '../errors.js';
import { OBJECT, readJsonAs } from '../files/json.js';
import type { UploadFile } from '../hub/upload.js';
import { architectureName } from '../model/config.js';
import { costs } from '../model/costs.js';
import { readResultRows } from '../results/read.js';
import type { Row } from '../results/schema.js';

const CARD = 'README.md';
/** What only a resumed training needs. */
const TRAINING_STATE = /^training\.(json|safetensors)$/;

export interface PublishOptions {
  /** `owner/name` */
  readonly repository: string;
  /** Identifier of the licence, as the hub takes it: `mit`, `apache-2.0`. */
  readonly license?: string;
}

export interface Publication {
  readonly files: readonly UploadFile[];
  readonly card: string;
  /** Whether the directory has a card of its own, which is taken. */
  readonly hasOwnCard: boolean;
}

/**
 * Checks a checkpoint and describes it.
 * @param path its directory, or a training run, of which the newest checkpoint is taken
 * @throws UsageError where there is none, RunError where it is damaged or has weights that are not finite
 */
export function preparePublication(path: string, options: PublishOptions): Publication {
  const checkpoint = openCheckpoint(path);
  try {
    checkFinite(checkpoint);
    const { directory } = checkpoint;
    const names = readdirSync(directory).filter(
      (name) => CHECKPOINT_FILES.belongs(name) && !TRAINING_STATE.test(name),
    );
    const own = [directory, path].map((folder) => join(folder, CARD)).find((file) => existsSync(file));
    const card = modelCard(checkpoint, path, options);
    const content = own === undefined ? { text: card } : { file: own };
    const files = names
      .sort()
      .map((name): UploadFile => ({ path: name, content: { file: join(directory, name) } }));
    return { files: [...files, { path: CARD, content }], card, hasOwnCard: own !== undefined };
  } finally {
    checkpoint.tensors.close();
  }
}

function checkFinite({ tensors, directory }: OpenCheckpoint): void {
  const sizes = tensors.names().map((name) => elementCount(tensors.info(name).shape) ?? 0);
  const values = new Float32Array(Math.max(0, ...sizes));
  const scratch = new Uint8Array(PIECE_BYTES);
  for (const name of tensors.names()) {
    if (tensors.readFloats(name, values, scratch).every(Number.isFinite)) continue;
    throw new RunError(
      `${directory}: tensor '${name}' has values that are not finite: the checkpoint is not pushed`,
    );
  }
}

const block = (language: string, text: string): string => `\`\`\`${language}\n${text.trimEnd()}\n\`\`\`\n`;
const jsonBlock = (value: unknown): string => block('json', JSON.stringify(value, null, 2));

function modelCard(
  { config, format, context, tokenizer, provenance }: OpenCheckpoint,
  path: string,
  options: PublishOptions,
): string {
  const { repository, license } = options;
  const run = readRun(path);
  const front = {
    ...(license === undefined ? {} : { license }),
    library_name: 'yoco',
    tags: [...new Set(['yoco', config.architecture])],
  };
  const made = run?.record ?? (provenance as Readonly<Record<string, unknown>> | null) ?? {};
  const { inputs, command } = made;
  const facts = [
    ['architecture', architectureName(config)],
    ['parameters', costs(config).parameters().toLocaleString('en-US')],
    ['trained on tokens at once', context?.toLocaleString('en-US') ?? 'not known'],
    ['tokenizer', tokenizer === 'bytes' || tokenizer === 'cl100k_base' ? tokenizer : 'tokenizer.json'],
    ['layout of the files', format.name],
  ];
  const parts = [
    `---\n${stringify(front)}---\n`,
    `# ${repository.split('/').at(-1) ?? repository}\n`,
    `| | |\n| --- | --- |\n${facts.map(([name, value]) => `| ${name ?? ''} | ${value ?? ''} |`).join('\n')}\n`,
    `## Use\n\n${block('sh', `yoco generate "Once upon a time" --checkpoint hf:${repository}`)}`,
    `## Configuration\n\n${jsonBlock(config)}`,
    ...(run === null ? [] : [`## Losses\n\n${lossTable(run)}`]),
    ...(run?.recipe === undefined ? [] : [`## Recipe\n\n${jsonBlock(run.recipe)}`]),
    ...(inputs === undefined ? [] : [`## Data\n\nSHA-256 of what was read:\n\n${jsonBlock(inputs)}`]),
    ...(Array.isArray(command) ? [`## Command\n\n${block('sh', command.join(' '))}`] : []),
  ];
  return parts.join('\n');
}

interface Run {
  readonly record: Readonly<Record<string, unknown>>;
  readonly recipe: unknown;
  readonly steps: readonly Row[];
}

/** What a training run says of itself; null where the directory is a checkpoint alone. */
function readRun(path: string): Run | null {
  const [record, table] = ['train.run.json', 'train.csv'].map((name) => join(path, name));
  if (record === undefined || table === undefined || !existsSync(record) || !existsSync(table)) return null;
  const fields = readJsonAs(record, OBJECT);
  const { recipe } = (fields.configuration ?? {}) as { recipe?: unknown };
  return { record: fields, recipe, steps: readResultRows(table) };
}

/** The last step, and the last one with a held-out loss. */
function lossTable({ steps }: Run): string {
  const measured = steps.filter(({ held_out_loss: loss }) => typeof loss === 'number');
  const rows = [...new Set([...measured.slice(-1), ...steps.slice(-1)])];
  const cell = (value: unknown): string => (typeof value === 'number' ? String(value) : '');
  const lines = rows.map(
    (row) => `| ${cell(row.step)} | ${cell(row.tokens)} | ${cell(row.loss)} | ${cell(row.held_out_loss)} |`,
  );
  return ['| step | tokens | loss | held-out loss |', '| --- | --- | --- | --- |', ...lines, ''].join('\n');
}
