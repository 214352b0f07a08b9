import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { benchCommand } from '../../bench/cuda/command.js';
import { packageRoot } from '../../src/package-root.js';
import { collectProvenance } from '../../src/results/provenance.js';

const test = suite('provenance');

test('a command of the toolkit begins with its name, and paths are neutral', () => {
  const { command } = collectProvenance({ command: ['report', join(process.cwd(), 'results')], flags: {} });
  assert.equal(command, ['yoco', 'report', 'results']);
});

test('a benchmark is recorded as what runs it again, its default directory spelled out', () => {
  const argv = ['/usr/bin/node', join(packageRoot, 'bench/cuda/training.ts')];
  const { directory, ...run } = benchCommand(argv);
  assert.is(directory, 'results/h200');
  const { command, flags } = collectProvenance(run);
  assert.is(command.join(' '), 'node --import tsx bench/cuda/training.ts results/h200');
  assert.equal(flags, { directory: 'results/h200' });
  const one = collectProvenance(benchCommand([...argv, 'runs/a', 'yoco-3b']));
  assert.equal(one.command.slice(-2), ['runs/a', 'yoco-3b']);
  assert.equal(one.flags, { directory: 'runs/a', preset: 'yoco-3b' });
  const { command: all } = benchCommand([...argv, 'runs/a', '64k', 'transformer']);
  assert.equal(all, ['runs/a', '64k', 'transformer']);
});

test('the processor is recorded with the vector instructions that decide the last digits', () => {
  const { cpu, instructions } = collectProvenance({ command: [], flags: {} }).machine;
  assert.ok(cpu.length > 0);
  if (process.platform === 'linux' && process.arch === 'x64') assert.ok(instructions.includes('avx2'));
  assert.equal([...instructions].sort(), instructions);
});

test.run();
