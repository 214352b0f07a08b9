/** A server on a port of this machine, and requests to it. */
import * as assert from 'uvu/assert';
import { loadTokenizer } from '../../src/data/tokenizer.js';
import type { PrefixStore } from '../../src/evaluation/generation/prefix-store.js';
import { SequenceRunner } from '../../src/evaluation/generation/sequence-runner.js';
import type { LanguageModel } from '../../src/model/index.js';
import type { ApiErrorBody } from '../../src/serving/api-error.js';
import type { CompletionBody } from '../../src/serving/completions.js';
import { type RunningServer, type ServerOptions, startServer } from '../../src/serving/server.js';
import { StubModel } from '../evaluation/stub-model.js';

/** What a test sets otherwise. */
export interface Changes extends Partial<Pick<ServerOptions, 'apiKey' | 'maxBodyBytes' | 'timeoutSeconds'>> {
  readonly model: LanguageModel;
  readonly batch?: number;
  readonly maxWaiting?: number;
  readonly prefixes?: PrefixStore;
}

/** Runs `body` against a server. */
export async function serving(
  changes: Changes,
  body: (url: string, server: RunningServer) => Promise<void>,
): Promise<void> {
  const { model, batch = 8, maxWaiting = 100, prefixes, ...rest } = changes;
  const server = await startServer({
    served: {
      name: 'tiny',
      tokenizer: await loadTokenizer('bytes'),
      vocabSize: 257,
      maxContext: 64,
      runner: new SequenceRunner(model, { batch, pageSize: 16, prefixes }),
      maxWaiting,
    },
    ...{ host: '127.0.0.1', port: 0, apiKey: null, maxBodyBytes: 10_000, timeoutSeconds: 60 },
    onFault: () => undefined,
    ...rest,
  });
  try {
    await body(server.url, server);
  } finally {
    await server.stop(0);
  }
}

export function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
}

export async function complete(url: string, body: object): Promise<CompletionBody> {
  const response = await post(url, body);
  assert.is(response.status, 200, response.status === 200 ? '' : await response.clone().text());
  return (await response.json()) as CompletionBody;
}

export const errorOf = async (response: Response): Promise<ApiErrorBody['error'] & { status: number }> => ({
  ...((await response.json()) as ApiErrorBody).error,
  status: response.status,
});

export async function only(answer: Promise<CompletionBody>): Promise<CompletionBody['choices'][number]> {
  const [choice] = (await answer).choices;
  if (choice === undefined) throw new Error('no choice');
  return choice;
}

/** After a letter the next one in the alphabet; after z the end of the text. */
export const alphabet = (): StubModel =>
  new StubModel(257, (context) => (context.at(-1) === 122 ? 256 : (context.at(-1) ?? 0) + 1));

/** Its passes end when the test says so. */
export class Held extends StubModel {
  release: () => void = () => undefined;
  readonly started = new Promise<void>((resolve) => {
    this.release = resolve;
  });
  override extendPacked(
    ...input: Parameters<StubModel['extendPacked']>
  ): ReturnType<StubModel['extendPacked']> {
    this.release();
    return super.extendPacked(...input);
  }
}
