import { writeFileSync } from 'node:fs';

/** Writes a table, or any file of lines. */
export function writeLines(path: string, lines: readonly string[]): void {
  writeFileSync(path, `${lines.join('\n')}\n`);
}
