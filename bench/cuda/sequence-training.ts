/**
 * Training on sequences that GPUs divide between them, started once for each: `torchrun --no-python --nproc-per-node N node --import
 * tsx bench/cuda/sequence-training.ts DIRECTORY 64k,1m [ARCHITECTURE]`. Bytes sent are counted, and compared with what the layout implies
 * (appendix A of the paper: keys and values are gathered once).
 */
import { parseTokenCounts } from '../../src/cli/sizes.js';
import { costs, presetConfig } from '../../src/model/index.js';
import { timeRuns } from '../../src/profiling/timing.js';
import { median } from '../../src/sweep/statistics.js';
import { trainer } from '../training-step.js';
import { counted } from './counted.js';
import { openSession } from './session.js';
import { MODEL, PEAK_BYTES, TOKENS_PER_SECOND } from './training-columns.js';

/** Sequences beyond this take one step, which is timed; shorter ones three after a first. */
const ONCE = 2 ** 19;
const STORED = 2;

const schema = {
  name: 'sequence-training',
  columns: [
    ...MODEL,
    { name: 'context', kind: 'key', description: 'tokens of a sequence' },
    { name: 'ranks', kind: 'result', description: 'GPUs that divide it' },
    {
      name: 'collected_bytes',
      kind: 'result',
      description: 'keys, values, hidden states and their gradients sent by one rank in a step',
    },
    {
      name: 'collected_bytes_predicted',
      kind: 'result',
      description:
        'those of its tokens to every other rank, each time that they are computed and once back, in 16 bits',
    },
    {
      name: 'handed_bytes',
      kind: 'result',
      description: 'states, windows and their gradients sent by the first rank in a step',
    },
    {
      name: 'handed_bytes_predicted',
      kind: 'result',
      description: 'states of one sequence to the next rank in float32',
    },
    {
      name: 'optimizer_bytes_sent',
      kind: 'result',
      description: 'gradients and parameters, sent by one rank in a step',
    },
    {
      name: 'seconds',
      kind: 'timing',
      description: 'one step; median of three, of the longest sequences of one',
      digits: 4,
    },
    TOKENS_PER_SECOND,
    PEAK_BYTES,
    { name: 'loss', kind: 'timing', description: 'nats per token of the first rank', digits: 4 },
  ],
} as const;

const lengths = parseTokenCounts(process.argv[3] ?? '64k');
const architecture = process.argv[4] === 'transformer' ? 'transformer' : 'yoco';
const config = presetConfig('160m', architecture);
const { engine, table, communicator } = await openSession(schema, {
  configuration: { ...config },
  constants: { lengths, seed: 1 },
});
const { size } = communicator;

/**
 * What a step sends by the layout: keys and values as often as the layout makes them, hidden states once where the division changes
 * between the decoders, states once for each layer.
 */
function predicted(length: number): { collected: number; handed: number } {
  const formulas = costs(config);
  const others = (length / size) * (size - 1);
  const gathered = formulas.keyValueBytesPerToken(STORED, null) * others;
  const hidden = architecture === 'yoco' && (length / size) % 2 === 0 ? config.dim * STORED * others : 0;
  // Forward whole slices to the others, back their gradients; and forward again where layers that are computed again make them.
  const times = architecture === 'yoco' ? 2 : 3;
  return { collected: times * gathered + 2 * hidden, handed: size === 1 ? 0 : formulas.stateBytes(STORED) };
}

for (const context of lengths) {
  const [world, sequence] = [counted(communicator), counted(communicator)];
  const before = engine.memory().liveBytes;
  engine.resetPeak();
  const { step, dispose } = trainer(config, 1, context / size, {
    world: world.communicator,
    sequence: sequence.communicator,
    recompute: true,
  });
  const earlier = world.sent.collected;
  let loss = NaN;
  const runs = context > ONCE ? 1 : 4;
  const all = await timeRuns(engine, runs, () => {
    loss = step();
  });
  const seconds = median(all.slice(-3));
  dispose();
  const expected = predicted(context);
  table.append({
    ...{ model: '160m', architecture, context, ranks: size, seconds, loss },
    collected_bytes: sequence.sent.collected / runs,
    collected_bytes_predicted: expected.collected,
    handed_bytes: sequence.sent.handed / runs,
    handed_bytes_predicted: expected.handed,
    optimizer_bytes_sent: (world.sent.collected - earlier) / runs,
    tokens_per_second: context / seconds,
    peak_bytes: engine.memory().peakBytes - before,
    status: 'ok',
  });
  if (communicator.rank > 0) continue;
  process.stdout.write(
    `160m ${architecture}, ${context} tokens, ${size} ranks: ${seconds.toFixed(3)} s, ` +
      `${Math.round(context / seconds)} tokens/s, peak ${(engine.memory().peakBytes / 2 ** 30).toFixed(1)} GiB; ` +
      `keys and values sent ${sequence.sent.collected / runs} (by formula ${expected.collected}), ` +
      `states ${sequence.sent.handed / runs} (${expected.handed} one way), loss ${loss.toFixed(4)}\n`,
  );
}
table.close();
communicator.close();
