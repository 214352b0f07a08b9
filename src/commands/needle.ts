import { Flags } from '@oclif/core';
import { EvaluationCommand } from '../cli/evaluation-command.js';
import { contextParallelFlag, contextsFlag, sweepFlags } from '../cli/flags.js';
import { batchFlag, evaluationFlags, listFlag } from '../cli/evaluation-flags.js';
import { modelSelection } from '../cli/model-selection.js';
import { formatTokenCount, modelLabel, type Schema } from '../library/basics.js';
import type { NeedleTrialKey } from '../library/evaluation.js';
import type { SweepProgress } from '../library/profiling.js';

/** The variants of `data/needle/templates.ts`, repeated here so that `--help` loads nothing. */
const VARIANTS =
  'standard, colon, reworded, other-attribute, near-city, long-number, paraphrased, similar-city';

export default class Needle extends EvaluationCommand {
  static override readonly runsOnRanks = true;
  static override summary = 'Needle in a haystack: find a number hidden in a long text.';
  static override description =
    'The protocol of the official code: a line "The special magic CITY number is NUMBER ." between the sentences of a long text, ' +
    'the question at its end, a greedy answer. A trial counts if the first number of the answer is the hidden one. Prompts have ' +
    'exactly the tokens asked for and are read in chunks. Leaves in --out: needle.csv (a row per context and depth, with ' +
    "Wilson's 95 % intervals), needle-contexts.csv (all depths together), needle-trials.csv (every answer), and the heat maps and needle-overview (accuracy, time to first token and memory against context) as SVG and PNG.";
  static override examples = [
    '<%= config.bin %> <%= command.id %> --ctx 1m',
    '<%= config.bin %> <%= command.id %> --ctx 4k,64k,1m --depths 0,10,..,100 --trials 10 --checkpoint runs/nano-needle',
    '<%= config.bin %> <%= command.id %> --ctx 128k --needles 1,2,4,8 --haystack "novels/*.txt"',
    '<%= config.bin %> <%= command.id %> --ctx 16k --variant standard,reworded,near-city --checkpoint runs/yoco --checkpoint runs/transformer',
  ];
  static override flags = {
    ctx: contextsFlag({ default: [4096] }),
    depths: Flags.string({
      description: 'percent of the text before the needle; 0,10,..,100 for equal steps',
      default: '50',
      helpValue: '0,10,..,100',
    }),
    needles: listFlag({
      description: 'needles hidden, one of which is asked',
      default: ['1'],
      helpValue: '1,2,4,8',
    }),
    trials: Flags.integer({ description: 'trials of each cell', default: 1, min: 1 }),
    haystack: Flags.string({
      description:
        'filler text: moby-dick (default), sotu, hf:owner/name:split, or files, globs and directories; may be repeated',
      multiple: true,
      multipleNonGreedy: true,
      default: ['moby-dick'],
    }),
    variant: listFlag({
      description: `harder kinds of needles: ${VARIANTS}`,
      default: ['standard'],
      helpValue: 'NAME',
    }),
    batch: batchFlag({
      description:
        'trials of one context computed together at most; auto: as many as fit; above 1, trials have no times of their own',
      default: 1,
    }),
    ...evaluationFlags,
    ...contextParallelFlag,
    ...sweepFlags,
  };

  protected override mainTable = async (): Promise<Schema> =>
    (await import('../library/evaluation.js')).NEEDLE_CELLS;

  async run(): Promise<void> {
    const { flags } = await this.parse(Needle);
    const { parseDepths, parseVariant, parseNeedles, runNeedle, describeAnswers } =
      await import('../library/evaluation.js');
    const { seed, trials, batch } = flags;
    const grid = {
      contexts: flags.ctx,
      depths: parseDepths(flags.depths),
      needles: flags.needles.map(parseNeedles),
      variants: flags.variant.map(parseVariant),
    };
    const { loadCorpus } = await import('../library/text.js');
    const haystack = await loadCorpus(flags.haystack);
    const { chooseShipped } = await import('../library/models.js');
    const choices = chooseShipped('needle-general', await modelSelection(flags), { defaultPreset: 'nano' });
    const inputs = { [haystack.name]: haystack.sha256 };
    const evaluation = await this.startEvaluation(flags, { choices, inputs });
    const results = await this.withProgress(
      {
        label: 'needle',
        unit: 'tokens',
        describe: ({ choice, key }: SweepProgress<NeedleTrialKey>) =>
          `${modelLabel(choice)}, ${formatTokenCount(key.context)}, depth ${key.depth} %`,
      },
      (onProgress) => runNeedle({ ...evaluation, ...grid, haystack, trials, seed, batch, onProgress }),
    );
    const [cells, answers] = results.writers;
    answers.close();
    for (const line of describeAnswers(results.trials)) this.note(line);
    this.note(`written: ${answers.files.join(', ')}`);
    const { writeNeedleFigures } = await import('../library/report.js');
    await this.finish(cells, flags, [results.contexts], () => writeNeedleFigures(evaluation.directory));
    evaluation.communicator.close();
  }
}
