/** Decoding by recorded steps gives what computed steps give, and layouts that cannot be recorded are computed without a word. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCpu } from '../../../src/engines/cpu/index.js';
import { loadNative } from '../../../src/engines/cpu/native/library.js';
import { registerRecorder, reportRefusals, type StepRecorder, stepRecorder } from '../../../src/ops/index.js';
import * as tf from '../../../src/tf.js';
import { CASES, randomTokens, testModel } from '../../model/cases.js';
import { usePlainBackend } from '../../plain-backend.js';
import { skipBecause } from '../../skip.js';

const test = suite('cpu engine: recorded steps');
test.after(usePlainBackend);

const LENGTH = 12;
const RECORDED = ['gated retention', 'no cross positions', 'transformer', 'gretnet', 'cla', 'yoco, tied'];
const COMPUTED = ['sliding window', 'biased transformer', 'yoco, gated delta net', 'retnet'];

/** Logits of every step, how many recordings there were, and what was reported. @param isRecorded whether steps may be */
function decodeAll(
  name: string,
  isRecorded: boolean,
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
  const model = testModel(CASES[name] ?? {});
  // Pages end within the steps.
  const cache = model.createCache({ pageSize: 5 });
  const [tokens = []] = randomTokens(1, LENGTH);
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
      const found = decodeAll(name, true);
      assert.is(engine.memory().liveBytes, before, 'memory that is kept');
      assert.equal(found.refusals, []);
      assert.is(found.recordings > 0, RECORDED.includes(name), `${found.recordings} recordings`);
      assert.equal(found.logits, decodeAll(name, false).logits);
    });
}

test.run();
