import { Args, Flags } from '@oclif/core';
import { EvaluationCommand } from '../cli/evaluation-command.js';
import { contextParallelFlag, contextsFlag, sweepFlags } from '../cli/flags.js';
import { evaluationFlags } from '../cli/evaluation-flags.js';
import { modelSelection } from '../cli/model-selection.js';
import { modelLabel, type Schema } from '../library/basics.js';
import type { PerplexityProgress } from '../library/evaluation.js';

export default class Perplexity extends EvaluationCommand {
  static override readonly runsOnRanks = true;
  static override summary = 'Loss of long documents against position: what more context is worth.';
  static override description =
    'Reads each document from its beginning with one cache, so that every token sees all tokens before it, and gives the mean ' +
    'loss of the tokens up to each position. Several documents have a mean over those that reach a position, with its ' +
    'standard error. Leaves in --out: perplexity.csv, perplexity-fit.csv (a power law of loss against position) and perplexity.svg.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> novel.txt --checkpoint runs/books',
    '<%= config.bin %> <%= command.id %> "novels/*.txt" --ctx 1k,4k,16k,64k --checkpoint runs/yoco --checkpoint runs/transformer',
    '<%= config.bin %> <%= command.id %> "novels/*.txt" --passages 16 --ctx 1k,4k,16k --checkpoint runs/yoco',
    '<%= config.bin %> <%= command.id %> moby-dick --ctx 256,1k,4k --preset tiny --format csv',
  ];
  static override args = {
    file: Args.string({
      description:
        'corpus (moby-dick, sotu), hf:owner/name:split, file, glob or directory; several may be given',
      required: true,
      ignoreStdin: true,
    }),
  };
  static override strict = false;
  static override flags = {
    ctx: contextsFlag({
      description: 'positions, separated by commas (default: 256, 512, … and the end of each document)',
    }),
    passages: Flags.integer({
      description:
        'measure so many passages of 256 tokens in each document instead, the same ones after --ctx tokens each: what a longer ' +
        'context is worth; writes passages.csv',
      min: 1,
      helpValue: 'N',
    }),
    ...evaluationFlags,
    ...contextParallelFlag,
    ...sweepFlags,
  };

  /** Whether passages are measured. */
  private ofPassages = false;

  protected override mainTable = async (): Promise<Schema> => {
    const { PASSAGES_SCHEMA, PERPLEXITY_SCHEMA } = await import('../library/evaluation.js');
    return this.ofPassages ? PASSAGES_SCHEMA : PERPLEXITY_SCHEMA;
  };

  async run(): Promise<void> {
    const { argv, flags } = await this.parse(Perplexity);
    const { chooseShipped } = await import('../library/models.js');
    const { loadCorpus } = await import('../library/text.js');
    const files = argv.map(String);
    const corpus = await loadCorpus(files);
    const choices = chooseShipped('language', await modelSelection(flags));
    const { perplexityFits, runPassages, runPerplexity } = await import('../library/evaluation.js');
    const { ctx: positions = null, passages } = flags;
    this.ofPassages = passages !== undefined;
    const inputs = { [corpus.name]: corpus.sha256 };
    const evaluation = await this.startEvaluation(flags, { choices, inputs });
    const writer = await this.withProgress(
      {
        label: 'perplexity',
        unit: 'tokens',
        describe: ({ candidate, document }: PerplexityProgress) =>
          `${modelLabel(candidate.choice)}, ${document}`,
      },
      (onProgress) =>
        passages === undefined
          ? runPerplexity({ ...evaluation, files, positions, onProgress })
          : runPassages({ ...evaluation, files, passages, contexts: positions ?? [], onProgress }),
    );
    const { writePerplexityFigures } = await import('../library/report.js');
    const fits = passages === undefined ? [perplexityFits(writer.rows)] : [];
    await this.finish(writer, flags, fits, () => writePerplexityFigures(evaluation.directory));
    evaluation.communicator.close();
  }
}
