import { setMaxListeners } from 'node:events';
import { Args, Flags } from '@oclif/core';
import type { FlagsOf } from '../cli/base-command.js';
import { contextParallelFlag, engineFlags, numberFlag, quietFlag, seedFlag } from '../cli/flags.js';
import { PlainCommand } from '../cli/plain-command.js';
import type { createProgress } from '../cli/progress.js';
import type { Engine } from '../library/engines.js';
import type { Communicator } from '../library/ranks.js';
import type { Tokenizer } from '../library/text.js';
import type {
  Candidate,
  GenerateSpeed,
  SamplingOptions,
  SamplingSettings,
  TokenChoice,
} from '../library/generation.js';
import { UsageError, modelLabel } from '../library/basics.js';
import { batchFlag, evaluationFlags } from '../cli/evaluation-flags.js';
import { isRead } from '../cli/streams.js';
import { readPrompts, requireSharedPrompt } from '../cli/prompts.js';
import { modelSelection } from '../cli/model-selection.js';

/** What continues prompts. */
interface Loaded {
  readonly model: Awaited<ReturnType<Candidate['open']>>;
  readonly tokenizer: Tokenizer;
  readonly engine: Engine;
  readonly communicator: Communicator;
}

interface Request {
  readonly prompt: string;
  readonly ids: Int32Array;
}

export default class Generate extends PlainCommand {
  static override readonly runsOnRanks = true;
  static override summary = 'Continue a text.';
  static override description =
    'The continuation goes to stdout as it comes, rates to stderr. Greedy unless --temperature or the checkpoint says otherwise. The prompt is an ' +
    'argument, a file (--prompt-file), or stdin; --prompts takes several, computes them together and answers in JSON lines. With ' +
    '--context-parallel, ranks divide one prompt, which is an argument or a file.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> "Once upon a time" --checkpoint TinyStories-656K',
    '<%= config.bin %> <%= command.id %> "The state of the Union is" --checkpoint runs/books --temperature 0.8 --top-p 0.95 --seed 7',
    '<%= config.bin %> <%= command.id %> --prompt-file chapter.txt --checkpoint runs/books --tokens 500',
    '<%= config.bin %> <%= command.id %> --prompts prompts.txt --checkpoint runs/books --format json',
    'echo "Call me" | <%= config.bin %> <%= command.id %> --checkpoint runs/books',
  ];
  static override args = {
    // Read here, since oclif would take anything for text.
    prompt: Args.string({
      description: 'text to continue (default: read from stdin); "" begins a new text',
      ignoreStdin: true,
    }),
  };
  static override baseFlags = { ...quietFlag, ...seedFlag, ...engineFlags };
  static override flags = {
    ...evaluationFlags,
    ...contextParallelFlag,
    'prompt-file': Flags.string({ description: 'file that holds the prompt', helpValue: 'FILE' }),
    prompts: Flags.string({
      description:
        'file of several prompts, one a line; each is continued as if it were alone (with --compute float8 nearly so), and answered as a JSON line',
      helpValue: 'FILE',
    }),
    // A default would count as given.
    batch: batchFlag({
      description:
        'prompts computed in one pass at most, packed without padding; auto (the default): as many as fit',
      ...{ dependsOn: ['prompts'], default: undefined },
    }),
    format: Flags.option({
      options: ['text', 'json'] as const,
      description: 'the text as it comes, or a JSON line per prompt (default: text; json with --prompts)',
    })(),
    tokens: Flags.integer({ char: 'n', description: 'tokens to generate at most', default: 200, min: 1 }),
    temperature: numberFlag({
      description:
        'above 0: draw tokens at random, the flatter the higher; 0: always the likeliest (default: what generation_config.json ' +
        'of the checkpoint says, else 0)',
      helpValue: 'T',
    }),
    'top-k': Flags.integer({ description: 'draw among the K likeliest tokens', min: 1, helpValue: 'K' }),
    'top-p': numberFlag({
      description: 'draw among the fewest tokens that have probability P together',
      helpValue: 'P',
    }),
    'ignore-end': Flags.boolean({ description: 'continue after the end-of-text token' }),
  };

  /** How the checkpoint says that tokens are drawn. */
  private ofCheckpoint: SamplingSettings | null = null;

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Generate);
    if (this.ranks() !== null) requireSharedPrompt(args.prompt, flags);
    const prompts = await readPrompts(args.prompt, flags);
    const isJson = this.isJson(flags);
    const { chooseShipped, onlyModel } = await import('../library/models.js');
    const { checkpointSampling, describeTokens, loadCandidates, promptTokens, remarkContext } =
      await import('../library/generation.js');
    const choice = onlyModel(chooseShipped('language', await modelSelection(flags)));
    this.ofCheckpoint = choice.checkpoint ? checkpointSampling(choice.checkpoint.directory) : null;
    // What cannot be meant is known before weights are loaded.
    await this.sampling(flags);
    const [candidate] = await loadCandidates([choice], flags);
    if (candidate === undefined) return;
    for (const line of describeTokens([candidate])) this.reports().detail(line);
    const { note } = this.reports();
    choice.checkpoint?.remarks?.forEach(note);
    const { engine, communicator } = await this.startDividingRanks(flags);
    if (!choice.checkpoint && !this.isFollower) {
      this.caution(`${modelLabel(choice)}: no checkpoint, the weights are random and so is the text`);
    }
    const { tokenizer } = candidate;
    const requests = prompts.map((prompt) => ({ prompt, ids: promptTokens(tokenizer, prompt) }));
    const longest = Math.max(...requests.map(({ ids }) => ids.length)) + flags.tokens;
    const batch = await this.batchOf(engine, candidate, longest, flags);
    remarkContext(note, candidate, longest);
    const loaded = { model: await candidate.open(communicator), tokenizer, engine, communicator };
    const [first] = requests;
    if (flags.prompts === undefined && first) await this.answer(loaded, first, flags, isJson);
    else await this.answerAll(loaded, requests, batch, flags);
    loaded.model.dispose();
    communicator.close();
  }

  /** Prompts that are computed together. @throws RunError where they do not fit the memory */
  private async batchOf(
    engine: Engine,
    { choice }: Candidate,
    longest: number,
    { prompts, batch, 'context-parallel': ranks }: FlagsOf<typeof Generate>,
  ): Promise<number> {
    const { requireGenerationMemory, scoringBatch } = await import('../library/generation.js');
    if (prompts !== undefined)
      return scoringBatch(engine, choice, longest, batch === 'auto' ? undefined : batch);
    requireGenerationMemory(engine, choice, longest, ranks);
    return 1;
  }

  /** Continues several prompts together and answers in their order, each as soon as those before it are answered. */
  private async answerAll(
    { model, tokenizer, engine }: Loaded,
    requests: readonly Request[],
    batch: number,
    flags: FlagsOf<typeof Generate>,
  ): Promise<void> {
    const { continueTogether, textAfter } = await import('../library/generation.js');
    const stopTokens = flags['ignore-end'] ? [] : tokenizer.stopTokens;
    const total = requests.reduce((sum, { ids }) => sum + ids.length, 0);
    const progress = this.progress({ label: 'prompts', total, unit: 'tokens' });
    let read = 0;
    const continued = await Promise.all(
      requests.map(async ({ ids }) => {
        let own = 0;
        const onRead = (tokens: number): void => {
          read += tokens - own;
          own = tokens;
          progress.update(read);
        };
        return { prompt: ids, choose: await this.choice(flags), onRead };
      }),
    );
    const started = performance.now();
    const controller = new AbortController();
    setMaxListeners(0, controller.signal);
    const options = { batch, limit: flags.tokens, stopTokens, signal: controller.signal };
    const answers = continueTogether(model, continued, options);
    let generated = 0;
    try {
      for (const [i, { prompt, ids }] of requests.entries()) {
        const tokens = (await answers[i]) ?? [];
        generated += tokens.length;
        const text = textAfter(tokenizer, ids, tokens);
        if (!isRead()) this.exit(0);
        const line = { prompt, text, prompt_tokens: ids.length, generated_tokens: tokens.length };
        process.stdout.write(`${JSON.stringify(line)}\n`);
      }
    } finally {
      controller.abort();
      progress.stop();
    }
    await engine.synchronize();
    const seconds = (performance.now() - started) / 1000;
    const rate = (count: number): string => `${(count / seconds).toFixed(1)}/s`;
    this.note(
      `${requests.length} prompts, up to ${batch} at once: ${rate(requests.length)}; ` +
        `${total.toLocaleString('en-US')} tokens read and ${generated.toLocaleString('en-US')} generated, ${rate(generated)}`,
    );
  }

  /** Continues one prompt, whose text comes as it is generated. */
  private async answer(
    { model, tokenizer, engine, communicator }: Loaded,
    { prompt, ids }: Request,
    flags: FlagsOf<typeof Generate>,
    isJson: boolean,
  ): Promise<void> {
    const { generate, greedySampler, randomSampler, sharedSampler } =
      await import('../library/generation.js');
    const sampling = await this.sampling(flags);
    const chosen = sampling === null ? greedySampler : randomSampler(sampling);
    const sampler = sharedSampler(chosen, communicator);
    let progress: ReturnType<typeof createProgress> | null = null;
    let whole = '';
    const speed = await generate(model, tokenizer, engine, {
      ...{ prompt: ids, sampler, limit: flags.tokens, ignoreEnd: flags['ignore-end'] },
      onPrompt: (tokens) => {
        progress ??= this.progress({ label: 'prompt', total: ids.length, unit: 'tokens' });
        progress.update(tokens);
      },
      onText: (text) => {
        progress?.stop();
        progress = null;
        // Other ranks would wait for one that has left.
        if (!isRead() && communicator.size === 1) this.exit(0);
        if (isJson) whole += text;
        else this.print(text);
      },
    });
    const { promptTokens: read, generatedTokens } = speed;
    const line = { prompt, text: whole, prompt_tokens: read, generated_tokens: generatedTokens };
    this.print(isJson ? `${JSON.stringify(line)}\n` : '\n');
    this.reportSpeed(speed);
  }

  private print(text: string): void {
    if (!this.isFollower) process.stdout.write(text);
  }

  /** @throws UsageError for several prompts as plain text: nothing would tell their texts apart */
  private isJson({ format, prompts }: FlagsOf<typeof Generate>): boolean {
    if (prompts !== undefined && format === 'text') {
      throw new UsageError('several prompts (--prompts) are answered as JSON lines: give --format json');
    }
    return format === 'json' || prompts !== undefined;
  }

  /** Chooses the tokens of one prompt. Each has its own, so that its text does not depend on the other prompts. */
  private async choice(flags: FlagsOf<typeof Generate>): Promise<TokenChoice> {
    const { greedyChoice, randomChoice } = await import('../library/generation.js');
    const sampling = await this.sampling(flags);
    return sampling === null ? greedyChoice : randomChoice(sampling);
  }

  /** How tokens are drawn; null: the likeliest. @throws UsageError for values that cannot be meant */
  private async sampling(flags: FlagsOf<typeof Generate>): Promise<SamplingOptions | null> {
    const { chooseSampling, Random } = await import('../library/generation.js');
    const { temperature, 'top-k': topK, 'top-p': topP } = flags;
    const options = chooseSampling({ temperature, topK, topP }, this.ofCheckpoint);
    return options === null ? null : { ...options, random: new Random(flags.seed).fork('generate') };
  }

  private reportSpeed(speed: GenerateSpeed): void {
    const rate = (tokens: number, seconds: number): string =>
      `${tokens.toLocaleString('en-US')} tokens, ${(tokens / seconds).toFixed(1)} tokens/s`;
    this.note(
      `prefill ${rate(speed.promptTokens, speed.prefillSeconds)}; decode ${rate(speed.generatedTokens, speed.decodeSeconds)}`,
    );
  }
}
