/** The routes of the server. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { Hono, type Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { streamSSE } from 'hono/streaming';
import { ApiError, apiErrorOf, badRequest } from './api-error.js';
import { Completion, type Served, unknownModel } from './completions.js';
import type { InFlight } from './in-flight.js';
import { readCompletionRequest } from './request.js';

export interface AppOptions {
  readonly served: Served;
  readonly inFlight: InFlight;
  /** Wanted in `Authorization: Bearer KEY`; null: none. */
  readonly apiKey: string | null;
  /** Bytes of a request's body at most. */
  readonly maxBodyBytes: number;
  /** Told what is a fault of the server. */
  readonly onFault: (error: unknown) => void;
}

export function createApp(options: AppOptions): Hono {
  const { served, inFlight, apiKey, maxBodyBytes, onFault } = options;
  const created = Math.floor(Date.now() / 1000);
  const model = { id: served.name, object: 'model', created, owned_by: 'yoco' };
  const app = new Hono();
  const answerError = (c: Context, error: unknown): Response => {
    const found = apiErrorOf(error);
    if (found !== error && found.status === 500) onFault(error);
    if (found.status === 429 || found.status === 503) c.header('Retry-After', '1');
    return c.json(found.body, found.status);
  };
  app.onError((error, c) => answerError(c, error));
  app.notFound((c) => {
    const routes = 'POST /v1/completions, GET /v1/models, GET /health';
    return answerError(
      c,
      new ApiError(404, `there is no ${c.req.method} ${c.req.path}: there are ${routes}`),
    );
  });
  app.get('/health', (c) => {
    const { active, waiting } = served.runner.load;
    const status = inFlight.isStopping ? 'stopping' : 'ok';
    return c.json({ status, active, waiting }, inFlight.isStopping ? 503 : 200);
  });
  app.use('/v1/*', async (c, next) => {
    if (apiKey !== null && !isKey(c.req.header('Authorization'), apiKey)) {
      c.header('WWW-Authenticate', 'Bearer');
      throw new ApiError(401, 'the API key is missing or wrong: send Authorization: Bearer KEY', {
        code: 'invalid_api_key',
      });
    }
    await next();
  });
  const onTooLarge = (): never => {
    throw new ApiError(413, `the body is larger than ${maxBodyBytes} bytes`);
  };
  app.use('/v1/*', bodyLimit({ maxSize: maxBodyBytes, onError: onTooLarge }));
  app.get('/v1/models', (c) => c.json({ object: 'list', data: [model] }));
  app.get('/v1/models/:id{.+}', (c) => {
    const id = c.req.param('id');
    if (id !== served.name) throw unknownModel(id, served);
    return c.json(model);
  });
  app.post('/v1/completions', (c) => complete(c, options));
  return app;
}

/** Compares digests, whose equality takes the same time wherever they differ. */
function isKey(header: string | undefined, key: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  const given = /^Bearer +(.*)$/i.exec(header ?? '')?.[1];
  return given !== undefined && timingSafeEqual(digest(given), digest(key));
}

async function complete(c: Context, options: AppOptions): Promise<Response> {
  const { inFlight, served } = options;
  const body: unknown = await c.req.json().catch((error: unknown) => {
    if (error instanceof ApiError) throw error;
    throw badRequest('the body is not JSON');
  });
  const completion = new Completion(served, readCompletionRequest(body));
  const controller = inFlight.enter(c.req.raw.signal);
  if (completion.request.stream) return streamed(c, completion, controller, options);
  try {
    return c.json(await completion.answer(controller));
  } finally {
    inFlight.leave(controller);
  }
}

/** Server-sent events: a part each, the usage where it was asked for, then `[DONE]`; or an error. */
function streamed(
  c: Context,
  completion: Completion,
  controller: AbortController,
  { inFlight, onFault }: AppOptions,
): Response {
  return streamSSE(c, async (stream) => {
    let written: Promise<void> = Promise.resolve();
    const write = (data: string): void => {
      written = written.then(() => stream.writeSSE({ data }));
    };
    stream.onAbort(() => {
      controller.abort(new ApiError(503, 'the client has closed the connection'));
    });
    try {
      const usage = await completion.run((index, part) => {
        write(JSON.stringify(completion.part(index, part)));
      }, controller);
      if (completion.request.includeUsage) write(JSON.stringify(completion.usage(usage)));
      write('[DONE]');
    } catch (error) {
      const found = apiErrorOf(error);
      if (found !== error) onFault(error);
      write(JSON.stringify(found.body));
    } finally {
      await written.catch(() => undefined);
      inFlight.leave(controller);
    }
  });
}
