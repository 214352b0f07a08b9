import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { packageRoot } from '../../src/package-root.js';
import { rivalsTable } from './rivals-table.js';

const test = suite('docs: rivals');

/** Cells of the first table under a heading, without the rule. */
function tableUnder(heading: string, text: string): string[][] {
  const lines = text.slice(text.indexOf(`\n${heading}\n`)).split('\n');
  const first = lines.findIndex((line) => line.startsWith('|'));
  const count = lines.slice(first).findIndex((line) => !line.startsWith('|'));
  return lines
    .slice(first, first + count)
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
    .filter(([cell = '']) => !/^:?-+:?$/.test(cell));
}

test('every cell of the table of rivals is that of a committed table', () => {
  const text = readFileSync(join(packageRoot, 'docs', 'rivals.md'), 'utf8');
  const found = tableUnder('## Side by side', text);
  assert.ok(found.length >= 9, 'eight architectures and a head');
  assert.equal(found, rivalsTable());
});

test.run();
