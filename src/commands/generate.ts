import { Args, Flags } from '@oclif/core';
import type { FlagsOf } from '../cli/base-command.js';
import { engineFlags, quietFlag, seedFlag } from '../cli/flags.js';
import { PlainCommand } from '../cli/plain-command.js';
import type { createProgress } from '../cli/progress.js';
import type { GenerateSpeed, Sampler } from '../library/generation.js';
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

export default class Generate extends PlainCommand {
  static override summary = 'Continue a text.';
  static override description =
    'The continuation goes to stdout as it comes, rates to stderr. Greedy unless --temperature says otherwise. The prompt is an ' +
    'argument, a file (--prompt-file), or stdin.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> "Once upon a time" --checkpoint TinyStories-656K',
    '<%= config.bin %> <%= command.id %> "The state of the Union is" --checkpoint runs/books --temperature 0.8 --top-p 0.95 --seed 7',
    '<%= config.bin %> <%= command.id %> --prompt-file chapter.txt --checkpoint runs/books --tokens 500',
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
    const prompt = await this.prompt(args.prompt, flags['prompt-file']);
    const sampler = await this.sampler(flags);
    const { chooseModel } = await import('../library/models.js');
    const { describeTokens, generate, loadCandidates, promptTokens, remarkContext, requireGenerationMemory } =
      await import('../library/generation.js');
    const { startChosenEngine } = await import('../library/engines.js');
    const choice = chooseModel(modelSelection(flags));
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
    const ids = promptTokens(tokenizer, prompt);
    requireGenerationMemory(engine, choice, ids.length + flags.tokens);
    remarkContext(note, candidate, ids.length + flags.tokens);
    const model = await candidate.open();
    let progress: ReturnType<typeof createProgress> | null = null;
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
        process.stdout.write(text);
      },
    });
    process.stdout.write('\n');
    this.reportSpeed(speed);
    model.dispose();
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
