/**
 * The flags commands share, in groups a command spreads into its own `static flags`. Keep this file light: every
 * command imports it at start-up.
 */
import { Flags } from '@oclif/core';
import { ENGINE_NAMES } from '../engines/engine.js';
import { formatTokenCount } from '../results/display.js';
import { CACHE_TYPES } from '../ops/attention/cache-type.js';
import { COMPUTE_TYPES } from '../ops/linear/compute-type.js';
import { LAYOUT_NAMES } from '../model/layouts.js';
import { SELF_DECODERS } from '../model/mixers/list.js';
import { RESULT_FORMATS } from '../results/formats.js';
import { UsageError } from '../errors.js';
import { parseNumber, parseTokenCount, parseTokenCounts } from './sizes.js';

export const STORAGE_NAMES = ['float32', 'bfloat16', 'float16'] as const;

export const quietFlag = {
  verbose: Flags.boolean({
    char: 'v',
    description: 'more on stderr: why other engines did not start',
    helpGroup: 'OUTPUT',
  }),
  quiet: Flags.boolean({ char: 'q', description: 'no progress and no notes on stderr', helpGroup: 'OUTPUT' }),
};

/** Beyond it whole numbers are not exact: another seed would be used than the one given. */
export const MAX_SEED = Number.MAX_SAFE_INTEGER;

/** A directory to write to. */
export const outFlag = Flags.custom({
  parse: (text) => {
    if (text.trim() === '') throw new UsageError('--out is empty: name a directory, such as runs/first');
    return Promise.resolve(text);
  },
});

export const outputFlags = {
  format: Flags.option({
    options: RESULT_FORMATS,
    description: 'how results are printed on stdout',
    default: 'table',
    helpGroup: 'OUTPUT',
  })(),
  out: outFlag({
    description: 'directory for CSV files and their provenance (default: runs/<command>)',
    helpValue: 'DIR',
    helpGroup: 'OUTPUT',
  }),
  ...quietFlag,
};

export const seedFlag = {
  seed: Flags.integer({ description: 'seed of all randomness', default: 1, min: 0, max: MAX_SEED }),
};

export const contextParallelFlag = {
  'context-parallel': Flags.integer({
    description: 'ranks that divide each sequence between them (started by launch, torchrun, mpirun or srun)',
    default: 1,
    min: 1,
    helpValue: 'RANKS',
    helpGroup: 'ENGINE',
  }),
};

export const ENGINE_OPTIONS = ['auto', ...ENGINE_NAMES] as const;

export const engineFlags = {
  engine: Flags.option({
    options: ENGINE_OPTIONS,
    description: 'what computes: auto takes the best that starts',
    default: 'auto',
    helpGroup: 'ENGINE',
  })(),
  threads: Flags.integer({
    description: 'CPU threads (default: all cores)',
    min: 1,
    helpGroup: 'ENGINE',
  }),
  dtype: Flags.option({
    options: STORAGE_NAMES,
    description: 'how tensors are stored (16 bits: engine cuda only)',
    helpGroup: 'ENGINE',
  })(),
};

/** Of commands that compute with a finished model, and keep a cache. */
export const inferenceFlags = {
  'kv-dtype': Flags.option({
    options: CACHE_TYPES,
    description:
      'how keys and values of a whole context are stored (default: as --dtype); engine cpu: all; engine cuda with bfloat16: float8, int8, int4',
    helpGroup: 'ENGINE',
  })(),
  compute: Flags.option({
    options: COMPUTE_TYPES,
    description:
      'round the weights of layers, and the activations they multiply, to float8 (default: as --dtype); engine cpu, and engine cuda on Hopper',
    helpGroup: 'ENGINE',
  })(),
};

export const fillCacheFlag = {
  'fill-cache': Flags.boolean({
    description:
      'compute only the last chunk of each context, after random keys and values: memory and decoding are the same',
    exclusive: ['analytic'],
  }),
};

/**
 * `--preset`, `--config` and `--checkpoint` are three ways to name a model. Of a preset, `--arch` may name both
 * architectures, and `--layout` any layouts.
 */
export const modelFlags = {
  arch: Flags.option({
    options: LAYOUT_NAMES,
    description:
      'architecture, or several separated by commas to compare them side by side (docs/models.md explains each)',
    multiple: true,
    multipleNonGreedy: true,
    delimiter: ',',
    helpValue: 'yoco,transformer',
    helpGroup: 'MODEL',
  })(),
  layout: Flags.string({
    description:
      `layout of the layers, or several separated by commas: ${LAYOUT_NAMES.join(', ')}; or its parts written out, such as ` +
      "'6*gated-retention memory 6*cross' (docs/models.md)",
    helpValue: 'NAME',
    multiple: true,
    multipleNonGreedy: true,
    delimiter: ',',
    exclusive: ['arch', 'config', 'checkpoint'],
    helpGroup: 'MODEL',
  }),
  preset: Flags.string({
    description:
      'size: pico, nano, tiny; 160m, 400m, 830m, 1.4b, 2.7b, 6.8b, 13b, 30b, 65b; ladder-2m, ladder-8m, ladder-25m, ladder-60m (experiments on quality); yoco-3b, transformer-3b; several separated by commas',
    helpValue: 'NAME',
    multiple: true,
    multipleNonGreedy: true,
    delimiter: ',',
    exclusive: ['config', 'checkpoint'],
    helpGroup: 'MODEL',
  }),
  config: Flags.string({
    description: 'JSON file with a model configuration',
    helpValue: 'FILE',
    multiple: true,
    multipleNonGreedy: true,
    exclusive: ['preset', 'checkpoint'],
    helpGroup: 'MODEL',
  }),
  checkpoint: Flags.string({
    description: 'checkpoint directory, or hf:owner/name[@revision]; may be repeated',
    helpValue: 'DIR',
    multiple: true,
    multipleNonGreedy: true,
    exclusive: ['preset', 'config'],
    helpGroup: 'MODEL',
  }),
  'self-decoder': Flags.option({
    options: SELF_DECODERS,
    description: "mixer of YOCO's self-decoder, or several separated by commas (default: gated retention)",
    multiple: true,
    multipleNonGreedy: true,
    delimiter: ',',
    helpValue: 'gated-retention,sliding-window',
    helpGroup: 'MODEL',
  })(),
};

export const checkFlags = {
  check: Flags.string({
    description: 'compare with an earlier CSV; exit status 1 on a regression',
    helpValue: 'FILE',
    helpGroup: 'CHECK',
  }),
  tolerance: Flags.custom<number>({
    description: 'percent by which --check lets a figure be worse (default: 0)',
    helpValue: 'PERCENT',
    dependsOn: ['check'],
    helpGroup: 'CHECK',
    parse: (text) => Promise.resolve(parsePercent(text)),
  })(),
  'check-report': Flags.string({
    description: 'write the comparison as JUnit XML too, for CI services',
    helpValue: 'FILE',
    dependsOn: ['check'],
    helpGroup: 'CHECK',
  }),
};

export const sweepFlags = {
  resume: Flags.boolean({
    description: 'keep the finished cells of an earlier run in the same directory',
    default: true,
    allowNo: true,
    helpGroup: 'SWEEP',
  }),
  ...checkFlags,
};

/** `--ctx 4k,64k,1m`. */
export const contextsFlag = Flags.custom<number[]>({
  description: 'context lengths in tokens, separated by commas; k is 1,024, m is 1,048,576',
  helpValue: '4k,64k,1m',
  parse: (text) => Promise.resolve(parseTokenCounts(text)),
  defaultHelp: ({ options }) => Promise.resolve(formatDefault(options.default)),
});

/** A single token count: `--chunk 8k`. */
export const tokenCountFlag = Flags.custom<number>({
  helpValue: '8k',
  parse: (text) => Promise.resolve(parseTokenCount(text)),
  defaultHelp: ({ options }) => Promise.resolve(formatDefault([options.default])),
});

/** How the help shows a default: `4k,64k`. */
function formatDefault(counts: unknown): string | undefined {
  const known = Array.isArray(counts) && counts.every((count) => typeof count === 'number');
  return known ? counts.map(formatTokenCount).join(',') : undefined;
}

/** Any number that is finite. */
export const numberFlag = Flags.custom<number>({ parse: (text) => Promise.resolve(parseNumber(text)) });

function parsePercent(text: string): number {
  const value = Number(text.replace(/%$/, ''));
  if (text.trim() === '' || !Number.isFinite(value) || value < 0) {
    throw new UsageError(`'${text}' is not a percentage: write a number from 0 up, such as 5`);
  }
  return value;
}
