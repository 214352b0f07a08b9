import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { greedyChoice, randomChoice } from '../../../src/evaluation/generation/sampling.js';
import { continueTogether, type TogetherOptions } from '../../../src/evaluation/generation/together.js';
import { startCpu } from '../../../src/engines/cpu/index.js';
import { Random } from '../../../src/random.js';
import { CASES, randomTokens, testModel } from '../../model/cases.js';
import { usePlainBackend } from '../../plain-backend.js';
import { StubModel } from '../stub-model.js';

const test = suite('evaluation/generation: prompts together');
test.before(usePlainBackend);
test.after(usePlainBackend);

const prompts = (...lengths: number[]): Int32Array[] =>
  lengths.map((length, i) => Int32Array.from({ length }, (_, at) => (3 * at + i) % 10));
const counting = (): StubModel => new StubModel(10, (context) => ((context.at(-1) ?? 0) + 1) % 10);
const some: TogetherOptions = { batch: 2, limit: 5, stopTokens: [] };
const greedy = (prompt: Int32Array): { prompt: Int32Array; choose: typeof greedyChoice } => ({
  prompt,
  choose: greedyChoice,
});

test('every prompt ends at its own stop token or at the limit; no more than the batch are at work', async () => {
  const model = counting();
  const starts = [3, 8, 5].map((token) => greedy(Int32Array.of(0, token)));
  const found = await Promise.all(continueTogether(model, starts, { ...some, stopTokens: [7] }));
  assert.equal(found, [[4, 5, 6], [9, 0, 1, 2, 3], [6]]);
  assert.is(Math.max(...model.packed), 2);
  assert.is(model.openCaches, 0);
});

test('draws of a prompt do not depend on the batch', async () => {
  const drawn = (batch: number): Promise<number[][]> => {
    const sampling = { temperature: 1, topK: 6, topP: null };
    const all = prompts(1, 9, 4, 30).map((prompt) => ({
      prompt,
      choose: randomChoice({ ...sampling, random: new Random('draw') }),
    }));
    return Promise.all(continueTogether(new StubModel(10), all, { ...some, batch, limit: 20 }));
  };
  const alone = await drawn(1);
  assert.equal(await drawn(2), alone);
  assert.equal(await drawn(4), alone);
});

test('on the CPU engine every layout continues prompts as each alone', async () => {
  await startCpu({ threads: 1 });
  for (const [name, input] of Object.entries(CASES)) {
    const model = testModel(input);
    const all = randomTokens(3, 40).map((row, i) => greedy(Int32Array.from(row.slice(i * 7))));
    const options = { ...some, limit: 8 };
    const alone = await Promise.all(continueTogether(model, all, { ...options, batch: 1 }));
    assert.equal(await Promise.all(continueTogether(model, all, { ...options, batch: 3 })), alone, name);
    model.dispose();
  }
  await usePlainBackend();
});

test('a prompt that fails ends alone; a signal ends all', async () => {
  const broken = new (class extends StubModel {
    override row(context: readonly number[]): number[] {
      return super.row(context).map((value) => (context[0] === 9 ? NaN : value));
    }
  })(10);
  const starts = [Int32Array.of(9, 1), Int32Array.of(1, 2)].map(greedy);
  const [failed, fine] = await Promise.allSettled(continueTogether(broken, starts, some));
  assert.match(String((failed as PromiseRejectedResult).reason), /logits are not finite/);
  assert.is((fine as PromiseFulfilledResult<number[]>).value.length, 5);
  const controller = new AbortController();
  const endless = { ...some, limit: Infinity, signal: controller.signal };
  const read: number[] = [];
  const onRead = (tokens: number): void => {
    read.push(tokens);
    controller.abort(new Error('enough'));
  };
  const model = counting();
  const work = continueTogether(model, [{ ...greedy(Int32Array.of(1, 2)), onRead }, ...starts], endless);
  for (const settled of await Promise.allSettled(work)) {
    assert.match(String((settled as PromiseRejectedResult).reason), /enough/);
  }
  assert.equal(read, [2]);
  assert.is(model.openCaches, 0);
});

test.run();
