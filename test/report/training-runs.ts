/** Directories as `yoco train` leaves them, as far as pages read them. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { writeLines } from './tables.js';

export const HEAD = 'step,tokens,loss,held_out_loss,status,error';

/** @param losses one for each step of 100 tokens */
export function writeRun(directory: string, losses: readonly number[]): void {
  mkdirSync(directory, { recursive: true });
  const rows = losses.map((loss, index) => `${index + 1},${100 * (index + 1)},${loss},,ok,`);
  writeLines(join(directory, 'train.csv'), [HEAD, ...rows]);
}
