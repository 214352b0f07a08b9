import { Flags } from '@oclif/core';
import type { FlagsOf } from '../cli/base-command.js';
import { batchFlag, evaluationFlags, maxContextFlag } from '../cli/evaluation-flags.js';
import { engineFlags, quietFlag, seedFlag } from '../cli/flags.js';
import { modelSelection } from '../cli/model-selection.js';
import { PlainCommand } from '../cli/plain-command.js';
import { stopSignal } from '../cli/interruption.js';
import { parseByteCount } from '../cli/sizes.js';
import { formatBytes, modelLabel, RunError, UsageError } from '../library/basics.js';
import type { Engine } from '../library/engines.js';
import type { Candidate } from '../library/generation.js';
import type { RunningServer } from '../library/serving.js';

const bytesFlag = Flags.custom<number>({
  helpValue: '256MB',
  parse: (text) => Promise.resolve(text.trim() === '0' ? 0 : parseByteCount(text)),
});

/** Tokens of a prompt and its continuation where neither the checkpoint nor a flag says. */
const DEFAULT_CONTEXT = 4096;
/** Positions per page of keys and values: a fork copies at most so many. */
const PAGE = 256;

export default class Serve extends PlainCommand {
  static override summary = "Answer completions over HTTP, as OpenAI's API does.";
  static override description =
    'Serves POST /v1/completions (with logprobs, echo, several prompts and streaming), GET /v1/models and GET /health. Requests are ' +
    'computed together: sequences join and leave between passes. What prompts begin with is kept and not read again. Listens on this ' +
    'machine alone unless --host says otherwise. SIGTERM or Ctrl-C ends it when the requests at work are answered; a second one at ' +
    'once. The exit status is 0 if none was cancelled.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> --checkpoint runs/books',
    '<%= config.bin %> <%= command.id %> --checkpoint runs/books --port 0 --batch 16 --max-context 2k',
    'YOCO_API_KEY=secret <%= config.bin %> <%= command.id %> --checkpoint runs/books --host 0.0.0.0',
    `curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' -d '{"prompt": "Once upon a time", "max_tokens": 20}'`,
  ];
  static override baseFlags = { ...quietFlag, ...seedFlag, ...engineFlags };
  static override flags = {
    ...evaluationFlags,
    host: Flags.string({
      description: 'address to listen on; 0.0.0.0 for all of this machine',
      default: '127.0.0.1',
      helpGroup: 'SERVER',
    }),
    port: Flags.integer({
      description: 'port to listen on; 0 for any that is free',
      default: 8000,
      min: 0,
      max: 65535,
      helpGroup: 'SERVER',
    }),
    name: Flags.string({
      description: 'what the API calls the model (default: the name of the checkpoint or preset)',
      helpGroup: 'SERVER',
    }),
    'api-key': Flags.string({
      description: 'key that requests must send; the environment variable keeps it out of process lists',
      env: 'YOCO_API_KEY',
      helpGroup: 'SERVER',
    }),
    'max-context': maxContextFlag,
    batch: batchFlag({ helpGroup: 'SERVER' }),
    'prefix-cache': bytesFlag({
      description: 'bytes of caches of what prompts begin with; 0: none',
      default: 256e6,
      defaultHelp: () => Promise.resolve('256MB'),
      helpGroup: 'SERVER',
    }),
    'max-body': bytesFlag({
      description: 'bytes of a request at most',
      default: 4e6,
      defaultHelp: () => Promise.resolve('4MB'),
      helpGroup: 'SERVER',
    }),
    'max-waiting': Flags.integer({
      description: 'sequences that may wait for others to end; more are refused with 429',
      default: 1024,
      min: 0,
      helpGroup: 'SERVER',
    }),
    timeout: Flags.integer({
      description: 'seconds that a request may take',
      default: 600,
      min: 1,
      helpGroup: 'SERVER',
    }),
    'stop-timeout': Flags.integer({
      description: 'seconds that requests at work may take when the server is stopped',
      default: 30,
      min: 0,
      helpGroup: 'SERVER',
    }),
  };

  async run(): Promise<void> {
    const { flags } = await this.parse(Serve);
    if (flags['api-key'] === '') throw new UsageError('--api-key is empty: give a key, or leave it out');
    if (flags['max-body'] === 0)
      throw new UsageError('--max-body 0 takes no request: give a size such as 4MB');
    const { chooseShipped, onlyModel } = await import('../library/models.js');
    const { describeTokens, loadCandidates } = await import('../library/generation.js');
    const { startChosenEngine } = await import('../library/engines.js');
    const choice = onlyModel(chooseShipped('language', await modelSelection(flags)));
    const [candidate] = await loadCandidates([choice], flags);
    if (candidate === undefined) return;
    const { note, detail } = this.reports();
    for (const line of describeTokens([candidate])) detail(line);
    choice.checkpoint?.remarks?.forEach(note);
    const engine = await startChosenEngine(flags, this.reports());
    if (!choice.checkpoint) {
      this.caution(`${modelLabel(choice)}: no checkpoint, the weights are random and so is the text`);
    }
    await this.serve(candidate, engine, flags);
  }

  private async serve(candidate: Candidate, engine: Engine, flags: FlagsOf<typeof Serve>): Promise<void> {
    const { isLocal, PrefixStore, scoringBatch, SequenceRunner, startServer } =
      await import('../library/serving.js');
    const { choice, tokenizer, trainedContext } = candidate;
    const maxContext = flags['max-context'] ?? trainedContext ?? DEFAULT_CONTEXT;
    const asked = flags.batch === 'auto' ? undefined : flags.batch;
    const batch = scoringBatch(engine, choice, maxContext, asked);
    const model = await candidate.open();
    const limit = flags['prefix-cache'];
    const prefixes = limit === 0 ? undefined : new PrefixStore(limit);
    const runner = new SequenceRunner(model, { batch, pageSize: PAGE, prefixes });
    const name = flags.name ?? choice.name;
    const { vocabSize } = choice.config;
    const maxWaiting = flags['max-waiting'];
    const stop = stopSignal();
    const server = await startServer({
      served: { name, tokenizer, vocabSize, maxContext, runner, maxWaiting },
      host: flags.host,
      port: flags.port,
      apiKey: flags['api-key'] ?? null,
      maxBodyBytes: flags['max-body'],
      timeoutSeconds: flags.timeout,
      onFault: (error) => {
        this.caution(error instanceof Error ? (error.stack ?? error.message) : String(error));
      },
    });
    if (!isLocal(flags.host) && flags['api-key'] === undefined) {
      this.caution(`${flags.host} may be reached from other machines, and there is no --api-key`);
    }
    this.note(
      `${name} on ${server.url}: up to ${batch} sequences at once, of up to ${maxContext.toLocaleString('en-US')} tokens` +
        (limit === 0 ? '' : `, ${formatBytes(limit)} of prefixes`),
    );
    await stop.asked;
    await this.stop(server, flags['stop-timeout']);
    stop.release();
    prefixes?.dispose();
    model.dispose();
  }

  private async stop(server: RunningServer, seconds: number): Promise<void> {
    this.note('no more requests are taken; the server ends when those at work are answered');
    const cancelled = await server.stop(seconds);
    if (cancelled > 0) {
      throw new RunError(
        `${cancelled} requests were cancelled after ${seconds} s: --stop-timeout gives them longer`,
      );
    }
  }
}
