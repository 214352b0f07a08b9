/**
 * How rank 0 hands a few bytes to all other ranks before they have a communicator: it listens at the address that the launcher
 * names, and each of the others asks once. NCCL's own connections follow from these bytes.
 */
import { createHash } from 'node:crypto';
import { createConnection, createServer, type Socket } from 'node:net';
import { RunError } from '../errors.js';
import type { Ranks } from './ranks.js';

/** The port beside the launcher's own: torchrun listens at MASTER_PORT itself. */
const PORT_OFFSET = 1;
const GREETING = 'yoco-rendezvous-2';
const LOOPBACK = ['localhost', '127.0.0.1', '::1'];
const RETRY_MILLISECONDS = 100;

export interface RendezvousOptions {
  /** How long ranks wait for each other; default two minutes. */
  readonly timeoutMilliseconds?: number;
}

/**
 * The bytes that rank 0 has made, on every rank.
 * @param make called on rank 0 only
 * @throws RunError where the ranks do not meet in time
 */
export async function shareFromRank0(
  ranks: Ranks,
  make: () => Uint8Array,
  { timeoutMilliseconds = 120_000 }: RendezvousOptions = {},
): Promise<Uint8Array> {
  const { master, rank, size } = ranks;
  if (master === null) {
    throw new RunError(
      'the ranks do not know where rank 0 is: set MASTER_ADDR (and MASTER_PORT), as torchrun and yoco launch do',
    );
  }
  const address = { host: master.host, port: master.port + PORT_OFFSET };
  const deadline = Date.now() + timeoutMilliseconds;
  const greeting = greetingOf(ranks);
  return rank === 0
    ? serve(make(), { size, greeting, address, deadline })
    : ask(rank, { greeting, address, deadline });
}

/** A rank of another run, which came to the same port by mistake, must not get our bytes, nor we its. */
function greetingOf({ size, run = '' }: Ranks): string {
  const key = createHash('sha256').update(`${size} ${run}`).digest('hex').slice(0, 16);
  return `${GREETING} ${key}`;
}

interface Address {
  readonly host: string;
  readonly port: number;
}

interface Meeting {
  readonly greeting: string;
  readonly address: Address;
  /** In milliseconds since 1970. */
  readonly deadline: number;
}

/** Answers each of the other ranks once. Whoever does not greet as a rank of this run gets nothing. */
function serve(
  bytes: Uint8Array,
  { size, greeting, address, deadline }: Meeting & { size: number },
): Promise<Uint8Array> {
  const { host, port } = address;
  const missing = new Set(Array.from({ length: size - 1 }, (_, i) => i + 1));
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      void readLine(socket).then((line) => {
        const rank = rankOf(line, greeting, size);
        if (rank === null || !missing.has(rank)) {
          socket.destroy();
          return;
        }
        socket.end(bytes, () => {
          missing.delete(rank);
          if (missing.size > 0) return;
          clearTimeout(timer);
          server.close();
          resolve(bytes);
        });
      });
    });
    const fail = (reason: string): void => {
      clearTimeout(timer);
      server.close();
      reject(new RunError(reason));
    };
    const timer = setTimeout(() => {
      fail(`rank ${[...missing].join(', ')} did not come to ${host}:${port} in time: did it start?`);
    }, deadline - Date.now());
    server.on('error', (error) => {
      fail(`rank 0 cannot listen at ${host}:${port}: ${error.message}; set MASTER_PORT to a free port`);
    });
    // A host may know its own name as an address that the others cannot reach, such as Debian's 127.0.1.1.
    if (LOOPBACK.includes(host)) server.listen(port, host);
    else server.listen(port);
  });
}

async function ask(rank: number, { greeting, address, deadline }: Meeting): Promise<Uint8Array> {
  // The last attempt may only have had no time: an answer of nothing says more.
  let answered: string | null = null;
  for (;;) {
    const { bytes, reason } = await attempt(`${greeting} ${rank}\n`, address, deadline - Date.now());
    if (bytes !== null && bytes.length > 0) return bytes;
    if (bytes !== null) answered = reason;
    if (Date.now() >= deadline) {
      const why = answered ?? reason;
      throw new RunError(`rank ${rank} cannot reach rank 0 at ${address.host}:${address.port}: ${why}`);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
  }
}

/** One connection: what was received, or why nothing was. */
function attempt(
  line: string,
  { host, port }: Address,
  milliseconds: number,
): Promise<{ bytes: Buffer | null; reason: string }> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    const socket = createConnection({ host, port }, () => {
      socket.write(line);
    });
    socket.setTimeout(Math.max(1, milliseconds), () => {
      socket.destroy(new Error('no answer'));
    });
    socket.on('data', (part: Buffer) => parts.push(part));
    socket.on('end', () => {
      resolve({ bytes: Buffer.concat(parts), reason: 'it answered nothing' });
    });
    socket.on('error', (error) => {
      resolve({ bytes: null, reason: error.message });
    });
  });
}

const LONGEST_LINE = 64;

function readLine(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    socket.setTimeout(5000, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      resolve(text);
    });
    socket.on('data', (part: Buffer) => {
      text += part.toString('latin1');
      if (text.includes('\n') || text.length > LONGEST_LINE) resolve(text);
    });
  });
}

function rankOf(line: string, greeting: string, size: number): number | null {
  const found = new RegExp(`^${greeting} (\\d{1,9})\n$`).exec(line);
  const rank = Number(found?.[1] ?? NaN);
  return rank > 0 && rank < size ? rank : null;
}
