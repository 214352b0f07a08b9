import { Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base-command.js';
import type { FlagsOf } from '../cli/base-command.js';
import { MAX_SEED, outFlag, checkFlags, contextParallelFlag, modelFlags, numberFlag } from '../cli/flags.js';
import type { Progress } from '../cli/progress.js';
import { parseNumber, parseTokenCount } from '../cli/sizes.js';
import { interruption } from '../cli/interruption.js';
import { modelSelection } from '../cli/model-selection.js';
import { FailedCellsError, modelLabel, RECALL_TASK_NAMES, type Row, type Schema } from '../library/basics.js';
import type { RecipeInput, TrainProgress, TrainResult } from '../library/training.js';

const tokenCount = Flags.custom<number>({ parse: (text) => Promise.resolve(parseTokenCount(text)) });
const longDocuments = Flags.custom<number | 'only'>({
  parse: (text) => Promise.resolve(text === 'only' ? text : parseNumber(text)),
});

export default class Train extends BaseCommand {
  static override readonly runsOnRanks = true;
  static override summary = 'Train a model, or resume its training.';
  static override description =
    'Leaves in --out: train.csv (loss, held-out loss, learning rate, gradient norm of every step), train.timings.csv, ' +
    'held-out.csv (each held-out text apart: loss, loss of tokens that repeat a bigram or do not, bits per byte), ' +
    'sources.csv (of a mixture: tokens and epochs of each source), ' +
    'train.run.json, and checkpoints/ (the newest two). Run again, it resumes where it stopped, even after kill -9, and ends with ' +
    'the same train.csv and weights as a run that never stopped. Ctrl-C finishes the current step and saves. ' +
    '--recipe takes the same settings from a JSON file, in camel case, and stages: a list of {steps, batch, length, ropeTheta, ' +
    'learningRate, minLearningRate, warmup, decay}; a stage with a learningRate begins a schedule of its own.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> --preset nano --steps 300',
    '<%= config.bin %> <%= command.id %> --arch transformer --preset tiny --data "books/*.txt" --out runs/books',
    '<%= config.bin %> <%= command.id %> --checkpoint runs/books --data notes.jsonl --lr 1e-4 --out runs/notes',
    '<%= config.bin %> <%= command.id %> --checkpoint runs/books --length 64k --rope-theta 640000 --lr 8e-5 --out runs/books-64k',
    '<%= config.bin %> <%= command.id %> --data "books=novels/*.txt:2" --data docs=manuals.jsonl:1 --documents apart --preset tiny',
    '<%= config.bin %> <%= command.id %> --task needle --preset nano',
    '<%= config.bin %> <%= command.id %> --task mqar --items 16 --preset nano',
  ];
  static override flags = {
    ...modelFlags,
    out: outFlag({
      description: 'directory of the run (default: runs/NAME, after the model)',
      helpValue: 'DIR',
      helpGroup: 'OUTPUT',
    }),
    task: Flags.option({
      options: ['text', 'needle', ...RECALL_TASK_NAMES] as const,
      description:
        'next tokens of a text (default); needle: finding numbers hidden in it; or a recall task of numbered symbols',
      helpGroup: 'DATA',
    })(),
    data: Flags.string({
      description:
        'sotu (default), moby-dick, hf:owner/name:split, or files, globs and directories of .txt and .jsonl (also .gz, .xz, .zst), ' +
        '.json and .parquet; may be repeated. NAME=PATH:WEIGHT is a source of a mixture: of all tokens it gives WEIGHT over the sum ' +
        'of the weights',
      multiple: true,
      multipleNonGreedy: true,
      helpGroup: 'DATA',
    }),
    'held-out': Flags.string({
      description:
        'text to measure on, named like --data, or NAME=PATH; may be repeated (default: a part of the data)',
      multiple: true,
      multipleNonGreedy: true,
      helpGroup: 'DATA',
    }),
    documents: Flags.option({
      options: ['joined', 'apart'] as const,
      description:
        'joined (default): sequences are windows of all documents one after the other; apart: each is of one document, padded, so ' +
        'that nothing is seen of another',
      helpGroup: 'DATA',
    })(),
    'long-documents': longDocuments({
      description:
        'how often an epoch reads documents of at least --length tokens; only: no others (default: 1, as all)',
      helpValue: '1|N|only',
      helpGroup: 'DATA',
    }),
    tokenizer: Flags.string({
      description: "bytes (default, or the checkpoint's), cl100k_base, a tokenizer.json, or hf:owner/name",
      helpGroup: 'DATA',
    }),
    recipe: Flags.string({ description: 'JSON file of settings; flags go before it', helpValue: 'FILE' }),
    'initial-values': Flags.option({
      options: ['official', 'unit-embeddings', 'scaled-normal'] as const,
      description:
        'how weights start: as in the official code (default); with embeddings of unit deviation; or normal with deviation 0.02, ' +
        'less for matrices that write to the residual stream',
    })(),
    steps: Flags.integer({
      description: 'optimizer steps (default: 500; needle: 1,400; recall tasks: 2,000)',
      min: 1,
    }),
    batch: Flags.integer({ description: 'sequences per micro-batch (default: 8)', min: 1 }),
    length: tokenCount({ description: 'tokens per sequence (default: 256)', helpValue: '256' }),
    items: Flags.integer({
      description: 'recall tasks: how much there is to recall, such as pairs of key and value',
      min: 1,
    }),
    accumulate: Flags.integer({ description: 'micro-batches per step (default: 1)', min: 1 }),
    lr: numberFlag({ description: 'peak learning rate (default: 2e-3)', helpValue: 'RATE' }),
    'min-lr': numberFlag({
      description: 'learning rate at the end (default: a tenth of --lr)',
      helpValue: 'RATE',
    }),
    warmup: Flags.integer({
      description: 'steps to the peak (default: a tenth of --steps, 100 at most)',
      min: 0,
    }),
    decay: Flags.option({
      options: ['cosine', 'linear', 'constant'] as const,
      description: 'course of the learning rate after the peak (default: cosine; needle: linear)',
    })(),
    'rope-theta': numberFlag({
      description: "θ of rotary positions (default: the model's); the checkpoint keeps it",
      helpValue: 'THETA',
    }),
    'weight-decay': numberFlag({
      description: 'decay of matrices (default: 0.1; needle: 0.05)',
      helpValue: 'RATE',
    }),
    beta1: numberFlag({ description: 'AdamW: decay of the mean gradient (default: 0.9)', helpValue: 'RATE' }),
    beta2: numberFlag({ description: 'AdamW: decay of the mean square (default: 0.95)', helpValue: 'RATE' }),
    epsilon: numberFlag({
      description: 'AdamW: added to the deviation (default: 1e-8)',
      helpValue: 'NUMBER',
    }),
    clip: numberFlag({
      description: 'largest gradient norm; 0 does not clip (default: 1)',
      helpValue: 'NORM',
    }),
    'eval-every': Flags.integer({
      description: 'steps between held-out losses; 0: at the end (default: 50)',
      min: 0,
    }),
    'eval-tokens': tokenCount({
      description: 'held-out tokens measured on (default: 16k)',
      helpValue: '16k',
    }),
    'checkpoint-every': Flags.integer({
      description: 'steps between checkpoints; 0: at the end (default: 100)',
      min: 0,
    }),
    ...contextParallelFlag,
    recompute: Flags.boolean({ description: 'less memory for more time: activations are computed twice' }),
    mfu: Flags.boolean({
      description: 'measure the rate of a large matmul first and give the share of it that each step reaches',
      helpGroup: 'OUTPUT',
    }),
    tensorboard: Flags.boolean({
      description: 'also write event files for TensorBoard, to OUT/tensorboard',
      helpGroup: 'OUTPUT',
    }),
    seed: Flags.integer({ description: 'seed of all randomness (default: 1)', min: 0, max: MAX_SEED }),
    resume: Flags.boolean({
      description: 'resume the run in --out; --no-resume starts over',
      default: true,
      allowNo: true,
    }),
    ...checkFlags,
  };

  protected override mainTable = async (): Promise<Schema> =>
    (await import('../library/training.js')).TRAIN_SCHEMA;

  async run(): Promise<void> {
    const { flags } = await this.parse(Train);
    await this.readCheck(flags.check);
    const { chooseModel } = await import('../library/models.js');
    const { createRecipe, trainModel } = await import('../library/training.js');
    const inputs = await import('../library/training.js');
    const choice = chooseModel(await modelSelection(flags));
    const recipe = createRecipe({
      ...(choice.checkpoint?.tokenizer ? { tokenizer: choice.checkpoint.tokenizer } : {}),
      ...(flags.recipe === undefined ? {} : inputs.readRecipe(flags.recipe)),
      ...recipeFlags(flags),
    });
    const isPreset = flags.config === undefined && flags.checkpoint === undefined;
    const config = isPreset ? await inputs.withVocabulary(choice.config, recipe) : choice.config;
    const directory = flags.out ?? inputs.defaultDirectory(choice, recipe);
    this.requireDestinations([{ directory }]);
    const { engine, communicator } = await this.startRanks(flags);
    choice.checkpoint?.remarks?.forEach(this.reports().note);
    const source = recipe.data.length > 0 ? recipe.data.join(', ') : recipe.task;
    this.note(`training ${modelLabel(choice)} on ${source} in ${directory}`);
    // Reading and encoding the data leaves nothing to save: Ctrl-C ends that at once.
    const { signal, listen, release } = interruption();
    const bar = this.bar();
    const result = await trainModel({
      directory,
      config,
      recipe,
      engine,
      communicator,
      contextParallel: flags['context-parallel'],
      signal,
      initial: inputs.initialWeights(choice),
      resume: flags.resume,
      mfu: flags.mfu,
      tensorboard: flags.tensorboard,
      record: { command: [this.id ?? 'train', ...this.argv], flags },
      onBegin: listen,
      onProgress: bar.show,
      detail: this.reports().detail,
    }).finally(() => {
      bar.stop();
      release();
    });
    communicator.close();
    if (communicator.rank === 0) await this.report(result, flags);
    else if (result.status === 'interrupted') this.exit(130);
  }

  private bar(): { show: (progress: TrainProgress) => void; stop: () => void } {
    let progress: Progress | undefined;
    let heldOut = '';
    return {
      show: ({ step, steps }) => {
        progress ??= this.progress({ label: 'train', total: steps, unit: 'steps' });
        if (step.heldOutLoss !== null) heldOut = `, held-out ${step.heldOutLoss.toFixed(3)}`;
        const answers = step.answerLoss === null ? '' : `, answers ${step.answerLoss.toFixed(3)}`;
        const speed = Math.round(step.tokensPerSecond).toLocaleString('en-US');
        progress.note(`loss ${step.loss?.toFixed(3) ?? '–'}${answers}${heldOut}, ${speed} tokens/s`);
        progress.update(step.step);
      },
      stop: () => progress?.stop(),
    };
  }

  private async report(result: TrainResult, flags: FlagsOf<typeof Train>): Promise<void> {
    const { printRows } = await import('../library/results.js');
    const { TRAIN_SCHEMA } = await import('../library/training.js');
    const measured = result.rows.filter(isMilestone);
    process.stdout.write(printRows(TRAIN_SCHEMA, measured, flags.format, this.tableOptions()));
    this.note(`written: ${[...result.files, result.checkpoint].join(', ')}`);
    if (result.status === 'finished') {
      await this.compare(result.rows, flags);
      const failed = result.rows.filter(({ status }) => status === 'error');
      if (failed.length === 0) return;
      throw new FailedCellsError(
        `${failed.length} of the steps have losses that are not finite: ${String(failed[0]?.error)}`,
      );
    }
    const words = this.argv.filter((word) => word !== '--no-resume');
    const command = ['yoco', this.id ?? 'train', ...words].join(' ');
    process.stderr.write(`interrupted after step ${result.step}, all saved; to resume: ${command}\n`);
    this.exit(130);
  }
}

/** Settings that the recipe and the flags call the same. */
const SAME_NAMES = [
  ...(['task', 'data', 'tokenizer', 'steps', 'batch', 'length', 'items', 'accumulate', 'warmup'] as const),
  ...(['decay', 'clip', 'seed', 'recompute', 'beta1', 'beta2', 'epsilon'] as const),
] satisfies readonly (keyof RecipeInput)[];

/** Settings that flags give; the others are the recipe file's or the defaults. */
function recipeFlags(flags: FlagsOf<typeof Train>): RecipeInput {
  const given: RecipeInput = {
    ...Object.fromEntries(SAME_NAMES.map((name) => [name, flags[name]])),
    documents: flags.documents,
    longDocuments: flags['long-documents'],
    heldOut: flags['held-out'],
    initialValues: flags['initial-values'],
    ropeTheta: flags['rope-theta'],
    learningRate: flags.lr,
    minLearningRate: flags['min-lr'],
    weightDecay: flags['weight-decay'],
    evalEvery: flags['eval-every'],
    evalTokens: flags['eval-tokens'],
    checkpointEvery: flags['checkpoint-every'],
  };
  return Object.fromEntries(Object.entries<unknown>({ ...given }).filter(([, value]) => value !== undefined));
}

/** Rows worth a line on the terminal: those with a held-out loss, and the last. */
function isMilestone(row: Row, index: number, rows: readonly Row[]): boolean {
  return (
    typeof row.held_out_loss === 'number' ||
    typeof row.held_out_answer_loss === 'number' ||
    index === rows.length - 1
  );
}
