/** A process that runs the test files whose names it is sent, one after the other, and answers each with an `Outcome`. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { takeSkips } from '../skip.js';
import type { Outcome } from './worker-process.js';

/** A suite as uvu collects it. @returns what to print of its errors, or true, and numbers of tests */
type Suite = () => Promise<[errors: string | true, passed: number, skipped: number, total: number]>;

const [root = ''] = process.argv.slice(2);
const suites: Suite[] = [];
// uvu reads these when a test file first imports it: suites are then collected and not run.
Object.assign(globalThis, { UVU_DEFER: 1, UVU_INDEX: 0, UVU_QUEUE: [suites] });

const print = (text: string): boolean => process.stdout.write(text);

async function runFile(name: string): Promise<Omit<Outcome, 'reasons'>> {
  suites.length = 0;
  await import(pathToFileURL(join(root, name)).href);
  let [passed, failed, skipped] = [0, 0, 0];
  for (const run of suites) {
    const [errors, ran, left, total] = await run();
    passed += ran;
    failed += total - ran;
    skipped += left;
    if (errors !== true) print(`\n${errors}\n`);
    // uvu swallows what a hook throws.
    else if (ran < total) print('  before() or after.each() has failed\n');
  }
  return { passed, failed, skipped };
}

function broken(error: unknown): Omit<Outcome, 'reasons'> {
  print(`  ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return { passed: 0, failed: 1, skipped: 0 };
}

process.on('message', (name: string) => {
  // While a test waits for what never comes nothing else may keep the process: its end is then the failure.
  process.channel?.unref();
  void runFile(name)
    .catch(broken)
    .then((counts) => {
      process.channel?.ref();
      const outcome: Outcome = { ...counts, reasons: takeSkips() };
      // What was printed is in the pipe before the answer is on its way.
      process.stdout.write('', () => process.send?.(outcome));
    });
});
