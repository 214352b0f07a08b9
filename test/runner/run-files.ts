/** Runs test files in several processes at once, and counts. */
import { performance } from 'node:perf_hooks';
import { TestQueue } from './queue.js';
import { type Report, WorkerProcess } from './worker-process.js';

export interface RunOptions {
  /** Directory of the test files. */
  readonly root: string;
  /** Relative to it. */
  readonly files: readonly string[];
  readonly processes: number;
  readonly print: (text: string) => void;
}

export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

/** Prints what each file prints when it has ended, why tests were skipped, and which files have failed. */
export async function runFiles({ root, files, processes, print }: RunOptions): Promise<Totals> {
  const queue = new TestQueue(files);
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  const reasons = new Map<string, number>();
  const failing: string[] = [];
  const add = (file: string, report: Report): void => {
    totals.passed += report.passed;
    totals.failed += report.failed;
    totals.skipped += report.skipped;
    for (const [reason, count] of report.reasons) reasons.set(reason, (reasons.get(reason) ?? 0) + count);
    if (report.failed > 0) failing.push(file);
  };
  const work = async (): Promise<void> => {
    let worker: WorkerProcess | null = null;
    for (let file = await queue.take(); file !== null; file = await queue.take()) {
      if (!worker?.isAlive) worker = new WorkerProcess(root);
      const start = performance.now();
      const report = await worker.run(file);
      queue.release(file);
      print(`${file}  ${((performance.now() - start) / 1000).toFixed(1)} s\n${report.output}\n`);
      add(file, report);
    }
    worker?.end();
  };
  await Promise.all(Array.from({ length: Math.min(processes, files.length) }, work));
  for (const [reason, count] of reasons) print(`${count} skipped: ${reason}\n`);
  for (const file of failing.sort()) print(`failed: ${file}\n`);
  return totals;
}
