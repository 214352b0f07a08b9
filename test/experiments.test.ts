import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  experimentNames,
  groupsOf,
  loadExperiment,
  resolveSteps,
  type ResolvedStep,
} from '../src/cli/experiment.js';
import { packageRoot } from '../src/package-root.js';

const test = suite('experiments');

/** The tables that a command leaves in its output directory. */
const TABLES: Readonly<Record<string, readonly string[]>> = {
  train: ['train', 'held-out', 'sources'],
  'compare-training': ['runs', 'comparison', 'scaling'],
  perplexity: ['perplexity', 'perplexity-fit', 'passages'],
  needle: ['needle', 'needle-contexts', 'needle-trials'],
  'eval-recall': ['eval-recall'],
  'eval-mmlu': ['eval-mmlu', 'eval-mmlu-questions'],
  eval: ['eval', 'eval-items'],
  'profile-memory': [
    ...['profile-memory', 'profile-memory-ratio', 'profile-memory-breakdown', 'profile-memory-ranks'],
  ],
  'profile-prefill': [
    'profile-prefill',
    'profile-prefill-ratio',
    'profile-prefill-growth',
    'profile-prefill-ranks',
  ],
  'profile-throughput': [
    ...['profile-throughput', 'profile-throughput-ratio', 'profile-throughput-ranks'],
    ...['profile-throughput-end-to-end', 'profile-throughput-end-to-end-ratio'],
  ],
  report: ['ratios'],
  'bench/cuda/decoding.ts': ['decoding-modes'],
  'bench/cuda/training.ts': ['training-rate'],
  'bench/cuda/recorded-training.ts': ['recorded-training'],
  'bench/cuda/collectives.ts': ['collectives'],
  'bench/cuda/ranks-training.ts': ['ranks-training'],
  'bench/cuda/sequence-training.ts': ['sequence-training'],
};

/** What a step starts on several ranks, as if it ran alone. */
function onOneRank(step: ResolvedStep): ResolvedStep {
  const from = { launch: step.args.indexOf('--') + 1, 'bench/cuda/on-ranks.ts': 1 }[step.command];
  if (from === undefined) return step;
  const [command = '', ...args] = step.args.slice(from);
  return { ...step, command, args };
}

function directoryOf({ kind, command, args }: ResolvedStep): string {
  const first = args[0] ?? '';
  return kind === 'script' || command === 'report' ? first : (args[args.indexOf('--out') + 1] ?? '');
}

/** The CSV files that the steps of all experiments leave, had they run with the committed directories as output. */
function namedFiles(): Set<string> {
  const steps = experimentNames()
    .map(loadExperiment)
    .flatMap((experiment) => resolveSteps(experiment, experiment.reference ?? experiment.out))
    .map(onOneRank);
  return new Set(
    steps.flatMap((step) =>
      (TABLES[step.command] ?? []).flatMap((table) =>
        ['.csv', '.timings.csv'].map((suffix) => join(directoryOf(step), table + suffix)),
      ),
    ),
  );
}

test('every committed table is made by a step of an experiment', () => {
  const named = namedFiles();
  const committed = readdirSync(join(packageRoot, 'results'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.csv'))
    .map((file) => join('results', file));
  assert.ok(committed.length > 100, 'there are tables');
  assert.equal(
    committed.filter((file) => !named.has(file)),
    [],
  );
});

test('experiments write where git ignores it, and their committed directories exist', () => {
  for (const { name, out, reference } of experimentNames().map(loadExperiment)) {
    assert.match(out, /^runs\//, name);
    if (reference !== null) assert.ok(existsSync(join(packageRoot, reference)), name);
  }
});

/** Does a step name what another one writes? */
const reads = ({ args }: ResolvedStep, other: ResolvedStep): boolean =>
  args.some((word) => word === directoryOf(other) || word.startsWith(`${directoryOf(other)}/`));

test('steps of a group do not read what another of them writes, nor write to its folder', () => {
  for (const experiment of experimentNames().map(loadExperiment)) {
    for (const group of groupsOf(resolveSteps(experiment, 'OUT'))) {
      for (const step of group) {
        const needed = group.find((other) => other !== step && reads(step, other));
        assert.is(needed?.title, undefined, `${experiment.name}: ${step.title}`);
      }
    }
  }
});

test('trainings that follow each other and need nothing of each other may run side by side', () => {
  for (const experiment of experimentNames().map(loadExperiment)) {
    const steps = resolveSteps(experiment, 'OUT');
    for (const [index, step] of steps.entries()) {
      const before = steps[index - 1];
      if (step.command !== 'train' || before?.command !== 'train' || reads(step, before)) continue;
      // Two groups in a row are stages: the second needs the first.
      const isGrouped = step.group !== undefined && before.group !== undefined;
      assert.ok(isGrouped, `${experiment.name}: ${step.title}`);
    }
  }
});

test('the files that steps name are in the repository', () => {
  const words = experimentNames()
    .map(loadExperiment)
    .flatMap((experiment) => resolveSteps(experiment, experiment.out))
    .flatMap(({ kind, command, args }) => (kind === 'script' ? [command, ...args] : args))
    .filter((word) => /^(experiments|checkpoints|bench)\//.test(word));
  assert.equal(
    words.filter((word) => !existsSync(join(packageRoot, word))),
    [],
  );
});

test.run();
