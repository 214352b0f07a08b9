/** An HTTP server that speaks OpenAI's completions API. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import { RunError } from '../errors.js';
import { createApp, type AppOptions } from './app.js';
import { InFlight } from './in-flight.js';

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
  const { server, address } = await listen(app.fetch, host, port);
  server.requestTimeout = timeoutSeconds * 1000;
  const name = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `http://${name}:${address.port}`,
    async stop(seconds) {
      const closed = new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
      });
      server.closeIdleConnections();
      const cancelled = await inFlight.stop(seconds);
      // Connections that stay open for more requests would keep the server.
      server.closeIdleConnections();
      const late = setTimeout(() => {
        server.closeAllConnections();
      }, 1000);
      await closed;
      clearTimeout(late);
      return cancelled;
    },
  };
}

function listen(
  fetch: (request: Request) => Response | Promise<Response>,
  hostname: string,
  port: number,
): Promise<{ server: Server; address: AddressInfo }> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch, hostname, port, overrideGlobalObjects: false }, (address) => {
      resolve({ server, address });
    }) as Server;
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new RunError(`cannot listen on ${hostname}:${port}: ${reasonOf(error)}`));
    });
  });
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  if (code === 'EADDRINUSE') return 'the port is in use; take another with --port, or 0 for any';
  if (code === 'EACCES') return 'the system does not allow it; take a port from 1024';
  return message;
}
