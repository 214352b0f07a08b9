import { createConnection, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Ranks } from '../../src/distributed/ranks.js';
import { shareFromRank0 } from '../../src/distributed/rendezvous.js';

const test = suite('distributed: rendezvous');
const HOST = '127.0.0.1';

/** A port of which the next is free as well. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port - 1;
}

const ranksAt = (port: number, size: number): Ranks[] =>
  Array.from({ length: size }, (_, rank) => ({
    ...{ launcher: 'torchrun', rank, size, localRank: rank },
    master: { host: HOST, port },
  }));

const unexpected = (): never => {
  throw new Error('only rank 0 makes the bytes');
};

test('every rank gets the bytes of rank 0, whoever comes first', async () => {
  const [first, ...others] = ranksAt(await freePort(), 4);
  const waiting = others.map((ranks) => shareFromRank0(ranks, unexpected));
  const bytes = Uint8Array.from({ length: 128 }, (_, i) => i);
  const shared = await Promise.all([shareFromRank0(first as Ranks, () => bytes), ...waiting]);
  for (const found of shared) assert.equal([...found], [...bytes]);
});

test('ranks of another run at the same port get nothing', async () => {
  const port = await freePort();
  const [first, second] = ranksAt(port, 2).map((ranks) => ({ ...ranks, run: 'a' })) as [Ranks, Ranks];
  const served = shareFromRank0(first, () => Uint8Array.of(7));
  const other = await shareFromRank0({ ...second, run: 'b' }, unexpected, { timeoutMilliseconds: 2000 }).then(
    () => 'no error',
    String,
  );
  assert.match(other, /rank 1 cannot reach rank 0 .*: it answered nothing/);
  assert.equal([...(await shareFromRank0(second, unexpected))], [7]);
  await served;
});

test('rank 0 can be reached at other addresses than the one that it knows itself by', async () => {
  const port = await freePort();
  const [first, second] = ranksAt(port, 2) as [Ranks, Ranks];
  const served = shareFromRank0({ ...first, master: { host: '127.0.1.1', port } }, () => Uint8Array.of(7));
  assert.equal([...(await shareFromRank0(second, unexpected, { timeoutMilliseconds: 2000 }))], [7]);
  await served;
});

test('a stranger gets nothing, and ends nothing', async () => {
  const port = await freePort();
  const [first, second] = ranksAt(port, 2) as [Ranks, Ranks];
  const served = shareFromRank0(first, () => Uint8Array.of(7));
  for (const words of ['GET / HTTP/1.1\r\n\r\n', 'yoco-rendezvous-2 2\n', 'x'.repeat(100)]) {
    const answer = await new Promise<string>((resolve) => {
      let text = '';
      const connect = (): void => {
        const socket = createConnection({ host: HOST, port: port + 1 }, () => socket.write(words));
        socket.on('data', (part: Buffer) => (text += part.toString()));
        socket.on('close', (failed) => {
          if (!failed) resolve(text);
        });
        socket.on('error', () => setTimeout(connect, 20));
      };
      connect();
    });
    assert.is(answer, '');
  }
  assert.equal([...(await shareFromRank0(second, unexpected))], [7]);
  await served;
});

test('ranks that do not meet say which one is missing', async () => {
  const port = await freePort();
  const [first, second] = ranksAt(port, 3) as [Ranks, Ranks, Ranks];
  const soon = { timeoutMilliseconds: 300 };
  const results = await Promise.allSettled([
    shareFromRank0(first, () => Uint8Array.of(1), soon),
    shareFromRank0(second, unexpected, soon),
  ]);
  assert.match(String((results[0] as PromiseRejectedResult).reason), /rank 2 did not come to 127\.0\.0\.1/);
  const alone = ranksAt(await freePort(), 2)[1] as Ranks;
  const [lost] = await Promise.allSettled([shareFromRank0(alone, unexpected, soon)]);
  assert.match(String((lost as PromiseRejectedResult).reason), /rank 1 cannot reach rank 0/);
  const [unknown] = await Promise.allSettled([shareFromRank0({ ...alone, master: null }, unexpected)]);
  assert.match(String((unknown as PromiseRejectedResult).reason), /MASTER_ADDR/);
});

test.run();
