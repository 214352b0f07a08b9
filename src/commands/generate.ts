import { Args, Flags } from '@oclif/core';
import type { FlagsOf } from '../cli/base-command.js';
import { engineFlags, quietFlag, seedFlag } from '../cli/flags.js';
import { PlainCommand } from '../cli/plain-command.js';
import type { createProgress } from '../cli/progress.js';
import type { Engine } from '../library/engines.js';
import type { Tokenizer } from '../library/text.js';
import type { Candidate, GenerateSpeed, Sampler } from '../library/generation.js';
import { UsageError, modelLabel } from '../library/basics.js';
import { evaluationFlags } from '../cli/evaluation-flags.js';
import { isRead } from '../cli/streams.js';
import { modelSelection } from '../cli/model-selection.js';

const decimal = Flags.custom<number>({ parse: (text) => Promise.resolve(parseDecimal(text)) });

function parseDecimal(text: string): number {
  const value = Number(text);
  // An empty text would be zero.
  if (text.trim() === '' || !Number.isFinite(value)) throw new UsageError(`'${text}' is not a number`);
  return value;
}

/** What continues prompts. */
interface Loaded {
  readonly model: Awaited<ReturnType<Candidate['open']>>;
  readonly tokenizer: Tokenizer;
  readonly engine: Engine;
}

interface Request {
  readonly prompt: string;
  readonly ids: Int32Array;
}

export default class Generate extends PlainCommand {
  static override summary = 'Continue a text.';
  static override description =
    'The continuation goes to stdout as it comes, rates to stderr. Greedy unless --temperature says otherwise. The prompt is an ' +
    'argument, a file (--prompt-file), or stdin; --prompts takes several and answers in JSON lines.';
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
    'prompt-file': Flags.string({ description: 'file that holds the prompt', helpValue: 'FILE' }),
    prompts: Flags.string({
      description:
        'file of several prompts, one a line; each is continued as if it were alone, and answered as a JSON line',
      helpValue: 'FILE',
    }),
    format: Flags.option({
      options: ['text', 'json'] as const,
      description: 'the text as it comes, or a JSON line per prompt (default: text; json with --prompts)',
    })(),
    tokens: Flags.integer({ char: 'n', description: 'tokens to generate at most', default: 200, min: 1 }),
    temperature: decimal({
      description: 'above 0: draw tokens at random, the flatter the higher; 0: always the likeliest',
      default: 0,
      helpValue: 'T',
    }),
    'top-k': Flags.integer({ description: 'draw among the K likeliest tokens', min: 1, helpValue: 'K' }),
    'top-p': decimal({
      description: 'draw among the fewest tokens that have probability P together',
      helpValue: 'P',
    }),
    'ignore-end': Flags.boolean({ description: 'continue after the end-of-text token' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Generate);
    const prompts = await this.prompts(args.prompt, flags);
    const isJson = this.isJson(flags);
    // What cannot be meant is known before anything is loaded.
    await this.sampler(flags);
    const { chooseShipped, onlyModel } = await import('../library/models.js');
    const { describeTokens, loadCandidates, promptTokens, remarkContext, requireGenerationMemory } =
      await import('../library/generation.js');
    const { startChosenEngine } = await import('../library/engines.js');
    const choice = onlyModel(chooseShipped('language', await modelSelection(flags)));
    const [candidate] = await loadCandidates([choice], flags);
    if (candidate === undefined) return;
    for (const line of describeTokens([candidate])) this.reports().detail(line);
    const { note } = this.reports();
    choice.checkpoint?.remarks?.forEach(note);
    const engine = await startChosenEngine(flags, this.reports());
    if (!choice.checkpoint) {
      this.caution(`${modelLabel(choice)}: no checkpoint, the weights are random and so is the text`);
    }
    const { tokenizer } = candidate;
    const requests = prompts.map((prompt) => ({ prompt, ids: promptTokens(tokenizer, prompt) }));
    const longest = Math.max(...requests.map(({ ids }) => ids.length)) + flags.tokens;
    requireGenerationMemory(engine, choice, longest);
    remarkContext(note, candidate, longest);
    const model = await candidate.open();
    for (const request of requests) {
      await this.answer({ model, tokenizer, engine }, request, flags, isJson);
    }
    model.dispose();
  }

  /** Continues one prompt. Each has a sampler of its own, so that its text does not depend on the other prompts. */
  private async answer(
    { model, tokenizer, engine }: Loaded,
    { prompt, ids }: Request,
    flags: FlagsOf<typeof Generate>,
    isJson: boolean,
  ): Promise<void> {
    const { generate } = await import('../library/generation.js');
    const sampler = await this.sampler(flags);
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
        if (!isRead()) this.exit(0);
        if (isJson) whole += text;
        else process.stdout.write(text);
      },
    });
    const { promptTokens: read, generatedTokens } = speed;
    const line = { prompt, text: whole, prompt_tokens: read, generated_tokens: generatedTokens };
    process.stdout.write(isJson ? `${JSON.stringify(line)}\n` : '\n');
    this.reportSpeed(speed);
  }

  /** @throws UsageError for several prompts as plain text: nothing would tell their texts apart */
  private isJson({ format, prompts }: FlagsOf<typeof Generate>): boolean {
    if (prompts !== undefined && format === 'text') {
      throw new UsageError('several prompts (--prompts) are answered as JSON lines: give --format json');
    }
    return format === 'json' || prompts !== undefined;
  }

  private async prompts(argument: string | undefined, flags: FlagsOf<typeof Generate>): Promise<string[]> {
    const { prompts: file, 'prompt-file': single } = flags;
    if (file === undefined) return [await this.prompt(argument, single)];
    if (argument !== undefined || single !== undefined) {
      throw new UsageError('give one prompt, or several with --prompts, not both');
    }
    const { readText } = await import('../library/text.js');
    const lines = [...readText(file)]
      .join('')
      .split(/\r?\n/)
      .filter((line) => line.trim() !== '');
    if (lines.length === 0) throw new UsageError(`--prompts ${file} holds no prompt: write one a line`);
    return lines;
  }

  private async prompt(argument: string | undefined, file: string | undefined): Promise<string> {
    if (argument !== undefined && file !== undefined) {
      throw new UsageError('give the prompt as an argument or with --prompt-file, not both');
    }
    if (argument !== undefined) return argument;
    const { readText, readStream } = await import('../library/text.js');
    if (file !== undefined) return [...readText(file)].join('');
    if (process.stdin.isTTY)
      throw new UsageError('no prompt: give a text, --prompt-file FILE, or pipe one in');
    const piped = (await readStream(process.stdin)).replace(/\n$/, '');
    if (piped === '')
      throw new UsageError('no prompt: stdin is empty (give "" as the argument to begin a new text)');
    return piped;
  }

  private async sampler(flags: FlagsOf<typeof Generate>): Promise<Sampler> {
    const { greedySampler, randomSampler, Random } = await import('../library/generation.js');
    const { temperature, 'top-k': topK, 'top-p': topP } = flags;
    if (temperature === 0) {
      if (topK === undefined && topP === undefined) return greedySampler;
      throw new UsageError('--top-k and --top-p say how to draw at random: give --temperature, such as 0.8');
    }
    const random = new Random(flags.seed).fork('generate');
    return randomSampler({ temperature, topK: topK ?? null, topP: topP ?? null, random });
  }

  private reportSpeed(speed: GenerateSpeed): void {
    const rate = (tokens: number, seconds: number): string =>
      `${tokens.toLocaleString('en-US')} tokens, ${(tokens / seconds).toFixed(1)} tokens/s`;
    this.note(
      `prefill ${rate(speed.promptTokens, speed.prefillSeconds)}; decode ${rate(speed.generatedTokens, speed.decodeSeconds)}`,
    );
  }
}
