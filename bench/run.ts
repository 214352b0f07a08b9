/**
 * `npm run bench [-- SECTION … --threads N --repetitions N]`: the CPU engine against ONNX Runtime called directly and
 * against tfjs' other backends. Without a section all run but `million`, which takes minutes.
 */
import { availableParallelism, cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { SECTIONS } from './sections.js';
import type { Row } from './measure.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: 'string', default: String(availableParallelism()) },
    repetitions: { type: 'string', default: '5' },
  },
});

function cells({ what, rate, unit, against, reference, target }: Row): string[] {
  const ratio = rate / reference;
  const verdict = target === null ? '' : `${target.toFixed(2)} ${ratio >= target ? '✓' : '✗'}`;
  const number = (value: number) => value.toFixed(value < 10 ? 2 : 0);
  return [
    what,
    `${number(rate)} ${unit}`,
    against,
    `${number(reference)} ${unit}`,
    ratio.toFixed(2),
    verdict,
  ];
}

const unknown = positionals.filter((name) => !(name in SECTIONS));
if (unknown.length > 0) {
  process.stderr.write(
    `unknown section ${unknown.join(', ')}: the sections are ${Object.keys(SECTIONS).join(', ')}\n`,
  );
  process.exit(2);
}
const wanted =
  positionals.length > 0 ? positionals : Object.keys(SECTIONS).filter((name) => name !== 'million');
const options = { threads: Number(values.threads), repetitions: Number(values.repetitions) };
process.stdout.write(`${cpus()[0]?.model.trim() ?? 'CPU'}, ${options.threads} threads, medians\n\n`);
process.stdout.write('| what | rate | against | rate | ratio | wanted |\n|---|---|---|---|---|---|\n');
for (const name of wanted)
  for (const row of (await SECTIONS[name]?.(options)) ?? [])
    process.stdout.write(`| ${cells(row).join(' | ')} |\n`);
