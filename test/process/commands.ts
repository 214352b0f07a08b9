/** Every command with work so tiny that it is started hundreds of times, and the files that it reads. */
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/package-root.js';
import { Random } from '../../src/random.js';
import { byteLevel } from '../data/tokenizers/files.js';

const shipped = join(packageRoot, 'checkpoints/needle');
const ENGINE = ['--engine', 'cpu', '--threads', '2'];
const MODEL = { architecture: 'transformer', dim: 64, layers: 2, heads: 2, hiddenDim: 64, vocabSize: 512 };

/** Words in which no two letters follow each other by rule, enough of them for a vocabulary of 512. */
function someText(): string {
  const random = new Random('text');
  const letters = 'abcdefghijklmnopqrstuvwxyz';
  const word = (): string =>
    Array.from({ length: 3 + random.below(6) }, () => letters[random.below(26)]).join('');
  const words = Array.from({ length: 200 }, word);
  return Array.from({ length: 2000 }, () => words[random.below(200)]).join(' ');
}

/** Writes what the commands read into a directory. */
export function writeInputs(directory: string): void {
  const put = (name: string, content: unknown): void => {
    writeFileSync(
      join(directory, name),
      typeof content === 'string' ? content : `${JSON.stringify(content)}\n`,
    );
  };
  mkdirSync(join(directory, 'tasks'));
  put('text.txt', someText());
  put('tasks/arc_easy.jsonl', { query: 'The sky is', choices: ['blue', 'green'], gold: 0 });
  put('tokenizer.json', byteLevel());
  put('model.json', MODEL);
  put('experiment.json', {
    description: 'two steps',
    out: 'runs/two',
    steps: [
      { title: 'Memory', run: 'profile-memory --analytic --preset pico --ctx 1k --out {out}' },
      { title: 'The page', run: 'report {out}' },
    ],
  });
}

const words = (text: string, ...more: string[]): string[] => [...text.split(' '), ...more];
const TRAIN = '--preset pico --steps 2 --batch 2 --length 32 --eval-tokens 64';

/** Commands by name: their words. @param input where `writeInputs` has written @param out an empty directory */
export const COMMANDS: Readonly<Record<string, (input: string, out: string) => string[]>> = {
  'compare-training': (_, out) =>
    words('compare-training', join(packageRoot, 'results/laptop'), '--out', join(out, 'compared')),
  completion: () => words('completion bash'),
  convert: (_, out) => words('convert', shipped, join(out, 'converted'), '--to', 'yoco'),
  'data list': () => words('data list'),
  doctor: () => words('doctor --format json'),
  eval: (input, out) =>
    words('eval', '--data', join(input, 'tasks'), '--checkpoint', shipped, '--out', out, ...ENGINE),
  'eval-mmlu': (_, out) =>
    words(
      'eval-mmlu --subjects plain_logic --limit 1 --shots 0',
      '--checkpoint',
      shipped,
      '--out',
      out,
      ...ENGINE,
    ),
  'eval-recall': (input, out) =>
    words(
      'eval-recall --ctx 32 --items 2 --sequences 2 --tokenizer symbols-512',
      '--config',
      join(input, 'model.json'),
      '--out',
      out,
      ...ENGINE,
    ),
  generate: () => words('generate whale -n 2', '--checkpoint', shipped, ...ENGINE),
  "generate with Hugging Face's library": (input) =>
    words(
      'generate whale -n 2',
      '--config',
      join(input, 'model.json'),
      '--tokenizer',
      join(input, 'tokenizer.json'),
      ...ENGINE,
    ),
  help: () => ['--help'],
  launch: (input, out) =>
    words(`launch --ranks 2 -- train ${TRAIN}`, '--data', join(input, 'text.txt'), '--out', out, ...ENGINE),
  needle: (input, out) =>
    words(
      'needle --ctx 512',
      '--haystack',
      join(input, 'text.txt'),
      '--checkpoint',
      shipped,
      '--out',
      out,
      ...ENGINE,
    ),
  perplexity: (input, out) =>
    words('perplexity --ctx 64', join(input, 'text.txt'), '--checkpoint', shipped, '--out', out, ...ENGINE),
  'profile-memory': (_, out) =>
    words('profile-memory --preset pico --ctx 64 --measure-up-to 64 --out', out, ...ENGINE),
  'profile-prefill': (_, out) =>
    words('profile-prefill --preset pico --ctx 64 --repetitions 1 --out', out, ...ENGINE),
  'profile-throughput': (_, out) =>
    words('profile-throughput --preset pico --ctx 64 --tokens 2 --warmup 0 --out', out, ...ENGINE),
  push: () => words('push', shipped, 'someone/needle', '--dry-run'),
  report: (_, out) => {
    cpSync(join(packageRoot, 'results/laptop'), out, { recursive: true });
    return words('report', out);
  },
  reproduce: (input, out) => words('reproduce', join(input, 'experiment.json'), '--out', join(out, 'two')),
  train: (input, out) => words(`train ${TRAIN}`, '--data', join(input, 'text.txt'), '--out', out, ...ENGINE),
  'train-tokenizer': (input, out) =>
    words('train-tokenizer', join(out, 'tokenizer.json'), '--size', '512', '--data', join(input, 'text.txt')),
};
