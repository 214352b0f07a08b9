/** An HTTP server that speaks OpenAI's completions API. */
import { createApp, type AppOptions } from './app.js';
import { InFlight } from './in-flight.js';
import { closeServer, listen } from './listen.js';

export interface ServerOptions extends Omit<AppOptions, 'inFlight'> {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** Seconds that a request may take. */
  readonly timeoutSeconds: number;
}

export interface RunningServer {
  /** `http://127.0.0.1:8000` */
  readonly url: string;
  /**
   * Takes no more requests, and ends when those at work have, or after so many seconds.
   * @returns how many requests were cancelled
   */
  stop(seconds: number): Promise<number>;
}

/** @throws RunError where it cannot listen there */
export async function startServer({
  host,
  port,
  timeoutSeconds,
  ...options
}: ServerOptions): Promise<RunningServer> {
  const inFlight = new InFlight(timeoutSeconds);
  const app = createApp({ ...options, inFlight });
  const { server, url } = await listen(app.fetch, host, port);
  server.requestTimeout = timeoutSeconds * 1000;
  return {
    url,
    async stop(seconds) {
      let cancelled = 0;
      await closeServer(server, async () => {
        cancelled = await inFlight.stop(seconds);
      });
      return cancelled;
    },
  };
}
