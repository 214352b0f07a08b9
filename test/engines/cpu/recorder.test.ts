/** Decoding by recorded steps gives what computed steps give, and layouts that cannot be recorded are computed without a word. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCpu } from '../../../src/engines/cpu/index.js';
import { loadNative } from '../../../src/engines/cpu/native/library.js';
import {
  CACHE_TYPES,
  type CacheType,
  CompressedPages,
  registerRecorder,
  reportRefusals,
  type StepRecorder,
  stepRecorder,
  weightDefaults,
} from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { CASES, randomTokens, SHAPE, testModel } from '../../model/cases.js';
import { usePlainBackend } from '../../plain-backend.js';
import { skipBecause } from '../../skip.js';
import { randomValues } from '../parity.js';

const test = suite('cpu engine: recorded steps');
test.after(usePlainBackend);

const LENGTH = 12;
const RECORDED = ['gated retention', 'no cross positions', 'transformer', 'gretnet', 'cla', 'yoco, tied'];
const COMPUTED = ['sliding window', 'biased transformer', 'yoco, gated delta net', 'retnet'];

/** Logits of every step, how many recordings there were, and what was reported. @param isRecorded whether steps may be */
function decodeAll(
  config: Parameters<typeof testModel>[0],
  isRecorded: boolean,
  // Pages end within the steps.
  { length = LENGTH, ...size }: { length?: number; pageSize?: number; type?: CacheType } = { pageSize: 5 },
): { logits: number[][]; recordings: number; refusals: string[] } {
  const refusals: string[] = [];
  reportRefusals((reason) => refusals.push(reason));
  let recordings = 0;
  const own = stepRecorder() as StepRecorder;
  const counting: StepRecorder = {
    record: (step) => {
      const recorded = own.record(step);
      recordings += 1;
      return recorded;
    },
  };
  registerRecorder(tf.getBackend(), isRecorded ? counting : null);
  const model = testModel(config);
  const cache = model.createCache(size);
  const [tokens = []] = randomTokens(1, length);
  const logits = tokens.map((token) =>
    tf.tidy(() => [...model.decode(tf.tensor1d([token], 'int32'), cache).dataSync()]),
  );
  cache.dispose();
  model.dispose();
  registerRecorder(tf.getBackend(), own);
  return { logits, recordings, refusals };
}

for (const name of [...RECORDED, ...COMPUTED]) {
  if (loadNative(1).native === null) skipBecause('no C compiler when the package was installed', test, name);
  else
    test(name, async () => {
      const engine = await startCpu({ threads: 2 }, { native: true });
      const before = engine.memory().liveBytes;
      const found = decodeAll(CASES[name] ?? {}, true);
      assert.is(engine.memory().liveBytes, before, 'memory that is kept');
      assert.equal(found.refusals, []);
      assert.is(found.recordings > 0, RECORDED.includes(name), `${found.recordings} recordings`);
      assert.equal(found.logits, decodeAll(CASES[name] ?? {}, false).logits);
    });
}

for (const name of RECORDED) {
  const title = `in float8: ${name}`;
  if (loadNative(1).native === null) skipBecause('no C compiler when the package was installed', test, title);
  else
    test(title, async () => {
      const engine = await startCpu({ threads: 2 }, { native: true });
      const before = engine.memory().liveBytes;
      const config = { ...CASES[name], hiddenDim: 32 };
      const usual = decodeAll(config, true);
      weightDefaults.compute = 'float8';
      try {
        const found = decodeAll(config, true);
        assert.is(engine.memory().liveBytes, before, 'memory that is kept');
        assert.equal(found.refusals, []);
        assert.ok(found.recordings > 0, 'recorded');
        assert.equal(found.logits, decodeAll(config, false).logits);
        assert.not.equal(found.logits, usual.logits);
      } finally {
        weightDefaults.compute = null;
      }
    });
}

for (const type of CACHE_TYPES.filter((each) => each !== 'float32')) {
  const title = `compressed: ${type}`;
  if (loadNative(1).native === null) skipBecause('no C compiler when the package was installed', test, title);
  else
    test(title, async () => {
      const engine = await startCpu({ threads: 2 }, { native: true });
      const before = engine.memory().liveBytes;
      // Groups begin, and pages of two groups end, within the steps.
      const size = { length: 200, pageSize: 128, type };
      const config = { ...CASES['gated retention'], ...SHAPE, dim: 32 };
      const found = decodeAll(config, true, size);
      assert.is(engine.memory().liveBytes, before, 'memory that is kept');
      assert.equal(found.refusals, []);
      // Two pages, and at most another recording for each new one: most groups begin within a recording.
      assert.ok(found.recordings > 0 && found.recordings < 6, `${found.recordings} recordings`);
      assert.equal(found.logits, decodeAll(config, false, size).logits);
      assert.equal(codesOf(type, 1), codesOf(type, 200));
    });
}

/** Codes and scales of 200 positions that arrive `count` at a time. */
function codesOf(type: CacheType, count: number): number[][] {
  return tf.tidy(() => {
    const pages = new CompressedPages(type, { batch: 1, kvHeads: 2, headDim: 16, pageSize: 128 });
    const rows = tf.tensor4d(randomValues(200 * 32, 5), [1, 200, 2, 16]);
    for (let at = 0; at < 200; at += count) {
      const part = tf.slice4d(rows, [0, at, 0, 0], [1, count, 2, 16]);
      pages.append(part, part);
    }
    const words = pages.pages.flatMap((page) =>
      Object.values(page).map((x) => [...(x as tf.Tensor).dataSync()]),
    );
    pages.dispose();
    return words;
  });
}

test.run();
