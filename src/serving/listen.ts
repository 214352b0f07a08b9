/** An HTTP server on a port of this machine: how it starts and how it ends. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import { RunError } from '../errors.js';

export interface Listening {
  readonly server: Server;
  /** `http://127.0.0.1:8000` */
  readonly url: string;
}

/**
 * @param fetch answers a request
 * @param port 0: any that is free
 * @throws RunError where it cannot listen there
 */
export function listen(
  fetch: (request: Request) => Response | Promise<Response>,
  hostname: string,
  port: number,
): Promise<Listening> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch, hostname, port, overrideGlobalObjects: false }, (address) => {
      resolve({ server, url: urlOf(address) });
    }) as Server;
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new RunError(`cannot listen on ${hostname}:${port}: ${reasonOf(error)}`));
    });
  });
}

const urlOf = ({ address, family, port }: AddressInfo): string =>
  `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;

/** Whether only this machine reaches what listens on an address. */
export const isLocal = (host: string): boolean =>
  ['localhost', '::1'].includes(host) || host.startsWith('127.');

/** Milliseconds in which connections may end after the last answer. */
const CLOSE_MS = 1000;

/** Takes no more connections and ends when those that are open have; late ones are cut. @param answered when no answer is due any more */
export async function closeServer(
  server: Server,
  answered: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    server.close(() => {
      resolve();
    });
  });
  server.closeIdleConnections();
  await answered();
  // Connections that stay open for more requests would keep the server.
  server.closeIdleConnections();
  const late = setTimeout(() => {
    server.closeAllConnections();
  }, CLOSE_MS);
  await closed;
  clearTimeout(late);
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  if (code === 'EADDRINUSE') return 'the port is in use; take another with --port, or 0 for any';
  if (code === 'EACCES') return 'the system does not allow it; take a port from 1024';
  return message;
}
