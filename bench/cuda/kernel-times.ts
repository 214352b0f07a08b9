/** Where the time on the device goes: kernels, products and copies timed one by one with events. */
import type { CudaBackend } from '../../src/engines/cuda/backend.js';
import { matmulKey } from '../../src/engines/cuda/cublas.js';
import * as tf from '../../src/tf.js';

export interface KernelTime {
  name: string;
  count: number;
  milliseconds: number;
}

/** The backend of the engine that has been started. */
export const cudaBackend = (): CudaBackend => tf.backend() as unknown as CudaBackend;

/** A copy of these takes some two milliseconds. */
const COPY_BYTES = 2 ** 32;

/**
 * Times everything that `work` queues, by name, the longest first. The device first gets some `backlog` milliseconds of
 * copies, so that it never waits for the host in between: intervals would else contain the host's time.
 */
export function kernelTimes(backend: CudaBackend, backlog: number, work: () => void): KernelTime[] {
  const { device } = backend;
  const { driver, matmuls } = device;
  const own = { launch: device.launch.bind(device), run: matmuls.run.bind(matmuls), copy: driver.copy.bind(driver), fill: driver.fill.bind(driver) }; // prettier-ignore
  const spans: { name: string; start: number; end: number }[] = [];
  const timed = (name: string, queue: () => void): void => {
    const [start, end] = [driver.createEvent(), driver.createEvent()];
    driver.recordEvent(start);
    queue();
    driver.recordEvent(end);
    spans.push({ name, start, end });
  };
  Object.assign(device, { launch: ((kernel, ...rest) => { timed(kernel.name, () => { own.launch(kernel, ...rest); }); }) satisfies typeof device.launch }); // prettier-ignore
  matmuls.run = (product, pointers) => {
    timed(`product ${matmulKey(product)}`, () => {
      own.run(product, pointers);
    });
  };
  driver.copy = (...args) => {
    timed('copy', () => {
      own.copy(...args);
    });
  };
  driver.fill = (...args) => {
    timed('fill', () => {
      own.fill(...args);
    });
  };
  try {
    backend.scratch(2 * COPY_BYTES, (address) => {
      for (let queued = 0; queued < backlog; queued += 2) {
        own.copy(address + COPY_BYTES, address, COPY_BYTES);
      }
    });
    work();
  } finally {
    Object.assign(device, { launch: own.launch });
    matmuls.run = own.run;
    driver.copy = own.copy;
    driver.fill = own.fill;
  }
  driver.synchronize();
  const totals = new Map<string, KernelTime>();
  for (const { name, start, end } of spans) {
    const total = totals.get(name) ?? { name, count: 0, milliseconds: 0 };
    total.count += 1;
    total.milliseconds += driver.elapsed(start, end);
    totals.set(name, total);
    driver.destroyEvent(start);
    driver.destroyEvent(end);
  }
  return [...totals.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}

/** Times of `runs` calls of an op together, after two to warm up; its results are disposed of. */
export function callTimes(
  work: () => tf.Tensor | tf.Tensor[],
  { runs, backlog }: { readonly runs: number; readonly backlog: number },
): KernelTime[] {
  const repeat = (count: number): void => {
    for (let i = 0; i < count; i++) tf.dispose(tf.tidy(work));
  };
  repeat(2);
  return kernelTimes(cudaBackend(), backlog, () => {
    repeat(runs);
  });
}

/** Prints the longest of them on stderr. */
export function printKernelTimes(title: string, times: readonly KernelTime[], most = 24): void {
  const total = times.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const count = times.reduce((sum, entry) => sum + entry.count, 0);
  const lines = times.slice(0, most).map(({ name, count, milliseconds }) => {
    const each = ((1000 * milliseconds) / count).toFixed(1);
    return `  ${milliseconds.toFixed(3).padStart(9)} ms  ${String(count).padStart(4)} × ${each.padStart(8)} µs  ${name}`;
  });
  process.stderr.write(`${title}: ${total.toFixed(3)} ms in ${count} launches\n${lines.join('\n')}\n`);
}
