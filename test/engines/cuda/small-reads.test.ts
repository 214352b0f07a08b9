/** Small results are read when the caller waits, not when it asks. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Driver } from '../../../src/engines/cuda/driver.js';
import { SmallReads } from '../../../src/engines/cuda/small-reads.js';

const test = suite('small reads');

/** Notes calls; a copy brings bytes that count up from its device address when its event is waited for. */
function noting(): { reads: SmallReads; calls: string[] } {
  const calls: string[] = [];
  const memory = new ArrayBuffer(2 ** 16);
  const base = 2 ** 20;
  const copies: { event: number; fill: () => void }[] = [];
  let [events, pending] = [0, (): void => undefined];
  const driver = {
    allocateHost: () => ({ address: base, bytes: memory }),
    createEvent: () => ++events,
    downloadLater: (host: number, address: number, bytes: number) => {
      calls.push(`copy ${address}`);
      pending = () => {
        const to = new Uint8Array(memory, host - base, bytes);
        to.forEach((_, i) => (to[i] = address + i));
      };
    },
    recordEvent: (event: number) => {
      copies.push({ event, fill: pending });
    },
    waitEvent: (event: number) => {
      calls.push('wait');
      copies
        .filter((copy) => copy.event === event)
        .at(-1)
        ?.fill();
    },
  };
  return { reads: new SmallReads(driver as unknown as Driver), calls };
}

test('what is queued before the caller waits does not wait, and each read gets its own bytes', async () => {
  const { reads, calls } = noting();
  const [a, b] = [new Uint8Array(3), new Uint8Array(2)];
  const both = [reads.begin(a, 10), reads.begin(b, 40)];
  calls.push('more work');
  for (const reading of both) await reading;
  assert.equal(calls, ['copy 10', 'copy 40', 'more work', 'wait', 'wait']);
  assert.equal([...a, ...b], [10, 11, 12, 40, 41]);
});

test('room is used again, and there is none for large reads or too many at once', async () => {
  const { reads } = noting();
  assert.is(reads.begin(new Float32Array(1000), 0), null);
  for (let round = 0; round < 3; round++) {
    const begun = Array.from({ length: 40 }, (_, i) => {
      const host = new Uint8Array(4);
      return { host, address: 10 * round + i, reading: reads.begin(host, 10 * round + i) };
    });
    assert.is(begun.filter(({ reading }) => reading !== null).length, 32);
    for (const { host, address, reading } of begun.slice(0, 32)) {
      await reading;
      assert.is(host[0], address);
    }
  }
});

test.run();
